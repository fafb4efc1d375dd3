"""References of lesson 17 that no single function of the system is: they say what the system does."""

import pytest
import torch

from diffusion_lessons.course.bank.lesson_17 import min_snr_for_v, speed_up, weight_for, weighted_loss
from diffusion_lessons.losses import diffusion_loss, min_snr, truncated_snr
from diffusion_lessons.paths import DiscreteVP
from diffusion_lessons.schedules import cosine_betas
from diffusion_lessons.targets import TARGETS

PATH = DiscreteVP(cosine_betas())


@pytest.mark.parametrize("target", ["x0", "epsilon", "v"])
@pytest.mark.parametrize("weight", [min_snr(5.0), truncated_snr], ids=["min-snr", "truncated-snr"])
def test_the_loss_is_the_packages(target: str, weight) -> None:  # type: ignore[no-untyped-def]
    x0, noise = (torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    t = torch.tensor([100.0, 400.0, 900.0])
    level = PATH(t)

    def network(x: torch.Tensor, time: torch.Tensor, condition: object = None) -> torch.Tensor:
        return torch.tanh(x) + time.view(-1, 1, 1, 1) / 1000

    def of_snr(snr: torch.Tensor) -> torch.Tensor:
        return weight(level).float()

    ours = weighted_loss(
        lambda x, t: network(x, (t - 1).to(x)),
        x0,
        noise,
        t,
        level.alpha.float(),
        level.sigma.float(),
        target,
        of_snr,
    )
    theirs = diffusion_loss(network, PATH, TARGETS[target], x0, noise, t, weight=weight).mean()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0)


def test_min_snr_of_the_exercise_is_the_packages_carried_to_v() -> None:
    level = PATH(torch.tensor([1.0, 200.0, 500.0, 999.0]))
    carried = weight_for("v", min_snr(3.0)(level), level.alpha, level.sigma)
    torch.testing.assert_close(min_snr_for_v(level.snr, 3.0), carried)


def test_a_speed_up_is_read_off_the_curves() -> None:
    assert speed_up([100, 200, 400], [8.0, 4.0, 2.0], [8.0, 4.0, 2.0]) == pytest.approx(1)
    assert speed_up([100, 200, 400], [8.0, 4.0, 2.0], [4.0, 2.0, 1.0]) == pytest.approx(2)
    assert speed_up([100, 400], [8.0, 2.0], [8.0, 0.5]) == pytest.approx(2)  # half-way in both logarithms
    assert speed_up([100, 200, 400], [8.0, 4.0, 2.0], [1.0, 0.9, 0.8]) == 4
    assert speed_up([100, 200, 400], [8.0, 4.0, 2.0], [9.0, 5.0, 3.0]) == 0
