"""A slider over values with names: it has a name itself and says its value, which ipywidgets' own do not."""

from collections.abc import Sequence
from typing import Any

from diffusion_lessons.course.widgets.module import module_widget


def slider(name: str, values: Sequence[str], value: str) -> Any:
    """A slider as an anywidget; its trait `value` is one of the values.

    Raises:
        ImportError: anywidget is not installed.
    """
    return module_widget("slider", name=name, values=list(values), value=value)
