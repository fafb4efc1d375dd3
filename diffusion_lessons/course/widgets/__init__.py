"""Widgets of the lessons: scrubbers, strips, figures with words, and controls that ask the kernel."""

from importlib import import_module
from typing import Any

_NAMES = {
    "captions": ("describe",),
    "controls": ("live",),
    "explorers": ("explore_guidance", "explore_schedules"),
    "export": ("freeze", "to_html"),
    "figures": (
        "COLOURS",
        "MARKERS",
        "Picture",
        "figure",
        "house_style",
        "picture",
        "plain_lines",
        "use_house_style",
    ),
    "page": ("show",),
    "panels": ("Histogram", "Pictures", "Points"),
    "scrubber": ("Scrubber", "from_trajectory", "scrub"),
    "strips": ("strip",),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    """Import a widget when it is asked for: the plain ones work where a library is missing."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
