"""The rest of a lesson's setup cell: what is missing is installed, nothing that is there is replaced.

Colab comes with its own torch and numpy, and half of Colab breaks where they are replaced. So the
setup cell installs this package alone (`--no-deps`), and what else is missing is installed here,
under constraints that hold every installed package at its version.
"""

import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import torch

from diffusion_lessons.support.machine import choose_device, keep_freed_memory

IN_A_NOTEBOOK = ("ipywidgets>=7.6", "anywidget>=0.9.13")  # Colab has an older ipywidgets than `lab` asks for


class Lacking(NamedTuple):
    """Requirements that are not met: what is not there, and what is there but too old."""

    missing: list[str]
    old: list[str]


def setup(lesson: str, seed: int = 0) -> tuple[torch.device, torch.Generator]:
    """Make a notebook ready: what is missing, widgets, the look of figures, seed and device.

    Args:
        lesson: two digits.
        seed: of the generator, and of torch's own, from which networks take their first weights.

    Returns:
        The device to compute on, and a generator on the CPU for noise and batches.

    Raises:
        RuntimeError: something is missing or too old and cannot be installed; says what to do.
    """
    install(lacking())
    colab = "google.colab" in sys.modules
    if colab:
        from google.colab import output

        output.enable_custom_widget_manager()
    import matplotlib as mpl  # only now: it may just have been installed

    from diffusion_lessons.course.widgets.figures import house_style

    mpl.rcParams.update(house_style())
    keep_freed_memory()
    torch.manual_seed(seed)
    device = choose_device()
    print(f"Lesson {lesson} is ready, on the {device.type.upper()}.")
    if colab:
        print("Colab forgets this page when its session ends: File → Save a copy in Drive keeps your work.")
    return device, torch.Generator().manual_seed(seed)


def lacking() -> Lacking:
    """What the package and its notebooks need and this environment does not have."""
    from packaging.requirements import Requirement

    missing, old = [], []
    for text in [*(metadata.requires("diffusion-lessons") or ()), *IN_A_NOTEBOOK]:
        need = Requirement(text)
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(need.name)
        except metadata.PackageNotFoundError:
            missing.append(f"{need.name}{need.specifier}")
            continue
        if not need.specifier.contains(version, prereleases=True):
            old.append(f"{need.name} {version} (needed: {need.specifier})")
    return Lacking(missing, old)


def install(needed: Lacking) -> None:
    """Install what is missing and leave every installed package at its version.

    Raises:
        RuntimeError: pip could not, or something installed is too old; says what to do.
    """
    if needed.old:
        raise RuntimeError(
            f"too old here: {', '.join(needed.old)}. It is not replaced, because other things may need it: "
            "make a new environment (or a new Colab runtime) for the course"
        )
    if not needed.missing:
        return
    with tempfile.TemporaryDirectory() as folder:
        held = Path(folder) / "installed.txt"
        held.write_text("\n".join(installed()), encoding="utf-8")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        done = subprocess.run([*pip, "-c", str(held), *needed.missing], capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().split("\n")[-1]
        raise RuntimeError(
            f"could not install {', '.join(needed.missing)}: {said}. Is there a network? "
            "Otherwise install them by hand, then run this cell again"
        )


def installed() -> list[str]:
    """Every installed package as a constraint: name==version."""
    found: dict[str, str] = {}
    for package in metadata.distributions():
        name, version = package.metadata["Name"], package.version
        if name and version:
            found.setdefault(name.lower(), f"{name}=={version}")
    return sorted(found.values())
