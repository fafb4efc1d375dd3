"""The guidance explorer: which denoiser each setting asks, how often, and how long an answer takes."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diffusion_lessons import ClassifierFreeGuidance, Clip, DiscreteVP, NetworkDenoiser, V, cosine_betas, zoo
from diffusion_lessons.course.widgets import Scrubber, explore_guidance
from diffusion_lessons.samplers import sample

PATH = DiscreteVP(cosine_betas())
LABELS = torch.tensor([0, 2, 1])


class Shade(nn.Module):
    """Draws pictures of one shade for each label; 3 means none. Counts the rows that it is asked for."""

    shades = torch.tensor([-0.8, 0.1, 0.9, 0.2])

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[int] = []

    def forward(self, x: Tensor, time: Tensor, labels: Tensor) -> Tensor:
        self.rows.append(len(x))
        x0 = self.shades[labels].view(-1, 1, 1, 1).expand_as(x)
        level = PATH(time + 1)
        alpha, sigma = level.like(x)
        return V.of(x0, (x - alpha * x0) / sigma, level)

    def null_condition(self, batch: int) -> Tensor:
        return torch.full((batch,), 3)


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def made(guided: Any = None, scales: Any = (0.0, 1.0, 3.0), steps: int = 4) -> tuple[Any, Shade, Tensor]:
    network = Shade()
    denoiser = NetworkDenoiser(network, PATH, V)
    noise = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    ways = guided(denoiser) if guided else denoiser
    return explore_guidance(ways, noise, PATH.levels(steps), LABELS, scales), network, noise


def last_frame(shown: Any, **labels: str) -> Tensor:
    """Shades of the three samples at t = 0, in 0 to 255."""
    drawn = shown.result(labels)
    assert isinstance(drawn, Scrubber)
    return torch.as_tensor(drawn.panels["x"].pixels[-1, 0, ::8, 0]).float()


def in_bytes(shades: Tensor) -> Tensor:
    return ((shades + 1) * 127.5).clamp(0, 255).round()


@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
def test_each_scale_is_that_of_classifier_free_guidance(scale: float) -> None:
    shown, _, noise = made()
    shades = Shade.shades[3] + scale * (Shade.shades[LABELS] - Shade.shades[3])
    torch.testing.assert_close(last_frame(shown, scale=f"{scale:g}"), in_bytes(shades), atol=1, rtol=0)
    guided = ClassifierFreeGuidance(NetworkDenoiser(Shade(), PATH, V), scale)
    pictures = sample(guided, noise, PATH.levels(4), LABELS)
    torch.testing.assert_close(pictures[:, 0, 0, 0], shades, atol=1e-4, rtol=1e-4)


def test_it_starts_at_the_plain_conditional_model_and_at_the_end_of_the_walk() -> None:
    shown, _, _ = made()
    assert shown.start == {"scale": "1"}
    assert shown.first.spec["start"] == 4
    assert shown.first.alt == "From noise to 3 samples at guidance scale 1."
    assert made(scales=(2.0, 4.0))[0].start == {"scale": "2"}


def test_a_setting_seen_before_asks_the_network_nothing() -> None:
    pytest.importorskip("ipywidgets")
    pytest.importorskip("anywidget")
    shown, network, _ = made(scales=(0.0, 1.0, 2.0, 3.0))
    scale, status, failure, view = shown.widget().children
    scale.value = "2"
    assert failure.value == ""
    assert "ready (" in status.value
    assert "scale 2" not in view.spec["title"]
    asked = len(network.rows)
    for label in ("1", "2", "1", "2"):
        scale.value = label
    assert len(network.rows) == asked
    scale.value = "0"
    assert network.rows[asked:] == [3, 3, 3, 3]  # scale 0 needs one pass, and its batch is not doubled


def test_ways_to_guide_have_a_control_of_their_own() -> None:
    def ways(denoiser: NetworkDenoiser) -> Any:
        away = torch.tensor([1])
        return {
            "plain": lambda scale: ClassifierFreeGuidance(denoiser, scale),
            "clipped": lambda scale: Clip(ClassifierFreeGuidance(denoiser, scale), -0.5, 0.5),
            "away from 1": lambda scale: ClassifierFreeGuidance(denoiser, scale, away),
        }

    shown, _, _ = made(ways, scales=(1.0, 3.0))
    assert list(shown.choices) == ["way", "scale"]
    assert shown.start == {"way": "plain", "scale": "1"}
    clipped = last_frame(shown, way="clipped", scale="1")
    torch.testing.assert_close(clipped, in_bytes(torch.tensor([-0.5, 0.5, 0.1])), atol=1, rtol=0)
    moved = last_frame(shown, way="away from 1", scale="3")
    torch.testing.assert_close(moved, in_bytes(torch.tensor([-2.6, 2.5, 0.1])), atol=1, rtol=0)
    said = shown.result({"way": "clipped", "scale": "3"}).alt
    assert said == "From noise to 3 samples at guidance scale 3, clipped."


def test_an_error_of_a_way_stands_in_the_page() -> None:
    pytest.importorskip("ipywidgets")
    pytest.importorskip("anywidget")

    def ways(denoiser: NetworkDenoiser) -> Any:
        return {"plain": lambda scale: ClassifierFreeGuidance(denoiser, 1 - scale)}

    shown, _, _ = made(ways, scales=(1.0, 3.0))
    _, scale, status, failure, _ = shown.widget().children
    scale.value = "3"
    assert "guidance scale is a number" in failure.value
    assert 'role="alert"' in failure.value
    assert "setting before" in status.value


def test_no_way_to_guide_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one way to guide"):
        made(lambda denoiser: {})


def test_four_digits_answer_within_a_second(one_thread: None) -> None:
    """0.25 s of CPU time where it was written, on one thread of two; half a second on a busy machine."""
    model = zoo.load("mnist-unet")
    noise = torch.randn(4, *model.shape, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([4, 4, 3, 8])
    shown = explore_guidance(model.denoiser(), noise, model.path.levels(10), labels, (1.0, 2.0, 4.0, 8.0))
    before = time.process_time()
    drawn = shown.result({"scale": "4"})
    assert time.process_time() - before < 1
    assert len(drawn._repr_html_()) < 300_000
