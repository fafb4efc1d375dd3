"""Widgets of the lessons: scrubbers, strips, figures with words, and controls that ask the kernel."""

from importlib import import_module
from typing import Any

# What shows something (the grader leaves it out), and what it shows: lessons find these in `course`, too.
SHOWING = {
    **dict.fromkeys(("explore_guidance", "explore_schedules"), "explorers"),
    **dict.fromkeys(("figure", "picture"), "figures"),
    **dict.fromkeys(("from_trajectory", "scrub"), "scrubber"),
    "blind_vote": "ballot",
    "draw_hole": "drawing",
    "explore_costs": "calculator",
    "live": "controls",
    "playground": "playground_frame",
    "strip": "strips",
}  # name -> the module that has it
PANELS = {**dict.fromkeys(("Histogram", "Pictures", "Points"), "panels"), "landscape": "landscapes"}
_HOME = {
    **SHOWING,
    **PANELS,
    **dict.fromkeys(("COLOURS", "MARKERS", "Picture", "house_style", "plain_lines"), "figures"),
    "Scrubber": "scrubber",
    "describe": "captions",
    "show": "page",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    """Import a widget when it is asked for: the plain ones work where a library is missing."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
