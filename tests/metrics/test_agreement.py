"""Agreement with torchmetrics, torch-fidelity and POT, on given features and in float64.

torch-fidelity imports torchvision for its pictures, and this project does without. Its files of arithmetic
need PyTorch and NumPy alone: they are imported as they are, with an empty file in place of the one that reads
pictures. The two sets differ in number, place, spread and correlation: what is swapped or left out shows.
"""

import importlib
import sys
from pathlib import Path
from types import ModuleType
from unittest import mock

import numpy as np
import ot
import pytest
import torch
from torch import Tensor

from diffusion_lessons import zoo
from diffusion_lessons.metrics import (
    Statistics,
    frechet_between,
    frechet_distance,
    kernel_distance,
    precision_recall,
    sliced_wasserstein,
)
from tests.oracles import randn, seeded

FIDELITY = Path(sys.prefix) / "peers" / "torch_fidelity"  # apart from all others: see the Makefile


def fidelity(name: str) -> ModuleType:
    """torch-fidelity's file of that name."""
    package, pictures = ModuleType("torch_fidelity"), ModuleType("torch_fidelity.utils")
    package.__path__ = [str(FIDELITY)]
    pictures.__getattr__ = lambda name: None  # type: ignore[method-assign]
    with mock.patch.dict(sys.modules, {"torch_fidelity": package, "torch_fidelity.utils": pictures}):
        return importlib.import_module(f"torch_fidelity.{name}")


def correlated(n: int, seed: int, dim: int = 12) -> Tensor:
    """Features (n, dim), each a mixture of all."""
    return randn(n, dim, seed=seed) @ randn(dim, dim, seed=seed + 10) / dim**0.5


# Made and real ones. Theirs are eigenvalues of a product of matrices that isn't symmetric; the distance of
# the digits is 0.2, left of traces of 64, and the same to 1e-10. Dividing by n for n - 1 changes it by 5e-4.
CASES = {
    "correlated": (1.4 * correlated(150, 1) + 0.3, correlated(200, 2)),
    "digits": tuple(zoo.yardstick("mnist").references[split].sample.double() for split in ("train", "test")),
}
WITHIN = 1e-8


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[Tensor, Tensor]:
    return CASES[request.param]


# Distances of two sets -------------------------------------------------------------------------------


def test_frechet_distance_of_torch_fidelity(case) -> None:
    """Their means and covariances, too."""
    made, real = case
    fid = fidelity("metric_fid")
    statistics = [fid.fid_features_to_statistics(x) for x in (made, real)]
    theirs = fid.fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert frechet_distance(made, real) == pytest.approx(theirs, rel=WITHIN)


def test_frechet_distance_of_torchmetrics(case) -> None:
    from torchmetrics.image.fid import _compute_fid

    made, real = case
    of_both = [each for x in (made, real) for each in (x.mean(0), x.T.cov())]
    assert frechet_distance(made, real) == pytest.approx(float(_compute_fid(*of_both)), rel=WITHIN)


def test_frechet_distance_is_the_square_of_pots_between_gaussians(case) -> None:
    made, real = case
    a, b = Statistics.of(made), Statistics.of(real)
    theirs = ot.gaussian.bures_wasserstein_distance(a.mean, b.mean, a.covariance, b.covariance)
    assert frechet_between(a, b) == pytest.approx(float(theirs) ** 2, rel=WITHIN)


def test_kernel_distance_of_torchmetrics(case) -> None:
    """Theirs is for sets of one size."""
    from torchmetrics.image.kid import poly_mmd

    made, real = (x[:150] for x in case)
    assert kernel_distance(made, real) == pytest.approx(float(poly_mmd(made, real)), rel=1e-11)


def test_kernel_distance_of_torch_fidelity_over_its_subsets(case) -> None:
    made, real = case
    options = {"kid_subsets": 6, "kid_subset_size": 60, "rng_seed": 3, "verbose": False}
    theirs = fidelity("metric_kid").kid_features_to_metric(made, real, **options)
    random = np.random.RandomState(3)
    ours = []
    for _ in range(6):
        subsets = [x[random.choice(len(x), 60, replace=False)] for x in (made, real)]
        ours.append(kernel_distance(*subsets))
    assert np.mean(ours) == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-11)
    assert np.std(ours) == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-11)


@pytest.mark.parametrize("k", [1, 3, 7])
def test_precision_and_recall_of_torch_fidelity(case, k) -> None:
    """The same samples are counted; theirs is the mean of float32."""
    made, real = case[0][:150], case[1][:200]
    theirs = fidelity("metric_prc").prc_features_to_metric(made, real, prc_neighborhood=k, verbose=False)
    ours = precision_recall(real, made, k)
    assert 0 < ours.precise < 150 and 0 < ours.recalled < 200
    assert ours.precision == pytest.approx(theirs["precision"], abs=1e-6)
    assert ours.recall == pytest.approx(theirs["recall"], abs=1e-6)


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
def test_sliced_wasserstein_of_pot_along_the_same_directions(case, p) -> None:
    made, real = case[0][:150], case[1][:200]
    directions = torch.randn(made.shape[1], 40, dtype=torch.float64, generator=seeded(5))
    directions /= directions.norm(dim=0)
    theirs = ot.sliced_wasserstein_distance(made, real, p=p, projections=directions)
    ours = sliced_wasserstein(made, real, 40, p, seeded(5))
    assert ours == pytest.approx(float(theirs), rel=1e-12)


def test_transport_along_a_line_is_pots_exact_one() -> None:
    """In one dimension the directions are left and right: the distance itself, here by a linear program."""
    a, b = (x[:, :1] for x in CASES["correlated"])
    theirs = ot.emd2([], [], ot.dist(a.numpy(), b.numpy()))
    assert sliced_wasserstein(a, b) ** 2 == pytest.approx(theirs, rel=1e-12)
