"""The leaderboard: rows of both kinds, what is counted and kept, and that the recorded metrics contradict."""

import torch

from diffusion_lessons.experiments import find, leaderboard, recorded
from diffusion_lessons.experiments.leaderboard import DIGITS, EXPERIMENT, SCENES, margins
from diffusion_lessons.experiments.pictures import SHOWN


def test_every_model_is_a_row_with_the_seed_of_the_run() -> None:
    assert find("leaderboard") is EXPERIMENT
    rows = EXPERIMENT.settings({"seed": 3})
    assert rows == [{**row, "seed": 3} for row in (*DIGITS, *SCENES)]
    assert len({tuple(row.items()) for row in rows}) == len(rows)


def test_a_margin_is_above_the_best_of_the_others() -> None:
    logits = torch.tensor([[1.0, 4.0, 2.0], [1.0, 4.0, 2.0]])
    found = margins(lambda x: logits, torch.zeros(2, 1, 4, 4), torch.tensor([1, 0]))
    assert found.tolist() == [2.0, -3.0]


def test_rows_of_scenes_go_to_scenes(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    asked = []
    monkeypatch.setattr(leaderboard, "measured_scenes", lambda shared, row, n: asked.append(("scenes", n)))
    monkeypatch.setattr(leaderboard, "measured_digits", lambda shared, row, n, o: asked.append(("digits", n)))
    for row in (DIGITS[0], SCENES[0], SCENES[-1], DIGITS[-1]):
        EXPERIMENT.measure(None, row, {"n": 500})
    assert asked == [("digits", 500), ("scenes", 100), ("scenes", 100), ("digits", 500)]


def test_the_recorded_metrics_contradict_each_other_beyond_their_errors() -> None:
    result = recorded("leaderboard")
    assert [row["settings"] for row in result["rows"]] == EXPERIMENT.settings(result["options"])
    of = {"sampler": "dpmpp-2m", "steps": 10}
    weak, strong = (
        next(row for row in result["rows"] if {**of, "guidance": scale}.items() <= row["settings"].items())
        for scale in (1.5, 4.0)
    )
    for metric, sign in {"frechet": 1, "kernel": 1, "precision": 1, "recall": -1}.items():
        error = (weak[f"{metric}_error"] ** 2 + strong[f"{metric}_error"] ** 2) ** 0.5
        assert sign * (strong[metric] - weak[metric]) > 1.96 * error


def test_the_recorded_rows_keep_pictures_and_margins() -> None:
    digits = [row for row in recorded("leaderboard")["rows"] if "margins" in row]
    assert len(digits) == len(DIGITS)
    assert {len(row["margins"]) for row in digits} == {leaderboard.MARGINS}
    assert {len(row["pictures"]) for row in digits} == {2 * SHOWN * 32 * 32}


def test_only_captions_tell_pictures_from_pictures_of_something_else() -> None:
    rows = {row["settings"]["model"]: row for row in recorded("leaderboard")["rows"] if "met" in row}
    right, others = rows["real scenes"], rows["real scenes, captions of others"]
    assert (right["met"], others["met"]) == (1.0, 0.0)
    assert right["clip"] - others["clip"] > 10 * (right["clip_error"] + others["clip_error"])
    assert right["frechet"] == others["frechet"]
