"""Clips of scenes: where everything is in every frame, and captions that say how it moves."""

import pytest
import torch

from diffusion_lessons.data.captioned import scene_tokenizer
from diffusion_lessons.data.captions import read
from diffusion_lessons.data.clips import (
    EDGE,
    FRAMES,
    LONGEST,
    MOTIONS,
    OPPOSITE,
    SPEED,
    STILL,
    asked,
    clip_rows,
    clip_tokens,
    draw_clips,
    path,
    read_clip,
    said,
)
from diffusion_lessons.data.scenes import SIDE
from diffusion_lessons.data.shapes import RADII, REACH
from diffusion_lessons.metrics.reader import read_scenes

N = 64
INDEX = torch.arange(N)


def test_a_clip_is_a_function_of_its_position() -> None:
    some, alone = draw_clips(3, INDEX), draw_clips(3, INDEX[40:41])
    assert torch.equal(some.render(32, 4)[40:41], alone.render(32, 4))
    assert not torch.equal(draw_clips(4, INDEX).motion, some.motion)
    assert not torch.equal(draw_clips(3, INDEX, "test").motion, some.motion)


def test_what_moves_goes_one_latent_cell_a_frame_and_the_first_frame_is_the_scene() -> None:
    clips = draw_clips(0, INDEX, room=1.0)
    steps = clips.places(LONGEST).diff(dim=1)
    for motion, way in enumerate(((-1, 0), (1, 0), (0, -1), (0, 1), (0, 0))):
        mine = steps[clips.motion == motion]
        assert len(mine)
        assert torch.allclose(mine, SPEED * torch.tensor(way).float().expand_as(mine), atol=1e-4)
    assert torch.equal(clips.render(64)[:, 0], clips.scenes.render(64))
    assert SPEED * 16 / SIDE == 1  # the small autoencoder makes 16 cells of a side


def test_nothing_leaves_the_picture_and_what_reaches_the_edge_stops() -> None:
    clips = draw_clips(0, torch.arange(256), room=0.0)
    places = clips.places(2 * LONGEST)
    reach = REACH * torch.tensor(RADII)[clips.scenes.large[:, 0]][:, None, None]
    assert bool((places >= EDGE + reach - 1e-4).all()) and bool((places <= SIDE - EDGE - reach + 1e-4).all())
    moving = clips.motion != STILL
    assert bool((places[moving, -1] == places[moving, -2]).all())


def test_a_shape_beyond_the_edge_stays_where_it_is() -> None:
    at = path(torch.tensor([[5.0, 30.0]]), torch.tensor([[-1.0, 0.0]]), torch.tensor([10.0]), 4)
    assert bool((at == torch.tensor([5.0, 30.0])).all())


def test_the_reader_follows_true_clips() -> None:
    clips = draw_clips(0, INDEX, "test")
    for clip, places in zip(clips.render(64), clips.places(), strict=True):
        for seen, at in zip(read_scenes(clip), places.tolist(), strict=True):
            assert seen is not None and len(seen) == 1
            assert abs(seen[0].x - at[0]) < 0.5 and abs(seen[0].y - at[1]) < 0.5


def test_a_caption_says_what_is_there_and_how_it_moves() -> None:
    clips = draw_clips(0, INDEX)
    for text, motion in zip(clips.captions(0, INDEX), clips.motion.tolist(), strict=True):
        there, heard = asked(text)
        assert heard == motion
        assert said(there, heard) == text
        read(there)
    assert {asked(text).motion for text in clips.captions(0, INDEX)} == {*range(len(MOTIONS)), STILL}


@pytest.mark.parametrize(
    ("text", "there", "motion"),
    [
        ("a red circle moving left", "a red circle", "left"),
        ("A red circle is moving to the RIGHT.", "A red circle", "right"),
        ("a red circle, moving upwards", "a red circle", "up"),
        ("a red circle that is going down ", "a red circle", "down"),
        ("a red circle moves left", "a red circle", "left"),
        ("a red circle left of a blue square", "a red circle left of a blue square", None),
        ("a red circle moving sideways", "a red circle moving sideways", None),
        ("", "", None),
    ],
)
def test_motion_is_heard_in_the_words_people_use(text: str, there: str, motion: str | None) -> None:
    assert asked(text) == (there, STILL if motion is None else MOTIONS.index(motion))


def test_captions_of_clips_are_read_without_their_motion() -> None:
    assert read_clip("a red circle moving left") == read_clip("a red circle") == read("a red circle")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a red circle moving sideways", "end in 'moving' and one of left, right, up or down"),
        ("a red circle goes left and up", "end in 'moving' and one of left, right, up or down"),
        ("a red circle left of a blue square moving up", "clips show one shape"),
        ("two red circles moving up", "clips show one shape"),
        ("an elephant moving up", "don't have the word 'elephant'"),
    ],
)
def test_what_no_caption_of_a_clip_says_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_clip(text)


def test_the_opposite_of_the_opposite_is_the_motion() -> None:
    assert [OPPOSITE[OPPOSITE[motion]] for motion in range(5)] == list(range(5))
    assert OPPOSITE[MOTIONS.index("left")] == MOTIONS.index("right")


def test_rows_have_tokens_of_what_is_there_and_of_all_that_is_said() -> None:
    tokenizer = scene_tokenizer()
    rows = clip_rows(tokenizer, 32, 3, seed=1)
    clips, told = rows.rows(torch.tensor([5, 2]))
    assert clips.shape == (2, 3, 3, 32, 32) and clips.dtype == torch.uint8
    drawn = draw_clips(1, torch.tensor([5, 2]))
    assert torch.equal(clips, drawn.render(32, 3))
    texts = drawn.captions(1, torch.tensor([5, 2]))
    there = tokenizer([asked(text).there for text in texts])
    assert torch.equal(told["tokens"], there["tokens"]) and torch.equal(told["mask"], there["mask"])
    assert torch.equal(told["moving"], tokenizer(texts)["tokens"])
    other = clip_tokens(tokenizer, ["a red circle moves to the left"])
    assert torch.equal(other["moving"], clip_tokens(tokenizer, ["a red circle moving left"])["moving"])
    assert rows.kept(4).shape == (3, 3, 32, 32)
    assert FRAMES <= LONGEST
