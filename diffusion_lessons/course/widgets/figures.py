"""Figures with words: a matplotlib figure as one PNG with alt text, in the course's house style.

The picture is shown as HTML, <img alt="…">: JupyterLab drops the alt text of a plain image/png
output, while this form keeps it there, in exported HTML and on GitHub. The PNG's bytes depend on the
figure alone (no version or date inside).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from cycler import cycler
from matplotlib.figure import Figure
from PIL import Image

from diffusion_lessons.course.widgets.page import image_tag, markup, required_alt, show

# Okabe and Ito (2008): told apart by readers with any kind of colour blindness; black comes first.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def house_style() -> Any:
    """matplotlib settings of every figure: the setup cell makes them those of the whole notebook."""
    return {
        "figure.figsize": (6.4, 3.4),
        "figure.dpi": 100,
        "figure.facecolor": "white",
        "figure.constrained_layout.use": True,
        "font.size": 11,
        "axes.grid": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.alpha": 0.3,
        "legend.frameon": False,
        "lines.linewidth": 1.8,
        "lines.markersize": 5,
        "image.cmap": "gray",
        "image.interpolation": "nearest",
        "axes.prop_cycle": cycler(color=COLOURS) + cycler(marker=MARKERS),
    }


@contextmanager
def plain_lines() -> Iterator[None]:
    """The house style without markers, for curves of hundreds of points."""

    dashes = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
    cycle = cycler(color=COLOURS) + cycler(linestyle=dashes)
    with mpl.rc_context({**house_style(), "axes.prop_cycle": cycle}):
        yield


class Picture:
    """A PNG and the words that say what it shows."""

    def __init__(self, png: bytes, alt: str, caption: str = "") -> None:
        if png[:8] != b"\x89PNG\r\n\x1a\n":
            raise ValueError("a Picture is made of the bytes of a PNG file")
        self.png, self.alt, self.caption = png, required_alt(alt), caption

    def _repr_html_(self) -> str:
        caption = f"<figcaption>{markup(self.caption)}</figcaption>" if self.caption else ""
        return f'<figure style="margin: 0">{image_tag(self.png, self.alt)}{caption}</figure>'

    def __repr__(self) -> str:
        return f"Picture: {self.alt}"


def picture(fig: Figure, alt: str, caption: str = "", dpi: int = 100) -> Picture:
    """A matplotlib figure as a Picture; the figure is closed.

    Args:
        fig: the figure.
        alt: one or two sentences for who cannot see it: what is drawn, and what it shows.
        caption: shown below, where wanted.
        dpi: pixels an inch; 100 keeps a figure at some 20 kB.
    """
    required_alt(alt)
    if not hasattr(fig, "savefig"):
        raise ValueError(f"expected a matplotlib Figure, got {type(fig).__name__}: pass `fig`, not `ax`")
    drawn, small = BytesIO(), BytesIO()
    fig.savefig(drawn, format="png", dpi=dpi, bbox_inches="tight")
    plt.close(fig)
    colours = Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    colours.save(small, format="PNG", optimize=True)  # a third of the bytes
    return Picture(small.getvalue(), alt, caption)


def figure(fig: Figure, alt: str, caption: str = "", dpi: int = 100) -> None:
    """Show a matplotlib figure at once and close it; arguments as for `picture`."""
    show(picture(fig, alt, caption, dpi))
