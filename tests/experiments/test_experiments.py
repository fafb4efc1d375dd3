"""Long measurements go on where they stopped and lose no row."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from diffusion_lessons import experiments
from diffusion_lessons.checkpoint import Checkpoint
from diffusion_lessons.experiments import Experiment, find, recorded, run, table
from diffusion_lessons.experiments.steps_by_eta import EXPERIMENT, STEPS
from diffusion_lessons.networks import UNet, UNetConfig
from diffusion_lessons.paths import DiscreteVP
from diffusion_lessons.schedules import cosine_betas
from diffusion_lessons.targets import V


def counting(fail_at: int | None = None) -> tuple[Experiment, list[int]]:
    """An experiment over 0, 1, 2 that keeps what it measured, and fails at one of them."""
    measured: list[int] = []

    def measure(shared: str, row: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
        if row["i"] == fail_at:
            raise RuntimeError("stopped")
        measured.append(row["i"])
        return {"square": row["i"] ** 2 + options["offset"], "shared": shared}

    settings = [{"i": i} for i in range(3)]
    return Experiment(
        "some.squares", "Squares.\n\nMore.", "i square", lambda o: settings, lambda o: "once", measure
    ), measured


def test_a_run_writes_every_row_with_where_it_was_measured(tmp_path: Path) -> None:
    experiment, _ = counting()
    result = run(experiment, tmp_path / "new" / "squares.json", {"offset": 1})
    assert [row["square"] for row in result["rows"]] == [1, 2, 5]
    assert json.loads((tmp_path / "new" / "squares.json").read_text()) == result
    assert (result["experiment"], result["title"]) == ("squares", "Squares")
    assert result["hardware"]["cores"] >= 1
    assert result["hardware"]["processor"]
    assert {"python", "torch", "numpy"} <= result["versions"].keys()
    assert all(row["seconds"] >= 0 for row in result["rows"])


def test_a_stopped_run_goes_on_where_it_was(tmp_path: Path) -> None:
    file = tmp_path / "squares.json"
    stopped, before = counting(fail_at=1)
    with pytest.raises(RuntimeError, match="stopped"):
        run(stopped, file, {"offset": 0})
    whole, after = counting()
    result = run(whole, file, {"offset": 0})
    assert (before, after) == ([0], [1, 2])
    assert [row["square"] for row in result["rows"]] == [0, 1, 4]
    assert run(counting(fail_at=0)[0], file, {"offset": 0}) == result  # nothing is measured again


def test_what_was_missing_is_measured_when_it_is_there(tmp_path: Path) -> None:
    file = tmp_path / "squares.json"
    experiment, measured = counting()
    result = run(experiment, file, {"offset": 0})
    told = {"settings": {"i": 1}, "missing": "no compiler here", "seconds": 0.1}
    file.write_text(json.dumps(result | {"rows": [result["rows"][0], told, result["rows"][2]]}))
    again = run(experiment, file, {"offset": 0})
    assert measured == [0, 1, 2, 1]
    assert [row["square"] for row in again["rows"]] == [0, 1, 4]


def test_a_figure_that_is_no_finite_number_is_written_as_null(tmp_path: Path) -> None:
    """NaN and Infinity are no JSON: browsers and other languages refuse a file that holds them."""
    figures = {"width": float("nan"), "all": [1.0, float("inf")], "inner": {"low": -float("inf"), "n": 3}}
    experiment = Experiment(
        "some.nan", "Nan.", "width", lambda o: [{"i": 0}], lambda o: None, lambda *_: figures
    )
    file = tmp_path / "nan.json"
    row = run(experiment, file, {})["rows"][0]
    assert row == {**row, "width": None, "all": [1.0, None], "inner": {"low": None, "n": 3}}
    assert json.loads(file.read_text(), parse_constant=pytest.fail)["rows"] == [row]


def test_a_file_of_another_run_is_not_touched(tmp_path: Path) -> None:
    file = tmp_path / "squares.json"
    run(counting()[0], file, {"offset": 0})
    before = file.read_bytes()
    with pytest.raises(ValueError, match=r"a run with other options .*: name another --out"):
        run(counting()[0], file, {"offset": 5})
    assert file.read_bytes() == before
    file.write_text("not json")
    with pytest.raises(ValueError, match="no result file of an experiment"):
        run(counting()[0], file, {"offset": 0})
    assert file.read_text() == "not json"


def test_no_samples_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    experiment, measured = counting()
    with pytest.raises(ValueError, match="at least 1, got 0"):
        run(experiment, tmp_path / "s.json", {"offset": 0, "n": 0})
    assert measured == []
    assert not (tmp_path / "s.json").exists()


def test_the_table_has_a_line_for_each_row(tmp_path: Path) -> None:
    experiment, _ = counting()
    lines = table(experiment, run(experiment, tmp_path / "s.json", {"offset": 0.5})).splitlines()
    assert lines[0].split() == ["i", "square"]
    assert [line.split() for line in lines[1:]] == [["0", "0.5"], ["1", "1.5"], ["2", "4.5"]]


def test_unknown_and_unrecorded_experiments_are_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="did you mean 'steps-by-eta'"):
        find("step-by-eta")
    monkeypatch.setattr(experiments, "RECORDED", tmp_path)
    with pytest.raises(ValueError, match="diffusion-lessons experiment steps-by-eta"):
        recorded("steps-by-eta")


def test_a_result_on_a_gpu_stands_beside_the_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(experiments, "RECORDED", tmp_path)
    for end in ("", ".some-gpu", ".other-gpu"):
        (tmp_path / f"steps-by-eta{end}.json").write_text(json.dumps({"of": end}))
    (tmp_path / "steps-by-sampler.some-gpu.json").write_text("{}")
    assert experiments.recorded_on("steps-by-eta") == ["other-gpu", "some-gpu"]
    assert recorded("steps-by-eta") == {"of": ""}
    assert recorded("steps-by-eta", "some-gpu") == {"of": ".some-gpu"}
    with pytest.raises(ValueError, match=r"on 'no-gpu': make one with .* steps-by-eta --device cuda"):
        recorded("steps-by-eta", "no-gpu")


def test_every_file_with_an_experiment_is_found_by_its_name() -> None:
    files = experiments.RECORDED.glob("*.json")
    assert experiments.names() == sorted({file.name.partition(".")[0] for file in files})
    assert "unet-ablation" in experiments.names()
    for name in experiments.names():
        assert find(name).name == recorded(name)["experiment"] == name


def test_steps_by_eta_covers_the_table_of_ddim() -> None:
    assert find("steps-by-eta") is EXPERIMENT
    rows = EXPERIMENT.settings({})
    assert len(rows) == 28
    assert {row["steps"] for row in rows} == set(STEPS) == {5, 10, 20, 50, 100, 250, 1000}
    assert {row["eta"] for row in rows} == {"0", "0.5", "1", "large"}


@pytest.mark.parametrize("eta", ["0", "0.5", "1", "large"])
def test_a_row_of_steps_by_eta_is_measured(eta: str) -> None:
    torch.manual_seed(0)
    network = UNet(UNetConfig(1, 1, 8, (1, 2), attention_levels=(), num_classes=10))
    classes = tuple("0123456789")
    model = Checkpoint(network, DiscreteVP(cosine_betas()), V, classes, (1, 16, 16), {"data": "digits"})
    row = EXPERIMENT.measure(model, {"steps": 2, "eta": eta}, {"n": 100, "seed": 0, "device": "cpu"})
    assert row["frechet"] > 1  # the network was never trained
    assert row["uncertainty"] > 0
    assert 0 <= row["accuracy"] <= 1
