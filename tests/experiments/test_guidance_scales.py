"""The recorded measurement over the guidance scale: what is drawn, and that both scales start alike."""

import pytest
import torch
from torch import Tensor

from diffusion_lessons import DiscreteVP, GaussianMixture, V, cosine_betas
from diffusion_lessons.checkpoint import Checkpoint
from diffusion_lessons.denoiser import NetworkDenoiser
from diffusion_lessons.experiments import find, recorded
from diffusion_lessons.experiments.guidance_scales import (
    EXPERIMENT,
    FIGURES,
    INTERVAL,
    LEAST,
    METHODS,
    SCALES,
    Shared,
    draw,
    guided,
    unconditional,
)
from diffusion_lessons.guidance import NetworkClassifier
from diffusion_lessons.networks import Classifier, ClassifierConfig, UNet, UNetConfig
from diffusion_lessons.paths import Level
from diffusion_lessons.targets import Estimate

PATH = DiscreteVP(cosine_betas())
MEANS = torch.tensor([[-0.6, 0.2], [0.5, 0.5], [0.1, -0.7]], dtype=torch.float64)
MIXTURE = GaussianMixture(MEANS, 0.1)
NULL = 3


class Exact(torch.nn.Module):
    """The network that is best for the mixture, with a null label."""

    def forward(self, x: Tensor, time: Tensor, labels: Tensor) -> Tensor:
        level: Level = PATH(time + 1)
        known, plain = MIXTURE(x, level, labels.clamp(max=2)), MIXTURE(x, level)
        x0 = torch.where((labels == NULL)[:, None], plain.x0, known.x0)
        return V.of(*Estimate.from_x0(x0, x, level), level)

    def null_condition(self, batch: int) -> Tensor:
        return torch.full((batch,), NULL)


DENOISER = NetworkDenoiser(Exact(), PATH, V)


class Namer(torch.nn.Module):
    """A classifier of clean points that is exact where there is no noise: the nearest of three centres."""

    def forward(self, x: Tensor) -> Tensor:
        return -(x[:, None] - MEANS).square().sum(-1) / (2 * 0.1**2)


def test_every_scale_of_every_method_is_a_row() -> None:
    assert find("guidance-scales") is EXPERIMENT
    rows = [(row["method"], row["scale"]) for row in EXPERIMENT.settings({})]
    assert len(set(rows)) == len(rows)
    assert set(rows) == {(method, scale) for method in METHODS for scale in SCALES if scale >= LEAST[method]}
    assert SCALES[0] == 0


@pytest.mark.parametrize("t", [50.0, 400.0, 800.0])
@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
def test_with_an_exact_classifier_all_scales_are_one(t: float, scale: float) -> None:
    x, labels = torch.randn(5, 2, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1])
    level, free = PATH(t), guided("classifier-free", scale, DENOISER, MIXTURE.log_joint, Namer())
    for method in ("classifier", *(["classifier on labels"] if scale >= 1 else [])):
        other = guided(method, scale, DENOISER, MIXTURE.log_joint, Namer())(x, level, labels)
        torch.testing.assert_close(free(x, level, labels).x0, other.x0)
        torch.testing.assert_close(free(x, level, labels).eps, other.eps)


def test_the_interval_guides_inside_and_nowhere_else() -> None:
    x, labels = torch.randn(5, 2, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1])
    inside = 0
    for t in range(50, 1000, 50):
        level = PATH(float(t))
        scale = 3.0 if INTERVAL[0] < float(level.sigma / level.alpha) <= INTERVAL[1] else 1.0
        inside += scale == 3
        wanted = guided("classifier-free", scale, DENOISER, MIXTURE.log_joint, Namer())
        given = guided("interval", 3.0, DENOISER, MIXTURE.log_joint, Namer())
        torch.testing.assert_close(given(x, level, labels).x0, wanted(x, level, labels).x0)
    assert 5 < inside < 15


def test_the_clean_classifier_is_asked_about_the_estimate() -> None:
    """The gradient is that of its log p at x̂₀, through the denoiser."""
    x, labels = torch.randn(4, 2, dtype=torch.float64), torch.tensor([0, 1, 2, 0])
    level = PATH(300.0)
    plain = MIXTURE(x, level)
    given = guided("clean classifier", 2.0, DENOISER, MIXTURE.log_joint, Namer())(x, level, labels)
    point = x.clone().requires_grad_()
    log_p = Namer()(MIXTURE(point, level).x0).log_softmax(-1).gather(-1, labels[:, None]).sum()
    (gradient,) = torch.autograd.grad(log_p, point)
    moved = plain.x0 + 2 * level.sigma**2 / level.alpha * gradient
    torch.testing.assert_close(given.x0, moved.clamp(-1, 1))
    assert not torch.allclose(given.x0, plain.x0)


def test_the_unconditional_denoiser_never_sees_the_label() -> None:
    x, level = torch.randn(4, 2, dtype=torch.float64), PATH(300.0)
    plain = unconditional(DENOISER)(x, level, torch.tensor([0, 1, 2, 0]))
    torch.testing.assert_close(plain.x0, MIXTURE(x, level).x0)


def test_a_row_is_measured() -> None:
    torch.manual_seed(0)
    network = UNet(UNetConfig(1, 1, 8, (1, 2), attention_levels=(), num_classes=10))
    model = Checkpoint(network, PATH, V, tuple("0123456789"), (1, 16, 16), {"data": "digits"})
    classifier = NetworkClassifier(Classifier(ClassifierConfig(base_channels=8, time=True)).eval(), PATH)
    clean = Classifier(ClassifierConfig(base_channels=8)).eval()
    shared, labels = Shared(model, classifier, clean, torch.device("cpu")), torch.arange(100) % 10
    with torch.no_grad():
        for least in (0.0, 1.0):  # where a way begins, all that begin there are one model
            names = [method for method in METHODS if LEAST[method] == least] + ["classifier-free"]
            drawn = [draw(shared, method, least, labels, seed=0, steps=2) for method in names]
            for other in drawn[1:]:
                torch.testing.assert_close(drawn[0], other)
    for method in METHODS:
        row = EXPERIMENT.measure(shared, {"method": method, "scale": 2.0}, {"n": 100, "seed": 0})
        assert set(row) == {*FIGURES, *(f"{name}_error" for name in FIGURES)}
        assert row["frechet"] > 1  # the network was never trained
        assert all(row[f"{name}_error"] > 0 for name in FIGURES)


def test_the_recorded_result_shows_both_ends_of_the_trade() -> None:
    result = recorded("guidance-scales")
    rows = {(row["settings"]["method"], row["settings"]["scale"]): row for row in result["rows"]}
    assert set(rows) == {(row["method"], row["scale"]) for row in EXPERIMENT.settings({})}
    for method in METHODS:
        least = LEAST[method]
        assert least or rows[method, 0.0]["accuracy"] < 0.2  # nobody asked for a class
        assert rows[method, 4.0]["accuracy"] > 0.9
        assert rows[method, 10.0]["recall"] < rows[method, 1.0]["recall"]
        apart = abs(rows[method, least]["frechet"] - rows["classifier-free", least]["frechet"])
        assert apart < 1e-3  # where a way begins it is the plain model, from the same noise
