"""What a scrubber can show side by side: pictures, a histogram of values, a cloud of points.

Every panel holds one entry for each frame. Pictures share one PNG (the sprite); histograms and points
are bytes of their own. Nothing is scaled silently: a panel states the span of values it shows, and
values outside are drawn at its edge.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from io import BytesIO
from typing import Any, Self

import numpy as np
from PIL import Image

MAX_FRAMES = 50  # of a widget
MAX_BYTES = 300_000  # of a widget, before base64: a notebook keeps to its megabyte


def as_array(x: Any) -> np.ndarray:
    """A tensor (on any device) or an array as numpy; a list of them is stacked."""
    if hasattr(x, "detach"):
        x = x.detach().cpu()
        return x.float().numpy() if x.dtype.is_floating_point else x.numpy()
    if isinstance(x, (list, tuple)):
        if not x:
            raise ValueError("no frames were given")
        return np.stack([as_array(frame) for frame in x])
    return np.asarray(x)


class Panel:
    """What a frame shows; `entries` names the arrays that hold one entry for each frame."""

    entries: tuple[str, ...]

    def __len__(self) -> int:
        return len(getattr(self, self.entries[0]))

    def keep(self, chosen: Sequence[int]) -> Self:
        kept = copy(self)
        for name in self.entries:
            setattr(kept, name, getattr(self, name)[list(chosen)])
        return kept


class Pictures(Panel):
    """Frames as pictures.

    Args:
        frames: (N, C, H, W) floats or uint8, C = 1 or 3.
        span: floats from −span to span go from black to white; ε̂ ~ N(0, I) wants about 3.
    """

    entries = ("pixels",)

    def __init__(self, frames: Any, span: float = 1.0) -> None:
        self.pixels = to_pixels(as_array(frames), span)  # (N, H, W, C) uint8


class Histogram(Panel):
    """Frames as histograms of all their values.

    Args:
        frames: (N, ...) floats.
        span: (low, high); values beyond are counted in the outermost bins.
        bins: number of bars.
        normal: draw the density of N(0, 1) over it.
    """

    entries = ("heights",)

    def __init__(
        self, frames: Any, span: tuple[float, float] = (-3.0, 3.0), bins: int = 49, normal: bool = False
    ) -> None:
        values = as_array(frames).astype(np.float64)
        if values.ndim < 2 or values[0].size == 0:
            raise ValueError(f"a histogram needs values (N, ...) for N frames, got {values.shape}")
        _finite(values)
        low, high = span
        if not low < high or bins < 2:
            raise ValueError(f"a histogram needs low < high and at least two bins, got {span} and {bins}")
        rows = values.reshape(len(values), -1).clip(low, high)
        counts = np.stack([np.histogram(row, bins, (low, high))[0] for row in rows])  # (N, bins)
        density = counts / rows.shape[1] * bins / (high - low)
        self.top = float(min(max(density.max(), 0.5), 0.9))  # one scale for all frames
        heights = np.minimum(density / self.top * 254, 255)  # 255: taller than top
        self.heights = heights.round().astype(np.uint8)
        self.low, self.high, self.normal = float(low), float(high), normal


class Points(Panel):
    """Frames as clouds of points in the plane.

    Args:
        frames: (N, n, 2) floats; at most 1,000 points a frame.
        span: the square from −span to span is shown; points outside lie at its edge.
        behind: (m, 2) points drawn in grey under every frame, such as the data.
        density: (N, h, w) ≥ 0, drawn as shades under each frame, the darkest at its own maximum; row 0 is at
            the top.
        arrows: (N, a, 4), from (x, y) by (dx, dy); at most 400 a frame.
    """

    entries = ("xy", "shades", "arrows")

    def __init__(
        self, frames: Any, span: float = 3.0, behind: Any = None, density: Any = None, arrows: Any = None
    ) -> None:
        points = as_array(frames).astype(np.float64)
        if points.ndim != 3 or points.shape[2] != 2 or not 1 <= points.shape[1] <= 1000:
            raise ValueError(f"a cloud needs points (N, n, 2) with 1 ≤ n ≤ 1000, got {points.shape}")
        n = len(points)
        under, dense, moves = (
            np.zeros(empty) if given is None else as_array(given).astype(np.float64)
            for given, empty in ((behind, (0, 2)), (density, (n, 0, 0)), (arrows, (n, 0, 4)))
        )
        if under.ndim != 2 or under.shape[1] != 2 or len(under) > 1000:
            raise ValueError(f"`behind` needs points (m, 2) with m ≤ 1000, got {under.shape}")
        if dense.ndim != 3 or len(dense) != n or (dense < 0).any():
            raise ValueError(f"`density` needs values ≥ 0 of shape ({n}, h, w), got {dense.shape}")
        if moves.ndim != 3 or moves.shape[::2] != (n, 4) or moves.shape[1] > 400:
            raise ValueError(f"`arrows` need (x, y, dx, dy) as ({n}, a ≤ 400, 4), got {moves.shape}")
        for values in (points, under, dense, moves):
            _finite(values)
        if not span > 0:
            raise ValueError(f"the span must be positive, got {span}")
        self.span = float(span)
        self.xy, self.behind, self.arrows = (_bytes(each, span) for each in (points, under, moves))
        most = dense.max((1, 2), keepdims=True, initial=1e-12)
        self.shades = (255 - 155 * dense / most).round().astype(np.uint8)  # (N, h, w), white where it is 0


def as_panels(panels: Any) -> dict[str, Panel]:
    """Named panels of equal length from what a caller may give: frames, or a dict of frames or panels.

    Raises:
        ValueError: no frames, or panels of different lengths.
    """
    named = dict(panels) if isinstance(panels, Mapping) else {"frames": panels}
    if not named:
        raise ValueError("no panels were given")
    made = {str(name): p if isinstance(p, Panel) else Pictures(p) for name, p in named.items()}
    lengths = {name: len(panel) for name, panel in made.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"all panels need the same number of frames, got {lengths}")
    if min(lengths.values()) < 1:
        raise ValueError(f"a panel needs at least one frame, got {lengths}")
    return made


def spread(n: int, most: int) -> list[int]:
    """At most `most` indices out of n, evenly spaced, the first and the last among them."""
    return [int(i) for i in np.linspace(0, n - 1, min(n, most)).round()]


def pack(panels: dict[str, Panel]) -> tuple[bytes, bytes, list[dict[str, Any]]]:
    """(sprite PNG, data bytes, one description for each panel) for the browser.

    In the sprite, frame i of every picture panel lies in the band that starts at y = i·height.

    Raises:
        ValueError: the result is larger than MAX_BYTES.
    """
    described: list[dict[str, Any]] = []
    strips: list[np.ndarray] = []
    data, left = b"", 0
    drawn = {
        name: panel.pixels if isinstance(panel, Pictures) else panel.shades[..., None]
        for name, panel in panels.items()
        if isinstance(panel, Pictures) or (isinstance(panel, Points) and panel.shades.size)
    }
    band, channels = (max((each.shape[axis] for each in drawn.values()), default=0) for axis in (1, 3))
    for name, panel in panels.items():
        place: dict[str, Any] = {}
        if name in drawn:
            height, width = drawn[name].shape[1:3]
            place = dict(x=left, width=width, height=height, band=band)
            padded = np.zeros((len(panel), band, width, channels), np.uint8)
            padded[:, :height] = drawn[name]
            strips.append(padded.reshape(-1, width, channels))
            left += width
        if isinstance(panel, Pictures):
            described.append(dict(kind="pictures", name=name) | place)
        elif isinstance(panel, Histogram):
            described.append(
                dict(kind="histogram", name=name, offset=len(data), bins=panel.heights.shape[1])
                | dict(low=panel.low, high=panel.high, top=panel.top, normal=panel.normal)
            )
            data += panel.heights.tobytes()
        elif isinstance(panel, Points):
            described.append(
                dict(kind="points", name=name, offset=len(data), count=panel.xy.shape[1])
                | dict(span=panel.span, behind=len(panel.behind), arrows=panel.arrows.shape[1])
                | ({"under": place} if place else {})
            )
            data += panel.xy.tobytes() + panel.behind.tobytes() + panel.arrows.tobytes()
    sprite = png(np.concatenate(strips, axis=1)) if strips else b""
    if len(sprite) + len(data) > MAX_BYTES:
        raise ValueError(
            f"this scrubber would add {(len(sprite) + len(data)) // 1000} kB to the notebook, at most "
            f"{MAX_BYTES // 1000} kB are allowed: show fewer frames (frames=25), samples or panels"
        )
    return sprite, data, described


def to_pixels(frames: np.ndarray, span: float = 1.0) -> np.ndarray:
    """(N, C, H, W) floats in [−span, span] or uint8 as (N, H, W, C) uint8, rounded and clipped."""
    if frames.ndim != 4 or frames.shape[1] not in (1, 3) or 0 in frames.shape:
        tip = ": add the channel with frames[:, None]" if frames.ndim == 3 else ""
        raise ValueError(f"frames have the shape (N, C, H, W) with C = 1 or 3, got {frames.shape}{tip}")
    if frames.dtype == np.uint8:
        return frames.transpose(0, 2, 3, 1)
    if not np.issubdtype(frames.dtype, np.floating):
        raise ValueError(f"frames are floats in [−1, 1] or uint8, got {frames.dtype}")
    _finite(frames)
    if not span > 0:
        raise ValueError(f"the span must be positive, got {span}")
    if np.abs(frames).max() > 100 * span:
        raise ValueError(
            f"frames reach {np.abs(frames).max():.4g}, far outside [−{span:g}, {span:g}]: "
            "give floats in [−1, 1], uint8 pictures, or Pictures(frames, span=…)"
        )
    return _bytes(frames.astype(np.float64), span).transpose(0, 2, 3, 1)


def png(pixels: np.ndarray) -> bytes:
    """(H, W, 1 or 3) uint8 as the bytes of a PNG, with a palette where 256 colours are enough."""
    file = BytesIO()
    height, width, channels = pixels.shape
    if channels == 1:
        image = Image.fromarray(pixels[:, :, 0])
    else:
        colours, index = np.unique(pixels.reshape(-1, channels), axis=0, return_inverse=True)
        image = Image.fromarray(pixels)
        if len(colours) <= 256:
            image = Image.fromarray(index.reshape(height, width).astype(np.uint8), "P")
            image.putpalette(colours.tobytes())
    image.save(file, format="PNG", optimize=True)
    return file.getvalue()


def _bytes(points: np.ndarray, span: float) -> np.ndarray:
    return ((points / span + 1) * 127.5).clip(0, 255).round().astype(np.uint8)


def _finite(values: np.ndarray) -> None:
    if not np.isfinite(values).all():
        bad = f"{int((~np.isfinite(values)).sum())} of {values.size} values"
        raise ValueError(f"{bad} are NaN or infinite: find out where before drawing them")
