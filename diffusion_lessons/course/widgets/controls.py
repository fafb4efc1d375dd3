"""Controls that ask the kernel: a function drawn again for each setting, cached, with errors in the page.

`live(draw, schedule=["linear", "cosine"], steps=[10, 25, 50])` shows one control for each argument.
Every result is kept, so a setting seen before answers at once. Where a result takes longer
than a second, all of them are computed before anything is shown, or, where that would take more than a
minute, the page says how long an answer takes. Without ipywidgets, and in an
exported page, the first result stays as a picture.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from itertools import product
from math import prod
from numbers import Real
from typing import Any

from diffusion_lessons.course.widgets.figures import Picture, picture
from diffusion_lessons.course.widgets.page import Card, error_box, markup
from diffusion_lessons.course.widgets.scrubber import Scrubber
from diffusion_lessons.course.widgets.slider import slider
from diffusion_lessons.support.errors import unknown

Result = Picture | Scrubber | Card
MAX_SETTINGS = 2000
SLOW = 1.0  # seconds: an answer may take no longer
PATIENCE = 60.0  # seconds that computing all settings in advance may take


class Live:
    """Draw again for each setting of some controls, in the kernel.

    Args:
        draw: called with one value for each control; returns a matplotlib Figure, a Picture, a Card or a
            Scrubber (which keeps its frame from one setting to the next).
        alt: what a Figure shows, a text or a function of the same values; the setting is added.
        start: values shown first; else the first of each control.
        **controls: the values of each argument: numbers make a slider, texts make buttons; one text alone
            is where a box to type in begins.

    Raises:
        ValueError: no or too many settings, an unknown start, or no alt text.
    """

    def __init__(
        self,
        draw: Callable[..., Any],
        alt: str | Callable[..., str] | None = None,
        start: Mapping[str, Any] | None = None,
        **controls: Iterable[Any],
    ) -> None:
        self.draw, self.alt = draw, alt
        self.choices = {name: labelled(name, values) for name, values in controls.items()}
        self.typed = {name for name, values in controls.items() if isinstance(values, str)}
        count = prod(len(choices) for choices in self.choices.values())
        if not self.choices or count > MAX_SETTINGS:
            raise ValueError(f"expected controls with 2 to {MAX_SETTINGS} settings together, got {count}")
        self.start = {name: next(iter(choices)) for name, choices in self.choices.items()}
        for name, value in (start or {}).items():
            if name not in self.choices:
                raise unknown("control", name, self.choices)
            self.start[name] = _label(value)
            if self.start[name] not in self.choices[name]:
                raise unknown(f"value of {name}", value, self.choices[name])
        self.seen: dict[tuple[str, ...], Result] = {}
        self.first = self.result(self.start)  # not timed: it may load a library
        self.note = self._prepare(list(product(*self.choices.values())))

    def _prepare(self, settings: list[tuple[str, ...]]) -> str:
        """Compute all settings now if one takes long; else, or if that takes too long, say what to expect."""
        with suppress(Exception):  # the page shows it when that setting is chosen
            before = time.perf_counter()
            self.result(dict(zip(self.choices, settings[-1], strict=True)))
            took = time.perf_counter() - before
            if took * len(settings) > PATIENCE and took > SLOW:
                return f"; on this machine each new setting takes about {took:.0f} s"
            for labels in settings if took > SLOW else ():
                self.result(dict(zip(self.choices, labels, strict=True)))
        return ""

    def result(self, labels: Mapping[str, str]) -> Result:
        """The drawing for one setting, computed once."""
        key = tuple(labels[name] for name in self.choices)
        if key not in self.seen:
            values = {name: choices.get(labels[name], labels[name]) for name, choices in self.choices.items()}
            self.seen[key] = self._finished(self.draw(**values), values)
        return self.seen[key]

    def _finished(self, drawn: Any, values: Mapping[str, Any]) -> Result:
        if isinstance(drawn, (Picture, Scrubber, Card)):
            return drawn
        if hasattr(drawn, "savefig"):
            alt = self.alt(**values) if callable(self.alt) else self.alt
            setting = ", ".join(f"{name} {_label(value)}" for name, value in values.items())
            return picture(drawn, f"{alt or ''} Setting: {setting}." if alt else "")
        kind = type(drawn).__name__
        raise ValueError(f"the function must return a Figure, Picture, Card or Scrubber, got {kind}")

    def _repr_html_(self) -> str:
        """The first result, for pages without a kernel."""
        told = {
            name: "any text" if name in self.typed else ", ".join(each) for name, each in self.choices.items()
        }
        names = ", ".join(f"{name} ({values})" for name, values in told.items())
        return f"{self.first._repr_html_()}<p><em>With a running kernel, change: {markup(names)}.</em></p>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return bundle(self)

    def __repr__(self) -> str:
        return f"Live({', '.join(self.choices)}): {self.first!r}"

    def widget(self) -> Any:
        """The controls, the busy mark and the drawing as one ipywidget.

        Raises:
            ImportError: ipywidgets (or anywidget, for sliders and scrubbers) is not installed.
        """
        import ipywidgets

        controls = {
            name: _box(name, self.start[name])
            if name in self.typed
            else chooser(name, choices, self.start[name])
            for name, choices in self.choices.items()
        }
        status, failure = ipywidgets.HTML(status_line("ready" + self.note)), ipywidgets.HTML()
        view = _view(self.first)

        def answer(_: Any) -> None:
            status.value = status_line("computing …", busy=True)
            before = time.perf_counter()
            try:
                _update(view, self.result({name: control.value for name, control in controls.items()}))
                failure.value = ""
                status.value = status_line(f"ready ({time.perf_counter() - before:.2f} s)")
            except Exception as error:  # whatever the drawing raises belongs in the page
                failure.value = error_box(error, "This setting")
                status.value = status_line("what stands below is that of the setting before")

        for control in controls.values():
            control.observe(answer, names="value")
        return ipywidgets.VBox([*controls.values(), status, failure, view])


live = Live  # lessons call it like `scrub` and `figure`


def bundle(shown: Any) -> dict[str, Any]:
    """What a notebook keeps of a box: its text, its page without a kernel and its widget, if it has one."""
    kept: dict[str, Any] = {"text/plain": repr(shown), "text/html": shown._repr_html_()}
    try:
        view = shown.widget()._repr_mimebundle_()
    except ImportError:
        return kept
    data = view[0] if isinstance(view, tuple) else view
    return {**data, **kept}  # JupyterLab prefers the widget; `freeze` drops it for exported pages


def _label(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def labelled(name: str, values: Iterable[Any]) -> dict[str, Any]:
    """The values of a control by the labels that tell them apart; else a ValueError."""
    listed = list(values) if not isinstance(values, str) else [values]
    found = {_label(value): value for value in listed}
    if not listed or len(found) < len(listed):
        raise ValueError(f"the control {name!r} needs values that can be told apart, got {listed}")
    return found


def chooser(name: str, choices: Mapping[str, Any], value: str) -> Any:
    """A slider for numbers, buttons for a few texts, a menu for many; its value is a label."""
    import ipywidgets

    if all(isinstance(each, Real) and not isinstance(each, bool) for each in choices.values()):
        return slider(name.replace("_", " "), list(choices), value)
    how: dict[str, Any] = dict(options=list(choices), value=value, description=name.replace("_", " "))
    how["style"] = {"description_width": "initial"}
    if len(choices) <= 6:
        how["style"]["button_width"] = "auto"  # else long names are cut
        return ipywidgets.ToggleButtons(**how)
    # ipywidgets draws spaces that do not break: behind each stands a place where the line may end
    how["options"] = [(each.replace(" ", " \u200b"), each) for each in choices]
    menu = ipywidgets.Dropdown(**how, layout={"width": "max-content", "max_width": "calc(100% - 4px)"})
    return menu.add_class("dl-menu")  # drawing.css lets a long choice go on in a second line


def _box(name: str, text: str) -> Any:
    """A line to type in; it is read at Enter, or when it is left."""
    import ipywidgets

    how: dict[str, Any] = {"style": {"description_width": "initial"}, "layout": {"width": "calc(100% - 4px)"}}
    return ipywidgets.Text(text, description=name.replace("_", " "), continuous_update=False, **how)


def status_line(text: str, busy: bool = False) -> str:
    """What a control is doing, as a page says it; read aloud where that is asked for."""
    mark = "⏳ " if busy else ""
    return f'<span role="status" aria-busy="{str(busy).lower()}">{mark}{text}</span>'


def _view(result: Result) -> Any:
    import ipywidgets

    return result.widget() if isinstance(result, Scrubber) else ipywidgets.HTML(result._repr_html_())


def _update(view: Any, result: Result) -> None:
    if isinstance(result, Scrubber) == hasattr(view, "value"):
        raise ValueError("the function must return the same kind of result for every setting")
    if isinstance(result, Scrubber):
        result.show_in(view)
    else:
        view.value = result._repr_html_()
