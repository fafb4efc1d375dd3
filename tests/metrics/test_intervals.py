import pytest
import torch

from diffusion_lessons.metrics import bootstrap_counts, bootstrap_error, share_error, wilson_interval


def test_bootstrap_error_of_a_mean(generator: torch.Generator) -> None:
    x = torch.randn(400, dtype=torch.float64, generator=generator) * 3
    error = bootstrap_error(lambda counts: float(counts @ x / 400), 400, generator)
    assert error == pytest.approx(x.std().item() / 20, rel=0.25)


def test_strata_keep_their_sizes(generator: torch.Generator) -> None:
    strata = torch.tensor([0, 1, 1, 0, 2, 1])
    counts = bootstrap_counts(6, 50, generator, strata)
    assert (counts.sum(1) == 6).all()
    assert (counts[:, strata == 1].sum(1) == 3).all()
    assert (counts[:, 4] == 1).all()
    assert len(counts[:, 1].unique()) > 2


def test_without_strata_all_samples_are_alike(generator: torch.Generator) -> None:
    counts = bootstrap_counts(5, 2000, generator)
    torch.testing.assert_close(counts.mean(0), torch.ones(5, dtype=torch.float64), atol=0.1, rtol=0)
    assert torch.equal(bootstrap_counts(5, 3), bootstrap_counts(5, 3))


def test_wilson_interval_against_the_textbook() -> None:
    assert wilson_interval(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert wilson_interval(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)  # Newcombe 1998, table I


def test_share_error_is_binomial_and_never_zero() -> None:
    assert share_error(500, 1000) == pytest.approx((0.25 / 1000) ** 0.5, rel=0.01)
    assert 0 < share_error(1000, 1000) < 0.001


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="n = 1"):
        bootstrap_counts(1)
    with pytest.raises(ValueError, match=r"strata must have shape \(4,\)"):
        bootstrap_counts(4, strata=torch.zeros(3))
    for successes, n in [(1, 0), (3, 2), (-1, 5)]:
        with pytest.raises(ValueError, match="successes"):
            wilson_interval(successes, n)
