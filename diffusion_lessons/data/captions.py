"""Captions of scenes: written from what a scene shows, and read back into what a picture has to show.

    one             a small red circle
    pair            a small red circle left of a large blue square
    several         two small red circles
    group and one   two small red circles and a large blue square

"Free" captions say the same with the articles, synonyms and turns that people use, "a circle to the left and
a square to the right" among them; some captions of both styles leave a size out, and then any size will do.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from diffusion_lessons.data.scenes import GROUP, ONE, PAIR, RELATIONS, SEVERAL, Scenes
from diffusion_lessons.data.shapes import COLOURS, SHAPES
from diffusion_lessons.support.errors import unknown

STYLES = ("plain", "free", "both")  # both: in turn
SIZES = ("small", "large")
UNSIZED = 0.25  # of the objects' captions say nothing of their size
SAME = {  # what people say instead
    "small": ("small", "little", "tiny"),
    "large": ("large", "big", "huge"),
    "red": ("red", "crimson"),
    "yellow": ("yellow", "golden"),
    "cyan": ("cyan", "turquoise"),
    "purple": ("purple", "violet"),
    "circle": ("circle", "disc", "dot"),
    "square": ("square", "box"),
    "cross": ("cross", "plus"),
    "left of": ("left of", "to the left of"),
    "right of": ("right of", "to the right of"),
    "above": ("above", "over"),
    "below": ("below", "under", "beneath"),
    "two": ("two", "2", "a pair of"),
    "three": ("three", "3"),
}
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
SIDES = {"left of": "to the left", "right of": "to the right", "above": "above", "below": "below"}
NUMBERS = {"two": 2, "three": 3}
BEGINNINGS = ("", "a picture of ", "there is ", "an image with ")


@dataclass(frozen=True)
class Wanted:
    """Objects of one kind that a caption asks for."""

    shape: str
    colour: str | None = None  # None: any
    size: str | None = None  # None: any
    count: int = 1


@dataclass(frozen=True)
class Wish:
    """What a caption asks for: one kind of object or two, and how the first stands to the second."""

    objects: tuple[Wanted, ...]
    relation: str | None = None


def wishes(scenes: Scenes) -> list[Wish]:
    """What each scene shows, said completely."""
    colours, kinds = list(COLOURS), []
    numbers = scenes.present.sum(1).tolist()
    columns = [
        each.tolist() for each in (scenes.form, scenes.relation, scenes.shape, scenes.colour, scenes.large)
    ]
    for number, form, relation, shape, colour, large in zip(numbers, *columns, strict=True):
        objects = [
            Wanted(SHAPES[s], colours[c], SIZES[z]) for s, c, z in zip(shape, colour, large, strict=True)
        ]
        first, second = objects[0], objects[number - 1]
        if form in (SEVERAL, GROUP):
            first = Wanted(first.shape, first.colour, first.size, number - (form == GROUP))
        named = (first,) if form in (ONE, SEVERAL) else (first, second)
        kinds.append(Wish(named, RELATIONS[relation] if form == PAIR else None))
    return kinds


def captions(
    scenes: Scenes, seed: int, index: Tensor, style: str = "plain", unsized: float = UNSIZED
) -> list[str]:
    """A caption for each scene; how it is worded is a function of the seed and its position alone.

    unsized is the share of the objects whose size is left out. Another style is a ValueError.
    """
    if style not in STYLES:
        raise unknown("style of captions", style, STYLES)
    texts = []
    for wish, i in zip(wishes(scenes), index.tolist(), strict=True):
        chance = np.random.default_rng((seed, _WORDING, i))
        objects = [
            Wanted(each.shape, each.colour, None if chance.random() < unsized else each.size, each.count)
            for each in wish.objects
        ]
        said = Wish(tuple(objects), wish.relation)
        texts.append(phrase(said, style, i, chance))
    return texts


def phrase(wish: Wish, style: str, i: int, chance: np.random.Generator) -> str:
    """A caption that asks for this, worded as those at position i of a data set are."""
    in_turn = STYLES[i % 2] if style == "both" else style
    return plain(wish) if in_turn == "plain" else _free(wish, chance)


def plain(wish: Wish) -> str:
    """The caption that asks for this, in the plain style."""
    said = [_object(each) for each in wish.objects]
    return f" {wish.relation or 'and'} ".join(said)


def read(caption: str) -> Wish:
    """What a caption, of either style or typed by somebody, asks for.

    A word that captions of scenes don't have, or words in an order that says nothing, are a ValueError.
    """
    words = _canonical(caption)
    if words and words[-1] in RELATIONS:  # "… to the left and … to the right": so stands the first
        sides = [OPPOSITE[words[-1]], "and"]
        if sides in (words[i : i + 2] for i in range(len(words))):
            words = [word for word in words[:-1] if word != "and"]
    found: list[Wanted] = []
    joints: list[str] = []
    said: dict[str, str] = {}
    for word in words:
        if word in SHAPES:
            found.append(_wanted(said, word))
            said = {}
        elif word in _JOINTS:
            joints.append(word)
        elif _kind_of(word) in said:
            raise ValueError(f"{caption!r} says {word!r} beside {said[_kind_of(word)]!r} of one object")
        else:
            said[_kind_of(word)] = word
    if not 1 <= len(found) <= 2 or len(joints) != len(found) - 1 or said:
        raise ValueError(
            f"{caption!r} is no caption of a scene: say one or two kinds of object, as in "
            "'a small red circle left of a blue square' or 'two red circles and a green cross'"
        )
    relation = joints[0] if joints and joints[0] != "and" else None
    if relation and any(each.count > 1 for each in found):
        raise ValueError(f"{caption!r}: {relation!r} stands between two single objects")
    return Wish(tuple(found), relation)


WRONGS = ("colour", "shape", "size", "axis", "direction", "swapped")  # what a wrong caption may get wrong


def wrong(
    wish: Wish, what: str, chance: np.random.Generator, hidden: Collection[tuple[str, str]] = ()
) -> Wish | None:
    """Another wish that differs in one thing alone; None where this one says nothing of it.

    Of a relation the "axis" may be wrong (beside for above) or the "direction" (left for right). "swapped"
    exchanges the colours of its two kinds of object: the words stay the same. Another name is a ValueError.
    No object of the other wish is one of the `hidden` pairs of colour and shape.
    """
    if what not in WRONGS:
        raise unknown("thing to get wrong", what, WRONGS)
    if what in ("axis", "direction"):
        if wish.relation is None:
            return None
        turned = OPPOSITE[wish.relation]
        across = [each for each in RELATIONS if each not in (wish.relation, turned)]
        return replace(wish, relation=turned if what == "direction" else across[chance.integers(2)])
    objects = list(wish.objects)
    if what == "swapped":
        if len({each.colour for each in objects}) < 2:
            return None
        first, second = objects
        colours = replace(first, colour=second.colour), replace(second, colour=first.colour)
        named = any((each.colour, each.shape) in hidden for each in colours)
        return None if named else replace(wish, objects=colours)
    known = {"colour": tuple(COLOURS), "shape": SHAPES, "size": SIZES}[what]
    said = [i for i, each in enumerate(objects) if getattr(each, what)]
    if not said:
        return None
    i = said[chance.integers(len(said))]
    changes: list[dict[str, Any]] = [{what: each} for each in known]
    others = [replace(objects[i], **change) for change in changes]
    others = [each for each in others if each != objects[i] and (each.colour, each.shape) not in hidden]
    objects[i] = others[chance.integers(len(others))]
    return replace(wish, objects=tuple(objects))


_JOINTS = (*RELATIONS, "and")
_WORDING = 2  # the stream of random numbers that captions have to themselves
_FILLERS = {"a", "an", "the", "one", "picture", "image", "of", "there", "is", "are", "with", "sign"}
_NAMED = {said: name for name, ways in SAME.items() for said in ways}
_NAMED |= {side: name for name, side in SIDES.items()}
_NAMED |= {f"{said}s": name for said, name in _NAMED.items() if name in SHAPES}
_NAMED |= {name: name for name in (*COLOURS, *SHAPES, *SIZES, *_JOINTS, *NUMBERS)}
_NAMED |= {f"{name}s": name for name in SHAPES} | dict(boxes="square", crosses="cross", pluses="cross")
_PHRASES = sorted((said for said in _NAMED if " " in said), key=len, reverse=True)
_WORD = re.compile("|".join([*map(re.escape, _PHRASES), r"\w+"]))


def _canonical(caption: str) -> list[str]:
    """The words that carry something, each as the plain style has it."""
    words = []
    for word in _WORD.findall(" ".join(caption.lower().split())):
        if word in _NAMED:
            words.append(_NAMED[word])
        elif word not in _FILLERS:
            known = ", ".join([*COLOURS, *SHAPES, *SIZES, *NUMBERS, *RELATIONS])
            raise ValueError(
                f"{caption!r}: captions of scenes don't have the word {word!r}; they have {known}"
            )
    return words


def _kind_of(word: str) -> str:
    return "size" if word in SIZES else "colour" if word in COLOURS else "number"


def _wanted(said: dict[str, str], shape: str) -> Wanted:
    return Wanted(shape, said.get("colour"), said.get("size"), NUMBERS.get(said.get("number", ""), 1))


def _object(each: Wanted) -> str:
    words = [word for word in (each.size, each.colour) if word] + [each.shape]
    if each.count > 1:
        number = next(name for name, count in NUMBERS.items() if count == each.count)
        return " ".join([number, *words[:-1], _many(words[-1])])
    return " ".join(["an" if words[0][0] in "aeiou" else "a", *words])


def _many(shape: str) -> str:
    return shape + ("es" if shape[-1] in "sx" else "s")


def _free(wish: Wish, chance: np.random.Generator) -> str:
    objects, relation = list(wish.objects), wish.relation
    if relation and chance.random() < 0.3:
        objects, relation = objects[::-1], OPPOSITE[relation]
    named = [_freely(each, chance) for each in objects]
    if relation and chance.random() < 0.5:
        said = f"{named[0]} {SIDES[relation]} and {named[1]} {SIDES[OPPOSITE[relation]]}"
    else:
        said = f" {_other(relation, chance) if relation else 'and'} ".join(named)
    beginning = BEGINNINGS[chance.integers(len(BEGINNINGS))]
    return (beginning.replace("is", "are") if objects[0].count > 1 else beginning) + said


def _freely(each: Wanted, chance: np.random.Generator) -> str:
    size, colour, shape = (word and _other(word, chance) for word in (each.size, each.colour, each.shape))
    words = [word for word in (size, colour) if word] + [str(shape)]
    if each.count > 1:
        number = next(name for name, count in NUMBERS.items() if count == each.count)
        return " ".join([_other(number, chance), *words[:-1], _many(words[-1])])
    article = ("an" if words[0][0] in "aeiou" else "a", "the", "one")[chance.integers(3)]
    return " ".join([article, *words])


def _other(word: str, chance: np.random.Generator) -> str:
    ways = SAME.get(word, (word,))
    return ways[chance.integers(len(ways))]
