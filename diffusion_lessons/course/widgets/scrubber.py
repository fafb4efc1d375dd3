"""The scrubber: plays a trajectory in the browser, by mouse, touch and keyboard, with no kernel.

A Scrubber shows itself as HTML that holds the frames and the module that draws them: it works in a
fresh and in a reopened notebook, after the kernel has died and in an exported page without a network;
where scripts are refused (an untrusted notebook, GitHub, paper) its static strip remains. A plain
widget view does none of the last four: its model lives in the kernel, a reopened notebook says "model
not found", and an exported page fetches a widget manager from the web. `Scrubber.widget()` gives the
same module as an anywidget, for `live`, where the kernel replaces the frames.
"""

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from math import prod
from typing import Any

import torch

from diffusion_lessons.course.widgets.module import asset, module_widget
from diffusion_lessons.course.widgets.page import image_tag, required_alt
from diffusion_lessons.course.widgets.panels import MAX_FRAMES, Panel, Pictures, as_panels, pack, spread
from diffusion_lessons.course.widgets.strips import as_captions, strip
from diffusion_lessons.paths import Level
from diffusion_lessons.samplers import Point


class Scrubber:
    """Synchronised panels over one slider; arguments as for `scrub`."""

    def __init__(
        self,
        panels: Any,
        captions: Sequence[str] | Sequence[Level] | None = None,
        alt: str | None = None,
        title: str = "Scrub through the frames",
        frames: int = MAX_FRAMES,
        start: int = 0,
        columns: int = 8,
        axes: Mapping[str, Sequence[object]] | None = None,
    ) -> None:
        made = as_panels(panels)
        total = len(next(iter(made.values())))
        named = None if axes is None else {name: list(map(str, values)) for name, values in axes.items()}
        if named is not None:
            places = _places(named, total, frames)
            captions = places if captions is None else captions
        words = as_captions(captions, total)
        if not 1 <= frames <= MAX_FRAMES:
            raise ValueError(f"a scrubber holds 1 to {MAX_FRAMES} frames, got frames={frames}")
        chosen = spread(total, frames)
        self.panels = {name: panel.keep(chosen) for name, panel in made.items()}
        self.captions = [words[i] for i in chosen] if words else []
        self.title, self.frames = title, len(chosen)
        if not -self.frames <= start < self.frames:
            raise ValueError(f"the scrubber starts at one of its {self.frames} frames, got start={start}")
        self.alt = required_alt(alt if alt is not None else self._words())
        self.sprite, self.data, described = pack(self.panels)
        self.spec = dict(
            title=title,
            frames=self.frames,
            captions=self.captions,
            panels=described,
            start=start % self.frames,
            note=f"{self.frames} of {total} frames, evenly spaced." if self.frames < total else "",
            axes=[
                {"name": name, "length": len(values)}
                for name, values in (named or {"frame": list(map(str, chosen))}).items()
            ],
        )
        shown, heads = (self.panels, self.captions or None) if named is None else _table(self.panels, named)
        self.strip = strip(shown, self.alt, heads, columns)

    def _words(self) -> str:
        ends = f" from {self.captions[0]} to {self.captions[-1]}" if self.captions else ""
        return f"Strip of frames of {', '.join(self.panels)}{ends}."

    def _repr_html_(self) -> str:
        """The strip, and the script that sets the scrubber above it: nothing is fetched from anywhere."""
        coded = [base64.b64encode(data).decode("ascii") for data in (self.sprite, self.data)]
        saved = {"spec": self.spec, "sprite": coded[0], "data": coded[1]}
        model = _json(saved)
        key = hashlib.sha256(model.encode()).hexdigest()[:12]
        return _saved(key, image_tag(self.strip.png, self.alt), model)

    def __repr__(self) -> str:
        return f"Scrubber: {html.unescape(self.alt)} ({self.frames} frames)"

    def widget(self) -> Any:
        """The scrubber as an anywidget, which `show_in` gives other frames.

        Raises:
            ImportError: anywidget is not installed.
        """
        return module_widget("scrubber", spec=self.spec, sprite=self.sprite, data=self.data)

    def show_in(self, widget: Any) -> None:
        """Show these frames in the widget of another scrubber."""
        with widget.hold_sync():
            widget.spec, widget.sprite, widget.data = self.spec, self.sprite, self.data


def scrub(
    panels: Any,
    captions: Sequence[str] | Sequence[Level] | None = None,
    alt: str | None = None,
    **options: Any,
) -> Scrubber:
    """Play frames, or a sampler's trajectory: `scrub(trajectory(denoiser, noise, levels))`.

    Args:
        panels: frames (N, C, H, W), floats in [−1, 1] or uint8; or a dict of named frames and panels
            (`Pictures`, `Histogram`, `Points`), each with N entries; or what a sampler yields.
        captions: one for each frame: a Level (shows t, ᾱ_t and SNR) or a text. A trajectory brings its own.
        alt: what the static strip below shows; made from the names and captions where left out.
        **options: `title`, `frames` (at most 50; more are thinned out evenly, and the page says so),
            `start` (frame shown first), `columns` of the strip, `axes`; for a trajectory also those of
            `from_trajectory`. Axes are names with the values along each: frames of clips at several times are
            `axes={"t": times, "frame": range(8)}`, the last axis fastest. Each gets a slider, the last one is
            played, and the strip has a row for each place on the others. They have no frames left out.

    Raises:
        ValueError: shapes or lengths that do not fit, NaN, or more than 300 kB of pictures.
    """
    if hasattr(panels, "__next__"):
        if captions is not None:
            raise ValueError("a trajectory brings its own captions: leave `captions` out")
        return from_trajectory(panels, alt=alt, **options)
    return Scrubber(panels, captions, alt, **options)


def from_trajectory(
    points: Iterable[Point],
    alt: str | None = None,
    samples: int = 2,
    frames: int = 26,
    extra: dict[str, Any] | None = None,
    title: str = "Scrub through the trajectory",
    **options: Any,
) -> Scrubber:
    """A Scrubber of x, x̂₀ and ε̂ from what a sampler yields: (level, x, estimate).

    Args:
        points: the generator itself, or a list of its points; x is (B, C, H, W).
        samples: the first so many of the batch, side by side.
        frames: at most so many of the points, evenly spaced.
        extra: further panels by name, or functions of x (N, B, C, H, W) that make them, such as
            `{"values of x": Histogram}`.
    """
    levels, walked = [], []
    for level, x, estimate in points:
        levels.append(level)
        walked.append([tensor[:samples].cpu() for tensor in (x, estimate.x0, estimate.eps)])
    if not walked:
        raise ValueError("the trajectory is empty: was its generator used up before? Make a new one")
    if walked[0][0].ndim != 4 or not 1 <= samples <= 8:
        shape = tuple(walked[0][0].shape)
        raise ValueError(f"expected pictures (B, C, H, W) and 1 to 8 samples, got {shape} and {samples}")
    xs, x0s, epss = map(list, zip(*walked, strict=True))
    panels: dict[str, Panel] = {
        "x": Pictures(_tiled(xs)),
        "x̂₀": Pictures(_tiled(x0s)),
        "ε̂ (−3 to 3)": Pictures(_tiled(epss), span=3.0),
    }
    for name, made in (extra or {}).items():
        panels[name] = made(torch.stack(xs)) if callable(made) else made
    return Scrubber(panels, levels, alt, title=title, frames=frames, **options)


def _places(axes: Mapping[str, Sequence[str]], total: int, frames: int) -> list[str]:
    """A caption for every place on the axes; lengths that do not fit the frames are a ValueError."""
    wanted = " × ".join(f"{len(values)} {name}" for name, values in axes.items())
    if not axes or prod(map(len, axes.values())) != total:
        raise ValueError(f"axes of {wanted or 'no length'} do not fit {total} frames")
    if total > frames:
        raise ValueError(f"axes of {wanted} are {total} frames, and at most {frames} fit: leave some out")
    named = [[f"{name} = {value}" for value in values] for name, values in axes.items()]
    return [" · ".join(place) for place in product(*named)]


def _table(panels: dict[str, Panel], axes: Mapping[str, Sequence[str]]) -> tuple[dict[str, Panel], list[str]]:
    """What the strip shows: a row for each place on all axes but the last, whose values head the columns."""
    *slow, (fastest, values) = axes.items()
    length, rows = len(values), {}
    named = [[f"{name} = {value}" for value in each] for name, each in slow]
    for name, panel in panels.items():
        for i, place in enumerate(product(*named)):
            said = ([name] if len(panels) > 1 or not slow else []) + list(place)
            rows[" ".join(said)] = panel.keep(range(i * length, (i + 1) * length))
    return rows, [f"{fastest} = {value}" for value in values]


def _tiled(frames: list[torch.Tensor]) -> torch.Tensor:
    """N batches (B, C, H, W) as (N, C, H', W'): B samples side by side, four and more in two rows."""
    stacked = torch.stack(frames)  # (N, B, C, H, W)
    rows = 2 if stacked.shape[1] >= 4 and stacked.shape[1] % 2 == 0 else 1
    lines = [torch.cat(list(line.unbind(1)), dim=-1) for line in stacked.chunk(rows, dim=1)]
    return torch.cat(lines, dim=-2)


def _json(saved: dict[str, Any]) -> str:
    return json.dumps(saved, ensure_ascii=False).replace("<", "\\u003c")


def _saved(key: str, strip: str, model: str) -> str:
    module = asset("scrubber.js").replace("export default { render };", "")
    return (
        f'<div data-dl-scrub="{key}"><style>{asset("scrubber.css")}</style>'
        f'<div style="margin-top: 8px">{strip}</div>'
        "<p><em>Run this cell in a notebook to scrub through all frames.</em></p></div>"
        f'<script type="module">\n{module}\n'
        f'const key = "{key}", saved = {model};\n{asset("saved.js")}\n</script>'
    )


SAVED = re.compile(
    r'<div data-dl-scrub="(\w+)"><style>.*?</style><div[^>]*>(.*?)</div><p>.*?</p></div>'
    r'<script type="module">.*?\nconst key = "\w+", saved = (\{.*?\});\n.*?</script>',
    re.DOTALL,
)


def renewed(page: str) -> str:
    """A page of an executed notebook, its scrubbers with the script and the style of today."""

    def today(found: re.Match[str]) -> str:
        key, strip, model = found.groups()
        saved = json.loads(model)
        saved["spec"].setdefault("axes", [{"name": "frame", "length": saved["spec"]["frames"]}])
        return _saved(key, strip, _json(saved))

    return SAVED.sub(today, page)
