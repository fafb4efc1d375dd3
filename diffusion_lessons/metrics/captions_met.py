"""Whether a picture shows what its caption asks for, attribute by attribute, as the reader sees it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

from torch import Tensor

from diffusion_lessons.data.captions import Wanted, Wish, read
from diffusion_lessons.metrics.intervals import wilson_interval
from diffusion_lessons.metrics.reader import Seen, read_scenes


@dataclass(frozen=True)
class Met:
    """What of a caption a picture meets. An attribute that the caption leaves out is met by all."""

    readable: bool  # the reader could tell what the picture shows
    number: bool  # as many objects as asked for
    colours: bool  # the wanted colours, whatever has them
    shapes: bool  # the wanted shapes
    objects: bool  # every object with its colour and its shape
    sizes: bool  # and its size
    relation: bool  # the right objects stand to each other as asked

    @property
    def everything(self) -> bool:
        return self.objects and self.sizes and self.relation


NOTHING = Met(False, False, False, False, False, False, False)


def met(wish: Wish, seen: tuple[Seen, ...] | None) -> Met:
    """How much of a wish a picture meets in which this was seen; None (it cannot be told) meets nothing."""
    if seen is None:
        return NOTHING
    wanted = [each for each in wish.objects for _ in range(each.count)]
    if len(seen) != len(wanted):
        return Met(True, False, False, False, False, False, False)
    orders = [list(zip(wanted, order, strict=True)) for order in permutations(seen)]
    colours = any(all(_colour(a, b) for a, b in order) for order in orders)
    shapes = any(all(a.shape == b.shape for a, b in order) for order in orders)
    right = [order for order in orders if all(_colour(a, b) and a.shape == b.shape for a, b in order)]
    sizes = any(all(a.size in (None, b.size) for a, b in order) for order in right)
    related = (
        any(_stand(wish.relation, *(b for _, b in order[:2])) for order in right)
        if wish.relation
        else bool(right)
    )
    return Met(True, True, colours, shapes, bool(right), sizes, related)


def captions_met(pictures: Tensor, captions: Sequence[str]) -> dict[str, tuple[float, tuple[float, float]]]:
    """The share of pictures, bytes (B, 3, S, S), that meet their captions, with its 95 % interval.

    By attribute: those of `Met`, and "everything". Another number of captions, or one that is none of
    scenes, is a ValueError.
    """
    if len(pictures) != len(captions):
        raise ValueError(f"{len(captions)} captions for {len(pictures)} pictures")
    rows = [met(read(text), seen) for text, seen in zip(captions, read_scenes(pictures), strict=True)]
    names = [*Met.__dataclass_fields__, "everything"]
    counts = {name: sum(getattr(row, name) for row in rows) for name in names}
    return {name: (count / len(rows), wilson_interval(count, len(rows))) for name, count in counts.items()}


def _colour(wanted: Wanted, seen: Seen) -> bool:
    return wanted.colour in (None, seen.colour)


def _stand(relation: str, first: Seen, second: Seen) -> bool:
    """Whether the first stands to the second so, and further in that direction than aside."""
    right, down = first.x - second.x, first.y - second.y
    along, aside = (right, down) if relation in ("left of", "right of") else (down, right)
    return abs(along) > abs(aside) and (along < 0) == (relation in ("left of", "above"))
