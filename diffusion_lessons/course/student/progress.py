"""A student's progress: a small JSON file beside the notebook, or memory where none can be kept.

Losing it must never stop a lesson: a damaged file is set aside, and a folder that can not be written to
costs one plain line.
"""

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

from diffusion_lessons.course.student.place import beside, unknown
from diffusion_lessons.support.files import atomic_write, expanded, read_text

VARIABLE = "DIFFUSION_LESSONS_PROGRESS"
NAME = "progress.json"
EMPTY: dict[str, Any] = {"status": "not attempted", "checks": 0, "hints": 0}
_session: "Progress | None" = None


class Progress:
    """What is known of each exercise: its status, checks made and hints taken.

    Args:
        file: where it is kept, None for memory only.
        news: what the student is told first.
    """

    def __init__(self, file: Path | None, news: str = "") -> None:
        self.file = file
        self._news = news
        self._entries = self._read()

    def __getitem__(self, id: str) -> dict[str, Any]:
        """The entry of an exercise: status, checks, hints."""
        return dict(EMPTY, **self._entries.get(id, {}))

    def update(self, id: str, **changes: Any) -> None:
        """Change an entry and write the file; entries that another notebook wrote meanwhile are kept."""
        entry = dict(self[id], **changes)
        self._entries.update(self._read())
        self._entries[id] = entry
        if self.file is not None:
            self._write(self.file)

    def news(self) -> list[str]:
        """A sentence where the file is not where one expects it, or could not be used; said once."""
        news, self._news = self._news, ""
        return [news] if news else []

    def _read(self) -> dict[str, dict[str, Any]]:
        if self.file is None or not self.file.is_file():
            return {}
        try:
            stored = json.loads(read_text(self.file))["exercises"]
            return {str(id): _entry(entry) for id, entry in stored.items()}
        except OSError as error:
            self._news = f"{self.file} can not be read ({error.strerror}): progress is lost when you restart."
            self.file = None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            aside = self.file.with_suffix(".damaged.json")
            with contextlib.suppress(OSError):
                os.replace(self.file, aside)
            self._news = f"{self.file.name} was damaged: it is now {aside.name}, and progress starts anew."
        return {}

    def _write(self, file: Path) -> None:
        text = json.dumps({"version": 1, "exercises": self._entries}, indent=1, sort_keys=True)
        for wait in (0.05, 0.05, 0.05, 0.05, 0):
            try:
                with atomic_write(file) as partial:
                    partial.write_text(text, encoding="utf-8")
                return
            except ValueError as error:
                cause = error.__cause__
                if not isinstance(cause, PermissionError):
                    break
                time.sleep(wait)  # Windows, while another process reads it
        reason = getattr(cause, "strerror", cause)
        self._news = (
            f"Progress can not be written to {file} ({reason}), so it is lost when you restart. "
            f"Set {VARIABLE} to a file that can be written."
        )
        self.file = None


def _entry(stored: dict[str, Any]) -> dict[str, Any]:
    """A stored entry with nothing but what belongs in one."""
    return {name: type(empty)(stored.get(name, empty)) for name, empty in EMPTY.items()}


def default_file() -> Path | None:
    """`progress.json` in the notebook's folder, or what the environment variable says ("off": none)."""
    given = os.environ.get(VARIABLE, "").strip()
    if given.lower() == "off":
        return None
    return Path(expanded(given)) if given else beside(NAME)


def kept() -> Progress:
    """The progress of this session."""
    global _session
    if _session is None:
        _session = Progress(default_file(), "" if os.environ.get(VARIABLE) else unknown())
    return _session


def keep(progress: Progress) -> None:
    """Keep the session's progress there from now on."""
    global _session
    _session = progress
