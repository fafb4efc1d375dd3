"""Lesson 20, evaluation: two distances, equal n and its limit, precision and recall, preference."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffusion_lessons import metrics
from diffusion_lessons.course.bank.inputs import normal, number, whole
from diffusion_lessons.course.exercises.exercise import Case, Exercise, Misconception
from diffusion_lessons.metrics.preference import FIRST, Vote

Make = Callable[[torch.Generator], dict[str, Any]]


def _features(g: torch.Generator, n: int, dim: int) -> Tensor:
    """(n, dim) float64 of a Gaussian with a mean, spreads and correlations of its own."""
    mix = normal(g, dim, dim).double() / dim**0.5 + torch.eye(dim, dtype=torch.float64)
    return normal(g, n, dim).double() @ mix + 0.7 * normal(g, dim).double()


def _two_sets(n: int, m: int, dim: int) -> Make:
    return lambda g: {"a": _features(g, n, dim), "b": _features(g, m, dim)}


def _twice(n: int, dim: int) -> Make:
    """One set, in two orders."""

    def make(g: torch.Generator) -> dict[str, Any]:
        a = _features(g, n, dim)
        return {"a": a, "b": a[torch.randperm(n, generator=g)]}

    return make


# 20.1 The Fréchet distance ---------------------------------------------------------------------------


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Heusel et al. 2017, eq. 6."""
    return metrics.frechet_distance(a, b)


def _real_number(answer: Callable[..., Any], a: Tensor, b: Tensor) -> Any:
    given = answer(a, b)
    if isinstance(given, complex) or (isinstance(given, Tensor) and given.is_complex()):
        raise ValueError("the distance is real; yours is of a complex type: take .real of the roots")
    return given


def _overlap(one: Tensor, other: Tensor) -> Tensor:
    """tr (Σ₁Σ₂)^½ by the eigenvalues of the product: they are not negative."""
    return torch.linalg.eigvals(one @ other).real.clamp(min=0).sqrt().sum()


def _distance(
    mean: Callable[[Tensor], Tensor] = lambda gap: gap.square().sum(),
    spread: Callable[[Tensor], Tensor] = lambda x: torch.cov(x.T),
    overlap: Callable[[Tensor, Tensor], Tensor] = _overlap,
    weight: float = 2,
    end: Callable[[Tensor], Tensor] = lambda d: d,
) -> Callable[..., Any]:
    """The distance in plain steps, with a place for each slip."""

    def answer(a: Tensor, b: Tensor) -> float:
        one, other = spread(a), spread(b)
        shift = mean(a.mean(0) - b.mean(0))
        return float(end(shift + one.trace() + other.trace() - weight * overlap(one, other)))

    return answer


def _distance_by_roots(a: Tensor, b: Tensor) -> Tensor:
    """By the root of the symmetric √Σ₁·Σ₂·√Σ₁."""

    def root(matrix: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(matrix)
        return vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T

    centred = [x - x.mean(0) for x in (a, b)]
    one, other = (x.T @ x / (len(x) - 1) for x in centred)
    half = root(one)
    both = one + other - 2 * root(half @ other @ half)
    return torch.sum((a.mean(0) - b.mean(0)) ** 2) + both.diagonal().sum()


FRECHET = Exercise(
    id="20.1",
    name="frechet_distance",
    title="The Fréchet distance",
    kind="reproduce",
    difficulty=2,
    minutes=12,
    reference=frechet_distance,
    call=_real_number,
    cases=[
        Case("two sets of four features", _two_sets(60, 60, 4)),
        Case("sets of two sizes", _two_sets(40, 90, 5)),
        Case("few samples, three features", _two_sets(9, 7, 3)),
        Case(
            "the same Gaussian twice",
            lambda g: {"a": normal(g, 50, 4).double(), "b": normal(g, 60, 4).double()},
        ),
    ],
    misconceptions=[
        Misconception(
            "mean-not-squared",
            _distance(mean=lambda gap: gap.norm()),
            "You added the distance of the means. Their *squared* distance belongs there: |μ₁ − μ₂|².",
            about="root",
        ),
        Misconception(
            "mean-of-squares",
            _distance(mean=lambda gap: gap.square().mean()),
            "You averaged the squares of μ₁ − μ₂ over the features. They are summed.",
            about="mean",
        ),
        Misconception(
            "means-left-out",
            _distance(mean=lambda gap: torch.zeros((), dtype=torch.float64)),
            "The means are not in your answer: two sets that are shifted would be 0 apart. Add |μ₁ − μ₂|².",
            about="missing",
        ),
        Misconception(
            "means-alone",
            lambda a, b: float((a.mean(0) - b.mean(0)).square().sum()),
            "You compared the means alone. A set of copies of one mean picture would be perfect: the "
            "covariances belong in.",
            about="missing",
        ),
        Misconception(
            "product-without-root",
            _distance(overlap=lambda one, other: (one @ other).trace()),
            "You took the trace of Σ₁Σ₂. It is the trace of its matrix *square root*: for equal Σ that gives "
            "Σ again, and the distance 0.",
            about="root",
        ),
        Misconception(
            "root-of-the-trace",
            _distance(overlap=lambda one, other: (one @ other).trace().sqrt()),
            "You took the root of the trace. The root comes first, of the matrix: the sum of the roots of "
            "its eigenvalues.",
            about="order",
        ),
        Misconception(
            "root-of-each-entry",
            _distance(overlap=lambda one, other: (one @ other).abs().sqrt().trace()),
            "You took the root of each entry of Σ₁Σ₂. A matrix square root is another thing: R·R = Σ₁Σ₂. Its "
            "trace is the sum of the roots of the eigenvalues.",
            about="formula",
        ),
        Misconception(
            "variances-alone",
            _distance(overlap=lambda one, other: (one.diagonal() * other.diagonal()).sqrt().sum()),
            "You used the variances alone. How features go together, off the diagonal, counts as well.",
            about="missing",
        ),
        Misconception(
            "overlap-once",
            _distance(weight=1),
            "You took off tr √(Σ₁Σ₂) once. It is taken off twice: Σ₁ + Σ₂ − 2·√(Σ₁Σ₂).",
            about="factor",
        ),
        Misconception(
            "overlap-added",
            _distance(weight=-2),
            "You added the overlap of the covariances. It is taken off: equal ones give 0.",
            about="sign",
        ),
        Misconception(
            "root-at-the-end",
            _distance(end=lambda d: d.clamp(min=0).sqrt()),
            "You took a root at the end. What is called FID is the squared distance.",
            about="root",
        ),
        Misconception(
            "not-centred",
            _distance(spread=lambda x: x.T @ x / len(x)),
            "You averaged products of features without taking off their mean. A covariance is of what is "
            "left when the mean is gone.",
            about="missing",
        ),
        Misconception(
            "divided-by-n",
            _distance(spread=lambda x: torch.cov(x.T, correction=0)),
            "You divided the covariance by n. It is divided by n − 1, as `torch.cov` does.",
            about="count",
        ),
        Misconception(
            "correlations",
            _distance(spread=lambda x: torch.corrcoef(x.T)),
            "You compared correlations: how wide a feature spreads is lost there. Covariances are asked for.",
            about="formula",
        ),
    ],
    alternatives=[_distance(), _distance_by_roots],
    hints=(
        "Each set becomes a Gaussian: a mean and a covariance. The distance has a part for the means and one "
        "for the spreads; both are 0 for equal Gaussians.",
        "|μ₁ − μ₂|² + tr Σ₁ + tr Σ₂ − 2·Σᵢ √λᵢ, where λ are the eigenvalues of Σ₁Σ₂.",
        "`torch.cov(x.T)` wants features in rows. `torch.linalg.eigvals(m)` is complex in type: take "
        "`.real`, and clamp at 0, for rounding.",
    ),
)


# 20.2 A leaderboard that cheats (debug) --------------------------------------------------------------

_FRECHET = frechet_distance  # as the misconceptions of 20.2 call it


def fair_distances(features: dict[str, Tensor], reference: Tensor) -> dict[str, float]:
    """Every set by as many samples as the smallest has."""
    n = min(len(each) for each in features.values())
    return {name: frechet_distance(each[:n], reference) for name, each in features.items()}


def _compared(
    number_of: Callable[[dict[str, Tensor], Tensor], int],
    cut: Callable[[Tensor, int], Tensor] = lambda x, n: x[:n],
    real: Callable[[Tensor, int], Tensor] = lambda reference, n: reference,
    end: Callable[[float, int], float] = lambda d, n: d,
) -> Callable[..., Any]:
    """The table in plain steps, with a place for each slip."""

    def answer(features: dict[str, Tensor], reference: Tensor) -> dict[str, float]:
        n, table = number_of(features, reference), {}
        for name, each in features.items():
            some = cut(each, n)
            table[name] = end(_FRECHET(some, real(reference, n)), len(some))
        return table

    return answer


def _smallest(features: dict[str, Tensor], reference: Tensor) -> int:
    return min(map(len, features.values()))


def _largest(features: dict[str, Tensor], reference: Tensor) -> int:
    return max(map(len, features.values()))


def _compared_in_order(features: dict[str, Tensor], reference: Tensor) -> dict[str, float]:
    sizes = sorted(each.shape[0] for each in features.values())
    rows = torch.arange(sizes[0])
    return {name: frechet_distance(features[name][rows], reference) for name in features}


def _repeated(x: Tensor, n: int) -> Tensor:
    return x[torch.arange(n) % len(x)]


def _models(*sizes: int, dim: int = 4, real: int = 80) -> Make:
    def make(g: torch.Generator) -> dict[str, Any]:
        names = ("teacher", "student", "gan", "flow")
        features = {name: _features(g, n, dim) for name, n in zip(names, sizes, strict=False)}
        return {"features": features, "reference": _features(g, real, dim)}

    return make


FAIR = Exercise(
    id="20.2",
    name="fair_distances",
    title="A leaderboard that is not fair",
    kind="debug",
    difficulty=2,
    minutes=8,
    reference=fair_distances,
    planted="all-that-there-are",
    builds_on=[FRECHET],
    cases=[
        Case("three models, the second with the fewest", _models(40, 12, 30)),
        Case("two models, the last with the fewest", _models(50, 9)),
        Case("four models, the first with the fewest", _models(15, 40, 25, 60, dim=3)),
        Case("a reference smaller than the sets", _models(40, 30, real=14)),
    ],
    misconceptions=[
        Misconception(
            "all-that-there-are",
            _compared(_largest),
            "Each model is measured by all samples that there are of it. The bias is about c/n: who has "
            "more samples, wins. Take as many of each.",
            about="missing",
        ),
        Misconception(
            "filled-up-by-repeating",
            _compared(_largest, cut=_repeated),
            "You repeated rows until all sets were as large. A sample that comes twice says nothing new, "
            "and the bias stays that of the small set. Cut the large ones.",
            about="reading",
        ),
        Misconception(
            "number-of-the-first",
            _compared(lambda features, reference: len(next(iter(features.values())))),
            "You took the number of the first model. Another one may have fewer: it is the smallest of all "
            "that counts.",
            about="reading",
        ),
        Misconception(
            "the-last-rows",
            _compared(_smallest, cut=lambda x, n: x[-n:]),
            "The number is right, but these are the last rows of each set. The first ones are asked for, "
            "so that all get the same table.",
            about="index",
        ),
        Misconception(
            "reference-cut-too",
            _compared(_smallest, real=lambda reference, n: reference[:n]),
            "You cut the reference, too. It is the same for all models: a smaller one only makes the bias "
            "larger.",
            about="extra",
        ),
        Misconception(
            "as-many-as-the-reference",
            _compared(lambda features, reference: len(reference)),
            "You cut at the number of real samples. A model with fewer still has more bias than the "
            "others: cut all at the smallest set.",
            about="input",
        ),
        Misconception(
            "multiplied-by-n",
            _compared(_largest, end=lambda d, n: d * n),
            "You multiplied by n. That would be right for a distance that is all bias; a true distance "
            "does not fall with n. Take as many samples of each.",
            about="formula",
        ),
        Misconception(
            "one-short",
            _compared(_smallest, cut=lambda x, n: x[: n - 1]),
            "You left out one row more: x[:n] has n rows already.",
            about="count",
        ),
    ],
    alternatives=[_compared(_smallest), _compared_in_order],
    hints=(
        "The code compares sets of different sizes. What did you measure about two real sets of 100?",
        "n = the smallest number of samples; each model by its first n.",
        "`n = min(len(each) for each in features.values())`, and `[:n]` at the right place.",
    ),
)


# 20.3 Infinitely many samples ------------------------------------------------------------------------


def at_infinity(sizes: Sequence[int], distances: Sequence[float]) -> float:
    """Chong and Forsyth 2020, section 3: the intercept over 1/n."""
    n, d = (torch.tensor(each, dtype=torch.float64) for each in (sizes, distances))
    return float(torch.linalg.lstsq(torch.stack([torch.ones_like(n), 1 / n], 1), d[:, None]).solution[0])


def _line(
    over: Callable[[Tensor], Tensor] = lambda n: 1 / n,
    read: Callable[[Tensor, Tensor], Tensor] = lambda intercept, slope: intercept,
) -> Callable[..., Any]:
    """The line by its sums, with a place for each slip."""

    def answer(sizes: Sequence[int], distances: Sequence[float]) -> float:
        n, d = (torch.tensor(each, dtype=torch.float64) for each in (sizes, distances))
        x = over(n)
        slope = ((x - x.mean()) * (d - d.mean())).sum() / ((x - x.mean()) ** 2).sum()
        return float(read(d.mean() - slope * x.mean(), slope))

    return answer


def _line_by_numpy(sizes: Sequence[int], distances: Sequence[float]) -> float:
    return np.polyfit(1 / np.array(sizes, dtype=float), np.array(distances), 1)[1]


def _slope_through_zero(sizes: Sequence[int], distances: Sequence[float]) -> float:
    return sum(d / n for n, d in zip(sizes, distances, strict=True)) / sum(1 / n**2 for n in sizes)


def _two_ends(sizes: Sequence[int], distances: Sequence[float]) -> float:
    (n, d), *_, (m, e) = sorted(zip(sizes, distances, strict=True))
    return (m * e - n * d) / (m - n)


def _measured_distances(sizes: Sequence[int], mixed: bool = False) -> Make:
    def make(g: torch.Generator) -> dict[str, Any]:
        limit, slope = number(g, 0.1, 2.0), number(g, 40, 90)
        order = torch.randperm(len(sizes), generator=g).tolist() if mixed else range(len(sizes))
        n = [sizes[i] + whole(g, 0, 9) for i in order]
        return {"sizes": n, "distances": [limit + slope / each * number(g, 0.9, 1.1) for each in n]}

    return make


LIMIT = Exercise(
    id="20.3",
    name="at_infinity",
    title="Infinitely many samples",
    kind="implement",
    difficulty=1,
    minutes=8,
    reference=at_infinity,
    cases=[
        Case("six sizes, each twice the one before", _measured_distances([100, 200, 400, 800, 1600, 3200])),
        Case("four sizes, evenly spaced", _measured_distances([500, 1000, 1500, 2000])),
        Case("sizes in no order", _measured_distances([300, 450, 600, 900, 1200], mixed=True)),
    ],
    misconceptions=[
        Misconception(
            "over-n",
            _line(over=lambda n: n),
            "Your line goes over n, and its value at n = 0 is no limit of anything. The bias is c/n: a "
            "line over 1/n, whose value at 1/n = 0 is that of infinitely many samples.",
            about="input",
        ),
        Misconception(
            "over-the-root-of-n",
            _line(over=lambda n: n**-0.5),
            "Your line goes over 1/√n. That is how the scatter falls; the bias falls as 1/n.",
            about="root",
        ),
        Misconception(
            "slope-for-intercept",
            _line(read=lambda intercept, slope: slope),
            "You returned the slope: the c of the bias c/n. The distance that is left at 1/n = 0 is asked "
            "for.",
            about="swap",
        ),
        Misconception(
            "through-zero",
            _slope_through_zero,
            "You fitted c/n alone, as if nothing were left at infinity, and returned c. The line has an "
            "intercept: it is what is asked for.",
            about="missing",
        ),
        Misconception(
            "largest-n",
            lambda sizes, distances: distances[max(range(len(sizes)), key=lambda i: sizes[i])],
            "You returned the distance at the largest n. It still has a bias of c/n.",
            about="reading",
        ),
        Misconception(
            "mean-of-all",
            lambda sizes, distances: sum(distances) / len(distances),
            "You averaged distances of different n. Each has another bias: fit a line over 1/n.",
            about="mean",
        ),
        Misconception(
            "two-ends-alone",
            _two_ends,
            "You drew a line through two of the points. Each one scatters: let all of them decide (least "
            "squares).",
            about="missing",
        ),
        Misconception(
            "intercept-plus-slope",
            _line(read=lambda intercept, slope: intercept + slope),
            "You added the slope: that is the line at 1/n = 1, one sample. Infinitely many are 1/n = 0.",
            about="extra",
        ),
    ],
    alternatives=[_line(), _line_by_numpy],
    hints=(
        "Plot the distance over 1/n, and the points lie on a line. Where on this axis are infinitely many "
        "samples?",
        "d(n) ≈ d∞ + c·(1/n): least squares for d∞ and c.",
        "`np.polyfit(x, y, 1)` gives slope and intercept; or `torch.linalg.lstsq` with a column of ones.",
    ),
)


# 20.4 The kernel distance ----------------------------------------------------------------------------


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """Gretton et al. 2012, eq. 3, with the kernel of Bińkowski et al. 2018."""
    return metrics.kernel_distance(a, b)


def _cubic(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.T / a.shape[1] + 1) ** 3


def _others(k: Tensor) -> Tensor:
    """Mean over i ≠ j."""
    n = len(k)
    return (k.sum() - k.diagonal().sum()) / (n * (n - 1))


def _discrepancy(
    kernel: Callable[[Tensor, Tensor], Tensor] = _cubic,
    within: Callable[[Tensor], Tensor] = _others,
    between: Callable[[Tensor], Tensor] = lambda k: k.mean(),
    weight: float = 2,
    end: Callable[[Tensor], Tensor] = lambda d: d,
) -> Callable[..., Any]:
    """The distance in plain steps, with a place for each slip."""

    def answer(a: Tensor, b: Tensor) -> float:
        own = within(kernel(a, a)) + within(kernel(b, b))
        return float(end(own - weight * between(kernel(a, b))))

    return answer


def _discrepancy_by_loops(a: Tensor, b: Tensor) -> Tensor:
    def pairs(x: Tensor, y: Tensor, same: bool) -> Tensor:
        rows = [(1 + (y @ each) / len(each)).pow(3) for each in x]
        if same:
            rows = [torch.cat([row[:i], row[i + 1 :]]) for i, row in enumerate(rows)]
        return torch.cat(rows).mean()

    return pairs(a, a, True) + pairs(b, b, True) - pairs(a, b, False) - pairs(b, a, False)


KERNEL = Exercise(
    id="20.4",
    name="kernel_distance",
    title="A distance without bias",
    kind="implement",
    difficulty=2,
    minutes=12,
    reference=kernel_distance,
    cases=[
        Case("two sets of four features", _two_sets(12, 12, 4)),
        Case("sets of two sizes", _two_sets(10, 25, 6)),
        Case("three samples against five", _two_sets(3, 5, 3)),
        Case("the same samples twice", _twice(9, 5)),
    ],
    misconceptions=[
        Misconception(
            "diagonal-kept",
            _discrepancy(within=lambda k: k.mean()),
            "You paired each sample with itself. k(x, x) is always large, so the distance comes out too "
            "large, the more the fewer samples: average over i ≠ j.",
            about="extra",
        ),
        Misconception(
            "diagonal-gone-n-squared-kept",
            _discrepancy(within=lambda k: (k.sum() - k.diagonal().sum()) / len(k) ** 2),
            "You left out the diagonal and divided by n². Without it there are n·(n − 1) pairs.",
            about="count",
        ),
        Misconception(
            "half-the-pairs",
            _discrepancy(within=lambda k: k.triu(1).sum() / (len(k) * (len(k) - 1))),
            "You summed half of the pairs, i < j, and divided by n·(n − 1). There are half as many of them.",
            about="factor",
        ),
        Misconception(
            "between-once",
            _discrepancy(weight=1),
            "You took off the mean over pairs of a and b once. It is taken off twice: as often as the two "
            "others are added.",
            about="factor",
        ),
        Misconception(
            "between-added",
            _discrepancy(weight=-2),
            "You added the pairs of a and b. They are taken off: the nearer the sets, the larger they are.",
            about="sign",
        ),
        Misconception(
            "between-off-the-diagonal",
            _discrepancy(between=lambda k: (k.sum() - k.diagonal().sum()) / (k.numel() - min(k.shape))),
            "You left out aᵢ with bᵢ, too. The two are different samples, and every pair of a and b "
            "counts: only within one set is a sample its own partner.",
            about="extra",
        ),
        Misconception(
            "not-divided-by-the-width",
            _discrepancy(kernel=lambda a, b: (a @ b.T + 1) ** 3),
            "Your kernel has the product of all features. It is divided by their number D: (aᵀb/D + 1)³.",
            about="missing",
        ),
        Misconception(
            "divided-by-the-samples",
            _discrepancy(kernel=lambda a, b: (a @ b.T / len(a) + 1) ** 3),
            "Your kernel is divided by the number of samples. D is the number of features, `x.shape[1]`.",
            about="input",
        ),
        Misconception(
            "without-the-one",
            _discrepancy(kernel=lambda a, b: (a @ b.T / a.shape[1]) ** 3),
            "The 1 is missing in your kernel: (aᵀb/D + 1)³. Without it, it sees third moments alone.",
            about="missing",
        ),
        Misconception(
            "squared-kernel",
            _discrepancy(kernel=lambda a, b: (a @ b.T / a.shape[1] + 1) ** 2),
            "Your kernel is squared. The one of KID is cubed, so that it compares third moments, too.",
            about="factor",
        ),
        Misconception(
            "root-at-the-end",
            _discrepancy(end=lambda d: d.clamp(min=0).sqrt()),
            "You took a root. KID is the squared discrepancy: an estimate below 0 is honest, and means "
            "about 0.",
            about="root",
        ),
        Misconception(
            "cut-at-zero",
            _discrepancy(end=lambda d: d.abs()),
            "You made a negative estimate positive. An unbiased estimate of about 0 often lies below it: "
            "leave it.",
            about="sign",
        ),
        Misconception(
            "distance-of-means",
            lambda a, b: float((a.mean(0) - b.mean(0)).square().sum()),
            "That is the distance of the means. The kernel compares all pairs of samples, so that spreads "
            "count, too.",
            about="formula",
        ),
    ],
    alternatives=[_discrepancy(), _discrepancy_by_loops],
    hints=(
        "Two sets of one distribution: a sample of a is as near to others of a as to samples of b. What is "
        "the difference of the two? And what does a sample say that is compared with itself?",
        "mean of k(aᵢ, aⱼ), i ≠ j, + mean of k(bᵢ, bⱼ), i ≠ j, − 2 · mean of k(aᵢ, bⱼ); k(x, y) = (xᵀy/D + "
        "1)³.",
        "`k = (a @ a.T / a.shape[1] + 1) ** 3`, and `k.sum() - k.diagonal().sum()` over n·(n − 1).",
    ),
)


# 20.5 Precision and recall ---------------------------------------------------------------------------


def precision_recall(real: Tensor, made: Tensor, k: int) -> tuple[float, float]:
    """Kynkäänniemi et al. 2019, eq. 1 and 2."""
    found = metrics.precision_recall(real, made, k)
    return found.precision, found.recall


def _two_shares(answer: Callable[..., Any], real: Tensor, made: Tensor, k: int) -> Any:
    given = answer(real, made, k)
    if given is None:
        return None
    if isinstance(given, Tensor | np.ndarray) and given.shape == (2,):
        given = given.tolist()
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise ValueError(
            f"two numbers are asked for, (precision, recall); you returned one {type(given).__name__}"
        )
    return {"precision": given[0], "recall": given[1]}


def _reach(centres: Tensor, k: int) -> Tensor:
    return torch.cdist(centres, centres).kthvalue(k + 1, dim=1).values


def _inside(points: Tensor, centres: Tensor, radii: Tensor) -> Tensor:
    return (torch.cdist(points, centres) <= radii).any(1)


def _shares(
    reach: Callable[[Tensor, int], Tensor] = _reach,
    inside: Callable[[Tensor, Tensor, Tensor], Tensor] = _inside,
    end: Callable[[Tensor, Tensor], Any] = lambda precision, recall: (precision, recall),
) -> Callable[..., Any]:
    """Both shares in plain steps, with a place for each slip."""

    def answer(real: Tensor, made: Tensor, k: int) -> Any:
        def share(points: Tensor, centres: Tensor) -> Tensor:
            return inside(points, centres, reach(centres, k)).double().mean()

        return end(share(made, real), share(real, made))

    return answer


def _shares_by_sorting(real: Tensor, made: Tensor, k: int) -> list[float]:
    found = []
    for points, centres in ((made, real), (real, made)):
        own = (centres[:, None] - centres[None]).square().sum(-1).sort(1).values
        apart = (points[:, None] - centres[None]).square().sum(-1)
        found.append(sum(bool((row <= own[:, k]).any()) for row in apart) / len(points))
    return found


def _nearest_ball(points: Tensor, centres: Tensor, radii: Tensor) -> Tensor:
    distance, nearest = torch.cdist(points, centres).min(1)
    return distance <= radii[nearest]


def _own_reach(real: Tensor, made: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Each point's own ball, in place of those of the other set."""
    reaches = [
        (torch.cdist(x, y).min(1).values <= _reach(x, k)).double().mean()
        for x, y in ((made, real), (real, made))
    ]
    return reaches[0], reaches[1]


def _coverage(real: Tensor, made: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Balls of the real samples both times; Naeem et al. 2020 call the second share coverage."""
    radii = _reach(real, k)
    covered = (torch.cdist(real, made) <= radii[:, None]).any(1)
    return _inside(made, real, radii).double().mean(), covered.double().mean()


def _clouds(n: int, m: int, dim: int, k: int, narrow: float = 0.5, grid: bool = False) -> Make:
    def make(g: torch.Generator) -> dict[str, Any]:
        real, made = normal(g, n, dim).double(), narrow * normal(g, m, dim).double() + 0.8
        if grid:
            real, made = real.round(), made.round()
        return {"real": real, "made": made, "k": k}

    return make


SHARES = Exercise(
    id="20.5",
    name="precision_recall",
    title="Precision and recall",
    kind="implement",
    difficulty=2,
    minutes=12,
    reference=precision_recall,
    call=_two_shares,
    cases=[
        Case("a narrow cloud within a wide one, k = 3", _clouds(40, 40, 2, 3)),
        Case("a wide cloud about a narrow one, k = 2", _clouds(30, 50, 3, 2, narrow=1.6)),
        Case("the nearest neighbour alone", _clouds(60, 45, 2, 1, narrow=0.8)),
        Case("points on a grid, where distances are equal", _clouds(25, 25, 3, 2, narrow=0.9, grid=True)),
    ],
    misconceptions=[
        Misconception(
            "swapped",
            _shares(end=lambda precision, recall: (recall, precision)),
            "The two have changed places. Precision: the share of *made* samples among the real ones. "
            "Recall: the share of *real* samples among the made ones.",
            about="swap",
        ),
        Misconception(
            "precision-twice",
            _shares(end=lambda precision, recall: (precision, precision)),
            "Your recall is the precision again. For recall, the made samples have balls, and the real "
            "ones are counted.",
            about="input",
        ),
        Misconception(
            "itself-counted",
            _shares(reach=lambda x, k: torch.cdist(x, x).kthvalue(k, dim=1).values),
            "Your balls are one neighbour too small: the nearest of all is the sample itself, at distance "
            "0. It does not count.",
            about="count",
        ),
        Misconception(
            "one-neighbour-more",
            _shares(reach=lambda x, k: torch.cdist(x, x).sort(1).values[:, k + 1]),
            "Your balls are one neighbour too large. Sorted, place 0 is the sample itself and place k its "
            "k-th neighbour.",
            about="count",
        ),
        Misconception(
            "one-radius-for-all",
            _shares(reach=lambda x, k: _reach(x, k).mean().expand(len(x))),
            "All of your balls have the same radius. Each reaches to the k-th neighbour of its own centre: "
            "narrow where samples are dense.",
            about="mean",
        ),
        Misconception(
            "nearest-ball-alone",
            _shares(inside=_nearest_ball),
            "You asked the ball of the nearest centre alone. Another, farther centre may have a larger "
            "one: a point counts if it lies in *any* ball.",
            about="reading",
        ),
        Misconception(
            "in-all-balls",
            _shares(inside=lambda points, centres, radii: (torch.cdist(points, centres) <= radii).all(1)),
            "You counted points that lie in all balls. One is enough.",
            about="reading",
        ),
        Misconception(
            "mean-over-pairs",
            _shares(inside=lambda points, centres, radii: (torch.cdist(points, centres) <= radii).double()),
            "You averaged over pairs of point and ball. A point counts once if it lies in any ball, "
            "however many.",
            about="mean",
        ),
        Misconception(
            "edge-left-out",
            _shares(inside=lambda points, centres, radii: (torch.cdist(points, centres) < radii).any(1)),
            "A point just on the edge of a ball lies in it: ≤, not <. On grids, and for copies, that counts.",
            about="boundary",
        ),
        Misconception(
            "balls-of-the-points",
            _own_reach,
            "You gave balls to the points that you counted. The balls are those of the other set: for "
            "precision the real samples have them.",
            about="swap",
        ),
        Misconception(
            "coverage-for-recall",
            _coverage,
            "Your precision is right. For recall you took the balls of the real samples again: that is "
            "called coverage. For recall the made samples have the balls.",
            about="swap",
        ),
        Misconception(
            "squares-against-radii",
            _shares(
                inside=lambda points, centres, radii: (torch.cdist(points, centres).square() <= radii).any(1)
            ),
            "You compared squared distances with radii that are not squared.",
            about="root",
        ),
    ],
    alternatives=[_shares(), _shares_by_sorting],
    hints=(
        "Put a ball around each sample of one set, so wide that it just holds its k nearest neighbours. "
        "The union of the balls is where this set lives. How many of the other set live there?",
        "r(c) = distance of c to its k-th neighbour in its own set; x is inside if |x − c| ≤ r(c) for any c.",
        "`torch.cdist(c, c).kthvalue(k + 1, dim=1).values`: the first is c itself. Then `.any(1)`, once "
        "each way.",
    ),
)


# 20.6 Bradley–Terry ----------------------------------------------------------------------------------


def bradley_terry(wins: Tensor) -> tuple[Tensor, Tensor]:
    """Strengths (K,) of mean 0, their covariance (K, K); wins[i, j] counts where i was chosen over j."""
    k = len(wins)
    names = [f"{i:03}" for i in range(k)]
    votes = [
        Vote(names[i], names[j], FIRST) for i in range(k) for j in range(k) for _ in range(int(wins[i, j]))
    ]
    found = metrics.bradley_terry(votes)
    order = torch.tensor([found.names.index(name) for name in names])
    return found.strengths[order].to(wins.device), found.covariance[order][:, order].to(wins.device)


def _rated(answer: Callable[..., Any], wins: Tensor) -> Any:
    given = answer(wins)
    if given is None:
        return None
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise ValueError(
            f"a pair is asked for, (strengths, covariance); you returned one {type(given).__name__}"
        )
    return {"strengths": given[0], "covariance": given[1]}


def _information(games: Tensor, chance: Tensor) -> Tensor:
    weight = games * chance * (1 - chance)
    return torch.diag(weight.sum(1)) - weight


def _newton(
    given: Callable[[Tensor], Tensor] = lambda wins: wins,
    steps: int = 30,
    centre: Callable[[Tensor], Tensor] = lambda theta: theta - theta.mean(),
    information: Callable[[Tensor, Tensor], Tensor] = _information,
    spread: Callable[[Tensor], Tensor] = torch.linalg.pinv,
    scale: Callable[[Tensor], Tensor] = lambda theta: theta,
) -> Callable[..., Any]:
    """Newton's method in plain steps, with a place for each slip."""

    def answer(wins: Tensor) -> tuple[Tensor, Tensor]:
        wins = given(wins.double())
        games = wins + wins.T
        theta = torch.zeros(len(wins), dtype=wins.dtype, device=wins.device)
        for _ in range(steps):
            chance = torch.sigmoid(theta[:, None] - theta[None])
            slope = wins.sum(1) - (games * chance).sum(1)
            theta = theta + torch.linalg.pinv(_information(games, chance)) @ slope
        chance = torch.sigmoid(theta[:, None] - theta[None])
        return scale(centre(theta)), spread(information(games, chance))

    return answer


def _by_counting(wins: Tensor) -> tuple[Tensor, Tensor]:
    """Zermelo's steps (1929): strengths as odds, until they stand."""
    w = wins.double()
    games, k = w + w.T, len(w)
    odds = torch.ones(k, dtype=w.dtype, device=w.device)
    for _ in range(1000):
        odds = w.sum(1) / (games / (odds[:, None] + odds[None])).sum(1)
        odds = odds / odds.log().mean().exp()
    chance = odds[:, None] / (odds[:, None] + odds[None])
    ones = torch.ones(k, k, dtype=w.dtype, device=w.device) / k
    return odds.log(), torch.linalg.inv(_information(games, chance) + ones) - ones


def _log_odds_of_wins(wins: Tensor) -> tuple[Tensor, Tensor]:
    w = wins.double()
    share = (w.sum(1) / (w + w.T).sum(1)).logit()
    return share - share.mean(), _newton()(wins)[1]


def _one_count(wins: Tensor) -> tuple[Tensor, Tensor]:
    w = wins.double()
    odds = w.sum(1) / ((w + w.T) / 2).sum(1)
    return odds.log() - odds.log().mean(), _newton()(wins)[1]


def _first_held(information: Tensor) -> Tensor:
    """The covariance where the first strength is 0 and has no error."""
    return torch.nn.functional.pad(torch.linalg.inv(information[1:, 1:]), (1, 0, 1, 0))


def _tables(k: int, most: int) -> Make:
    """Votes between k things, every two met, and each won at least once against each."""

    def make(g: torch.Generator) -> dict[str, Any]:
        theta = 1.8 * normal(g, k).double()
        wins = torch.zeros(k, k, dtype=torch.float64)
        for i in range(k):
            for j in range(i + 1, k):
                games, chance = whole(g, 6, most), float(torch.sigmoid(theta[i] - theta[j]))
                won = 1 + round(games * min(max(chance + number(g, -0.1, 0.1), 0), 1))
                wins[i, j], wins[j, i] = won, games + 2 - won
        return {"wins": wins}

    return make


PREFERENCE = Exercise(
    id="20.6",
    name="bradley_terry",
    title="From votes to strengths",
    kind="stretch",
    difficulty=3,
    minutes=25,
    reference=bradley_terry,
    call=_rated,
    cases=[
        Case("three models", _tables(3, 20)),
        Case("five models, some pairs with few votes", _tables(5, 40)),
        Case("two models", _tables(2, 30)),
        Case("six models", _tables(6, 12)),
    ],
    misconceptions=[
        Misconception(
            "wins-turned-round",
            _newton(given=lambda wins: wins.T),
            "You read the table the wrong way round: wins[i, j] counts where i was chosen over j, so a row "
            "holds the wins of i.",
            about="swap",
        ),
        Misconception(
            "first-at-zero",
            _newton(centre=lambda theta: theta - theta[0]),
            "Your first strength is 0. Only differences are determined, and here the *mean* of all is 0.",
            about="formula",
        ),
        Misconception(
            "largest-at-zero",
            _newton(centre=lambda theta: theta - theta.max()),
            "Your largest strength is 0. Only differences are determined, and here the mean of all is 0.",
            about="formula",
        ),
        Misconception(
            "odds-for-strengths",
            _newton(scale=torch.exp),
            "These are odds, exp(θ). The strengths are their logarithms.",
            about="root",
        ),
        Misconception(
            "elo-scale",
            _newton(scale=lambda theta: theta * 400 / 2.302585092994046),
            "These are points on Elo's scale, 400/ln 10 to a unit. The strengths are asked for on the "
            "scale of log odds.",
            about="factor",
        ),
        Misconception(
            "share-of-wins",
            lambda wins: (wins.double().sum(1) / (wins + wins.T).double().sum(1), _newton()(wins)[1]),
            "That is the share of wins. It does not see against whom they were won; and it is no log odds.",
            about="formula",
        ),
        Misconception(
            "log-odds-of-wins",
            _log_odds_of_wins,
            "You took the log odds of each model's share of wins. That is right against an opponent of "
            "strength 0 alone: whoever met strong ones comes out too low. Fit all strengths together.",
            about="formula",
        ),
        Misconception(
            "one-newton-step",
            _newton(steps=1),
            "You stopped after one step. Go on until the slope is 0: each model then wins as often as the "
            "strengths say.",
            about="count",
        ),
        Misconception(
            "one-counting-step",
            _one_count,
            "You stopped after one step of the counting rule. Repeat it until nothing changes.",
            about="count",
        ),
        Misconception(
            "information-for-covariance",
            _newton(spread=lambda information: information),
            "The strengths are right. But you returned the information: the covariance is its inverse (the "
            "pseudo-inverse, for the mean is not determined).",
            about="root",
        ),
        Misconception(
            "first-held",
            _newton(spread=_first_held),
            "The strengths are right. But this covariance holds the first strength at 0, without an error. "
            "Here the mean is held at 0: take the pseudo-inverse of all of the information.",
            about="formula",
        ),
        Misconception(
            "ones-not-taken-off",
            _newton(spread=lambda information: torch.linalg.inv(information + 1)),
            "The strengths are right. But you inverted I + 1, and what the ones add is still in your "
            "covariance: its rows do not sum to 0. The pseudo-inverse of I needs no ones.",
            about="extra",
        ),
        Misconception(
            "each-for-itself",
            _newton(spread=lambda information: torch.diag(1 / information.diagonal())),
            "The strengths are right. But you inverted the diagonal alone: errors of models that met go "
            "together.",
            about="missing",
        ),
        Misconception(
            "votes-not-weighted",
            _newton(information=lambda games, chance: torch.diag(games.sum(1)) - games),
            "The strengths are right. But a vote's information is p·(1 − p), not 1: a vote whose end is "
            "certain tells nothing.",
            about="missing",
        ),
        Misconception(
            "p-without-one-minus-p",
            _newton(information=lambda games, chance: torch.diag((games * chance).sum(1)) - games * chance),
            "The strengths are right. But the information of a vote is p·(1 − p); you took p.",
            about="missing",
        ),
        Misconception(
            "errors-for-covariance",
            _newton(spread=lambda information: torch.linalg.pinv(information).diagonal().clamp(min=0).sqrt()),
            "The strengths are right. But you returned their standard errors: all of the covariance (K, K) "
            "is asked for, because the error of a difference needs it.",
            about="shape",
        ),
    ],
    alternatives=[_newton(), _by_counting],
    hints=(
        "At the likeliest strengths each model has won just as often as they say it should. Begin with "
        "zeros and move the strengths until that holds.",
        "p = sigmoid(θᵢ − θⱼ); slope gᵢ = Σⱼ (winsᵢⱼ − gamesᵢⱼ·pᵢⱼ); information = diag(Σⱼ wᵢⱼ) − w with "
        "w = games·p·(1 − p); θ ← θ + information⁺·g.",
        "`p = torch.sigmoid(theta[:, None] - theta[None])` in a loop of some 30 rounds, "
        "`torch.linalg.pinv`, and the mean taken off at the end.",
    ),
)

EXERCISES = [FRECHET, FAIR, LIMIT, KERNEL, SHARES, PREFERENCE]
