"""Points: one for each exercise, unless a points.toml says otherwise.

```toml
default = 1          # for exercises that are not listed
wrong = 0            # the share of its points that an attempted, wrong answer gets
reference = "flag"   # an answer that calls ours: "flag" it, "fail" it, or "allow" it

[points]
"02.1" = 2
"02.4" = 3.5
```
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from diffusion_lessons.course import bank
from diffusion_lessons.course.grading.code.reaching import CALLS_REFERENCE as REFERENCE
from diffusion_lessons.course.grading.marks.rows import Row
from diffusion_lessons.support.errors import unknown
from diffusion_lessons.support.files import read_text

RULES = ("flag", "fail", "allow")
KEYS = ("default", "wrong", "reference", "points")


class Score(NamedTuple):
    """Points, and of how many; reads "1 of 2"."""

    points: float
    of: float

    def __str__(self) -> str:
        return f"{self.points:g} of {self.of:g}"


@dataclass(frozen=True)
class Points:
    """How rows become points."""

    default: float = 1.0
    wrong: float = 0.0
    reference: str = "flag"
    points: Mapping[str, float] = field(default_factory=dict)

    def most(self, row: Row) -> float:
        """What an exercise is worth."""
        return self.points.get(row.exercise, self.default)

    def of(self, row: Row) -> float:
        """What a row gets: what was given by hand, else what its status is worth."""
        if row.given is not None:
            return row.given
        share = {"passed": 1.0, "wrong": self.wrong if row.kind != "reference" else 0.0}
        return round(self.most(row) * share.get(row.status, 0.0), 6)

    def score(self, *rows: Row) -> Score:
        """What some rows get together."""
        return Score(sum(map(self.of, rows)), sum(map(self.most, rows)))

    def ruled(self, row: Row) -> Row:
        """The row as the rule on calling the reference has it."""
        calls = [flag for flag in row.flags if flag.startswith(REFERENCE)]
        if not calls or self.reference == "flag":
            return row
        if self.reference == "allow":
            return replace(row, flags=tuple(flag for flag in row.flags if flag not in calls))
        if row.status != "passed":
            return row
        names = ", ".join(f"`{flag.removeprefix(REFERENCE)}`" for flag in calls)
        message = f"Your answer calls {names}, which is what this exercise asks you to write."
        return replace(row, status="wrong", kind="reference", message=message)


def load(file: Path | None) -> Points:
    """Read a points.toml, None for one point each.

    What is no TOML, or what nobody understands, is a ValueError of one line, with the key.
    """
    if file is None:
        return Points()
    try:
        given = tomllib.loads(read_text(file))
    except OSError as error:
        raise ValueError(f"cannot read {file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is no TOML: {error}") from None
    for key in given:
        if key not in KEYS:
            raise unknown(f"key in {file.name}", key, KEYS)
    rule = given.get("reference", "flag")
    if rule not in RULES:
        raise unknown(f"rule `reference` in {file.name}", rule, RULES)
    wrong = _number(file, "wrong", given.get("wrong", 0))
    if wrong > 1:
        raise ValueError(f"{file.name}: `wrong` is a share from 0 to 1, got {wrong:g}")
    table = given.get("points", {})
    if not isinstance(table, dict):
        raise ValueError(f'{file.name}: `points` is a table, [points] and lines like "02.1" = 2')
    known = [exercise.id for exercise in bank.exercises()]
    for id in table:
        if id not in known:
            raise unknown(f"exercise in {file.name}", id, known)
    points = {id: _number(file, id, value) for id, value in table.items()}
    return Points(_number(file, "default", given.get("default", 1)), wrong, rule, points)


def _number(file: Path, key: str, value: Any) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 <= value < float("inf"):
        raise ValueError(f"{file.name}: `{key}` is a number from 0 on, got {value!r}")
    return float(value)
