"""A wheel of this package, made where its source lies: for a class that has no repository to install from."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import diffusion_lessons

PARTS = ("pyproject.toml", "README.md", "LICENSE", "diffusion_lessons", "notebooks")
COMMAND = ("-m", "pip", "wheel", "--no-deps", "--quiet", "--disable-pip-version-check", "--wheel-dir")
EPOCH = "946684800"  # of every file in it, in seconds: the same source gives the same wheel
HOW = "run `pip wheel --no-deps .` in a copy of the repository, and give the file with --wheel"


def build(folder: Path, root: Path | None = None) -> Path:
    """Build the wheel into a folder, from a copy: nothing in the source tree changes.

    `root` is the source tree, default the one that this package runs from. Where there is none, as after an
    installation from a wheel, or pip fails, a ValueError says what to do.
    """
    root = root or Path(diffusion_lessons.__file__).resolve().parents[1]
    if not all((root / part).exists() for part in PARTS):
        said = "this package has no public repository to install from, and its source is not here"
        raise ValueError(f"{said}: {HOW}")
    copy = folder / "source"
    for part in PARTS:
        if (root / part).is_dir():
            shutil.copytree(root / part, copy / part, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        else:
            copy.mkdir(exist_ok=True)
            shutil.copy2(root / part, copy / part)
    said = ""
    for isolation in (["--no-build-isolation"], []):  # what is installed here needs no network
        command = [sys.executable, *COMMAND, str(folder), *isolation, str(copy)]
        environment = os.environ | {"SOURCE_DATE_EPOCH": EPOCH}
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment)
        wheel = next(folder.glob("*.whl"), None)
        if done.returncode == 0 and wheel is not None:
            return wheel
        said = next(iter(reversed(done.stderr.strip().splitlines())), f"exit code {done.returncode}")
    raise ValueError(f"pip could not make a wheel of this package ({said}): {HOW}")
