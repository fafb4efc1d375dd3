"""The denoiser that asks a network: times, conditions and levels reach it as they should."""

import pytest
import torch
from torch import Tensor, nn

from diffusion_lessons import (
    EPSILON,
    FLOW,
    DiscreteVP,
    Estimate,
    GaussianMixture,
    NetworkDenoiser,
    OnPath,
    StraightPath,
    V,
    add_noise,
    ddpm_step,
    dpmpp_2m,
    heun,
    sample,
    trajectory,
)
from diffusion_lessons.targets import TARGETS
from tests.oracles import PATHS, ZERO_TERMINAL, TrueNetwork, randn, targets_and_paths


class Recorder(nn.Module):
    """Outputs x and remembers what it was called with."""

    def forward(self, x: Tensor, time: Tensor, condition: object = None) -> Tensor:
        self.time, self.condition = time, condition
        return x


@pytest.mark.parametrize(("target", "name"), targets_and_paths())
def test_a_true_network_gives_the_true_estimate(target, name) -> None:
    path = PATHS[name]
    x0, eps = randn(3, 2, 4, seed=1), randn(3, 2, 4, seed=2)
    denoiser = NetworkDenoiser(TrueNetwork(x0, path, TARGETS[target]), path, TARGETS[target])
    for t in (1e-2 * path.T, 0.5 * path.T, path.T, torch.tensor([0.1, 0.5, 1.0]) * path.T):
        estimate = denoiser(add_noise(x0, eps, path(t)), path(t))
        torch.testing.assert_close(estimate.x0, x0, rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(estimate.eps, eps, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_a_network_sees_one_time_a_sample_in_the_dtype_of_x(dtype) -> None:
    network, x = Recorder(), torch.ones(3, 2, dtype=dtype)
    for path, t, seen in (
        (PATHS["linear"], 1000, [999.0] * 3),
        (PATHS["linear"], torch.tensor([1, 5, 1000]), [0.0, 4.0, 999.0]),
        (StraightPath(), 0.5, [500.0] * 3),
        (StraightPath(), torch.tensor([0.25, 0.5, 1.0]), [250.0, 500.0, 1000.0]),
    ):
        NetworkDenoiser(network, path, V)(x, path(t))
        assert (network.time.shape, network.time.dtype) == ((3,), dtype)
        assert network.time.tolist() == seen


def test_times_and_estimates_follow_the_device_of_x() -> None:
    network, x = Recorder(), torch.empty(3, 2, device="meta")
    for path in (PATHS["linear"], StraightPath()):
        for t in (0.5, torch.tensor([0.2, 0.5, 1.0])):
            estimate = NetworkDenoiser(network, path, V)(x, path(t))
            assert {network.time.device.type, estimate.x0.device.type} == {"meta"}


def test_the_condition_is_handed_on_untouched() -> None:
    network, x, level = Recorder(), torch.ones(2, 3), PATHS["linear"](5)
    denoiser = NetworkDenoiser(network, PATHS["linear"], V)
    for condition in (None, torch.tensor([3, 1]), {"label": torch.tensor([3, 1])}):
        denoiser(x, level, condition)
        assert network.condition is condition


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_levels_that_do_not_fit_the_batch_are_refused(batch) -> None:
    path = PATHS["linear"]
    with pytest.raises(ValueError, match="does not fit a batch"):
        NetworkDenoiser(Recorder(), path, V)(torch.ones(3, 2), path(torch.full((batch,), 5.0)))


def test_a_network_that_outputs_another_shape_is_refused() -> None:
    network = nn.Module()
    network.forward = lambda x, time, condition=None: x[:, :1]
    with pytest.raises(ValueError, match="the network's output and x must have the same shape"):
        NetworkDenoiser(network, PATHS["linear"], V)(torch.ones(2, 3, 4, 4), PATHS["linear"](5))


def test_epsilon_at_zero_terminal_snr_is_a_clear_error() -> None:
    denoiser = NetworkDenoiser(Recorder(), ZERO_TERMINAL, EPSILON)
    with pytest.raises(ValueError, match="use 'v' there"):
        denoiser(torch.ones(2, 3), ZERO_TERMINAL(1000))


@pytest.mark.parametrize("target", TARGETS)
def test_a_network_is_never_asked_at_t_0(target) -> None:
    """v and ε could be solved there, but no network was trained on its time, −1 on a discrete path."""
    network = Recorder()
    for path in (PATHS["linear"], StraightPath()):
        for t in (0.0, torch.tensor([0.5, 0.0])):
            with pytest.raises(ValueError, match="t = 0"):
                NetworkDenoiser(network, path, TARGETS[target])(torch.ones(2, 3), path(t))
    assert not hasattr(network, "time")


def test_a_network_that_computes_in_half_precision_gives_an_estimate_like_x() -> None:
    """As autocast does: the output is rounded, the estimate keeps the dtype and the invariant of x."""
    network = nn.Module()
    network.forward = lambda x, time, condition=None: torch.tanh(x).bfloat16()
    x = randn(2, 3, dtype=torch.float32)
    for t in (400, torch.tensor([1, 1000])):
        level = PATHS["cosine"](t)
        estimate = NetworkDenoiser(network, PATHS["cosine"], V)(x, level)
        assert estimate.x0.dtype == estimate.eps.dtype == torch.float32
        torch.testing.assert_close(add_noise(*estimate, level), x, rtol=1e-5, atol=1e-5)


def test_null_conditions_come_from_the_network() -> None:
    network = Recorder()
    denoiser = NetworkDenoiser(network, DiscreteVP([0.1]), V)
    with pytest.raises(ValueError, match=r"Recorder has no null_condition\(batch\)"):
        denoiser.null_condition(2)
    network.null_condition = lambda batch: torch.full((batch,), 10)
    assert denoiser.null_condition(3).tolist() == [10, 10, 10]


def test_gradients_flow_through_a_denoiser() -> None:
    linear = nn.Linear(3, 3)
    network = nn.Module()
    network.forward = lambda x, time, condition=None: linear(x)
    path = PATHS["cosine"]
    NetworkDenoiser(network, path, V)(torch.ones(2, 3), path(5)).x0.sum().backward()
    assert float(linear.weight.grad.abs().sum()) > 0


@pytest.mark.gpu
def test_a_denoiser_is_the_same_on_a_gpu() -> None:
    torch.manual_seed(0)
    linear, path = nn.Linear(3, 3), PATHS["cosine"]
    network = nn.Module()
    network.linear = linear
    network.forward = lambda x, time, condition=None: linear(x) + time[:, None] / 1000
    x = randn(2, 3, dtype=torch.float32)
    denoiser = NetworkDenoiser(network, path, V)
    for t in (500, torch.tensor([3, 999])):
        here = denoiser(x, path(t))
        network.cuda()
        there = denoiser(x.cuda(), path(t))
        network.cpu()
        torch.testing.assert_close(there.x0.cpu(), here.x0, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(there.eps.cpu(), here.eps, rtol=1e-4, atol=1e-4)


# A denoiser of one path on another ---------------------------------------------------------------------

MIXTURE = GaussianMixture(
    torch.tensor([[-1.0, 0.0], [1.0, 0.5], [0.0, -1.0]], dtype=torch.float64), [0.3, 0.2, 0.25]
)


class OfPath(nn.Module):
    """A network that says what the exact denoiser of `MIXTURE` does, told its own path's time alone."""

    def __init__(self, path, target) -> None:
        super().__init__()
        self.path, self.target = path, target

    def forward(self, x: Tensor, time: Tensor, condition: object = None) -> Tensor:
        t = time + 1 if isinstance(self.path, DiscreteVP) else time / 1000
        level = self.path(t)
        return self.target.of(*MIXTURE(x, level), level)


@pytest.mark.parametrize(("target", "trained"), targets_and_paths())
@pytest.mark.parametrize("asked", PATHS)
def test_a_model_of_any_path_answers_on_any_other(target, trained, asked) -> None:
    """The best guess at x₀ is a matter of the SNR: what the exact denoiser says is the truth on all paths."""
    path, other = PATHS[trained], PATHS[asked]
    network = OfPath(path, TARGETS[target])
    moved = OnPath(NetworkDenoiser(network, path, TARGETS[target]), path)
    for share in (0.1, 0.5, torch.tensor([0.2, 0.7])):
        level, x = other(share * other.T), randn(2, 2)
        estimate = moved(x, level)
        torch.testing.assert_close(estimate, MIXTURE(x, level), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(add_noise(*estimate, level), x)


def test_from_pure_noise_a_model_without_any_is_asked_at_its_noisiest_time() -> None:
    seen, x = [], randn(2, 2)

    def denoiser(x: Tensor, level, condition=None) -> Estimate:
        seen.append((float(level.t), x, condition))
        return MIXTURE(x, level)

    cosine, straight = PATHS["cosine"], StraightPath()
    estimate = OnPath(denoiser, cosine)(x, straight(1.0), "label")
    assert (seen[0][0], seen[0][2]) == (1000, "label")
    torch.testing.assert_close(seen[0][1], x)
    torch.testing.assert_close(estimate.eps, x)  # at σ = 1 all is noise
    OnPath(denoiser, cosine)(x, straight(1e-4), None)
    assert seen[1][0] == 1  # its cleanest
    with pytest.raises(ValueError, match="at t = 0 there is no noise"):
        OnPath(denoiser, cosine)(x, straight(0.0))


@pytest.mark.parametrize("step", ["euler", "ddpm"])
@pytest.mark.parametrize("n", [1, 5, 20])
def test_euler_on_the_straight_path_is_ddim_at_the_same_snr(step, n) -> None:
    """Paths differ in scale and in clock: the steps that forget both are the same on all of them."""
    cosine, straight = PATHS["cosine"], StraightPath()
    levels = cosine.levels(n)
    on_straight = [straight(straight.time_at(level.log_snr)) for level in levels]
    noise = randn(4, 2)
    start = noise * (on_straight[0].sigma / levels[0].sigma)
    how = {"step": ddpm_step, "generator": lambda number: randn(4, 2, seed=number)} if step == "ddpm" else {}
    ours = sample(MIXTURE, noise, levels, **how)
    theirs = sample(OnPath(MIXTURE, cosine), start, on_straight, **how)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("sampler", [trajectory, heun, dpmpp_2m])
def test_there_and_back_is_the_model_itself(sampler) -> None:
    cosine, straight = PATHS["cosine"], StraightPath()
    there = OnPath(NetworkDenoiser(OfPath(cosine, V), cosine, V), cosine)
    back, x, levels = OnPath(there, straight), randn(5, 2), cosine.levels(8)
    plain = sample(NetworkDenoiser(OfPath(cosine, V), cosine, V), x, levels, sampler=sampler)
    torch.testing.assert_close(sample(back, x, levels, sampler=sampler), plain, rtol=1e-6, atol=1e-6)


def test_a_flow_network_is_told_a_time_that_its_embedding_can_see() -> None:
    """t in [0, 1] is one and the same time to an embedding that was made for 0 to 1000."""
    from diffusion_lessons.networks.embedding import sinusoidal_embedding

    ends = torch.tensor([1e-3, 1.0])
    told = sinusoidal_embedding(StraightPath().network_time(ends), 64)
    untold = sinusoidal_embedding(ends, 64)
    assert torch.cosine_similarity(*told[:, None]) < 0.7
    assert torch.cosine_similarity(*untold[:, None]) > 0.95
    assert FLOW.of(torch.zeros(1), torch.ones(1), StraightPath()(1.0)) == 1  # towards noise
