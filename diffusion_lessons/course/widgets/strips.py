"""The static strip: a few frames of every panel in one small PNG, for GitHub, print and screen readers."""

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from diffusion_lessons.course.widgets.captions import describe
from diffusion_lessons.course.widgets.figures import Picture
from diffusion_lessons.course.widgets.page import required_alt
from diffusion_lessons.course.widgets.panels import Histogram, Panel, Pictures, Points, as_panels, png, spread
from diffusion_lessons.paths import Level

CELL, GAP = 64, 4  # pixels: about the height of a picture, and the space around it
BLUE = (31, 120, 200)


def strip(
    frames: Any, alt: str, captions: Sequence[str] | Sequence[Level] | None = None, columns: int = 8
) -> Picture:
    """A few frames side by side, one row for each panel, as a Picture.

    Args:
        frames: (N, C, H, W) floats in [−1, 1] or uint8, or a dict of those or of panels, by name.
        alt: what the strip shows, in one or two sentences.
        captions: one for each frame, a text or a Level; its part before the first " · " heads the column.
        columns: frames shown, evenly spaced, the first and the last among them.
    """
    required_alt(alt)
    panels = as_panels(frames)
    n = len(next(iter(panels.values())))
    words = as_captions(captions, n)
    if columns < 1:
        raise ValueError(f"a strip needs at least one column, got {columns}")
    chosen = spread(n, columns) if columns > 1 else [n - 1]
    heads = [words[i].split(" · ")[0] if words else "" for i in chosen]
    if not isinstance(frames, Mapping):  # one panel that nobody named
        panels = {"": panels["frames"]}
    return Picture(png(_sheet(panels, chosen, heads)), alt)


def as_captions(captions: Sequence[str] | Sequence[Level] | None, n: int) -> list[str]:
    """Texts for n frames from texts or levels; an empty list where there are none."""
    if captions is None:
        return []
    given = list(captions)
    if len(given) != n:
        raise ValueError(f"one caption belongs to each frame: got {len(given)} captions for {n} frames")
    levels = [caption for caption in given if isinstance(caption, Level)]
    if levels and len(levels) < n:
        raise ValueError("captions are all texts or all Levels, got a mixture")
    return describe(levels) if levels else [str(caption) for caption in given]


def _sheet(panels: dict[str, Panel], chosen: Sequence[int], heads: Sequence[str]) -> np.ndarray:
    rows = {name: [thumbnail(panel, i) for i in chosen] for name, panel in panels.items()}
    wide = max(cell.shape[1] for row in rows.values() for cell in row)
    wide = max([wide, *(int(_font().getlength(head)) + 2 for head in heads)])
    margin = max(int(_font().getlength(name)) for name in panels) + 2 * GAP if any(panels) else 0
    top = 18 if any(heads) else 1
    height = top + sum(row[0].shape[0] + GAP for row in rows.values())
    sheet = Image.new("RGB", (margin + len(chosen) * (wide + GAP), height), "white")
    draw = ImageDraw.Draw(sheet)
    for k, head in enumerate(heads):
        draw.text((margin + k * (wide + GAP) + wide / 2, 8), head, "black", _font(), anchor="mm")
    y = top
    for name, row in rows.items():
        draw.text((GAP, y + row[0].shape[0] / 2), name, "black", _font(), anchor="lm")
        for k, cell in enumerate(row):
            x = margin + k * (wide + GAP) + (wide - cell.shape[1]) // 2
            draw.rectangle((x - 1, y - 1, x + cell.shape[1], y + cell.shape[0]), outline=(190, 190, 190))
            sheet.paste(Image.fromarray(cell), (x, y))
        y += row[0].shape[0] + GAP
    pixels = np.asarray(sheet)
    grey = bool((pixels == pixels[:, :, :1]).all())
    return pixels[:, :, :1] if grey else pixels


def thumbnail(panel: Panel, i: int) -> np.ndarray:
    """Frame i of a panel as (H, W, 3) uint8, about CELL pixels high."""
    if isinstance(panel, Pictures):
        picture = np.broadcast_to(panel.pixels[i], (*panel.pixels[i].shape[:2], 3))
        scale = max(1, round(CELL / picture.shape[0]))
        return np.ascontiguousarray(picture.repeat(scale, 0).repeat(scale, 1))
    canvas = np.full((CELL, CELL, 3), 255, np.uint8)
    if isinstance(panel, Histogram):
        bars = panel.heights[i][np.arange(CELL) * panel.heights.shape[1] // CELL]
        tall = (bars.clip(max=254) / 254 * (CELL - 4)).astype(int)
        canvas[np.arange(CELL)[:, None] >= CELL - 1 - tall] = BLUE
        canvas[-1] = 0
    elif isinstance(panel, Points):
        if panel.shades.size:
            shades = Image.fromarray(panel.shades[i]).resize((CELL, CELL), Image.Resampling.BILINEAR)
            canvas = np.repeat(np.asarray(shades)[..., None], 3, 2)
        for points, colour, size in ((panel.behind, (190, 190, 190), 1), (panel.xy[i], BLUE, 2)):
            columns = points[:, 0].astype(int) * (CELL - 2) // 255
            lines = (CELL - 2) - points[:, 1].astype(int) * (CELL - 2) // 255
            for dx, dy in product(range(size), repeat=2):
                canvas[lines + dy, columns + dx] = colour
    return canvas


@cache
def _font() -> Any:
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", 12)
