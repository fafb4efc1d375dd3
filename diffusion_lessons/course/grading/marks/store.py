"""What has been marked, kept in the report's folder, so that a stopped run goes on where it was."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path

from diffusion_lessons.course.grading.marks.rows import Row
from diffusion_lessons.course.grading.sandbox import PACKAGE, Limits
from diffusion_lessons.support.files import atomic_write

FOLDER = ".marked"
ANEW = ("grader", "environment")  # kinds that say nothing of the notebook alone: always run again


class Store:
    """Rows by what they depend on: the notebook's bytes, the lesson, the seed and the package's code.

    They lie in the report's `folder`. Limits count only for rows that a limit ended: those are run again
    where the limits are others.
    """

    def __init__(self, folder: Path, seed: int, limits: Limits) -> None:
        self.folder = folder / FOLDER
        self.seed = seed
        self.limits = asdict(limits)

    def rows(self, digest: str, lesson: str) -> tuple[Row, ...] | None:
        """What was found before, None where there is nothing that still holds."""
        try:
            stored = json.loads(self._file(digest, lesson).read_text(encoding="utf-8"))
            rows = tuple(map(Row.from_json, stored["rows"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        again = stored["limits"] != self.limits and any(row.limited for row in rows)
        return None if again or any(row.kind in ANEW for row in rows) else rows

    def keep(self, digest: str, lesson: str, rows: Sequence[Row]) -> None:
        """Write a notebook's rows, whole or not at all."""
        record = {"limits": self.limits, "rows": [row.to_json() for row in rows]}
        with atomic_write(self._file(digest, lesson)) as partial:
            partial.write_text(json.dumps(record, indent=1), encoding="utf-8")

    def _file(self, digest: str, lesson: str) -> Path:
        key = hashlib.sha256(f"{lesson}/{self.seed}/{code()}/{digest}".encode())
        return self.folder / f"{key.hexdigest()[:32]}.json"


@cache
def code() -> str:
    """A digest of the package's code, the bank's included: a mended exercise is judged anew."""
    digest = hashlib.sha256()
    for file in sorted(PACKAGE.rglob("*.py")):
        digest.update(f"{file.relative_to(PACKAGE)}\n".encode() + file.read_bytes())
    return digest.hexdigest()
