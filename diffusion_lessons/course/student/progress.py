"""The record of progress: a small JSON file beside the notebook, or memory where none can be kept.

Losing the record must never stop a lesson: a damaged file is set aside, and a folder that can not be
written to costs one plain line.
"""

import contextlib
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

VARIABLE = "DIFFUSION_LESSONS_PROGRESS"
NAME = "progress.json"
EMPTY = {"status": "not attempted", "checks": 0, "hints": 0}


class Record:
    """What is known of each exercise: its status, checks made and hints taken.

    Args:
        file: where it is kept, None for memory only.

    Attributes:
        trouble: a sentence where the file could not be read or written, said once, else "".
    """

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self.trouble = ""
        self._entries = self._read()

    def __getitem__(self, id: str) -> dict[str, Any]:
        """The entry of an exercise: status, checks, hints."""
        return dict(EMPTY, **self._entries.get(id, {}))

    def update(self, id: str, **changes: Any) -> None:
        """Change an entry and write the file; entries that another notebook wrote meanwhile are kept."""
        entry = dict(self[id], **changes)
        if self.file is not None:
            self._entries.update({k: v for k, v in self._read().items() if k != id})
        self._entries[id] = entry
        if self.file is not None:
            self._write()

    def _read(self) -> dict[str, dict[str, Any]]:
        if self.file is None or not self.file.is_file():
            return {}
        try:
            stored = json.loads(self.file.read_text(encoding="utf-8"))["exercises"]
            return {str(id): _entry(entry) for id, entry in stored.items()}
        except OSError as error:
            self.trouble = (
                f"{self.file} can not be read ({error.strerror}): progress is lost when you restart."
            )
            self.file = None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            self._set_aside()
        return {}

    def _set_aside(self) -> None:
        assert self.file is not None
        aside = self.file.with_suffix(".damaged.json")
        with contextlib.suppress(OSError):
            os.replace(self.file, aside)
        self.trouble = f"{self.file.name} was damaged: it is now {aside.name}, and progress starts anew."

    def _write(self) -> None:
        assert self.file is not None
        text = json.dumps({"version": 1, "exercises": self._entries}, indent=1, sort_keys=True)
        try:
            _replace(self.file, text)
        except OSError as error:
            self.trouble = (
                f"Progress can not be written to {self.file} ({error.strerror}), so it is lost when you "
                f"restart. Set {VARIABLE} to a file that can be written."
            )
            self.file = None


def _entry(stored: dict[str, Any]) -> dict[str, Any]:
    """A stored entry with nothing but what belongs in one."""
    return {
        "status": str(stored.get("status", EMPTY["status"])),
        "checks": int(stored.get("checks", 0)),
        "hints": int(stored.get("hints", 0)),
    }


def _replace(file: Path, text: str) -> None:
    """Write a file so that it is the old one or the new one at every moment."""
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.stem}-", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(text)
        for tries in range(5):
            try:
                os.replace(temporary, file)
                return
            except PermissionError:  # Windows, while another process reads it
                if tries == 4:
                    raise
                time.sleep(0.05)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def default_file() -> Path | None:
    """`progress.json` in the notebook's folder, or what the environment variable says ("off": none)."""
    given = os.environ.get(VARIABLE, "").strip()
    if given.lower() == "off":
        return None
    return Path(given).expanduser() if given else Path.cwd() / NAME
