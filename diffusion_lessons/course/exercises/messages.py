"""The sentences of verdicts that no misconception explains: what was seen, and what to do."""

from diffusion_lessons.course.exercises.compare import Difference
from diffusion_lessons.course.exercises.exercise import Exercise
from diffusion_lessons.course.exercises.outputs import Failure, Ran
from diffusion_lessons.course.exercises.values import Array, Opaque

PLANTED = "The planted bug is still there: this code gives just what it gave before."
RANDOM = (
    "Called twice with the same inputs, your function gave two different results. Draw no random "
    "numbers in it, use the ones that come in as an argument, and keep nothing from one call to the next."
)
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


def failed(exercise: Exercise, failure: Failure) -> str:
    """Why a case gave no value."""
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
    said = f": {failure.message}" if failure.message else ""
    stop = "" if said.endswith((".", "!", "?")) else "."
    return f"Your code raised {failure.type}{said}{stop}{_tip(failure)}"


TIPS = (
    ("must match the size of tensor", " The shapes in that line do not broadcast. One factor for each sample,"
     " shape (B,), becomes (B, 1, 1, 1) before it multiplies (B, C, H, W)."),
    ("mat1 and mat2 shapes", " A matrix product needs (n, k) times (k, m)."),
    ("same device", " A tensor made in your function must be made on the device of its inputs: "
     "torch.zeros(..., device=x.device), or torch.zeros_like(x)."),
    ("same dtype", " Cast one of them to the dtype of the other: a.to(b.dtype)."),
    ("can't convert cuda", " Stay with torch functions: numpy needs the numbers on the CPU."),
    ("Boolean value of Tensor", " `if` needs one True or False: use torch.where, .any() or .all()."),
    ("leaf Variable that requires grad", " Make a new tensor in place of changing this one."),
    ("maximum recursion depth", " The function calls itself without end."),
)  # fmt: skip


def _tip(failure: Failure) -> str:
    if failure.type == "NameError":
        return " Is it spelt right, and was the cell that makes it run?"
    if failure.type == "SystemExit":
        return " Leave exit() out: it would end the notebook."
    return next((tip for text, tip in TIPS if text.lower() in failure.message.lower()), "")


def mutated(ran: Ran) -> str:
    """Right numbers, and an input that is not what it was."""
    names = " and ".join(f"`{name}`" for name in ran.mutated)
    return (
        f"The result is right, but your function changes its argument {names}, which the caller still needs. "
        "Operations that end in _ (mul_, add_) and `x += …`, `x *= …`, `x[…] = …` work in place: "
        "write x = x * …, or start from x.clone()."
    )


def differs(exercise: Exercise, problem: Difference) -> str:
    """The result is not the expected one."""
    if exercise.kind == "predict":
        return _prediction(exercise, problem)
    part = f"In the part `result{problem.path}`: " if problem.path else ""
    sentence = part + problem.sentence if part else problem.sentence[:1].upper() + problem.sentence[1:]
    return sentence + "." + _advice(problem)


ADVICE = {
    "none": " Is the `return` missing?",
    "a generator": " Did you write `yield` where `return` belongs?",
    "a coroutine": " Write `def` in place of `async def`.",
    "nonfinite": " Is there a division by zero, or a logarithm or root of a number that is not positive?",
    "dtype": " A number of another dtype came in on the way: cast it to the dtype of the input, "
    "factor.to(x.dtype), before it meets it.",
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
        part = f", part {problem.path}," if problem.path else ""
        return f"Your answer{part} is {f'too {problem.side}' if problem.side else 'not the right one'}."
    return problem.sentence[:1].upper() + problem.sentence[1:] + "."
