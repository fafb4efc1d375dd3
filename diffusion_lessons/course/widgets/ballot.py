"""A blind vote: two pictures side by side, of models that the page does not know.

`blind_vote({name: pictures, …}, alt)` draws pairs and sides at random. Voting goes by mouse, finger or
keyboard; `votes` is a plain list of what was chosen. Without ipywidgets or anywidget, without a kernel and in
an exported page the first pairs stay as a picture.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffusion_lessons.course.widgets.controls import bundle
from diffusion_lessons.course.widgets.module import module_widget
from diffusion_lessons.course.widgets.page import image_tag, markup
from diffusion_lessons.course.widgets.panels import png, to_pixels
from diffusion_lessons.course.widgets.strips import strip
from diffusion_lessons.metrics.preference import FIRST, SECOND, TIE, Vote
from diffusion_lessons.metrics.votes import votes_as_text

CHOICES = {"L": FIRST, "R": SECOND, "T": TIE}  # what the page says of a pair
HIGH = 192  # pixels: smaller pictures are shown larger, about so high
SHOWN = 6  # pairs in the static strip


class Pair(NamedTuple):
    """What is shown at once."""

    first: str  # on the left
    second: str  # on the right
    place: int  # which of the pictures of both


class Ballot:
    """Pairs to vote on, and the votes.

    Args:
        pictures: by name, (N, C, H, W) each, floats in [−1, 1] or uint8; the i-th of all were asked for the
            same.
        alt: what the first pairs show, without a word on who made them.
        question: what to decide by.
        asked: what was asked for, a text for each of the N; shown above each pair.
        pairs: how many; every two names meet equally often, or nearly.
        seed: decides pairs, sides and order.

    Raises:
        ValueError: fewer than two names, shapes that do not fit, more pairs than there are, or no alt text.
    """

    def __init__(
        self,
        pictures: Mapping[str, Tensor],
        alt: str,
        question: str = "Which picture is better?",
        asked: Sequence[str] | None = None,
        pairs: int = 20,
        seed: int = 0,
    ) -> None:
        shapes = {tuple(each.shape) for each in pictures.values()}
        if len(pictures) < 2 or len(shapes) != 1 or len(next(iter(shapes))) != 4:
            told = {name: tuple(each.shape) for name, each in pictures.items()}
            raise ValueError(
                f"expected pictures (N, C, H, W) of two names or more, as many of each; got {told}"
            )
        n = len(next(iter(pictures.values())))
        if asked is not None and len(asked) != n:
            raise ValueError(f"one text belongs to each picture: got {len(asked)} texts for {n} pictures")
        self.question, self.choices = question, ""
        self.pairs = _drawn(list(pictures), n, pairs, seed)
        self.asked = [asked[pair.place] if asked else "" for pair in self.pairs]
        pixels = {name: torch.from_numpy(to_pixels(each.cpu().numpy())) for name, each in pictures.items()}
        sides = [[pixels[pair[:2][side]][pair.place] for pair in self.pairs] for side in (0, 1)]
        self.left, self.right = (torch.stack(each) for each in sides)  # (P, H, W, C) bytes
        first = min(SHOWN, pairs)
        both = {name: each[:first].permute(0, 3, 1, 2).numpy() for name, each in self._named()}
        self.strip = strip(both, alt, [f"pair {k + 1}" for k in range(first)], first)

    @property
    def votes(self) -> list[Vote]:
        """What was chosen so far: left is "first", right is "second"."""
        decided = zip(self.pairs, self.choices, strict=False)
        return [Vote(pair.first, pair.second, CHOICES[choice]) for pair, choice in decided]

    def _named(self) -> list[tuple[str, Tensor]]:
        return [("left", self.left), ("right", self.right)]

    def _repr_html_(self) -> str:
        """The first pairs, for pages without a kernel."""
        said = f"With a running kernel, vote on {len(self.pairs)} pairs: {self.question}"
        return f"<div>{image_tag(self.strip.png, self.strip.alt)}</div><p><em>{markup(said)}</em></p>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return bundle(self)

    def __repr__(self) -> str:
        return f"Ballot of {len(self.pairs)} pairs: {self.strip.alt}"

    def widget(self) -> Any:
        """Pictures and buttons, with the static strip folded away, as one ipywidget.

        Raises:
            ImportError: ipywidgets or anywidget is not installed.
        """
        import ipywidgets

        height, width = self.left.shape[1:3]
        spec = {"question": self.question, "asked": self.asked, "width": width, "height": height}
        spec["zoom"] = max(1, HIGH // height)
        sheet = torch.cat([self.left, self.right], 2).flatten(0, 1)  # (P · H, 2 · W, C)
        # the page adds a letter to `choices` for each pair, L, R or T; `saved` is what its button saves
        page = module_widget("ballot", spec=spec, picture=png(sheet.numpy()), choices=self.choices, saved="")

        def heard(change: Any) -> None:
            self.choices = "".join(each for each in change["new"] if each in CHOICES)[: len(self.pairs)]
            done = len(self.choices) == len(self.pairs)
            page.saved = votes_as_text(self.votes) if done else ""  # it holds the names: not before the end

        page.observe(heard, names="choices")
        kept = image_tag(self.strip.png, self.strip.alt)
        folded = f"<details><summary>The first pairs as one picture</summary>{kept}</details>"
        return ipywidgets.VBox([page, ipywidgets.HTML(folded)])


blind_vote = Ballot  # lessons call it like `draw_hole`


def _drawn(names: list[str], n: int, count: int, seed: int) -> list[Pair]:
    """So many pairs, every two names equally often or nearly, in an order and on sides drawn at random."""
    meetings = list(combinations(names, 2))
    if not 1 <= count <= n * len(meetings):
        raise ValueError(f"{len(meetings) * n} pairs can be made of these pictures, got pairs={count}")
    generator = torch.Generator().manual_seed(seed)
    indices = [torch.randperm(n, generator=generator).tolist() for _ in meetings]
    made = []
    for k in range(count):
        (one, other), place = meetings[k % len(meetings)], indices[k % len(meetings)][k // len(meetings)]
        turned = bool(torch.randint(2, (), generator=generator))
        made.append(Pair(other, one, place) if turned else Pair(one, other, place))
    return [made[k] for k in torch.randperm(count, generator=generator).tolist()]
