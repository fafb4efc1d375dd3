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


def test_every_scale_of_both_methods_is_a_row() -> None:
    assert find("guidance-scales") is EXPERIMENT
    rows = EXPERIMENT.settings({})
    assert len(rows) == len(METHODS) * len(SCALES) == 20
    assert [row["method"] for row in rows[:2]] == list(METHODS)
    assert SCALES[0] == 0


@pytest.mark.parametrize("t", [50.0, 400.0, 800.0])
@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
def test_with_an_exact_classifier_the_two_scales_are_one(t: float, scale: float) -> None:
    x, labels = torch.randn(5, 2, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1])
    level = PATH(t)
    one, other = (guided(method, scale, DENOISER, MIXTURE.log_joint)(x, level, labels) for method in METHODS)
    torch.testing.assert_close(one.x0, other.x0)
    torch.testing.assert_close(one.eps, other.eps)


def test_the_unconditional_denoiser_never_sees_the_label() -> None:
    x, level = torch.randn(4, 2, dtype=torch.float64), PATH(300.0)
    plain = unconditional(DENOISER)(x, level, torch.tensor([0, 1, 2, 0]))
    torch.testing.assert_close(plain.x0, MIXTURE(x, level).x0)


def test_a_row_is_measured() -> None:
    torch.manual_seed(0)
    network = UNet(UNetConfig(1, 1, 8, (1, 2), attention_levels=(), num_classes=10))
    model = Checkpoint(network, PATH, V, tuple("0123456789"), (1, 16, 16), {"data": "digits"})
    classifier = NetworkClassifier(Classifier(ClassifierConfig(base_channels=8, time=True)).eval(), PATH)
    shared, labels = Shared(model, classifier, torch.device("cpu")), torch.arange(100) % 10
    with torch.no_grad():
        drawn = {method: draw(shared, method, 0.0, labels, seed=0, steps=2) for method in METHODS}
    torch.testing.assert_close(drawn["classifier"], drawn["classifier-free"])
    for method in METHODS:
        row = EXPERIMENT.measure(shared, {"method": method, "scale": 2.0}, {"n": 100, "seed": 0})
        assert set(row) == {*FIGURES, *(f"{name}_error" for name in FIGURES)}
        assert row["frechet"] > 1  # the network was never trained
        assert all(row[f"{name}_error"] > 0 for name in FIGURES)


def test_the_recorded_result_shows_both_ends_of_the_trade() -> None:
    result = recorded("guidance-scales")
    rows = {(row["settings"]["method"], row["settings"]["scale"]): row for row in result["rows"]}
    assert set(rows) == {(method, scale) for method in METHODS for scale in SCALES}
    for method in METHODS:
        assert rows[method, 0.0]["accuracy"] < 0.2  # nobody asked for a class
        assert rows[method, 4.0]["accuracy"] > 0.9
        assert rows[method, 10.0]["recall"] < rows[method, 1.0]["recall"]
    apart = abs(rows[METHODS[0], 0.0]["frechet"] - rows[METHODS[1], 0.0]["frechet"])
    assert apart < 1e-3  # at scale 0 both are the unconditional model, from the same noise
