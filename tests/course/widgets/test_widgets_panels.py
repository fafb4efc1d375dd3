"""Panels: pixels, bars and points are what the data say, and what does not fit is refused."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion_lessons import DiscreteVP, GaussianMixture, cosine_betas
from diffusion_lessons.course.widgets import Histogram, Pictures, Points, landscape
from diffusion_lessons.course.widgets.panels import as_panels, pack, png, spread


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
    sheet = np.asarray(Image.open(io.BytesIO(sprite)).convert("RGB"))
    assert (sheet.shape, data) == ((18, 12, 3), b"")
    for panel, spec in zip(panels.values(), described, strict=True):
        for i in range(3):
            top, left = i * spec["band"], spec["x"]
            cut = sheet[top : top + spec["height"], left : left + spec["width"]]
            assert (cut == panel.pixels[i]).all()  # type: ignore[union-attr]


@pytest.mark.parametrize(("colours", "mode"), [(256, "P"), (257, "RGB")])
def test_a_picture_of_few_colours_has_a_palette_and_loses_nothing(colours: int, mode: str) -> None:
    pixels = np.arange(colours)[:, None, None] // np.array([1, 2, 256]) % 256
    drawn = Image.open(io.BytesIO(png(pixels.astype(np.uint8))))
    assert drawn.mode == mode
    assert (np.asarray(drawn.convert("RGB")) == pixels).all()


def test_data_panels_lie_one_after_the_other() -> None:
    h, p = Histogram(torch.zeros(2, 9), bins=5), Points(torch.zeros(2, 3, 2), behind=torch.ones(4, 2))
    sprite, data, described = pack({"h": h, "p": p})
    assert sprite == b""
    assert (described[0]["offset"], described[1]["offset"]) == (0, 10)
    assert data[:10] == h.heights.tobytes()
    assert data[10:] == p.xy.tobytes() + p.behind.tobytes()


def test_density_lies_in_the_sprite_and_arrows_behind_the_points() -> None:
    density = torch.tensor([[[0.0, 2.0]], [[5.0, 10.0]]])  # (2, 1, 2)
    arrows = torch.tensor([[[0.0, 0.0, 3.0, -3.0]]]).expand(2, 1, 4)
    cloud = Points(torch.zeros(2, 3, 2), behind=torch.ones(4, 2), density=density, arrows=arrows)
    sprite, data, (_, described) = pack({"x": Pictures(torch.zeros(2, 1, 3, 3)), "cloud": cloud})
    place, sheet = described["under"], np.asarray(Image.open(io.BytesIO(sprite)))
    assert (place["x"], place["width"], place["height"], place["band"]) == (3, 2, 1, 3)
    assert sheet[[0, 3], 3:].tolist() == [[255, 100], [178, 100]]  # each frame by its own maximum
    at = described["offset"] + cloud.xy.size + cloud.behind.size
    assert (described["arrows"], list(data[at:])) == (1, [128, 128, 255, 0] * 2)
    kept = cloud.keep([1])
    assert [len(each) for each in (kept.xy, kept.shades, kept.arrows, kept.behind)] == [1, 1, 1, 4]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"density": torch.ones(3, 4, 4)}, r"`density` needs values ≥ 0 of shape \(2, h, w\)"),
        ({"density": -torch.ones(2, 4, 4)}, "`density` needs values ≥ 0"),
        ({"arrows": torch.ones(2, 5, 2)}, "`arrows` need"),
        ({"arrows": torch.full((2, 5, 4), torch.nan)}, "NaN"),
    ],
)
def test_what_lies_behind_points_is_checked(given: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Points(torch.zeros(2, 3, 2), **given)


def test_a_landscape_shows_density_and_score() -> None:
    mixture, path = GaussianMixture(torch.tensor([[1.0, -2.0]]), 0.3), DiscreteVP(cosine_betas())
    levels = [path(t) for t in (900.0, 300.0, 0.0)]
    panel = landscape(mixture, levels, torch.zeros(3, 5, 2), span=3.0, arrows=4, cells=30)
    for level, shades, arrows in zip(levels, panel.shades, panel.arrows, strict=True):
        row, column = np.unravel_index(shades.argmin(), shades.shape)
        centre = np.array([float(level.alpha), -2 * float(level.alpha)])  # of the noisy data
        assert abs((column + 0.5) / 5 - 3 - centre[0]) < 0.11
        assert abs(3 - (row + 0.5) / 5 - centre[1]) < 0.11
        start, move = ((arrows / 127.5 - 1) * 3).reshape(4, 4, 4)[..., :2], (arrows / 127.5 - 1)[:, 2:] * 3
        towards = (centre - start).reshape(-1, 2)
        length = np.linalg.norm(move, axis=1)
        assert length.max() <= 1.55  # a cell, to rounding
        if level.sigma > 0:
            cosine = (move * towards).sum(1) / (length * np.linalg.norm(towards, axis=1))
            assert (cosine[length > 0.2] > 0.97).all()
        else:
            assert length.max() < 0.05


def test_a_scrubber_that_would_swell_the_notebook_is_refused() -> None:
    noise = torch.randn(50, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="at most 300 kB are allowed: show fewer frames"):
        pack(as_panels(noise))
