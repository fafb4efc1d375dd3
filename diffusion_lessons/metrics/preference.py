"""What people choose between two pictures: strengths from pairwise votes, ties and errors included.

Bradley and Terry 1952; ties after Davidson 1970. With strengths θ and, where there are ties, ν, a against b
ends in one of three ways, whose chances are in the ratio exp(θ_a) : exp(θ_b) : ν·exp((θ_a + θ_b)/2).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from diffusion_lessons.metrics.intervals import wilson_interval
from diffusion_lessons.support.errors import unknown

FIRST, SECOND, TIE = "first", "second", "tie"
MAX_STEPS, ENOUGH = 100, 1e-16  # of Newton's method; what its last step adds to the log-likelihood, about


class Vote(NamedTuple):
    """Two things that were shown, and which was chosen: "first", "second" or "tie"."""

    first: str
    second: str
    choice: str


@dataclass(frozen=True)
class Ratings:
    """Strengths on the scale of log odds: θ_a − θ_b is how likely a is chosen rather than b."""

    names: tuple[str, ...]
    strengths: Tensor  # (K,) float64, their mean is 0
    covariance: Tensor  # (K, K) of the strengths, over the draw of independent votes
    tie: float  # ν; 0 without ties; equals end in one with the chance ν/(2 + ν)

    def difference(self, a: str, b: str) -> tuple[float, float]:
        """θ_a − θ_b and its standard error."""
        i, j = (self._place(name) for name in (a, b))
        variance = self.covariance[i, i] + self.covariance[j, j] - 2 * self.covariance[i, j]
        return float(self.strengths[i] - self.strengths[j]), math.sqrt(max(float(variance), 0.0))

    def chosen(self, a: str, b: str, z: float = 1.96) -> tuple[float, float, float]:
        """The chance that a is chosen rather than b where one is, and its interval, z errors wide."""
        difference, error = self.difference(a, b)
        share, low, high = (1 / (1 + math.exp(-(difference + k * error))) for k in (0, -z, z))
        return share, low, high

    def _place(self, name: str) -> int:
        if name not in self.names:
            raise unknown("name", name, self.names)
        return self.names.index(name)


def bradley_terry(votes: Sequence[Vote]) -> Ratings:
    """The strengths under which these votes are likeliest, the strongest first.

    A vote for what was not shown, one between a thing and itself and no votes are a ValueError; so are votes
    that no finite strengths explain best, where some things never lost to the others, or never met them.
    """
    names, wins, ties = _counted(votes)
    _check_connected(names, wins, ties)
    pairs = torch.combinations(torch.arange(len(names)))  # (P, 2)
    a, b = pairs.unbind(1)
    counts = torch.stack([wins[a, b], wins[b, a], ties[a, b]], 1)  # (P, 3) votes by outcome
    met = counts.sum(1) > 0
    features, counts = _features(pairs[met], len(names)), counts[met]
    if not ties.any():
        features, counts = features[:, :2, :-1], counts[:, :2]
    point, information = _likeliest(features, counts, len(names))
    covariance = (
        torch.linalg.inv(information)[: len(names), : len(names)] - 1
    )  # less the gauge of `_likeliest`
    strengths = point[: len(names)]
    order = strengths.argsort(descending=True)
    tie = float(point[-1].exp()) if ties.any() else 0.0
    ranked = tuple(names[i] for i in order.tolist())
    return Ratings(ranked, strengths[order], covariance[order][:, order], tie)


def first_chosen(votes: Sequence[Vote]) -> tuple[float, float, float]:
    """The share of the decided votes that took what was shown first, and its 95 % interval (Wilson).

    Half, where the order does not matter. No decided votes are a ValueError.
    """
    decided = [vote.choice for vote in votes if vote.choice != TIE]
    low, high = wilson_interval(decided.count(FIRST), len(decided))
    return decided.count(FIRST) / len(decided), low, high


def _counted(votes: Sequence[Vote]) -> tuple[tuple[str, ...], Tensor, Tensor]:
    """The names, how often i was chosen over j (K, K), and how often the two ended in a tie (K, K)."""
    if not votes:
        raise ValueError("no votes: strengths come from at least one choice")
    names = tuple(sorted({name for vote in votes for name in (vote.first, vote.second)}))
    place = {name: i for i, name in enumerate(names)}
    wins, ties = (torch.zeros(len(names), len(names), dtype=torch.float64) for _ in range(2))
    for first, second, choice in votes:
        i, j = place[first], place[second]
        if i == j:
            raise ValueError(f"a vote is between two things, got {first!r} twice")
        if choice == TIE:
            ties[i, j] += 1
            ties[j, i] += 1
        elif choice in (FIRST, SECOND):
            wins[(i, j) if choice == FIRST else (j, i)] += 1
        else:
            raise unknown("choice", choice, (FIRST, SECOND, TIE))
    return names, wins, ties


def _check_connected(names: tuple[str, ...], wins: Tensor, ties: Tensor) -> None:
    """Finite strengths need a way of wins or ties from each to each (Ford 1957)."""
    beaten = (wins + ties).numpy()
    if not wins.any():
        raise ValueError("all votes are ties: no strengths follow from them")
    count, group = connected_components(beaten, connection="strong")
    if count > 1:
        groups = [[n for n, g in zip(names, group, strict=True) if g == k] for k in range(count)]
        few = min(groups, key=len)
        raise ValueError(
            f"no finite strengths: {', '.join(few)} never lost to the others, never won, or never met them; "
            "collect more votes, or leave them out"
        )


def _features(pairs: Tensor, k: int) -> Tensor:
    """(P, 3, K + 1): what each outcome of a pair counts of the strengths and of log ν."""
    rows = torch.arange(len(pairs))
    features = torch.zeros(len(pairs), 3, k + 1, dtype=torch.float64)
    for outcome in range(2):
        features[rows, outcome, pairs[:, outcome]] = 1
        features[rows, 2, pairs[:, outcome]] = 0.5
    features[:, 2, k] = 1
    return features


def _likeliest(features: Tensor, counts: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The parameters of the largest likelihood, strengths of mean 0, and the information there.

    The likelihood is concave, so that Newton's method with steps that are halved finds its top. It does not
    change with the strengths' mean: a matrix of ones / K² holds that at 0.
    """
    n = counts.sum(1, keepdim=True)  # (P, 1)
    gauge = torch.zeros(features.shape[2], features.shape[2], dtype=torch.float64)
    gauge[:k, :k] = 1 / k**2

    def likelihood(point: Tensor) -> Tensor:
        return (counts * (features @ point).log_softmax(1)).sum()

    point = torch.zeros(features.shape[2], dtype=torch.float64)
    for _ in range(MAX_STEPS):
        chances = (features @ point).softmax(1)  # (P, outcomes)
        slope = ((counts - n * chances)[..., None] * features).sum((0, 1))
        mean = chances[:, None] @ features  # (P, 1, K + 1)
        weighted = (n * chances)[..., None] * (features - mean)
        information = torch.einsum("poi,poj->ij", weighted, features - mean) + gauge
        step, size = torch.linalg.solve(information, slope), 1.0
        if slope @ step <= ENOUGH:
            return point, information
        while likelihood(point + size * step) < likelihood(point) and size > 1e-6:
            size /= 2
        point = point + size * step
    raise ValueError("no finite strengths explain these votes best: collect more of them")
