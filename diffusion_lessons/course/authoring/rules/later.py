"""What a later lesson builds is a closed box until then, and the lesson says so."""

import ast
from collections.abc import Iterator, Mapping

from diffusion_lessons.course.authoring.source import Lesson, Said, parse

PACKAGE = "diffusion_lessons"


def later_problems(lesson: Lesson, built: Mapping[str, str]) -> Said:
    """What a later lesson builds is used only with the words "you build this in lesson N"."""
    prose = "\n".join(cell.source for cell in lesson.cells if cell.kind == "markdown")
    for line, module, name in uses(lesson):
        where = built_in(built, module, name)
        what = ".".join(filter(None, (module, name)))
        if where is None:
            message = f"nothing says which lesson builds {what}: add it to the line 'builds: …' of its header"
            yield line, "later", f"{message} or, for one to come and what none builds, to course/lessons.py"
        elif lesson.number != "00" and where > lesson.number and f"{{{{built-in {where}}}}}" not in prose:
            yield line, "later", f"{what} is built in lesson {where}: say so with {{{{built-in {where}}}}}"


def built_in(built: Mapping[str, str], module: str, name: str | None = None) -> str | None:
    """The number of the lesson that builds something, "00" where none has to; None where nothing says it.

    `module` is dotted, without the package's own name ("networks.unet", "" for the package), and `name`
    what is imported from it, None for the module itself. `built` holds names, and modules for the names
    that are not there: the longest that fits counts.
    """
    parts = [part for part in (*module.split("."), name) if part]
    if parts and built.get(parts[0]) == "00":
        return "00"
    dotted = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
    return next((built[each] for each in (name or "", *dotted) if each in built), None)


def uses(lesson: Lesson) -> Iterator[tuple[int, str, str | None]]:
    """(line, module, name) of everything a lesson takes from the package, by import or by dot."""
    for cell in lesson.code:
        for node in ast.walk(parse(lesson, cell)):
            line = cell.line + getattr(node, "lineno", 1) - 1
            match node:
                case ast.ImportFrom(module=str(module)) if module.split(".")[0] == PACKAGE:
                    inner = module.removeprefix(PACKAGE).lstrip(".")
                    yield from ((line, inner, alias.name) for alias in node.names)
                case ast.Import():
                    names = [alias.name for alias in node.names if alias.name.startswith(f"{PACKAGE}.")]
                    yield from ((line, name.removeprefix(f"{PACKAGE}."), None) for name in names)
                case ast.Attribute(value=ast.Name(id=id)) if id == PACKAGE:
                    yield line, "", node.attr
