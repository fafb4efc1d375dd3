"""Do the pieces work in the one file as they did in the notebooks? Found out in a process of its own.

    python -m diffusion_lessons.course.mine.trying FILE '{"02.2": "jump", …}'

ends with a line of JSON: exercise -> why it is not right there; under "line N" why the file does not load.
"""

import importlib.util
import json
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping
from pathlib import Path

from diffusion_lessons.course import bank
from diffusion_lessons.course.exercises.check import check
from diffusion_lessons.course.mine.assembly import Module

SECONDS = 600.0


def tried(module: Module, ids: list[str]) -> dict[str, str]:
    """Which of these exercises fail in the module, and why; ValueError where it cannot be loaded at all."""
    names = json.dumps({id: module.names[id] for id in ids})
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "my_diffusion.py"
        file.write_text(module.text, encoding="utf-8")
        command = [sys.executable, "-X", "utf8", "-m", __name__, str(file), names]
        try:
            done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=SECONDS)
            found = json.loads(done.stdout.rstrip().rpartition("\n")[2])
        except subprocess.TimeoutExpired:
            raise ValueError(
                f"your pieces were not checked within {SECONDS:g} s: is one of them very slow?"
            ) from None
        except ValueError:
            said = done.stderr.strip().rpartition("\n")[2]
            raise ValueError(f"your pieces could not be checked in one file ({said})") from None
    failed = {}
    for where, why in found.items():
        if where.startswith("line "):
            above = [id for id, line in module.lines.items() if line <= int(where[5:])]
            where = max(above, key=lambda id: module.lines[id], default="")
            if where not in ids:
                raise ValueError(f"my_diffusion.py does not load: {why}")
        failed[where] = why
    return failed


def failures(file: Path, names: Mapping[str, str]) -> dict[str, str]:
    """What `tried` reads, found out here."""
    spec = importlib.util.spec_from_file_location("my_diffusion", file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["my_diffusion"] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        lines = [
            frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)
        ]
        line = lines[0] if lines else getattr(error, "lineno", 0)
        return {f"line {line}": f"{type(error).__name__}: {error}"}
    verdicts = {id: check(bank.get(id), getattr(module, name)) for id, name in names.items()}
    return {id: each.message for id, each in verdicts.items() if each.status != "passed"}


if __name__ == "__main__":
    print("\n" + json.dumps(failures(Path(sys.argv[1]), json.loads(sys.argv[2]))))
