"""The system half stands on its own: cheap to import, no notebook package, nothing of the course."""

import ast
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
    """The command line alone opens the course, and only when it is asked to."""
    on_demand = file.name == "cli.py"
    course = [name for name in imported(file, not on_demand) if name.startswith("diffusion_lessons.course")]
    assert course == []


def test_it_works_where_no_notebook_package_is_installed(tmp_path: Path) -> None:
    code = (
        f"import sys\nsys.modules.update(dict.fromkeys({sorted(NOTEBOOK)!r}))\n"
        "from diffusion_lessons.cli import main\n"
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
