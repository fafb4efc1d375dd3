"""Plain values, where they differ, and the simple slips between them."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusion_lessons.course.exercises.compare import Difference, difference
from diffusion_lessons.course.exercises.slips import changing_factor, combination, slip
from diffusion_lessons.course.exercises.values import (
    Array,
    Fields,
    Opaque,
    describe,
    from_json,
    number,
    plain,
    to_json,
)
from diffusion_lessons.paths import DiscreteVP
from diffusion_lessons.schedules import linear_betas
from diffusion_lessons.targets import Estimate

RTOL, ATOL = 1e-4, 1e-5


def differ(expected: Any, given: Any, strict: bool = True) -> Difference | None:
    return difference(plain(expected), plain(given), RTOL, ATOL, strict)


def kind(expected: Any, given: Any, strict: bool = True) -> str | None:
    found = differ(expected, given, strict)
    return found.kind if found else None


def test_large_results_are_compared_by_their_shapes() -> None:
    many = 2**24 + 1
    values = [torch.zeros(many), np.zeros(many, np.int8), [torch.zeros(many), 1.0], {"a": torch.zeros(many)}]
    for value in (*values, torch.zeros(3, device="meta")):
        assert kind(value, value) is None
    large = torch.zeros(1).expand(2**24 + 1)
    assert kind(large, large[:-1]) == "shape"
    assert kind(large, torch.zeros(2)) == "shape"
    assert kind(torch.zeros(2), torch.zeros(2, device="meta")) == "type"


def test_a_number_that_no_float_can_hold_is_no_number() -> None:
    assert kind(3, 10**400) == "type"
    assert kind(3, -(2**1024)) == "type"
    assert kind(2**900, 2**900) is None


# Plain values ---------------------------------------------------------------------------------------


def test_a_value_becomes_a_copy_that_keeps_what_counts() -> None:
    x = torch.arange(6, dtype=torch.bfloat16, requires_grad=True).reshape(2, 3)
    value = plain(x)
    assert isinstance(value, Array)
    assert (value.shape, value.dtype, value.device, value.kind) == ((2, 3), "bfloat16", "cpu", "tensor")
    numbers = torch.zeros(3)
    kept = plain(numbers)
    numbers += 1
    assert kept.data.tolist() == [0, 0, 0]
    assert plain(np.float32(2)) == 2.0
    assert plain(Estimate(torch.ones(1), torch.zeros(1))).type == "Estimate"
    level = plain(DiscreteVP(linear_betas(10))(3))
    assert isinstance(level, Fields)
    assert list(level.fields) == ["t", "alpha", "sigma"]


def test_what_is_not_data_is_named_and_never_called() -> None:
    class Hostile:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError("no")

    loop: list[Any] = []
    loop.append(loop)
    assert plain(lambda: 3) == Opaque("function", "<lambda>")
    assert plain(x for x in ()).type == "generator"
    assert plain(torch.nn.Linear(1, 1)).type == "Linear"
    assert plain(Hostile()).type == "Hostile"
    assert "too large" in str(plain(loop))
    assert plain(10**2000).type == "int"
    assert plain(np.array(["a"])).type == "numpy array"


def test_more_numbers_than_anyone_needs_lose_their_data_and_keep_their_shape() -> None:
    value = plain(torch.zeros(1).expand(2**25))
    assert value.data is None
    assert value.shape == (2**25,)
    found = differ(torch.zeros(3), torch.zeros(1).expand(2**25))
    assert found is not None
    assert found.kind == "shape"


VALUES = [
    None,
    True,
    -3,
    float("nan"),
    float("inf"),
    1e300,
    2 + 1j,
    "ᾱ",
    (1, [2.5, {"a": None, 3: False}]),
    torch.randn(2, 0, 3),
    torch.tensor([float("nan"), -float("inf")]),
    np.arange(4, dtype=np.int16),
    Estimate(torch.ones(2, 1), torch.zeros(2, 1)),
    torch.nn.Identity(),
]


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_plain_values_survive_json(value: Any) -> None:
    arrays: list[np.ndarray] = []
    text = json.dumps(to_json(plain(value), arrays), allow_nan=False)
    back = from_json(json.loads(text), arrays)
    assert difference(plain(value), back, 0, 0) is None
    assert type(back) is type(plain(value))


@given(st.floats() | st.integers(-(2**70), 2**70) | st.text() | st.booleans())
@settings(max_examples=100, deadline=None)
def test_any_scalar_survives_json(value: Any) -> None:
    back = from_json(json.loads(json.dumps(to_json(plain(value), []))), [])
    assert back == value or value != value
    assert type(back) is type(value)


def test_a_value_is_described_in_one_line() -> None:
    assert describe(plain(torch.tensor([[1.0, -2.5]]))) == "float32 (1, 2): 1, −2.5"
    assert describe(plain(torch.linspace(-1, 2, 9).double())) == "float64 (9,), from −1 to 2"
    spoilt = torch.linspace(0, 1, 9)
    spoilt[3] = float("nan")
    assert describe(plain(spoilt)) == "float32 (9,), from 0 to 1, 1 of 9 NaN or infinite"
    assert describe(plain(np.zeros(0))) == "numpy float64 (0,), empty"
    assert describe(plain((1, None, "a"))) == "(1, None, 'a')"
    assert number(-0.00012345678) == "−0.000123457"
    assert number(float("-inf")) == "-inf"


# Differences ----------------------------------------------------------------------------------------

X = torch.linspace(-1, 1, 24).reshape(2, 3, 4)

KINDS: dict[str, tuple[Any, Any, str | None]] = {
    "equal": (X, X.clone(), None),
    "within tolerance": (X, X + 1e-6, None),
    "beyond tolerance": (X, X + 1e-4, "value"),
    "None": (X, None, "none"),
    "a list for a tensor": (X, X.tolist(), "type"),
    "numpy for torch": (X, X.numpy(), "type"),
    "a float for a scalar tensor": (torch.tensor(1.0), 1.0, "type"),
    "a scalar tensor for a float": (1.0, torch.tensor(1.0), None),
    "a tensor of one entry for a float": (1.0, torch.tensor([1.0]), None),
    "a numpy scalar for a float": (1.0, np.float32(1.0), None),
    "a float for an int": (260, 260.0, "type"),
    "a float tensor of one entry for an int": (260, torch.tensor(260.0), "type"),
    "an int tensor of one entry for an int": (260, torch.tensor([260]), None),
    "a float among whole numbers": ([3, 2, 0], [3, 2, 0.0], "type"),
    "a whole number among floats": ([3.0, 2.5], [3, 2.5], None),
    "one off in a large count": (10_000_000, 10_000_001, "value"),
    "one off in a large index": (torch.tensor([10_000_000]), torch.tensor([10_000_001]), "value"),
    "shape": (X, X.flatten(), "shape"),
    "broadcasts to ours": (X, X[:1], "shape"),
    "dtype": (X, X.double(), "dtype"),
    "an int dtype": (torch.ones(3), torch.ones(3, dtype=torch.long), "dtype"),
    "NaN": (X, X / 0 * 0, "nonfinite"),
    "infinite": (X, X / 0, "nonfinite"),
    "the same infinity": (torch.tensor(float("inf")), torch.tensor(float("inf")), None),
    "the other infinity": (torch.tensor(float("inf")), torch.tensor(-float("inf")), "value"),
    "a number for infinity": (torch.tensor(float("inf")), torch.tensor(1.0), "value"),
    "text in another case": ("B", " b ", None),
    "another text": ("B", "C", "value"),
    "text for a number": (1, "1", "type"),
    "True": (True, torch.tensor(True), None),
    "False for True": (True, 0, "value"),
    "a tensor for True": (True, X, "type"),
    "a list for a tuple": ((X, 1), [X, 1], None),
    "too few results": ((X, 1), (X,), "length"),
    "a tensor for a tuple": ((X, 1), X, "type"),
    "a key too many": ({"a": 1}, {"a": 1, "b": 2}, "keys"),
    "a key missing": ({"a": 1}, {}, "keys"),
    "a tuple for an Estimate": (Estimate(X, X), (X, X), "type"),
    "a right Estimate": (Estimate(X, X), Estimate(X, X.clone()), None),
    "a function": (1, print, "type"),
}


@pytest.mark.parametrize("name", KINDS)
def test_each_difference_has_its_kind(name: str) -> None:
    expected, given, wanted = KINDS[name]
    assert kind(expected, given) == wanted


def test_loosely_dtype_and_container_do_not_count() -> None:
    assert kind(X, X.double(), strict=False) is None
    assert kind(X, X.numpy(), strict=False) is None
    assert kind(Estimate(X, X), (X, X), strict=False) is None
    assert kind(Estimate(X, X), (X, -X), strict=False) == "value"


def test_a_difference_says_where_and_how_much() -> None:
    given = X.clone()
    given[1, 2, 0] += 0.5
    found = differ({"mean": (1, X)}, {"mean": (1, given)})
    assert found is not None
    assert (found.path, found.at) == ("['mean'][1]", (1, 2, 0))
    assert found.sentence.startswith("1 of 24 numbers differ, most at index [1, 2, 0]: expected 0.73913")
    one = differ(3.0, 4.0)
    assert one is not None
    assert (one.sentence, one.side) == ("expected 3, yours 4", "large")
    lost = differ(X, torch.where(X > 0.9, torch.nan, X))
    assert lost is not None
    assert "NaN (not a number) in 2 of 24 entries, the first at [1, 2, 2]" in lost.sentence


# Slips ----------------------------------------------------------------------------------------------

G = torch.Generator().manual_seed(0)
EXPECTED = [torch.randn(2, 3, 4, 5, generator=G), torch.randn(3, 1, 4, 6, generator=G)]
POSITIVE = [each.abs() + 0.1 for each in EXPECTED]


def named(change: Any, expected: list[Any] = EXPECTED, inputs: list[dict[str, Any]] | None = None) -> str:
    pairs = [(plain(each), plain(change(each))) for each in expected]
    known = [{key: plain(value) for key, value in each.items()} for each in inputs or [{}] * len(pairs)]
    return (slip(pairs, known, RTOL, ATOL) or ("", ""))[0]


def test_simple_slips_are_named() -> None:
    assert named(lambda e: e) == ""
    assert named(lambda e: 2 * e) == "Your result is 2 times ours everywhere."
    assert named(lambda e: -e / 3) == "Your result is −0.3333 times ours everywhere."
    assert named(lambda e: -e) == "Your result has the opposite sign everywhere."
    assert named(lambda e: e + 0.5) == "Your result is ours plus 0.5 everywhere."
    assert named(lambda e: e * 0) == "Your result is zero everywhere."
    assert named(torch.square) == "Your result is the square of ours."
    assert named(torch.sqrt, POSITIVE) == "Your result is the square root of ours."
    assert named(lambda e: 1 / e, POSITIVE) == "Your result is one divided by ours."
    assert named(torch.exp) == "Your result is the exponential of ours."
    assert named(torch.log, POSITIVE) == "Your result is the logarithm of ours."
    assert "order (0, 1, 3, 2)" in named(lambda e: e.transpose(-1, -2))
    assert "transposed" in named(torch.t, [torch.randn(3, 4, generator=G), torch.randn(4, 4, generator=G)])
    assert "repeated" in named(lambda e: e[None].expand(7, *e.shape))
    assert "the mean of ours over everything" in named(torch.mean)
    assert "the sum of ours over everything" in named(torch.sum)
    assert "shape is not" in named(torch.flatten)


def test_a_factor_that_changes_with_the_case_may_be_a_sum_for_a_mean() -> None:
    batches = [torch.randn(8, 3, 4, 4, generator=G), torch.randn(6, 1, 8, 5, generator=G)]
    means = [each.square().mean((1, 2, 3)) for each in batches]
    pairs = [(plain(m), plain(m * b[0].numel())) for m, b in zip(means, batches, strict=True)]
    said = "the number of entries of a sample of `x`"
    found = slip(pairs, [{"x": plain(b)} for b in batches], RTOL, ATOL)
    assert found == (f"Your result is ours times {said}. Is it a sum where a mean belongs?", "mean")
    found = changing_factor(pairs, RTOL, ATOL)
    assert found == ("Your result is ours times a number that changes from case to case, here 48.", "factor")
    found = slip([(theirs, mine) for mine, theirs in pairs], [{"x": plain(b)} for b in batches], RTOL, ATOL)
    assert found == (f"Your result is ours divided by {said}. Is it a mean where a sum belongs?", "mean")


def test_an_input_handed_back_and_results_in_the_other_order_are_named() -> None:
    inputs = [{"x": each + 1, "noise": each - 1} for each in EXPECTED]
    pairs = [(plain(e), plain(i["noise"])) for e, i in zip(EXPECTED, inputs, strict=True)]
    known = [{key: plain(value) for key, value in each.items()} for each in inputs]
    assert slip(pairs, known, RTOL, ATOL) == ("Your result is the input `noise`, unchanged.", "missing")
    two = [((plain(e), 1.0), (1.0, plain(e))) for e in EXPECTED]
    assert slip(two, known, RTOL, ATOL) == ("The two results are right, but in the other order.", "swap")


def test_nothing_is_named_on_thin_evidence() -> None:
    """One number, or the same number everywhere, is twice, the square and one more of something."""
    assert named(lambda e: 2 * e, [torch.tensor(1.5)]) == ""
    assert named(lambda e: e + 1, [torch.ones(50)]) == ""
    assert named(lambda e: 2 * e, [3, 5]) == ""
    changed = iter([EXPECTED[0] * 2, EXPECTED[1] + 1])
    assert named(lambda e: next(changed)) == ""


def weighed(expected: Any, given: Any, at: tuple[int, ...] = (1, 0, 0, 0), **inputs: Any) -> str | None:
    return combination(plain(expected), plain(given), {k: plain(v) for k, v in inputs.items()}, at)


def test_results_are_taken_apart_into_weighted_inputs() -> None:
    x, noise = EXPECTED[0], torch.randn(2, 3, 4, 5, generator=G)
    found = weighed(0.6 * x + 0.8 * noise, 0.6 * x - 0.64 * noise, x=x, noise=noise, beta=torch.tensor(0.1))
    assert found == "Your result is 0.6·x − 0.64·noise, expected is 0.6·x + 0.8·noise."
    a = torch.tensor([0.1, 0.5]).view(2, 1, 1, 1)
    found = weighed(a * x + noise, x + noise, x=x, noise=noise)
    assert found == "In sample 1 your result is x + noise, expected is 0.5·x + noise."
    assert weighed(2 * x, 2 * x - 1, x=x) == "Your result is 2·x − 1, expected is 2·x."
    assert weighed(x**2 + noise, x + noise, x=x, noise=noise) is None
    assert weighed(x + noise, x + noise * 1.00001, x=x, noise=noise) is None  # no news at this precision
    assert weighed(x, x, at=(1, 0, 0, 0)) is None
