"""`mine` from the folder of notebooks to ten digits: the file is made, tried, written, and trains alone."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch

from diffusion_lessons.course.mine.assembly import Module, assembled
from diffusion_lessons.course.mine.collecting import Collected, collect
from diffusion_lessons.course.mine.ours import exercises, ours
from diffusion_lessons.course.mine.pieces import PACKAGE
from diffusion_lessons.course.mine.trying import tried
from diffusion_lessons.data import load_dataset
from diffusion_lessons.support.files import atomic_write, writable

FILE, DATA, WEIGHTS, PICTURE = FILES = ("my_diffusion.py", "digits.pt", "weights.pt", "ten.png")
RECORD = ".mine.json"  # of what this command left there: name -> SHA-256
ALONE = (
    f"import runpy, sys; sys.modules[{PACKAGE!r}] = None; sys.argv = sys.argv[1:]; "
    "runpy.run_path(sys.argv[0], run_name='__main__')"
)  # runs a file as a program to which this package is not there
HEAD = """A diffusion system in one file, built in the course diffusion-lessons{by}.

{yours} of {all} pieces are the student's own: "yours" stands above them. The others are the course's.
It needs Python and PyTorch, nothing else:

    python my_diffusion.py                  train a minute on digits.pt, then draw ten digits: ten.png
    python my_diffusion.py --minutes 10     train longer
    python my_diffusion.py --draw           draw with weights.pt
"""


@dataclass
class Mine:
    """What came of it."""

    folder: Path
    collected: Collected
    stopped: bool = False  # by Ctrl-C
    last: str = ""  # what training said last
    all: int = field(default_factory=lambda: len(exercises()))

    @property
    def yours(self) -> int:
        return len(self.collected.pieces)

    def words(self) -> str:
        """How many are theirs, and which are ours and why."""
        lines = [f"{self.yours} of {self.all} pieces are yours"]
        why = self.collected.why
        for each in dict.fromkeys(why.values()):
            lines.append(f"  ours: {' '.join(id for id in why if why[id] == each)}: {each}")
        return "\n".join([*lines, *(f"  {note}" for note in self.collected.notes)])

    def facts(self) -> dict[str, object]:
        return {
            "folder": str(self.folder),
            "picture": str(self.folder / PICTURE),
            "pieces": self.all,
            "yours": sorted(self.collected.pieces),
            "ours": dict(sorted(self.collected.why.items())),
            "notes": self.collected.notes,
            "training": self.last,
            "stopped": self.stopped,
        }


def mine(
    work: Path,
    out: Path,
    minutes: float = 1.0,
    steps: int | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Mine:
    """Collect, assemble, write into the folder `out`, train there and draw ten digits.

    Args:
        minutes: of training; `steps` instead where given.
        tell: gets a line of progress now and then.

    Raises:
        ValueError: no notebooks, a folder that cannot be written or holds other work, or a file that stops.
        OSError: submissions cannot be run here.
    """
    if not 0 < minutes < float("inf") or (steps is not None and steps < 1):
        raise ValueError(f"--minutes is above 0 and --steps at least 1, got {minutes:g} and {steps}")
    _unchanged(out)
    collected = collect(work, tell)
    module = working(collected)
    writable(out)
    try:
        with atomic_write(out / FILE) as partial:
            partial.write_text(module.text, encoding="utf-8")
        digits = load_dataset("digits", "train", size=16)
        with atomic_write(out / DATA) as partial:
            torch.save({"images": digits.images, "labels": digits.labels}, partial)
        made = Mine(out, collected)
        tell(f"{made.yours} of {made.all} pieces are yours; training with {out / FILE}")
        budget = ["--minutes", str(minutes)] if steps is None else ["--steps", str(steps)]
        made.last, made.stopped = _trained(out, budget, tell)
    finally:
        kept = {name: _digest(out / name) for name in FILES if (out / name).exists()}
        (out / RECORD).write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return made


def working(collected: Collected) -> Module:
    """The module in which every piece is right; a piece that is so only in its notebook gives way to ours."""
    while True:
        pieces = [collected.pieces.get(exercise.id) or ours(exercise) for exercise in exercises()]
        by = f" by {collected.name}".replace("\\", "/").replace('"', "'") if collected.name else ""
        head = HEAD.format(by=by, yours=len(collected.pieces), all=len(pieces))
        module = assembled(pieces, head)
        failed = tried(module, list(collected.pieces)) if collected.pieces else {}
        for id, why in failed.items():
            del collected.pieces[id]
            collected.why[id] = f"right in your notebook, not in a file of its own: {why}"
        if not failed:
            return module


def _trained(out: Path, budget: list[str], tell: Callable[[str], None]) -> tuple[str, bool]:
    """Run the file; what it said of training last, and whether Ctrl-C ended that."""
    devices = [[], ["--device", "cpu"]] if torch.cuda.is_available() else [[]]
    for device in devices:
        said, code, stopped = _run([str(out.resolve() / FILE), *budget, *device], tell)
        if code == 0:
            return next((line for line in reversed(said) if line.startswith("step ")), ""), stopped
        if stopped:
            raise KeyboardInterrupt
        tell(f"{FILE} stopped: {said[-1] if said else code}")
    raise ValueError(
        f"{out / FILE} does not run ({said[-1] if said else code}); it is there for you to look at"
    )


def _run(arguments: list[str], tell: Callable[[str], None]) -> tuple[list[str], int, bool]:
    """Its lines, its exit code, and whether Ctrl-C came: it may finish what it has begun, once."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-u", "-X", "utf8", "-c", ALONE, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,  # Ctrl-C comes once, from here
    )
    assert process.stdout
    said: list[str] = []
    stopped = False
    with process:
        while True:
            try:
                for line in process.stdout:
                    said.append(line.rstrip())
                    tell(line.rstrip())
                return said, process.wait(), stopped
            except KeyboardInterrupt:
                if stopped:
                    process.kill()
                    raise
                stopped = True
                if os.name != "nt":  # there the console has told it
                    process.send_signal(signal.SIGINT)


def _unchanged(out: Path) -> None:
    """ValueError where the folder holds anything of these names that this command did not leave there."""
    kept = {}
    with suppress(OSError, ValueError):
        kept = json.loads((out / RECORD).read_text(encoding="utf-8"))
    for name in FILES:
        if (out / name).exists() and kept.get(name) != _digest(out / name):
            said = "is not as this command left it, and is never overwritten"
            raise ValueError(f"{out / name} {said}: rename the folder, or choose another with --out")


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
