"""The module: the pieces in the order of the system, each under whose it is, and the glue around them."""

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from diffusion_lessons.course.mine.keeping import GLUE, Keeper
from diffusion_lessons.course.mine.pieces import Piece, statement

USES = {
    "cosine_schedule": "05.1",
    "jump": "02.2",
    "UNet": "06.5",
    "training_step": "04.4",
    "x0_from_eps": "03.2",
    "spaced_times": "07.2",
    "ddim_step": "08.1",
    "drop_labels": "10.1",
    "guided": "10.3",
    "interval_scale": "10.4",
    "to_unit": "00.1",
}  # what the glue calls -> the exercise that makes it
ORDER = {
    "05": "The noise schedule",
    "02": "The forward process",
    "06": "The network",
    "04": "The loss and the training step",
    **dict.fromkeys(("03", "08", "07"), "Samplers"),
    **dict.fromkeys(("10", "09"), "Guidance"),
}  # lesson -> part of the system
REST = "What else was built"  # all other lessons
WIDTH = 100


@dataclass(frozen=True)
class Module:
    """The text, and of each exercise the name in it and the number of its first line."""

    text: str
    names: dict[str, str]
    lines: dict[str, int]


@cache
def glue(name: str) -> tuple[str, ...]:
    """The statements of a file of glue, without its docstring."""
    text = (Path(__file__).parent / "glue" / f"{name}.py").read_text(encoding="utf-8")
    return tuple(statement(text, i) for i in range(1, len(ast.parse(text).body)))


@cache
def given() -> tuple[str, ...]:
    """The names of the package that the glue makes anew."""
    nodes = ast.parse("\n".join(glue("given"))).body
    return tuple(node.name for node in nodes if isinstance(node, (ast.ClassDef, ast.FunctionDef)))


def assembled(pieces: Sequence[Piece], head: str) -> Module:
    """The module of some pieces, one for each exercise; `head` is the text of its docstring."""
    lessons = list(ORDER)
    pieces = sorted(
        pieces, key=lambda piece: (lessons + [piece.exercise.lesson]).index(piece.exercise.lesson)
    )
    keeper = Keeper([*glue("given"), *glue("system")], pieces, set(USES.values()))
    parts = [f'"""{head}"""', keeper.import_lines()]
    parts += [_title("Given: what the exercises are handed"), *keeper.code(GLUE, glue("given"))]
    names, at, section = {}, {}, ""
    for piece in pieces:
        exercise = piece.exercise
        if section != (section := ORDER.get(exercise.lesson, REST)):
            parts.append(_title(section))
        names[exercise.id], at[exercise.id] = keeper.name(piece.source, exercise.name), len(parts)
        called = "" if names[exercise.id] == exercise.name else f", here {names[exercise.id]}"
        first, *more = keeper.code(piece.source, piece.code)
        parts += [f"# {exercise.id} {exercise.title} · {piece.whose}{called}\n{first}", *more]
    parts += [_title("The system: your pieces put together"), *keeper.code(GLUE, glue("system"))]
    starts = [1]
    for part in parts:
        starts.append(starts[-1] + part.count("\n") + 3)
    return Module("\n\n\n".join(parts) + "\n", names, {id: starts[i] for id, i in at.items()})


def _title(text: str) -> str:
    return f"# {text} ".ljust(WIDTH, "-")
