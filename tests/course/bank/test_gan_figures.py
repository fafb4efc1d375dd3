"""Lesson 13: what it says of its record, the cells themselves run on figures that are known; a verdict."""

from pathlib import Path
from statistics import mean, median
from typing import Any

import pytest

from diffusion_lessons.course.authoring.source import read
from diffusion_lessons.course.bank.lesson_13 import R1, r1_penalty
from diffusion_lessons.course.exercises.check import check
from diffusion_lessons.experiments import recorded
from diffusion_lessons.experiments.gan_vs_diffusion import DIGITS

LESSON = Path(__file__).resolve().parents[3] / "solutions" / "13_diffusion_vs_gans.py"


def said(mark: str, capsys: pytest.CaptureFixture[str], **names: Any) -> list[str]:
    """The lines that the one cell with `mark` prints, with these names in the notebook."""
    (cell,) = [cell for cell in read(LESSON).code if mark in cell.source]
    exec(cell.source, names)
    return capsys.readouterr().out.splitlines()


def test_speeds_are_medians_over_the_runs_with_the_range(capsys: pytest.CaptureFixture[str]) -> None:
    record: dict[str, list[Any]] = {"rows": []}
    for model in ("gan, r1 and ema", "diffusion"):
        for draw in (9.0, 1.0, 2.0, 4.0):
            told = {"data": "grid", "model": model}
            record["rows"].append({"settings": told, "draw_seconds": draw, "training_seconds": 10 * draw})
    names = {"record": record, "pictures": {"digits": record["rows"]}, "median": median}
    lines = said("training, seconds", capsys, **names)[1:-1]
    assert len(lines) == 4
    for line in lines:  # of an even number of runs: the middle of the middle two
        assert "3.0000 (1.0000 to 9.0000)" in line and "30.0 (10.0 to 90.0)" in line


def test_equal_values_share_a_rank(capsys: pytest.CaptureFixture[str]) -> None:
    """Three of four runs are all good: in whichever order they stand, the correlation is the same."""
    lines = []
    for good in ([1.0, 1.0, 1.0, 0.0], [0.0, 1.0, 1.0, 1.0]):
        losses = [1.0, 2.0, 3.0, 4.0]
        runs = [
            {"good": share, "loss": loss, "discriminator_loss": loss, "generator_loss": loss}
            for share, loss in zip(good, losses, strict=True)
        ]
        table = {(model, 1e-3): runs for model in ("gan", "gan, r1 and ema", "diffusion")}
        lines.append(said("spearmanr", capsys, table=table))
    assert all("-0.77 (n = 4 runs)" in line for line in lines[0])  # ranks 3 3 3 1, so −√0.6
    assert all("+0.77 (n = 4 runs)" in line for line in lines[1])


def over_seeds(rows: list[dict[str, Any]], name: str, digits: int) -> tuple[str, str]:
    """The mean, and the mean with its range; shares are written without their 0."""
    values = [row[name] for row in rows]
    said = [f"{each:.{digits}f}" for each in (mean(values), min(values), max(values))]
    middle, low, high = (each[name in ("precision", "recall") :] for each in said)
    return middle, f"{middle} ({low} to {high})"


def test_what_is_said_of_mnist_is_what_was_recorded() -> None:
    real, *trained = recorded("gan-on-mnist")["rows"]
    gan, diffusion = ([row for row in trained if row["settings"]["model"] == model] for model in DIGITS)
    words = LESSON.read_text(encoding="utf-8").replace("\n#  ", "")
    for name, digits in {"frechet": 2, "precision": 2, "recall": 2, "kl": 3}.items():
        (one, with_range), (other, and_its) = (over_seeds(rows, name, digits) for rows in (gan, diffusion))
        assert with_range in words and and_its in words  # the result
        if name in ("precision", "recall"):
            assert f"{name} {one} against {other}" in words  # the interview card
    figures = f"{real['frechet']:.2f}, {real['precision']:.2f}, {real['recall']:.2f} and {real['kl']:.3f}"
    assert figures.replace(" 0.85", " .85").replace(" 0.88", " .88") in words
    assert max(row["frechet"] for row in gan) < min(row["frechet"] for row in diffusion)
    assert min(row["precision"] for row in gan) > max(row["precision"] for row in diffusion)
    assert max(row["recall"] for row in gan) < min(row["recall"] for row in diffusion)
    slow, fast = (median(row["draw_seconds"] for row in rows) for rows in (diffusion, gan))
    assert f"On MNIST it is {slow / fast:.0f} times" in words


def test_a_penalty_that_is_no_tensor_is_named() -> None:
    verdict = check(R1, lambda discriminator, x, gamma: r1_penalty(discriminator, x, gamma).item())
    assert "the penalty is a tensor (); you returned one float" in verdict.message
