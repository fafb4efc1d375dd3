"""The sentences of verdicts that no misconception explains: what was seen, and what to do."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from diffusion_lessons.course.exercises.compare import Difference, as_array, close
from diffusion_lessons.course.exercises.exercise import ABOUT, Exercise
from diffusion_lessons.course.exercises.outputs import Failure
from diffusion_lessons.course.exercises.running import signature
from diffusion_lessons.course.exercises.slips import parts_of
from diffusion_lessons.course.exercises.tips import tip
from diffusion_lessons.course.exercises.values import Array, Fields, Opaque, Plain
from diffusion_lessons.course.exercises.watching import SEED

PLANTED = "The planted bug is still there: this code gives just what it gave before."
RANDOM = (
    "Called twice with the same inputs, your function gave two different results. Draw no random "
    "numbers in it, use the ones that come in as an argument, and keep nothing from one call to the next."
)
SEEDED = (
    "The result is right, but your function sets the seed of the global generator (torch.manual_seed, "
    "np.random.seed or random.seed): all that the caller draws after it is the same each time. Leave it out, "
    "or draw from a torch.Generator of your own."
)
SOMETIMES_NONE = (
    "None was returned for some inputs, and not for all: on one way through your function there is no "
    "`return`. Is an `else` missing, or a condition never true?"
)
HARNESS = r"\w+\.<locals>\."  # before the names of what a case makes and hands to the answer
UNTOUCHED = "Write your answer in the cell above and run it."
STILL_RUNNING = (
    " It could not be stopped and still runs in the background, which makes everything slower: "
    "when you have put it right, restart the kernel (Kernel › Restart)."
)


def passed(cases: int) -> str:
    """On how many cases the answer was right."""
    return "Right." if cases == 1 else f"Right on all {cases} cases."


def not_attempted(failure: Failure) -> str:
    """Nothing was written yet, or the stub's own line still stands there."""
    if failure.kind == "not implemented" and failure.frames:
        return f"Replace `raise NotImplementedError` (line {failure.frames[-1].line}) with your code."
    return UNTOUCHED


def failed(exercise: Exercise, failure: Failure, inputs: dict[str, Plain] | None = None) -> str:
    """Why a case gave no value, and with `inputs`, the arguments of the answer, what to do about it."""
    if failure.kind == "not callable":
        wanted = f"a {failure.message} named `{exercise.name}`"
        return f"Exercise {exercise.id} asks for {wanted}; what you gave is of type {failure.type}."
    if failure.kind == "signature":
        return failure.message
    if failure.kind in ("untouched", "not implemented"):
        return f"Part of it is still to be written. {not_attempted(failure)}"
    if failure.kind == "missing":
        return "This case has no result."
    if failure.kind == "timeout":
        stopped = f"Your code was stopped after {failure.message}, and ours takes a moment"
        return f"{stopped}: is there a loop that never ends?{STILL_RUNNING if failure.running else ''}"
    said = f": {re.sub(HARNESS, '', failure.message)}" if failure.message else ""
    stop = "" if said.endswith((".", "!", "?")) else "."
    tips = "" if inputs is None else tip(failure, inputs)
    return f"Your code raised {failure.type}{said}{stop} {tips}".rstrip()


# Beside the value ----------------------------------------------------------------------------------

IN_PLACE = (
    "Operations that end in _ (mul_, add_) and `x += …`, `x *= …`, `x[…] = …` work in place, and so do "
    ".reverse(), .pop() and .append() of lists: write x = x * …, or start from x.clone() or list(x)."
)
CHANGES = {
    "": ("your function changes its argument {}, which the caller still needs", IN_PLACE),
    "graph": ("your function calls requires_grad_ on its argument {}, and so on the caller's own tensor",
              "Call it on a copy: x.detach().requires_grad_()."),
    "grad": ("your function leaves a .grad on its argument {}, which the caller's next backward() adds to",
             "torch.autograd.grad(…, x) gives a gradient and leaves nothing behind."),
    "gradients": ("your function switches the gradients on or off for all that comes after it",
                  "`with torch.enable_grad():` or `with torch.no_grad():` does so for its own lines alone."),
    "mode": ("your function leaves its argument {} in another mode, train() or eval(), than it came in",
             "Put it back to what `.training` was."),
}  # fmt: skip


def mutated(names: Sequence[str]) -> str:
    """Right numbers, and arguments that are not what they were; the names are those of `watching`."""
    aspect = names[0].partition("/")[2]
    words = " and ".join(f"`{name.partition('/')[0]}`" for name in names if name.partition("/")[2] == aspect)
    said, advice = CHANGES.get(aspect, CHANGES[""])
    return f"The result is right, but {said.format(words)}. {advice}"


def beside(names: Sequence[str]) -> str:
    """Wrong numbers, and arguments that are not what they were: the one may come from the other."""
    if SEED in names:
        return (
            "Your function also sets the seed of the global generator: draw no random numbers in it, and use "
            "the ones that come in as an argument."
        )
    words = " and ".join(f"`{name}`" for name in names if "/" not in name)
    return f"Your function also changes its argument {words}, and all that reads it later." if words else ""


def unread(exercise: Exercise, names: Sequence[str]) -> str:
    """The arguments that an answer does not read, in a sentence; nothing where there is none."""
    known = signature(exercise.reference)  # whatever wrote the outputs, no other name is said
    words = " and ".join(f"`{name}`" for name in names if known and name in known.parameters)
    return f"Your function does not use its argument{'s' * (' and ' in words)} {words}." if words else ""


def gradient(expected: Plain, given: Plain) -> str:
    """The result is right, but what the lesson trains does not get its gradient; nothing where it does."""
    if not isinstance(expected, dict):
        return ""
    if isinstance(given, str):
        return (
            f"The result is right, but in training, where gradients are kept, your code raises {given[:500]}."
        )
    for name, ours in expected.items():
        theirs = given.get(name) if isinstance(given, dict) else None
        mine, other = as_array(ours), as_array(theirs)
        if mine is None or not mine.any():
            continue
        if other is None or not other.any():
            return (
                f"The result is right, but no gradient flows back through it to `{name}`, so nothing can be "
                "trained with it. .detach(), .data, .item(), torch.no_grad() and torch.tensor(…) cut it off."
            )
        if mine.shape != other.shape or not close(mine, other, 1e-2, 1e-2 * np.abs(mine).max()).all():
            return (
                f"The result is right, but the gradient that flows back to `{name}` is another one: part of "
                "it is cut off, by .detach(), .data, .item() or torch.no_grad()."
            )
    return ""


# Where it differs ----------------------------------------------------------------------------------


def problem(
    exercise: Exercise,
    found: Failure | Difference | None,
    inputs: dict[str, Plain] | None,
    at_times: bool = False,
) -> str:
    """Why a case gave no value, or where the value differs; nothing where it is right.

    `at_times`: for some inputs something was returned.
    """
    if isinstance(found, Failure):
        return failed(exercise, found, inputs)
    if found is not None and found.kind == "none" and exercise.kind != "predict" and at_times:
        return SOMETIMES_NONE
    return differs(exercise, found) if found is not None else ""


def first(sentence: str, about: str) -> str:
    """That and where it differs, and the kind of slip, for a first attempt."""
    return f"{sentence} It looks like a slip in {ABOUT[about]}." if about else sentence


def one_part(expected: Plain, part: Any) -> str:
    """All parts of a result are right but one."""
    named = isinstance(expected, (Fields, dict))
    others = " and ".join(_named(key, named) for key in parts_of(expected) if key != part)
    return f"Right in your result: {others}. Not right: {_named(part, named)}."


def _named(part: Any, named: bool) -> str:
    return (
        f"`{part}`"
        if named and " " not in str(part)
        else str(part)
        if named
        else f"the {_ordinal(part)} result"
    )


def _ordinal(place: int) -> str:
    words = ("first", "second", "third", "fourth", "fifth", "sixth")
    return words[place] if place < len(words) else f"{place + 1}th"


def _part(path: str) -> str:
    """The part of a result at a path, in words: "[1].x0" is "`x0` of the second result"."""
    found = re.findall(r"\[(\d+)\]|\[(['\"])(.*?)\2\]|\.(\w+)", path)
    words = [_named(int(place) if place else key or name, not place) for place, _, key, name in found]
    return " of ".join(reversed(words))


def differs(exercise: Exercise, problem: Difference) -> str:
    """The result is not the expected one."""
    if exercise.kind == "predict":
        return _prediction(exercise, problem)
    of_dict = problem.path[:2] in ("['", '["')  # what holds is said by its key
    if of_dict and problem.expected is True and problem.given is False:
        return f"This should hold, and does not: {_part(problem.path)}."
    part = f"In {_part(problem.path)}: " if problem.path else ""
    sentence = part + problem.sentence if part else problem.sentence[:1].upper() + problem.sentence[1:]
    return sentence + "." + _advice(problem)


ADVICE = {
    "none": " Is the `return` missing?",
    "a generator": " Did you write `yield` where `return` belongs?",
    "a coroutine": " Write `def` in place of `async def`.",
    "nonfinite": " Is there a division by zero, or a logarithm or root of a number that is not positive?",
    "dtype": " A number of another dtype came in on the way: cast it to the dtype of the input, "
    "factor.to(x.dtype), before it meets it.",
    "graph": " It keeps all that it was computed from in memory for as long as it lives: return x.detach(), "
    "or a number with .item().",
    "device": " Make new tensors on the device of the input: device=x.device, or torch.zeros_like(x).",
}  # by the kind of a difference, or by what was given in place of data


def _advice(problem: Difference) -> str:
    expected, given = problem.expected, problem.given
    kind = f"a {given.type}" if problem.kind == "type" and isinstance(given, Opaque) else problem.kind
    if kind in ADVICE:
        return ADVICE[kind]
    both = isinstance(expected, Array) and isinstance(given, Array)
    if both and expected.dtype != given.dtype:
        return f" The dtype is {given.dtype}, too, where {expected.dtype} was expected."
    return ""


def _prediction(exercise: Exercise, problem: Difference) -> str:
    given = problem.given
    if problem.kind == "none":
        return "Your function returned None: `return` your answer."
    if exercise.choices and isinstance(given, str):
        known = [choice.strip().casefold() for choice in exercise.choices]
        if given.strip().casefold() not in known:
            choices = ", ".join(map(repr, exercise.choices))
            return f"{given!r} is none of the choices: return one of {choices}."
    if problem.kind == "value":
        part = f" in {_part(problem.path)}" if problem.path else ""
        return f"Your answer{part} is {f'too {problem.side}' if problem.side else 'not the right one'}."
    return problem.sentence[:1].upper() + problem.sentence[1:] + "."
