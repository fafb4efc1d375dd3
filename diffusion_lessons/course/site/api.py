"""The pages of the package's reference: one for each room of the system, made of its docstrings by Sphinx."""

import ast
import pkgutil
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "diffusion_lessons"
LEFT_OUT = ("__main__", "cli", "course")  # commands, which say themselves what they do, and what lessons call


def rooms(root: Path) -> dict[str, list[str]]:
    """The public modules of the system: by the name of a room its modules, the room itself first."""
    home = root / PACKAGE
    found = {}
    for room in pkgutil.iter_modules([str(home)]):
        if room.name in LEFT_OUT or room.name.startswith("_"):
            continue
        name = f"{PACKAGE}.{room.name}"
        found[name] = [name, *(_below(home / room.name, name) if room.ispkg else ())]
    return found


def _below(folder: Path, name: str) -> Iterator[str]:
    for each in pkgutil.iter_modules([str(folder)]):
        if not each.name.startswith("_"):
            yield f"{name}.{each.name}"
            if each.ispkg:
                yield from _below(folder / each.name, f"{name}.{each.name}")


def first_line(root: Path, module: str) -> str:
    """The first line of a module's docstring, read without importing it."""
    path = root.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return text.split("\n\n")[0].replace("\n", " ")


def page(modules: list[str]) -> str:
    """The page of a room as reStructuredText."""
    title = modules[0].removeprefix(f"{PACKAGE}.")
    parts = [f"{title}\n{'=' * len(title)}", _module(modules[0])]
    for module in modules[1:]:
        name = module.removeprefix(f"{PACKAGE}.")
        parts += [f"{name}\n{'-' * len(name)}", _module(module)]
    return "\n\n".join(parts) + "\n"


def _module(name: str) -> str:
    return f".. automodule:: {name}\n   :members:\n   :ignore-module-all:\n   :show-inheritance:"


def index(root: Path, found: dict[str, list[str]]) -> str:
    """The first page of the reference, as Markdown."""
    rows = [
        f"| [{room.partition('.')[2]}]({room.partition('.')[2]}.rst) | {first_line(root, room)} |"
        for room in found
    ]
    names = "\n".join(room.partition(".")[2] for room in found)
    return (
        "# The package\n\nThe public names of the system that the lessons build, from their docstrings. "
        "To read the code itself in an hour, begin with [the architecture](../guides/architecture.md).\n\n"
        "| module | what it holds |\n|---|---|\n"
        + "\n".join(rows)
        + f"\n\n```{{toctree}}\n:hidden:\n\n{names}\n```\n"
    )
