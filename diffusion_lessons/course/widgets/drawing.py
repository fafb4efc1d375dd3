"""A picture to draw a hole on, by mouse, finger or keyboard; the kernel fills it.

`draw_hole(picture, fill, hole, alt)` shows the picture and a button. What is drawn comes back as a mask, and
`fill` makes pictures of it. Without ipywidgets or anywidget, without a kernel and in an exported page the
hole that the lesson gives stays, with what was filled into it, as a picture.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from diffusion_lessons.course.widgets.controls import bundle, chooser, labelled, status_line
from diffusion_lessons.course.widgets.figures import Picture
from diffusion_lessons.course.widgets.module import module_widget
from diffusion_lessons.course.widgets.page import error_box, markup
from diffusion_lessons.course.widgets.panels import png, to_pixels
from diffusion_lessons.course.widgets.strips import strip

BRUSH = 10  # pixels, at first
LARGE = 128  # pixels: smaller pictures are shown larger, about so high
SHOWN = 8  # filled pictures side by side, at most


class Drawing:
    """A hole to be drawn and filled.

    Args:
        picture: (C, H, W), floats in [−1, 1].
        fill: called with the mask (1, 1, H, W), 1. where a hole was drawn and 0. elsewhere, and one value for
            each control; returns pictures (N, C, H, W) in [−1, 1], 1 to 8 of them.
        hole: the mask to begin with, (1, 1, H, W); its result is the picture that stays.
        alt: what this first result shows.
        title: what the canvas is called.
        **controls: the values of each further argument, as for `live`; the first is set at the beginning.

    Raises:
        ValueError: shapes that do not fit, an empty hole, a control without values, or no alt text.
    """

    def __init__(
        self,
        picture: Tensor,
        fill: Callable[..., Tensor],
        hole: Tensor,
        alt: str,
        title: str = "Draw a hole",
        **controls: Iterable[Any],
    ) -> None:
        if picture.ndim != 3 or hole.shape != (1, 1, *picture.shape[1:]):
            shapes = f"{tuple(picture.shape)} and {tuple(hole.shape)}"
            raise ValueError(f"expected a picture (C, H, W) and a hole (1, 1, H, W), got {shapes}")
        self.picture, self.fill, self.title = picture.detach().cpu().float(), fill, title
        self.choices = {name: labelled(name, values) for name, values in controls.items()}
        self.start = {name: next(iter(choices)) for name, choices in self.choices.items()}
        self.hole = (hole.cpu() > 0.5).float()
        self.first = self.result(self.hole, self.start, alt)

    def result(self, mask: Tensor, labels: Mapping[str, str], alt: str | None = None) -> Picture:
        """The picture, the hole and what was filled in, side by side."""
        if not bool(mask.any()):
            raise ValueError("the hole is empty: draw on the picture first")
        values = {name: choices[labels[name]] for name, choices in self.choices.items()}
        made = self.fill(mask, **values)
        if made.ndim != 4 or made.shape[1:] != self.picture.shape or not 1 <= len(made) <= SHOWN:
            wanted = f"1 to {SHOWN} pictures {tuple(self.picture.shape)}"
            raise ValueError(f"the function must return {wanted}, got {tuple(made.shape)}")
        hidden = torch.lerp(self.picture, torch.zeros(()), mask[0])  # grey
        row = torch.cat([self.picture[None], hidden[None], made.detach().cpu().float().clamp(-1, 1)])
        zoom = max(1, LARGE // self.picture.shape[1])
        row = row.repeat_interleave(zoom, 2).repeat_interleave(zoom, 3)
        setting = ", ".join(f"{name} {label}" for name, label in labels.items())
        words = alt or f"The picture, the hole that was drawn, and {len(made)} filled pictures. {setting}"
        names = ["picture", "hole", *(f"filled {k}" for k in range(1, len(made) + 1))]
        return strip(row, words, names, len(row))

    def _repr_html_(self) -> str:
        """The first result, for pages without a kernel."""
        names = ", ".join(f"{name} ({', '.join(choices)})" for name, choices in self.choices.items())
        change = f" Change: {markup(names)}." if names else ""
        said = f"With a running kernel, draw a hole by mouse, finger or keyboard, and fill it.{change}"
        return f"{self.first._repr_html_()}<p><em>{said}</em></p>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return bundle(self)

    def __repr__(self) -> str:
        return f"Drawing: {self.first!r}"

    def widget(self) -> Any:
        """Controls, canvas, the busy mark and the filled pictures as one ipywidget.

        Raises:
            ImportError: ipywidgets or anywidget is not installed.
        """
        import ipywidgets

        controls = {name: chooser(name, choices, self.start[name]) for name, choices in self.choices.items()}
        height, width = self.picture.shape[1:]
        canvas = module_widget(
            "drawing",
            spec={"title": self.title, "width": width, "height": height, "brush": BRUSH},
            picture=png(to_pixels(self.picture[None].numpy())[0]),
            mask=_text(self.hole),
            asked=0,  # the page sets the mask, and counts here how often it wants it filled
        )
        status, failure = ipywidgets.HTML(status_line("ready")), ipywidgets.HTML()
        view = ipywidgets.HTML(self.first._repr_html_())

        def answer(_: Any) -> None:
            if "1" not in canvas.mask:
                status.value, failure.value = status_line("the hole is empty: draw on the picture first"), ""
                return
            status.value = status_line("filling …", busy=True)
            before = time.perf_counter()
            try:
                labels = {name: each.value for name, each in controls.items()}
                view.value = self.result(_mask(canvas.mask, height, width), labels)._repr_html_()
                failure.value = ""
                status.value = status_line(f"ready ({time.perf_counter() - before:.1f} s)")
            except Exception as error:  # whatever the function raises belongs in the page
                failure.value = error_box(error, "Filling")
                status.value = status_line("the picture below is that of the hole before")

        canvas.observe(answer, names="asked")
        return ipywidgets.VBox([*controls.values(), canvas, status, failure, view])


draw_hole = Drawing  # lessons call it like `live` and `scrub`


def _text(mask: Tensor) -> str:
    return "".join(str(int(value)) for value in mask.flatten().tolist())


def _mask(text: str, height: int, width: int) -> Tensor:
    return torch.tensor([float(value == "1") for value in text]).view(1, 1, height, width)
