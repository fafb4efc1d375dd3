import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from diffusion_lessons.data.captioned import scene_rows, scene_tokenizer
from diffusion_lessons.data.captions import (
    OPPOSITE,
    STYLES,
    WRONGS,
    Wanted,
    Wish,
    captions,
    plain,
    read,
    wishes,
    wrong,
)
from diffusion_lessons.data.scenes import HELD_OUT, draw

INDEX = torch.arange(1500)
SCENES = draw(2, INDEX)


@pytest.mark.parametrize("style", STYLES)
def test_a_caption_reads_back_as_the_scene_that_it_was_written_for(style: str) -> None:
    unsized = 0
    for text, wish in zip(captions(SCENES, 2, INDEX, style), wishes(SCENES), strict=True):
        said, objects = read(text), list(wish.objects)
        if said.relation != wish.relation:
            assert style != "plain"
            assert said.relation == OPPOSITE[wish.relation or ""]
            objects.reverse()
        assert len(said.objects) == len(objects)
        for each, shown in zip(said.objects, objects, strict=True):
            assert (each.shape, each.colour, each.count) == (shown.shape, shown.colour, shown.count)
            assert each.size in (None, shown.size)
            unsized += each.size is None
    assert 0.2 < unsized / sum(len(wish.objects) for wish in wishes(SCENES)) < 0.3


def test_captions_are_a_function_of_seed_and_position() -> None:
    some = torch.tensor([40, 3])
    whole = captions(SCENES, 2, INDEX, "free")
    assert captions(SCENES[some], 2, some, "free") == [whole[40], whole[3]]
    assert captions(SCENES, 9, INDEX, "free") != whole
    assert len(set(whole)) > 0.9 * len(whole)


def test_free_captions_name_sides_and_turn_pairs_round() -> None:
    texts = captions(SCENES, 2, INDEX, "free")
    pairs = [text for text, wish in zip(texts, wishes(SCENES), strict=True) if wish.relation]
    assert 0.4 < sum(" and " in text for text in pairs) / len(pairs) < 0.6
    turned = [read(text).relation != wish.relation for text, wish in zip(texts, wishes(SCENES), strict=True)]
    assert 0.2 < sum(turned) / len(pairs) < 0.4


@pytest.mark.parametrize("what", WRONGS)
def test_a_wrong_wish_differs_in_one_thing(what: str) -> None:
    chance, asked = np.random.default_rng(0), 0
    for wish in wishes(SCENES):
        other = wrong(wish, what, chance)
        if other is None:
            continue
        asked += 1
        if what in ("axis", "direction"):
            assert other.objects == wish.objects
            assert (other.relation == OPPOSITE[wish.relation or ""]) == (what == "direction")
            assert other.relation != wish.relation
        else:
            assert other.relation == wish.relation
            name = "colour" if what == "swapped" else what
            changed = [
                getattr(a, name) != getattr(b, name) for a, b in zip(wish.objects, other.objects, strict=True)
            ]
            assert sum(changed) == (2 if what == "swapped" else 1)
            assert [replace(a, **{name: None}) for a in wish.objects] == [
                replace(b, **{name: None}) for b in other.objects
            ]
    assert asked > 500


def test_both_styles_come_in_turn() -> None:
    both, plain_ones, free = (captions(SCENES, 2, INDEX, style) for style in ("both", "plain", "free"))
    assert both[::2] == plain_ones[::2]
    assert both[1::2] == free[1::2]


def test_the_plain_style() -> None:
    one, two = Wanted("circle", "orange"), Wanted("square", "blue", "large")
    assert plain(Wish((one,))) == "an orange circle"
    assert plain(Wish((one, two), "left of")) == "an orange circle left of a large blue square"
    assert plain(Wish((Wanted("cross", "red", "small", 3),))) == "three small red crosses"
    assert plain(Wish((Wanted("cross", "red", None, 2), two))) == "two red crosses and a large blue square"
    assert all(len(text.split()) <= 10 for text in captions(SCENES, 0, INDEX))


def test_what_people_type_is_read() -> None:
    wish = Wish((Wanted("circle", "red"), Wanted("square", "blue")), "left of")
    for text in (
        "a red circle left of a blue square",
        "  A RED circle, to the left of the blue box! ",
        "there is one crimson disc to the left of a blue square",
        "a red circle to the left and a blue square to the right",
    ):
        assert read(text) == wish
    assert read("circle") == Wish((Wanted("circle"),))
    assert read("2 huge boxes") == Wish((Wanted("square", None, "large", 2),))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a blau circle", "'blau'"),
        ("a red", "no caption of a scene"),
        ("", "no caption of a scene"),
        ("a red circle blue square", "no caption of a scene"),
        ("a red circle left of", "no caption of a scene"),
        ("a red blue circle", "'blue' beside 'red'"),
        ("two circles left of a square", "two single objects"),
        ("a circle and a square and a cross", "no caption of a scene"),
        ("a circle to the left", "no caption of a scene"),
        ("a circle above and a square above", "no caption of a scene"),
        ("a circle and a square to the right", "no caption of a scene"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        read(text)


@pytest.mark.parametrize("style", ["plain", "free"])
def test_wrong_captions_of_rows_are_worded_as_the_right_ones(style: str) -> None:
    tokenizer, index = scene_tokenizer(), torch.arange(200)
    rows = scene_rows(tokenizer, 32, style=style, wrongs=WRONGS)
    conditions = rows.rows(index)[1]
    right = [tokenizer.decode(row) for row in conditions["tokens"].tolist()]
    others = [[tokenizer.decode(row) for row in each] for each in conditions["wrong"].tolist()]
    assert conditions["wrong"].shape == (200, len(WRONGS), tokenizer.context)
    as_plain = [text == plain(read(text)) for text in right]
    assert all(as_plain) == (style == "plain")
    share = np.mean([[text == plain(read(text)) for text in each] for each in others])
    assert share == pytest.approx(np.mean(as_plain), abs=0.05)
    assert all(
        read(a) != read(b) for a, each in zip(right, others, strict=True) for b in each if "and" not in b
    )


def test_wrong_captions_of_training_name_no_pair_that_is_held_out() -> None:
    """They did: the towers learnt that such pairs are never there, and told their shapes at 64 %."""
    tokenizer, index = scene_tokenizer(), torch.arange(300)

    def named(split: str) -> int:
        wrongs = scene_rows(tokenizer, 32, split, "plain", wrongs=WRONGS).rows(index)[1]["wrong"]
        texts = [tokenizer.decode(row) for each in wrongs.tolist() for row in each]
        return sum((each.colour, each.shape) in HELD_OUT for text in texts for each in read(text).objects)

    assert named("train") == 0
    assert named("test") > 50


def test_an_unknown_style_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown style of captions 'fre'"):
        captions(SCENES, 0, INDEX, "fre")
