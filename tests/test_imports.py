"""The system half stands on its own: cheap to import, no notebook package, nothing of the course."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import diffusion_lessons

PACKAGE = Path(diffusion_lessons.__file__).parent
SYSTEM = [file for file in PACKAGE.rglob("*.py") if "course" not in file.relative_to(PACKAGE).parts]
NOTEBOOK = {
    "IPython",
    "ipywidgets",
    "anywidget",
    "jupyterlab",
    "jupytext",
    "nbformat",
    "nbclient",
    "nbconvert",
}


def imported(file: Path, inside_functions: bool) -> set[str]:
    """The modules that a file imports, with or without those that functions import when they run."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    nodes = ast.walk(tree) if inside_functions else iter(tree.body)
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("file", SYSTEM, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_the_system_half_knows_no_notebook(file: Path) -> None:
    assert not {name.split(".")[0] for name in imported(file, inside_functions=True)} & NOTEBOOK


@pytest.mark.parametrize("file", SYSTEM, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_the_system_half_imports_nothing_of_the_course(file: Path) -> None:
    """Functions included. The porch, `__main__`, joins both and belongs to neither."""
    course = [name for name in imported(file, True) if name.startswith("diffusion_lessons.course")]
    assert course == [] or file == PACKAGE / "__main__.py"


def test_it_works_where_no_notebook_package_is_installed(tmp_path: Path) -> None:
    code = (
        f"import sys\nsys.modules.update(dict.fromkeys({sorted(NOTEBOOK)!r}))\n"
        "from diffusion_lessons.__main__ import main\n"
        "main(['train', 'digits', '--steps', '2', '--base-channels', '8', '--head-dim', '8',"
        f" '--device', 'cpu', '--out', {str(tmp_path)!r}])\n"
        f"main(['sample', {str(tmp_path)!r}, '--n', '2', '--steps', '2',"
        f" '--out', {str(tmp_path / 'x.png')!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "x.png").exists()


def test_the_import_loads_nothing_that_is_only_sometimes_needed() -> None:
    heavy = [
        "matplotlib",
        "sklearn",
        "scipy",
        "PIL",
        "pooch",
        "tyro",
        "onnx",
        "onnxruntime",
        "onnxscript",
        "diffusion_lessons.course",
        *sorted(NOTEBOOK),
    ]
    code = f"import sys, diffusion_lessons; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_import_costs_little_more_than_torch() -> None:
    """What comes on top of torch, in the same process; best of three, as other work only ever adds."""
    code = (
        "import time, torch; started = time.perf_counter(); import diffusion_lessons; "
        "print(time.perf_counter() - started)"
    )
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, check=True) for _ in range(3)]
    assert min(float(run.stdout) for run in runs) <= 0.3


# Contracts of pyproject.toml, as `make lint` checks them --------------------------------------------


BREACHES = {
    "the system imports the course": ("samplers.py", "import diffusion_lessons.course.lessons"),
    "a function of the system does": (
        "training/loop.py",
        "def late() -> None:\n    from diffusion_lessons.course import bank",
    ),
    "a lower layer imports a higher one": ("paths.py", "from diffusion_lessons.training import recipe"),
    "the shelf imports the factory": ("zoo/__init__.py", "import diffusion_lessons.makers.cards"),
    "measures ask the shelf": ("metrics/frechet.py", "from diffusion_lessons import zoo"),
    "exercises import the grader": ("course/exercises/values.py", "import diffusion_lessons.course.grading"),
    "the grader reaches behind the sandbox": (
        "course/grading/marking.py",
        "from diffusion_lessons.course.grading.sandbox import watch",
    ),
    "two files import each other": ("training/recipe.py", "import diffusion_lessons.training.tasks"),
    "a new file belongs to no layer": ("stray.py", ""),
}


def contracts_hold(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [
        Path(sys.executable).with_name("lint-imports"),
        "--config",
        folder / "pyproject.toml",
        "--no-cache",
    ]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package and its contracts."""
    folder = tmp_path_factory.mktemp("house")
    ignored = shutil.ignore_patterns("*.json", "*.safetensors", "__pycache__", "*.js")
    shutil.copytree(PACKAGE, folder / PACKAGE.name, ignore=ignored)
    shutil.copy(PACKAGE.parent / "pyproject.toml", folder)
    return folder


def test_the_contracts_hold(house: Path) -> None:
    done = contracts_hold(house)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("breach", BREACHES)
def test_a_broken_contract_is_found(house: Path, breach: str) -> None:
    name, line = BREACHES[breach]
    file = house / PACKAGE.name / name
    before = file.read_text() if file.exists() else None
    file.write_text(f"{before or ''}\n{line}\n")
    try:
        done = contracts_hold(house)
    finally:
        file.unlink() if before is None else file.write_text(before)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "BROKEN" in done.stdout or "not allowed" in done.stdout or "Missing" in done.stdout
