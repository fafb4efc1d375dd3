"""Panels: pixels, bars and points are what the data say, and what does not fit is refused."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion_lessons.course.widgets import Histogram, Pictures, Points
from diffusion_lessons.course.widgets.panels import as_panels, pack, spread


def test_floats_become_grey_from_black_to_white_and_clip() -> None:
    frames = torch.tensor([-2.0, -1.0, 0.0, 0.5, 1.0, 3.0]).view(6, 1, 1, 1)
    assert Pictures(frames).pixels.ravel().tolist() == [0, 0, 128, 191, 255, 255]


def test_a_span_stretches_the_scale() -> None:
    frames = torch.tensor([-3.0, 0.0, 1.5]).view(3, 1, 1, 1)
    assert Pictures(frames, span=3.0).pixels.ravel().tolist() == [0, 128, 191]


def test_bytes_pass_unchanged_and_channels_move_last() -> None:
    frames = np.arange(2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 3, 4, 5)
    pixels = Pictures(frames).pixels
    assert pixels.shape == (2, 4, 5, 3)
    assert pixels[1, 2, 3, 0] == frames[1, 0, 2, 3]


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (torch.zeros(4, 8, 8), r"frames\[:, None\]"),
        (torch.zeros(4, 2, 8, 8), "C = 1 or 3"),
        (torch.zeros(0, 1, 8, 8), "got \\(0, 1, 8, 8\\)"),
        (torch.zeros(4, 1, 8, 8, dtype=torch.int64), "floats in \\[−1, 1\\] or uint8, got int64"),
        (torch.full((1, 1, 2, 2), float("nan")), "4 of 4 values are NaN"),
        (torch.full((1, 1, 2, 2), 255.0), "reach 255, far outside"),
    ],
)
def test_pictures_that_would_mislead_are_refused(frames: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Pictures(frames)


def test_histogram_heights_are_densities_on_one_scale() -> None:
    narrow, wide = torch.zeros(1, 1000), torch.linspace(-1, 1, 1000)[None]
    panel = Histogram(torch.cat([narrow, wide]), span=(-1, 1), bins=4)
    assert panel.top == 0.9  # the spike would flatten everything else: it is cut and marked
    assert panel.heights[0].max() == 255
    assert panel.heights[1].tolist() == [round(0.5 / 0.9 * 254)] * 4


def test_histogram_counts_what_lies_beyond_its_span_at_the_edge() -> None:
    panel = Histogram(torch.tensor([[-9.0, -0.1, 0.2, 9.0]]), span=(-1, 1), bins=2)
    assert panel.heights[0].tolist() == [round(0.5 / panel.top * 254)] * 2


def test_points_are_bytes_over_the_span() -> None:
    panel = Points(torch.tensor([[[-3.0, 3.0], [0.0, 7.0]]]), span=3.0)
    assert panel.xy.tolist() == [[[0, 255], [128, 255]]]


@pytest.mark.parametrize("shape", [(3, 2), (3, 5, 3), (2, 1001, 2), (2, 0, 2)])
def test_points_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="a cloud needs points"):
        Points(torch.zeros(shape))


def test_all_panels_have_the_same_number_of_frames() -> None:
    with pytest.raises(ValueError, match=r"\{'x': 3, 'y': 4\}"):
        as_panels({"x": torch.zeros(3, 1, 2, 2), "y": torch.zeros(4, 1, 2, 2)})


def test_spread_keeps_both_ends_and_repeats_nothing() -> None:
    assert spread(4, 10) == [0, 1, 2, 3]
    chosen = spread(1001, 50)
    assert (len(chosen), chosen[0], chosen[-1]) == (50, 0, 1000)
    assert len(set(chosen)) == 50


def test_the_sprite_holds_every_frame_where_its_description_says() -> None:
    g = torch.Generator().manual_seed(0)
    small, large = torch.rand(3, 1, 4, 5, generator=g), torch.rand(3, 3, 6, 7, generator=g)
    panels = as_panels({"small": small, "large": large})
    sprite, data, described = pack(panels)
    sheet = np.asarray(Image.open(io.BytesIO(sprite)))
    assert (sheet.shape, data) == ((18, 12, 3), b"")
    for panel, spec in zip(panels.values(), described, strict=True):
        for i in range(3):
            top, left = i * spec["band"], spec["x"]
            cut = sheet[top : top + spec["height"], left : left + spec["width"]]
            assert (cut == panel.pixels[i]).all()  # type: ignore[union-attr]


def test_data_panels_lie_one_after_the_other() -> None:
    h, p = Histogram(torch.zeros(2, 9), bins=5), Points(torch.zeros(2, 3, 2), behind=torch.ones(4, 2))
    sprite, data, described = pack({"h": h, "p": p})
    assert sprite == b""
    assert (described[0]["offset"], described[1]["offset"]) == (0, 10)
    assert data[:10] == h.heights.tobytes()
    assert data[10:] == p.xy.tobytes() + p.behind.tobytes()


def test_a_scrubber_that_would_swell_the_notebook_is_refused() -> None:
    noise = torch.randn(50, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="at most 300 kB are allowed: show fewer frames"):
        pack(as_panels(noise))
