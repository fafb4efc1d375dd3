"""Guidance, rescaling and clipping: denoisers that wrap denoisers and keep x = α·x₀ + σ·ε."""

import math

import pytest
import torch
from torch import Tensor, nn

from diffusion_lessons import (
    ClassifierFreeGuidance,
    ClassifierGuidance,
    Clip,
    Estimate,
    GaussianMixture,
    Level,
    NetworkDenoiser,
    Rescale,
    V,
    add_noise,
    sample,
    trajectory,
)
from diffusion_lessons.guidance import Inpaint, NetworkClassifier, guidance_interval
from tests.oracles import PATHS, ZERO_TERMINAL, per_sample, randn, seeded

PATH = PATHS["cosine"]
MEANS = torch.tensor([[-1.0, 0.5, 0.2], [0.7, 1.1, -0.4], [0.0, -1.0, 1.0]], dtype=torch.float64)
MIXTURE = GaussianMixture(MEANS, [0.4, 0.2, 0.3], [0.5, 0.2, 0.3])
LABELS = torch.tensor([0, 2, 1, 2])
X = randn(4, 3)


class MixtureNetwork(nn.Module):
    """Outputs the best v for data of a mixture; label 3 means "no condition". Remembers its conditions."""

    null_label = 3

    def __init__(self, path=PATH) -> None:
        super().__init__()
        self.path, self.calls = path, []

    def forward(self, x: Tensor, time: Tensor, condition) -> Tensor:
        self.calls.append(condition)
        labels = condition["label"] if isinstance(condition, dict) else condition
        level = self.path(time + 1)
        known = MIXTURE(x, level, labels.clamp(max=2)).x0
        x0 = torch.where((labels == self.null_label)[:, None], MIXTURE(x, level).x0, known)
        if isinstance(condition, dict) and "known" in condition:
            x0 = x0 + condition["known"]
        return V.of(*Estimate.from_x0(x0, x, level), level)

    def null_condition(self, batch: int) -> Tensor:
        return torch.full((batch,), self.null_label)


def networked(path=PATH) -> tuple[NetworkDenoiser, MixtureNetwork]:
    network = MixtureNetwork(path)
    return NetworkDenoiser(network, path, V), network


def unconditional(x: Tensor, level: Level, condition: object = None) -> Estimate:
    return MIXTURE(x, level)


def close(a: Estimate, b: Estimate, tolerance: float = 1e-8) -> None:
    torch.testing.assert_close(a.x0, b.x0, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(a.eps, b.eps, rtol=tolerance, atol=tolerance)


def keeps_the_invariant(estimate: Estimate, x: Tensor, level: Level) -> None:
    torch.testing.assert_close(add_noise(*estimate, level), x, rtol=1e-8, atol=1e-8)


# Classifier-free guidance --------------------------------------------------------------------------


@pytest.mark.parametrize("t", [1, 300, 1000])
def test_scale_1_is_conditional_and_0_unconditional(t) -> None:
    denoiser, _ = networked()
    level = PATH(t)
    close(ClassifierFreeGuidance(denoiser, 1)(X, level, LABELS), MIXTURE(X, level, LABELS))
    close(ClassifierFreeGuidance(denoiser, 0)(X, level, LABELS), MIXTURE(X, level))


@pytest.mark.parametrize("scale", [0.5, 2.0, 7.5])
def test_other_scales_extrapolate_from_null_through_conditional(scale) -> None:
    """The paper's (1 + w)·ε(c) − w·ε(∅) with w = scale − 1 (Ho and Salimans 2022, eq. 6)."""
    denoiser, _ = networked()
    level = PATH(400)
    plain, null = MIXTURE(X, level, LABELS), MIXTURE(X, level)
    w = scale - 1
    guided = ClassifierFreeGuidance(denoiser, scale)(X, level, LABELS)
    close(guided, Estimate(*((1 + w) * c - w * n for c, n in zip(plain, null, strict=True))))
    keeps_the_invariant(guided, X, level)


def test_the_two_passes_get_the_labels_and_the_null_label() -> None:
    denoiser, network = networked()
    ClassifierFreeGuidance(denoiser, 2)(X, PATH(400), LABELS)
    ClassifierFreeGuidance(denoiser, 1)(X, PATH(400), LABELS)
    ClassifierFreeGuidance(denoiser, 0)(X, PATH(400), LABELS)
    assert [condition.tolist() for condition in network.calls] == [
        [0, 2, 1, 2, 3, 3, 3, 3],
        [0, 2, 1, 2],
        [3, 3, 3, 3],
    ]


@pytest.mark.parametrize("negative", [torch.tensor([1]), torch.tensor([1, 1, 1, 1])])
@pytest.mark.parametrize("scale", [0, 3])
def test_a_negative_condition_stands_in_for_the_null_condition(negative, scale) -> None:
    denoiser, network = networked()
    level = PATH(400)
    guided = ClassifierFreeGuidance(denoiser, scale, negative)(X, level, LABELS)
    away, plain = MIXTURE(X, level, torch.ones(4, dtype=torch.long)), MIXTURE(X, level, LABELS)
    close(guided, Estimate(*(n + scale * (c - n) for c, n in zip(plain, away, strict=True))))
    assert network.calls[0].tolist()[-4:] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    "negative", [None, torch.tensor([1]), {"label": torch.tensor([1])}, {"label": torch.tensor([1] * 4)}]
)
@pytest.mark.parametrize("scale", [0, 3])
def test_a_dict_condition_keeps_what_the_null_pass_must_keep(negative, scale) -> None:
    """Inpainting channels belong to both passes; only the label is taken away."""
    denoiser, network = networked()
    known = randn(4, 3, seed=1)
    condition = {"label": LABELS, "known": known}
    guided = ClassifierFreeGuidance(denoiser, scale, negative)(X, PATH(400), condition)
    call = network.calls[0]
    assert call["label"].tolist()[-4:] == ([3] * 4 if negative is None else [1] * 4)
    assert torch.equal(call["known"], torch.cat([known, known]) if scale else known)
    assert set(condition) == {"label", "known"}
    keeps_the_invariant(guided, X, PATH(400))


def test_nothing_of_the_caller_is_changed() -> None:
    denoiser, _ = networked()
    labels, x, negative = LABELS.clone(), X.clone(), torch.tensor([1])
    known = randn(4, 3, seed=1)
    for condition in (labels, {"label": labels, "known": known}):
        for wrapped in (
            ClassifierFreeGuidance(denoiser, 3),
            ClassifierFreeGuidance(denoiser, 3, negative),
            ClassifierGuidance(denoiser, MIXTURE.log_joint, 3),
            Clip(Rescale(ClassifierFreeGuidance(denoiser, 3))),
        ):
            wrapped(x, PATH(400), condition)
    assert torch.equal(labels, LABELS)
    assert torch.equal(x, X)
    assert not x.requires_grad
    assert negative.tolist() == [1]
    assert torch.equal(known, randn(4, 3, seed=1))


def test_a_scale_can_be_a_function_of_the_level() -> None:
    """Guidance in an interval only: one pass of one batch outside it."""
    denoiser, network = networked()
    interval = ClassifierFreeGuidance(denoiser, lambda level: 3.0 if 200 <= level.t <= 600 else 1.0)
    for t, scale, rows in ((100, 1, 4), (400, 3, 8), (900, 1, 4)):
        close(
            interval(X, PATH(t), LABELS), ClassifierFreeGuidance(networked()[0], scale)(X, PATH(t), LABELS), 0
        )
        assert len(network.calls[-1]) == rows
    off = ClassifierFreeGuidance(denoiser, lambda level: 0.0)
    close(off(X, PATH(400), LABELS), MIXTURE(X, PATH(400)))
    with pytest.raises(ValueError, match="guidance scale"):
        ClassifierFreeGuidance(denoiser, lambda level: -1.0)(X, PATH(400), LABELS)


def test_a_guidance_interval_is_in_the_noise_to_signal_ratio() -> None:
    """Not in t, σ or the SNR: 1 outside, which costs one pass, also at α = 0."""
    denoiser, network = networked(ZERO_TERMINAL)
    guided = ClassifierFreeGuidance(denoiser, guidance_interval(3.0, 0.3, 2.0))
    for t in (1, 100, 400, 700, 900, 1000):
        level = ZERO_TERMINAL(t)
        inside = 0.3 < float(level.sigma / level.alpha) <= 2.0
        close(
            guided(X, level, LABELS),
            ClassifierFreeGuidance(networked(ZERO_TERMINAL)[0], 3.0 if inside else 1.0)(X, level, LABELS),
            0,
        )
        assert len(network.calls[-1]) == (8 if inside else 4)
    assert {len(call) for call in network.calls} == {4, 8}
    level = Level(*(torch.tensor(value, dtype=torch.float64) for value in (500.0, 0.5, 1.0)))
    assert guidance_interval(3, 0.5, 2)(level) == 3  # the upper bound belongs to it, the lower does not
    assert guidance_interval(3, 2, 4)(level) == 1


@pytest.mark.parametrize("bounds", [(1.0, 1.0), (2.0, 1.0), (-0.1, 1.0), (math.nan, 1.0), (0.1, math.nan)])
def test_an_empty_guidance_interval_is_refused(bounds) -> None:
    with pytest.raises(ValueError, match=r"interval of σ/α is empty or below 0"):
        guidance_interval(2, *bounds)
    with pytest.raises(ValueError, match="guidance scale is a number ≥ 0"):
        guidance_interval(-1, 0.1, 1)


@pytest.mark.parametrize("scale", [-0.1, -3, math.inf, math.nan])
def test_bad_scales_are_refused(scale) -> None:
    denoiser, _ = networked()
    with pytest.raises(ValueError, match=r"guidance scale is a number ≥ 0 .*negative"):
        ClassifierFreeGuidance(denoiser, scale)
    with pytest.raises(ValueError, match="guidance scale is a number ≥ 0"):
        ClassifierGuidance(denoiser, MIXTURE.log_joint, scale)


@pytest.mark.parametrize("scale", [0, 2])
def test_guidance_without_a_condition_is_refused(scale) -> None:
    denoiser, _ = networked()
    with pytest.raises(ValueError, match="needs a condition to guide towards"):
        ClassifierFreeGuidance(denoiser, scale)(X, PATH(400))


def test_a_network_without_a_null_condition_is_refused() -> None:
    class Plain(nn.Module):
        def forward(self, x: Tensor, time: Tensor, condition: object = None) -> Tensor:
            return x

    denoiser = NetworkDenoiser(Plain(), PATH, V)
    with pytest.raises(ValueError, match="has no null_condition"):
        ClassifierFreeGuidance(denoiser, 2)(X, PATH(400), LABELS)
    close(ClassifierFreeGuidance(denoiser, 1)(X, PATH(400), LABELS), denoiser(X, PATH(400)))


@pytest.mark.parametrize("negative", [torch.tensor([1, 1]), torch.ones(5, dtype=torch.long), {"label": 1}])
def test_a_negative_of_the_wrong_shape_is_refused(negative) -> None:
    denoiser, _ = networked()
    condition = {"label": LABELS} if isinstance(negative, dict) else LABELS
    with pytest.raises(ValueError, match="tensor of 1 or 4 rows"):
        ClassifierFreeGuidance(denoiser, 2, negative)(X, PATH(400), condition)


def test_guidance_at_zero_terminal_snr_is_finite() -> None:
    denoiser, _ = networked(ZERO_TERMINAL)
    for scale in (0, 1, 4):
        estimate = ClassifierFreeGuidance(denoiser, scale)(X, ZERO_TERMINAL(1000), LABELS)
        assert bool(estimate.x0.isfinite().all() & estimate.eps.isfinite().all())
        keeps_the_invariant(estimate, X, ZERO_TERMINAL(1000))


# Classifier guidance -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["linear", "cosine", "zero terminal", "straight"])
@pytest.mark.parametrize("share", [0.01, 0.4, 0.9])
def test_the_exact_classifier_at_scale_1_gives_the_conditional_denoiser(name, share) -> None:
    """Bayes: ∇ log p(x | y) = ∇ log p(x) + ∇ log p(y | x), both at x_t itself, not at any mean."""
    level = PATHS[name](share * PATHS[name].T)
    guided = ClassifierGuidance(unconditional, MIXTURE.log_joint, 1)
    close(guided(X, level, LABELS), MIXTURE(X, level, LABELS))
    close(guided(X, level, {"label": LABELS}), MIXTURE(X, level, LABELS))


def test_the_gradient_of_a_gaussian_pair_in_closed_form() -> None:
    """Two Gaussians of one width: log-odds are linear in x, so the push is known by hand."""
    pair = GaussianMixture(torch.tensor([[-1.0], [1.0]], dtype=torch.float64), 0.5)
    level, x = PATH(500), randn(6, 1)
    alpha, sigma = float(level.alpha), float(level.sigma)
    variance = 0.25 * alpha**2 + sigma**2
    share = torch.sigmoid(2 * alpha * x / variance)  # p(second | x)
    gradient = (1 - share) * 2 * alpha / variance
    plain = pair(x, level)
    guided = ClassifierGuidance(lambda x, level, condition: pair(x, level), pair.log_joint, 2.5)
    close(
        guided(x, level, torch.ones(6, dtype=torch.long)),
        Estimate(plain.x0 + 2.5 * sigma**2 / alpha * gradient, plain.eps - 2.5 * sigma * gradient),
    )


def test_the_classifier_sees_x_and_the_level_and_the_denoiser_the_condition() -> None:
    seen = []
    level = PATH(500)

    def classifier(x: Tensor, level: Level) -> Tensor:
        seen.append((x.detach(), level))
        return MIXTURE.log_joint(x, level)

    denoiser, network = networked()
    estimate = ClassifierGuidance(denoiser, classifier, 2)(X, level, LABELS)
    assert torch.equal(seen[0][0], X)
    assert seen[0][1] is level
    assert torch.equal(network.calls[0], LABELS)
    keeps_the_invariant(estimate, X, level)


@pytest.mark.parametrize("t", [1.0, 400.0, torch.tensor([1.0, 400.0, 990.0, 2.0])])
def test_a_network_as_a_classifier_is_told_its_own_time(t) -> None:
    def network(x: Tensor, time: Tensor) -> Tensor:
        assert time.shape == (4,)
        return MIXTURE.log_joint(x, PATH(time + 1))

    classifier = NetworkClassifier(network, PATH)  # type: ignore[arg-type]
    level = PATH(t)
    torch.testing.assert_close(classifier(X, level), MIXTURE.log_joint(X, level))
    guided = ClassifierGuidance(unconditional, classifier, 1)
    close(guided(X, level, LABELS), MIXTURE(X, level, LABELS))
    with pytest.raises(ValueError, match="t = 0"):
        classifier(X, PATH(0.0))


def test_classifier_scale_0_is_the_plain_denoiser_and_never_asks() -> None:
    def never(x: Tensor, level: Level) -> Tensor:
        raise AssertionError("asked the classifier")

    close(ClassifierGuidance(MIXTURE, never, 0)(X, PATH(400), LABELS), MIXTURE(X, PATH(400), LABELS), 0)


def test_classifier_guidance_works_under_no_grad_and_refuses_inference_mode() -> None:
    guided = ClassifierGuidance(MIXTURE, MIXTURE.log_joint, 2)
    with torch.enable_grad():
        expected = guided(X, PATH(400), LABELS)
    with torch.no_grad():
        estimate = guided(X, PATH(400), LABELS)
        assert not torch.is_grad_enabled()
    close(estimate, expected, 0)
    assert not estimate.x0.requires_grad
    with torch.inference_mode(), pytest.raises(ValueError, match=r"inference_mode.*no_grad"):
        guided(X, PATH(400), LABELS)


def test_a_sampler_with_classifier_guidance_draws_the_wanted_component() -> None:
    """Scale 1 and the exact classifier: samples of the unconditional model become conditional ones."""
    guided = ClassifierGuidance(unconditional, MIXTURE.log_joint, 1)
    noise = randn(4000, 3, seed=5)
    x = sample(guided, noise, PATH.levels(50), torch.ones(4000, dtype=torch.long), sampler=trajectory)
    torch.testing.assert_close(x.mean(0), MEANS[1], atol=0.03, rtol=0)
    torch.testing.assert_close(x.std(0), torch.full((3,), 0.2).double(), atol=0.02, rtol=0)


def test_classifier_guidance_without_labels_or_with_too_few_is_refused() -> None:
    guided = ClassifierGuidance(unconditional, MIXTURE.log_joint, 1)
    for condition in (None, torch.tensor([1]), torch.tensor([1, 2]), torch.ones(4, 1, dtype=torch.long)):
        with pytest.raises(ValueError, match="one wanted label a sample"):
            guided(X, PATH(400), condition)


@pytest.mark.parametrize("t", [1000, torch.tensor([1000, 500, 1000, 1])])
def test_classifier_guidance_at_zero_terminal_snr_is_finite(t) -> None:
    """At α = 0 the push is none; the samples beside it are pushed as if alone."""
    level = ZERO_TERMINAL(t)
    linear = randn(3, 3, seed=9)
    guided = ClassifierGuidance(MIXTURE, lambda x, level: x @ linear, 2)
    estimate, plain = guided.with_plain(X, level, LABELS)
    assert bool(estimate.x0.isfinite().all() & estimate.eps.isfinite().all())
    keeps_the_invariant(estimate, X, level)
    pushed = ((estimate.x0 - plain.x0).abs() > 0).any(1)
    assert torch.equal(pushed, (level.alpha > 0).expand(4))


# Rescale and clip ----------------------------------------------------------------------------------


def test_rescale_pulls_the_spread_of_x0_back_to_the_plain_one() -> None:
    """In x₀, where the paper does it: rescaling ε or v would mean another thing."""
    denoiser, _ = networked()
    level = PATH(600)
    guidance = ClassifierFreeGuidance(denoiser, 5)
    guided, plain = guidance.with_plain(X, level, LABELS)
    full = Rescale(guidance, 1.0)(X, level, LABELS)
    torch.testing.assert_close(full.x0.std(1), plain.x0.std(1))
    assert float((guided.x0.std(1) / plain.x0.std(1)).max()) > 1.2
    close(Rescale(guidance, 0.0)(X, level, LABELS), guided)
    factor = 0.7 * plain.x0.std(1) / guided.x0.std(1) + 0.3
    part = Rescale(guidance)(X, level, LABELS)
    torch.testing.assert_close(part.x0, factor[:, None] * guided.x0)
    for estimate in (full, part):
        keeps_the_invariant(estimate, X, level)


def test_rescale_works_on_each_picture_alone() -> None:
    """The spread is over channels, rows and columns, never over the batch."""

    class Fixed:
        guided, plain = randn(2, 3, 4, 4, seed=1) + 1, 0.1 * randn(2, 3, 4, 4, seed=2)

        def with_plain(self, x, level, condition):
            return Estimate.from_x0(self.guided, x, level), Estimate.from_x0(self.plain, x, level)

    level = PATH(torch.tensor([3, 700]))
    x0 = Rescale(Fixed(), 1.0)(randn(2, 3, 4, 4), level).x0
    torch.testing.assert_close(x0.flatten(1).std(1), Fixed.plain.flatten(1).std(1))
    torch.testing.assert_close(x0[0] / Fixed.guided[0], (x0[0] / Fixed.guided[0])[0, 0, 0].expand(3, 4, 4))


def test_rescale_also_wraps_classifier_guidance() -> None:
    guidance = ClassifierGuidance(unconditional, MIXTURE.log_joint, 4)
    _, plain = guidance.with_plain(X, PATH(300), LABELS)
    torch.testing.assert_close(Rescale(guidance, 1.0)(X, PATH(300), LABELS).x0.std(1), plain.x0.std(1))


def test_rescale_leaves_alone_what_has_no_spread() -> None:
    line = GaussianMixture([[0.0], [1.0]], 0.5)
    guidance = ClassifierGuidance(line, line.log_joint, 2)
    x, labels = torch.tensor([[0.3], [2.0]]), torch.tensor([0, 1])
    close(Rescale(guidance, 1.0)(x, PATH(300), labels), guidance(x, PATH(300), labels), 1e-5)


@pytest.mark.parametrize("phi", [-0.1, 1.1, math.nan])
def test_bad_phi_is_refused(phi) -> None:
    with pytest.raises(ValueError, match="share from 0 to 1"):
        Rescale(ClassifierFreeGuidance(networked()[0], 2), phi)


def test_clip_keeps_x0_in_range_and_eps_in_step() -> None:
    """A stale ε would leave x ≠ α·x₀ + σ·ε, and DDIM would drift."""
    level = PATH(300)
    clipped, plain = Clip(MIXTURE, -0.2, 0.5)(X, level), MIXTURE(X, level)
    assert torch.equal(clipped.x0, plain.x0.clamp(-0.2, 0.5))
    assert not torch.equal(clipped.x0, plain.x0)
    assert not torch.allclose(clipped.eps, plain.eps)
    keeps_the_invariant(clipped, X, level)
    close(Clip(MIXTURE, -100, 100)(X, level, LABELS), MIXTURE(X, level, LABELS))


@pytest.mark.parametrize(("low", "high"), [(1, -1), (0, 0), (math.nan, 1)])
def test_an_empty_range_is_refused(low, high) -> None:
    with pytest.raises(ValueError, match="range to clip to is empty"):
        Clip(MIXTURE, low, high)


@pytest.mark.parametrize("mask", [[[1.0, 0.0, 0.0]], [[1.0, 0.0, 0.5]]], ids=["hard", "soft"])
def test_what_is_known_is_in_the_guess_and_eps_follows(mask: list[list[float]]) -> None:
    known, part, level = randn(4, 3), torch.tensor(mask).double(), PATH(400)
    plain, kept = MIXTURE(X, level), Inpaint(MIXTURE, known, part)(X, level)
    torch.testing.assert_close(kept.x0, part * plain.x0 + (1 - part) * known)
    torch.testing.assert_close(level.alpha * kept.x0 + level.sigma * kept.eps, X)
    torch.testing.assert_close(Inpaint(MIXTURE, known, part[:, :1])(X, level).x0, plain.x0)  # one for all


@pytest.mark.parametrize("mask", [torch.ones(4, 2), torch.ones(3), torch.ones(4, 1, 3)])
def test_a_mask_of_another_shape_is_refused(mask: Tensor) -> None:
    with pytest.raises(ValueError, match="the mask is"):
        Inpaint(MIXTURE, X, mask)


def test_the_canonical_order_is_guide_rescale_clip() -> None:
    """Clipping before guidance is another sampler: what guidance then stretches leaves the range."""
    denoiser, _ = networked()
    level = PATH(600)
    canonical = Clip(Rescale(ClassifierFreeGuidance(denoiser, 8), 0.7))(X, level, LABELS)
    assert float(canonical.x0.abs().max()) <= 1
    keeps_the_invariant(canonical, X, level)

    class ClippedFirst(Clip):
        null_condition = denoiser.null_condition

    wrong = ClassifierFreeGuidance(ClippedFirst(denoiser), 8)(X, level, LABELS)
    assert float(wrong.x0.abs().max()) > 1.5
    keeps_the_invariant(wrong, X, level)
    assert not torch.allclose(canonical.x0, wrong.x0, atol=0.1)


def test_wrappers_with_one_level_for_each_sample() -> None:
    denoiser, _ = networked()
    alone = [PATH(t) for t in (1, 300, 800, 1000)]
    level = per_sample(*alone)
    for wrapped in (
        ClassifierFreeGuidance(denoiser, 3),
        ClassifierFreeGuidance(denoiser, 0),
        ClassifierGuidance(denoiser, MIXTURE.log_joint, 2),
        Rescale(ClassifierFreeGuidance(denoiser, 3)),
        Clip(denoiser, -0.5, 0.5),
        Clip(Rescale(ClassifierFreeGuidance(denoiser, 3))),
    ):
        together = wrapped(X, level, LABELS)
        keeps_the_invariant(together, X, level)
        for i in range(4):
            one = slice(i, i + 1)
            close(Estimate(together.x0[one], together.eps[one]), wrapped(X[one], alone[i], LABELS[one]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_wrappers_keep_the_dtype(dtype) -> None:
    mixture = GaussianMixture(MEANS.to(dtype), 0.3)
    x, level = X.to(dtype), PATH(torch.tensor([10, 300, 500, 800]))

    class Half:
        def __call__(self, x, level, condition=None):
            return mixture(x, level)

        def null_condition(self, batch):
            return torch.full((batch,), 3)

    for wrapped in (
        ClassifierFreeGuidance(Half(), 3),
        ClassifierGuidance(Half(), mixture.log_joint, 2),
        Clip(Rescale(ClassifierFreeGuidance(Half(), 3))),
    ):
        estimate = wrapped(x, level, LABELS)
        assert estimate.x0.dtype == estimate.eps.dtype == dtype
        assert bool(estimate.x0.isfinite().all() & estimate.eps.isfinite().all())


@pytest.mark.filterwarnings("ignore:std")
def test_an_empty_batch_stays_empty() -> None:
    denoiser, _ = networked()
    x, labels = torch.zeros(0, 3, dtype=torch.float64), LABELS[:0]
    for wrapped in (
        Clip(Rescale(ClassifierFreeGuidance(denoiser, 3))),
        ClassifierGuidance(denoiser, MIXTURE.log_joint, 2),
    ):
        assert wrapped(x, PATH(5), labels).x0.shape == (0, 3)


@pytest.mark.gpu
def test_guidance_is_the_same_on_a_gpu() -> None:
    torch.manual_seed(0)
    table, weight, matrix = randn(4, 3, seed=1), randn(3, 3, seed=2), randn(3, 3, seed=3)

    class Linear(nn.Module):
        def forward(self, x, time, condition):
            return x @ weight.to(x.device) + table.to(x.device)[condition] + time[:, None] / 1000

        def null_condition(self, batch):
            return torch.full((batch,), 3, device=self.device)

    denoiser = NetworkDenoiser(Linear(), PATH, V)
    for wrapped in (
        Clip(Rescale(ClassifierFreeGuidance(denoiser, 3))),
        ClassifierGuidance(denoiser, lambda x, level: x @ matrix.to(x.device), 2),
    ):
        for t in (400, torch.tensor([1, 300, 800, 1000])):
            denoiser.network.device = "cpu"
            here = wrapped(X, PATH(t), LABELS)
            denoiser.network.device = "cuda"
            there = wrapped(X.cuda(), PATH(t), LABELS.cuda())
            close(Estimate(there.x0.cpu(), there.eps.cpu()), here)


def test_seeds_of_the_caller_are_left_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    generator = seeded(4)
    state = generator.get_state()
    Clip(Rescale(ClassifierFreeGuidance(networked()[0], 3)))(X, PATH(400), LABELS)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(generator.get_state(), state)
