"""What a clip meets of its caption: true clips all of it, and each kind of wrong clip not that."""

import math

import pytest
import torch

from diffusion_lessons.data.clips import OPPOSITE, STILL, asked, draw_clips, said
from diffusion_lessons.data.scenes import draw
from diffusion_lessons.metrics.motion import clips_met, drift, moved

INDEX = torch.arange(24)
CLIPS = draw_clips(0, INDEX, "test", room=1.0)
TEXTS = CLIPS.captions(0, INDEX, unsized=0)
TRUE = CLIPS.render(64)
MOVING = (CLIPS.motion != STILL).nonzero()[:, 0].tolist()


def test_true_clips_meet_all_and_hardly_jitter() -> None:
    found = clips_met(TRUE, TEXTS)
    assert all(found[name][0] == 1 for name in ("readable", "there", "kept", "motion", "everything"))
    assert found["error"][0] < 0.3 and found["jitter"][0] < 0.3
    low, high = found["everything"][1]
    assert low < 1 and high == 1


def test_a_clip_that_goes_the_other_way_or_stands_still_does_not_move_as_asked() -> None:
    for i in MOVING:
        there, motion = asked(TEXTS[i])
        wrong = moved(said(there, OPPOSITE[motion]), TRUE[i])
        assert wrong.there and wrong.kept and not wrong.motion and not wrong.everything
        assert not moved(TEXTS[i], TRUE[i, :1].expand(8, -1, -1, -1)).motion


def test_what_is_there_and_how_it_moves_are_judged_apart() -> None:
    motion = asked(TEXTS[MOVING[0]]).motion
    found = moved(said("a green cross", motion), TRUE[MOVING[0]])
    assert found.motion and not found.there and not found.everything


def test_a_change_on_the_way_is_no_kept_object() -> None:
    i, j = MOVING[:2]
    mixed = TRUE[i].clone()
    mixed[4] = TRUE[j][4]
    assert not moved(TEXTS[i], mixed).kept


def test_frames_that_shake_jitter() -> None:
    shaken = TRUE[MOVING[0]].clone()
    shaken[1::2] = shaken[1::2].roll(2, dims=-1)
    found = moved(TEXTS[MOVING[0]], shaken)
    assert found.jitter is not None and 3 < found.jitter < 5  # steps of ±2 change by 4 from frame to frame


def test_a_frame_that_cannot_be_read_makes_the_clip_unreadable() -> None:
    two = draw(0, torch.arange(50), form=1).render(64)
    for broken in (torch.full((3, 64, 64), 240, dtype=torch.uint8), two[0]):
        clip = TRUE[MOVING[0]].clone()
        clip[5] = broken
        found = moved(TEXTS[MOVING[0]], clip)
        assert not found.readable and found.there and not found.kept and found.jitter is None
    found = clips_met(clip[None], [TEXTS[MOVING[0]]])
    assert found["readable"][0] == 0 and math.isnan(found["jitter"][0])


def test_what_is_no_clip_is_refused() -> None:
    with pytest.raises(ValueError, match="3 frames"):
        moved(TEXTS[0], TRUE[0, :2])
    with pytest.raises(ValueError, match="3 frames"):
        moved(TEXTS[0], TRUE)
    with pytest.raises(ValueError, match="2 captions for 24 clips"):
        clips_met(TRUE, TEXTS[:2])
    with pytest.raises(ValueError, match="0 captions"):
        clips_met(TRUE[:0], [])
    with pytest.raises(ValueError, match="elephant"):
        moved("an elephant moving left", TRUE[0])


def test_drift_is_the_error_by_frame_of_what_can_still_be_read() -> None:
    moving = TRUE[MOVING]
    held = moving[:, :1].expand_as(moving).clone()
    texts = [TEXTS[i] for i in MOVING]
    assert all(n == len(MOVING) and mean < 0.3 for n, mean, _ in drift(moving, texts))
    for frame, (n, mean, error) in enumerate(drift(held, texts)):
        assert n == len(MOVING) and mean == pytest.approx(4 * frame, abs=0.5) and error < 0.3
    held[0, 3] = 240  # an empty frame: what comes behind it is not followed
    assert [n for n, _, _ in drift(held, texts)] == [len(MOVING)] * 3 + [len(MOVING) - 1] * 5
    with pytest.raises(ValueError, match="0 captions"):
        drift(held, [])
