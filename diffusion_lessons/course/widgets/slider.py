"""A slider over values with names: it has a name itself and says its value, which ipywidgets' own do not."""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any


def slider(name: str, values: Sequence[str], value: str) -> Any:
    """A slider as an anywidget; its trait `value` is one of the values, and any other is a TraitError.

    Raises:
        ImportError: anywidget is not installed.
    """
    return _widget_class()(name=name, values=list(values), value=value)


@cache
def _widget_class() -> Any:
    import anywidget
    import traitlets

    home = files("diffusion_lessons.course.widgets")

    class SliderWidget(anywidget.AnyWidget):
        _esm = home.joinpath("slider.js").read_text("utf-8")
        _css = home.joinpath("slider.css").read_text("utf-8")
        name = traitlets.Unicode().tag(sync=True)
        values = traitlets.List(traitlets.Unicode()).tag(sync=True)
        value = traitlets.Unicode().tag(sync=True)

        @traitlets.validate("value")
        def _known(self, proposed: Any) -> str:
            if proposed["value"] not in self.values:
                raise traitlets.TraitError(f"expected one of {self.values}, got {proposed['value']!r}")
            return proposed["value"]

        def __repr__(self) -> str:
            return f"Slider({self.name}: {self.value})"

    return SliderWidget
