"""The ways to install agree with one another: pyproject, constraints, Makefile, conda, README."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text()
PINS = {
    canonicalize_name(name): version
    for name, _, version in (
        line.partition("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    )
}
WANTED = [Requirement(text) for text in PROJECT["dependencies"]] + [
    Requirement(text)
    for extra in PROJECT["optional-dependencies"].values()
    for text in extra
    if not text.startswith("diffusion-lessons")
]


@pytest.mark.parametrize("requirement", WANTED, ids=lambda requirement: requirement.name)
def test_every_dependency_is_pinned_inside_its_range(requirement: Requirement) -> None:
    pin = PINS[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(pin), f"{requirement} does not admit the pinned {pin}"


def test_torch_is_pinned_exactly_and_without_a_local_build() -> None:
    assert PINS["torch"] == "2.13.0"
    assert not [name for name, version in PINS.items() if not version or "+" in version]


def test_conda_installs_what_pip_installs() -> None:
    lines = [line.strip(" -") for line in (ROOT / "environment.yml").read_text().splitlines()]
    assert "constraint constraints.txt" in lines
    assert "editable .[lab]" in lines
    python = next(line for line in lines if line.startswith("python="))
    minimum = PROJECT["requires-python"].removeprefix(">=")
    assert python.removeprefix("python=") >= minimum


def test_every_command_of_the_readme_is_there() -> None:
    """Targets, subcommands and options that the README shows exist; those that exist are in `make help`."""
    from diffusion_lessons.__main__ import COMMANDS

    targets = set(re.findall(r"(?m)^([a-z]+):", MAKEFILE))
    shown = set(re.findall(r"\bmake ([a-z]+)", README))
    assert shown
    assert shown <= targets
    assert set(re.findall(r"(?m)^diffusion-lessons (\w+)", README)) <= COMMANDS.keys()
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {"demo", "test", "lab", "bench"} <= set(re.findall(r"make (\w+)", listed))


def test_every_route_uses_the_constraints() -> None:
    assert "--constraint constraints.txt" in MAKEFILE
    for line in re.findall(r"(?m)^.*pip install .*$", README):
        assert "--constraint constraints.txt" in line, line


def test_what_the_makefile_names_itself_is_pinned_and_brings_nothing_with_it() -> None:
    """Packages that would bring another PyTorch, or torchvision."""
    lines = re.findall(r"(?m)^\t@\$\(INSTALL\) (?!--editable)([^#\n]*)", MAKEFILE)
    names = [word for line in lines for word in line.split() if not word.startswith(("-", "$"))]
    assert lines and all("--no-deps" in line for line in lines)
    assert {"torch-fidelity", "torchmetrics"} <= {canonicalize_name(name) for name in names} <= PINS.keys()


def test_the_readme_shows_a_picture_with_words_for_it() -> None:
    pictures = re.findall(r"!\[([^\]]*)\]\(([^)]*)\)", README)
    assert pictures
    for words, file in pictures:
        assert len(words) > 20
        assert (ROOT / file).exists()


def test_ci_runs_the_tests() -> None:
    assert "make test" in (ROOT / ".ci" / "run").read_text()
