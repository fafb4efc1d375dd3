"""Scenes: a few flat shapes on a plain ground, drawn without end from a seed.

Whatever a picture shows is known exactly: the colour, shape, size and place of every object. So a caption can
be written for it, and a picture that somebody else drew can be held against a caption (`metrics.reader`).
"""

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from diffusion_lessons.data.shapes import COLOURS, RADII, REACH, SHAPES, coverage, painted
from diffusion_lessons.support.errors import unknown

OBJECTS = 3  # in a scene, at most
SIDE = 64.0  # the side of a scene: places and radii are in these units, whatever the size of the picture
GAP = 4.0  # between two objects, at least
STEEP = 1.5  # an object that is left of another is this many times as far to the left as up or down, at least
FORMS = ("one", "pair", "several", "group and one")  # what a scene is made of
ONE, PAIR, SEVERAL, GROUP = range(4)
SHARES = (0.1, 0.6, 0.15, 0.15)  # of the forms
RELATIONS = ("left of", "right of", "above", "below")  # of the first object of a pair to the second
SPLITS = ("train", "test", "held-out")
# (colour, shape) pairs that no scene of "train" and "test" shows; every colour and every shape is seen often
HELD_OUT = (("red", "cross"), ("blue", "triangle"), ("yellow", "circle"), ("purple", "square"))

_NUMBERS = 23  # drawn for a scene
_HIDDEN = [(list(COLOURS).index(colour), SHAPES.index(shape)) for colour, shape in HELD_OUT]
_ALL = [(colour, shape) for colour in range(len(COLOURS)) for shape in range(len(SHAPES))]
_SHOWN = len(_ALL) - len(_HIDDEN)
_PAIRS = torch.tensor([pair for pair in _ALL if pair not in _HIDDEN] + _HIDDEN)  # those held out at the end


@dataclass(frozen=True, eq=False)
class Scenes:
    """What B scenes show. Objects that a scene does not have stand at the end, with `present` False."""

    form: Tensor  # int64 (B,), an index of FORMS
    relation: Tensor  # int64 (B,), an index of RELATIONS; -1 where the scene is no pair
    present: Tensor  # bool (B, OBJECTS)
    colour: Tensor  # int64 (B, OBJECTS), an index of COLOURS
    shape: Tensor  # int64 (B, OBJECTS), an index of SHAPES
    large: Tensor  # int64 (B, OBJECTS), 1 where the object is large
    place: Tensor  # float32 (B, OBJECTS, 2), x and y of the centre in units of SIDE, y downwards
    ground: Tensor  # uint8 (B,), the grey of the ground

    def __len__(self) -> int:
        return len(self.form)

    def __getitem__(self, index: Tensor | slice) -> Self:
        return type(self)(*(getattr(self, each.name)[index] for each in fields(self)))

    def render(self, size: int = 64) -> Tensor:
        """The pictures, uint8 (B, 3, size, size)."""
        return painted(self.coverage(size), self.colour, self.ground)

    def masks(self, size: int = 64) -> Tensor:
        """Where each object is, bool (B, OBJECTS, size, size): pixels of which it covers more than half."""
        return self.coverage(size) > 0.5

    def coverage(self, size: int) -> Tensor:
        """The share of each pixel that each object covers, float32 (B, OBJECTS, size, size)."""
        scale = size / SIDE
        radius = torch.tensor(RADII)[self.large] * scale
        return coverage(self.shape, self.place * scale, radius, size) * self.present[..., None, None]


def draw(seed: int, index: Tensor, split: str = "train", form: int | None = None) -> Scenes:
    """The scenes at positions (B,) of a split, each a function of the seed, the split and its position.

    "held-out" scenes show at least one (colour, shape) pair of HELD_OUT, those of "train" and "test" none.
    Where a form is given, all are of it.
    """
    if split not in SPLITS:
        raise unknown("split of scenes", split, SPLITS)
    u = _uniform(seed, index, SPLITS.index(split))  # (B, _NUMBERS) in [0, 1)
    drawn = torch.bucketize(u[:, 0].contiguous(), torch.tensor(SHARES).cumsum(0)[:-1], right=True)
    kinds = drawn if form is None else torch.full_like(drawn, form)
    return _drawn(u, kinds, split)


def _drawn(u: Tensor, form: Tensor, split: str) -> Scenes:
    number = 2 + (u[:, 1] < 0.5).long()  # of the like objects of "several"
    kind = _kind_of_each(form, number)
    present, kind = kind >= 0, kind.clamp(min=0)
    colour, shape = _kinds(u[:, 2:5], form, split == "held-out")
    large = (u[:, 5:7] < 0.5).long().gather(1, kind)
    direction, radius = (4 * u[:, 7]).long(), torch.tensor(RADII)[large]
    in_line = (form == PAIR) | (form == SEVERAL) & (number == 2)
    place = torch.where(
        in_line[:, None, None], _side_by_side(u[:, 8:12], radius, direction), _quarters(u[:, 12:22], radius)
    )
    ground = (215 + 41 * u[:, 22]).to(torch.uint8)
    relation = torch.where(form == PAIR, direction, -1)
    return Scenes(
        form, relation, present, colour.gather(1, kind), shape.gather(1, kind), large, place, ground
    )


def _uniform(seed: int, index: Tensor, stream: int) -> Tensor:
    rows = [np.random.default_rng((seed, stream, i)).random(_NUMBERS, np.float32) for i in index.tolist()]
    return torch.from_numpy(np.stack(rows))


def _kind_of_each(form: Tensor, number: Tensor) -> Tensor:
    """Whether each object of a scene (B, OBJECTS) is of its first kind, 0, or its second, 1; -1 for none."""
    kind = torch.tensor([[0, -1, -1], [0, 1, -1], [0, 0, 0], [0, 0, 1]])[form]
    beyond = (form == SEVERAL)[:, None] & (torch.arange(OBJECTS) >= number[:, None])
    return torch.where(beyond, -1, kind)


def _kinds(u: Tensor, form: Tensor, held_out: bool) -> tuple[Tensor, Tensor]:
    """Colours and shapes (B, 2) of the two kinds of object in a scene, which are never the same."""
    alone = (form == ONE) | (form == SEVERAL)
    hidden = torch.stack([alone | (u[:, 2] < 0.6), ~alone & (u[:, 2] > 0.4)], 1) & held_out  # (B, 2)
    start, count = torch.where(hidden, _SHOWN, 0), torch.where(hidden, len(HELD_OUT), _SHOWN)
    first = (u[:, 0] * count[:, 0]).long()
    # of the kinds left where both come from the same list, which begins behind the first
    same = hidden[:, 0] == hidden[:, 1]
    second = (u[:, 1] * (count[:, 1] - same.long())).long() + same.long() * (first + 1)
    pairs = _PAIRS[start + torch.stack([first, second], 1) % count]  # (B, 2, 2)
    return pairs[..., 0], pairs[..., 1]


def _side_by_side(u: Tensor, radius: Tensor, relation: Tensor) -> Tensor:
    """Places (B, OBJECTS, 2) of a pair in this relation; a third object, of which there is none, at 0."""
    axis, turned = relation // 2, relation % 2 == 1
    reach = REACH * torch.where(turned[:, None], radius[:, :2].flip(1), radius[:, :2])  # lower, upper
    slack = SIDE - 2 - GAP - 2 * reach.sum(1)
    low = 1 + reach[:, 0] + u[:, 0] * slack
    high = low + reach.sum(1) + GAP + u[:, 1] * (1 - u[:, 0]) * slack
    edge = 1 + reach
    across = edge[:, 0] + u[:, 2] * (SIDE - 2 * edge[:, 0])
    aside = across + (2 * u[:, 3] - 1) * (high - low) / STEEP
    aside = torch.minimum(torch.maximum(aside, edge[:, 1]), SIDE - edge[:, 1])
    along = torch.stack([low, high], 1)
    beside = torch.stack([across, aside], 1)
    along, beside = (torch.where(turned[:, None], each.flip(1), each) for each in (along, beside))
    x, y = torch.where(axis[:, None] == 0, along, beside), torch.where(axis[:, None] == 0, beside, along)
    return F.pad(torch.stack([x, y], 2), (0, 0, 0, OBJECTS - 2))


def _quarters(u: Tensor, radius: Tensor) -> Tensor:
    """Places (B, OBJECTS, 2), each object in a quarter of the picture of its own."""
    quarter = u[:, :4].argsort(1)[:, :OBJECTS]
    middle = (torch.stack([quarter % 2, quarter // 2], 2) + 0.5) * (SIDE / 2)
    room = SIDE / 4 - REACH * radius - GAP / 2
    return middle + room[..., None] * (2 * u[:, 4:].view(-1, OBJECTS, 2) - 1)
