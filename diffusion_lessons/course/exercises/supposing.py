"""Wrong answers that the reference itself gives: what comes out where one of its arguments is another.

A root forgotten on an input, the next level in the place of this one, the list from its other end, only the
first round: each is the reference, called with something else. So an answer that gives the same on every
case did the same, and the sentence that says so is true.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

from diffusion_lessons.course.exercises.exercise import Exercise
from diffusion_lessons.course.exercises.values import Array, Fields, Opaque, Plain, number

SUPPOSED = "Your result is what ours gives"  # how the sentences begin
Arguments = dict[str, Any]
Change = Callable[[Arguments], Arguments]


@dataclass(frozen=True)
class Supposed:
    """A wrong answer made from the reference, what it means in a sentence, and the kind of slip."""

    sentence: str
    about: str
    function: Callable[..., Any]
    argument: str = ""  # the one that is another
    change: Change | None = None  # (of a class) what its inputs are, in place of those of the case

    def exercise(self, known: Exercise) -> Exercise:
        """The exercise on which the function gives the wrong answer."""
        call, change = known.call, self.change
        if call is None or change is None:
            return known
        return replace(known, call=lambda answer, **given: call(answer, **given | change(given)))


def supposed(exercise: Exercise, calls: Sequence[dict[str, Plain]]) -> Iterator[Supposed]:
    """The wrong answers to try, the likeliest first; `calls` are the arguments of one call of each case."""
    first = calls[0] if calls else {}
    for earlier in exercise.builds_on:
        for wrong in earlier.misconceptions:
            function = _with(exercise.reference, earlier, wrong.function)
            said = f"In what `{earlier.name}` does, or in how it is called: {wrong.sentence}"
            yield Supposed(said, wrong.about, function)
    if not first:
        return
    if inspect.isclass(exercise.reference):
        for said, about, change, argument in _changes(first):
            yield Supposed(f"{SUPPOSED} {said}", about, exercise.reference, argument, change)
        return
    names = inspect.signature(exercise.reference)
    for said, about, change, argument in _changes(first):
        yield Supposed(f"{SUPPOSED} {said}", about, _called(exercise.reference, names, change), argument)
    for name, value in _written_in(names, calls):
        said = (
            f"{SUPPOSED} with {number(value)} for `{name}`, whatever comes in: is it written into your code?"
        )
        change = _set(name, lambda given, value=value: value)  # type: ignore[misc]
        yield Supposed(said, "input", _called(exercise.reference, names, change), name)


def _written_in(names: inspect.Signature, calls: Sequence[dict[str, Plain]]) -> Iterator[tuple[str, Any]]:
    """Numbers that may stand in the code where an argument belongs: its default, 2, what it is in a case."""
    for name, value in calls[0].items() if calls else ():
        if _kind(value) in (int, float):
            found = [names.parameters[name].default, 2, *(call.get(name) for call in calls)]
            known = (0, 1) if _kind(value) is float else (1,)  # tried by NUMBER as well
            told = [each for each in dict.fromkeys(found) if _kind(each) in (int, float)]
            yield from ((name, each) for each in told if each not in known)


def _with(function: Any, earlier: Exercise, wrong: Callable[..., Any]) -> Callable[..., Any]:
    """A function that finds a wrong one where it would find an earlier exercise's."""
    names = {key: wrong for key, value in function.__globals__.items() if value is earlier.reference}
    closure, defaults = function.__closure__, function.__defaults__
    return FunctionType(function.__code__, function.__globals__ | names, "", defaults, closure)


def _called(function: Callable[..., Any], names: inspect.Signature, change: Change) -> Callable[..., Any]:
    def answer(*args: Any, **kwargs: Any) -> Any:
        given = names.bind(*args, **kwargs).arguments
        return function(**given | change(given))

    return answer


def _changes(first: dict[str, Plain]) -> Iterator[tuple[str, str, Change, str]]:
    ends = {name: f"{name}_next" for name in first if f"{name}_next" in first}
    if len(ends) > 1:
        ends |= {after: now for now, after in ends.items()}
        said = "with " + " and ".join(f"`{name}`" for name in ends if name.endswith("_next"))
        turned: Change = lambda given: {name: given[other] for name, other in ends.items()}  # noqa: E731
        yield f"{said} in the place of those of now, and the other way round.", "swap", turned, ""
    for one, other in combinations(first, 2):
        if _kind(first[one]) is not None and _kind(first[one]) == _kind(first[other]):
            yield f"with `{one}` and `{other}` in each other's place.", "swap", _swap(one, other), ""
            for a, b in ((one, other), (other, one)):
                yield f"with `{b}` in the place of `{a}`.", "input", _set(a, lambda given, b=b: given[b]), a  # type: ignore
    for name, value in first.items():
        for what, about, change in _of_one(value):
            end = ": is it left out?" if about == "missing" else "."
            said = f"with {what.format(f'`{name}`')} in the place of `{name}`{end}"
            yield said, about, _set(name, _of_argument(name, change)), name
        if isinstance(value, Opaque) and value.type == "function":
            for what, about, change in ANSWERS:
                said = f"with the answers of `{name}` {what}"
                yield said, about, _set(name, _of_argument(name, change)), name
    lengths = {length - less for length in map(_length, first.values()) for less in (0, 1)}
    for n in sorted(lengths, reverse=True):
        each, between = ([name for name in first if _length(first[name]) == n + more] for more in (0, 1))
        if n >= 2 and (len(each + between) > 1 or isinstance(first[(each + between)[0]], list)):
            for said, about, part in ROUNDS:
                yield said, about, _shorter(each, between, part), ""


def _of_argument(name: str, change: Callable[[Any], Any]) -> Callable[[Arguments], Any]:
    return lambda given: change(given[name])


def _set(name: str, new: Callable[[Arguments], Any]) -> Change:
    return lambda given: {name: new(given)}


def _swap(one: str, other: str) -> Change:
    return lambda given: {one: given[other], other: given[one]}


def _kind(value: Plain) -> Any:
    """What two arguments must share to stand in each other's place."""
    if isinstance(value, Array):
        return value.kind, value.shape, value.dtype
    if isinstance(value, Fields):
        return value.type
    return type(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


# One argument --------------------------------------------------------------------------------------

Of = tuple[str, str, Callable[[Any], Any]]  # in words, the kind of slip, and what stands there instead
ANY: Sequence[Of] = (("−{}", "sign", lambda v: -v),)
FEW: Sequence[Of] = (
    ("the square of {}", "root", lambda v: v**2),
    ("the square root of {}", "root", lambda v: v**0.5),
    ("1 − {}", "formula", lambda v: 1 - v),
    ("the square root of 1 − {}", "root", lambda v: (1 - v) ** 0.5),
    ("1 + {}", "formula", lambda v: 1 + v),
    ("{} − 1", "formula", lambda v: v - 1),
    ("1/{}", "factor", lambda v: 1 / v),
    ("2·{}", "factor", lambda v: 2 * v),
    ("half of {}", "factor", lambda v: v / 2),
    ("{}/1000", "factor", lambda v: v / 1000),
)
NUMBER: Sequence[Of] = (
    ("0", "missing", lambda v: v * 0),
    ("1", "missing", lambda v: v * 0 + 1),
    ("the whole part of {}", "rounding", lambda v: v // 1),
)
WHOLE: Sequence[Of] = (("{} + 1", "count", lambda v: v + 1), ("{} − 1", "count", lambda v: v - 1))
ROW: Sequence[Of] = (
    ("the first entry of {}, for all of them,", "batch", lambda v: v[:1].expand_as(v)),
    ("{} from its other end", "direction", lambda v: v.flip(0)),
    ("the running product of {}", "formula", lambda v: v.cumprod(0)),
    ("the running product of 1 − {}", "formula", lambda v: (1 - v).cumprod(0)),
    ("the ratios of neighbours in {}", "formula", lambda v: torch.cat([v[:1], v[1:] / v[:-1]])),
    ("{} moved up by one place", "index", lambda v: torch.cat([v[1:], v[-1:]])),
    ("{} moved down by one place", "index", lambda v: torch.cat([v[:1], v[:-1]])),
)
LIST: Sequence[Of] = (("{} from its other end", "direction", lambda v: v[::-1]),)
MANY: Sequence[Of] = (
    ("0", "missing", lambda v: v * 0),
    ("{} cut to [−1, 1]", "extra", lambda v: v.clamp(-1, 1)),
    ("the first sample's {}, for all of them,", "batch", lambda v: v[:1].expand_as(v)),
    ("{} with its last two dimensions swapped", "axis", lambda v: v.transpose(-1, -2)),
    ("{} from its other end", "direction", lambda v: v.flip(0)),
)
STRENGTH: Sequence[Of] = (("half of {}", "factor", lambda v: v / 2), ("2·{}", "factor", lambda v: 2 * v))


def _cut(function: Callable[..., Any]) -> Callable[..., Any]:
    """A denoiser whose guess of x₀, or a network whose answer, is cut to [−1, 1]."""

    def cut(*args: Any, **kwargs: Any) -> Any:
        answer = function(*args, **kwargs)
        if isinstance(answer, tuple):
            parts = [answer[0].clamp(-1, 1), *answer[1:]]
            return type(answer)(*parts) if hasattr(answer, "_fields") else tuple(parts)
        return answer.clamp(-1, 1)

    return cut


def _asked_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that keeps the answer to its first call."""
    kept: list[Any] = []

    def first(*args: Any, **kwargs: Any) -> Any:
        if not kept:
            kept.append(function(*args, **kwargs))
        return kept[0]

    return first


ANSWERS: Sequence[Of] = (
    ("cut to [−1, 1]: nothing asks for that.", "extra", _cut),
    ("kept from the first call: it is to be asked anew each time.", "order", _asked_once),
)  # of an argument that is a function


def _of_one(value: Plain) -> Sequence[Of]:
    if isinstance(value, Array) and value.kind == "tensor":
        few = FEW if "float" in value.dtype else WHOLE if "int" in value.dtype else ()
        if len(value.shape) > 1:
            return [*ANY, *MANY, *STRENGTH] if "float" in value.dtype else MANY[2:]
        return [*few, *(ROW if _length(value) > 1 else ()), *(ANY if few is FEW else ())]
    if isinstance(value, bool):
        return ()
    if isinstance(value, float):
        return [*FEW, *ANY, *NUMBER]
    if isinstance(value, int):
        return [*WHOLE, *FEW[:2], *NUMBER[1:]]
    return LIST if isinstance(value, (list, tuple)) and len(value) > 1 else ()


# Rounds of a loop ----------------------------------------------------------------------------------

ROUNDS: Sequence[tuple[str, str, Callable[[Any, int], Any]]] = (
    (
        "after the first round: does a `return` stand inside the loop?",
        "count",
        lambda v, n: v[: len(v) - n + 1],
    ),
    ("without the last round: is it one round too few?", "count", lambda v, n: v[:-1]),
    ("without the first round: is it one round too few?", "count", lambda v, n: v[1:]),
    (
        "with all rounds in the other order.",
        "direction",
        lambda v, n: v.flip(0) if isinstance(v, Tensor) else v[::-1],
    ),
)  # a loop of n rounds walks over n entries, or from each of n + 1 to the next


def _length(value: Plain) -> int:
    if isinstance(value, Array) and value.shape:
        return value.shape[0]
    return len(value) if isinstance(value, (list, tuple)) else 0


def _shorter(each: list[str], between: list[str], part: Callable[[Any, int], Any]) -> Change:
    def change(given: Arguments) -> Arguments:
        rounds = len(given[each[0]]) if each else len(given[between[0]]) - 1
        return {name: part(given[name], rounds) for name in [*each, *between]}

    return change
