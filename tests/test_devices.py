"""The core on a device that holds no numbers: whatever must wait for the device to answer fails there.

PyTorch's "meta" device knows shapes, dtypes and devices alone, so a tensor left behind on the CPU, or a
question such as `if tensor > 0` that would hold up a GPU at each step, is an error.
"""

import pytest
import torch
from torch import Tensor, nn

from diffusion_lessons import (
    ClassifierFreeGuidance,
    ClassifierGuidance,
    Clip,
    GaussianMixture,
    Level,
    NetworkDenoiser,
    Rescale,
    V,
    add_noise,
    diffusion_loss,
    invert,
    posterior,
    renoise,
    sample,
    vlb_terms,
)
from diffusion_lessons.losses import min_snr
from diffusion_lessons.samplers import SAMPLERS
from tests.oracles import PATHS, per_sample

META = torch.device("meta")
X, LABELS = torch.empty(3, 1, 4, 4, device=META), torch.empty(3, device=META, dtype=torch.long)


class Network(nn.Module):
    def forward(self, x: Tensor, time: Tensor, condition: Tensor | None = None) -> Tensor:
        shift = time if condition is None else time + condition
        return x * shift.view(-1, 1, 1, 1)

    def null_condition(self, batch: int) -> Tensor:
        return torch.empty(batch, device=META, dtype=torch.long)


def classifier(x: Tensor, level: Level) -> Tensor:
    return x.flatten(1).cos()


def denoisers(path):
    plain = NetworkDenoiser(Network(), path, V)
    return [
        plain,
        Clip(Rescale(ClassifierFreeGuidance(plain, 3.0))),
        ClassifierFreeGuidance(plain, 3.0, negative=LABELS[:1]),
        Clip(Rescale(ClassifierGuidance(plain, classifier, 2.0))),
    ]


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("each", [False, True], ids=["one level", "a level a sample"])
def test_sampling_never_waits_for_the_device(name, sampler, each) -> None:
    path = PATHS[name]
    levels = [per_sample(level, level, level) if each else level for level in path.levels(3)]
    for denoiser in denoisers(path):
        assert sample(denoiser, X, levels, LABELS, sampler=SAMPLERS[sampler]).device == META
        assert invert(denoiser, X, levels, LABELS).device == META


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("weight", [None, min_snr()])
def test_losses_and_moves_never_wait_for_the_device(name, weight) -> None:
    path = PATHS[name]
    t = torch.tensor([0.3, 0.5, 0.9]) * path.T
    loss = diffusion_loss(Network(), path, V, X, X, t, LABELS, weight=weight)
    assert (loss.device, loss.shape) == (META, (3,))
    for now, next in ((path(t), path(t / 2)), (path(path.T), path(0.1))):
        moved = [add_noise(X, X, now), renoise(X, next, now, X), posterior(X, X, now, next)[0]]
        assert {x.device for x in moved} == {META}
        assert posterior(X, X, now, next)[1].device.type == "cpu"  # variances are levels' own numbers


def test_the_bound_never_waits_for_the_device() -> None:
    path = PATHS["linear"]
    terms = vlb_terms(NetworkDenoiser(Network(), path, V), path, X, [2, 500, 1000])
    assert {term.device for term in terms} == {META}


@pytest.mark.parametrize("name", PATHS)
def test_a_mixture_lives_where_its_means_do(name) -> None:
    mixture = GaussianMixture(torch.zeros(2, 3), 0.5)
    mixture.means, mixture.stds, mixture.weights = (
        value.to(META) for value in (mixture.means, mixture.stds, mixture.weights)
    )
    x, path = torch.empty(5, 3, device=META), PATHS[name]
    for level in (path(0.5), path(torch.full((5,), 0.5))):
        for ask in (mixture, mixture.log_prob, mixture.score, mixture.posterior):
            result = ask(x, level)
            assert (result if isinstance(result, Tensor) else result.x0).device == META
    assert mixture.sample(4)[0].device == META
