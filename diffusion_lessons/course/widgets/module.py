"""The ES modules beside this file: their text, and as widgets with a kernel behind them."""

from functools import cache
from importlib.resources import files
from typing import Any

TRAITS = {dict: "Dict", list: "List", bytes: "Bytes", str: "Unicode", int: "Int"}


@cache
def asset(name: str) -> str:
    """The text of a script or a style sheet of the widgets."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8").strip()


def module_widget(module: str, **values: dict[str, Any] | list[Any] | bytes | str | int) -> Any:
    """An anywidget that runs `module`.js with `module`.css; page and kernel share the values by name.

    Raises:
        ImportError: anywidget is not installed.
    """
    return _kind(module, tuple((name, TRAITS[type(value)]) for name, value in values.items()))(**values)


@cache
def _kind(module: str, traits: tuple[tuple[str, str], ...]) -> Any:
    import anywidget
    import traitlets

    shared = {name: getattr(traitlets, trait)().tag(sync=True) for name, trait in traits}
    own: dict[str, Any] = {"_esm": asset(f"{module}.js"), "_css": asset(f"{module}.css")}
    own["__repr__"] = lambda self: f"{module} widget"  # the same in every run
    return type(f"{module.title()}Widget", (anywidget.AnyWidget,), {**own, **shared})
