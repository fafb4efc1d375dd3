"""The ladder: rungs that change the speed and nothing else, each measured against what it is held against."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from diffusion_lessons import experiments
from diffusion_lessons.checkpoint import Checkpoint
from diffusion_lessons.experiments import find, speed_ladder
from diffusion_lessons.experiments.ladder import (
    attention,
    data,
    machine,
    processes,
    sampling,
    stages,
    training,
)
from diffusion_lessons.experiments.ladder.shared import Bench
from diffusion_lessons.networks import Patched, UNet, UNetConfig
from diffusion_lessons.networks.recomputed import recomputed
from diffusion_lessons.networks.unet import Stage
from diffusion_lessons.paths import DiscreteVP
from diffusion_lessons.schedules import cosine_betas
from diffusion_lessons.targets import V

CPU = torch.device("cpu")


def bench(windows: int = 1) -> Bench:
    torch.manual_seed(0)
    network = Patched(UNet(UNetConfig(4, 4, 8, (1, 2), attention_levels=(1,), head_dim=8, num_classes=10)), 2)
    for p in network.parameters():
        p.data.add_(0.02 * torch.randn_like(p))  # or all behind layers of zeros would have no gradient
    model = Checkpoint(network, DiscreteVP(cosine_betas()), V, tuple("0123456789"), (1, 16, 16))
    return Bench(model, CPU, 0, windows, 0.001)


def test_the_rows_are_those_of_all_parts_and_what_compiles_comes_last() -> None:
    rows = speed_ladder.settings({"device": "cpu"})
    assert find("speed-ladder") is speed_ladder.EXPERIMENT
    assert {row["part"] for row in rows if row["part"] != "processes"} == {*speed_ladder.PARTS.keys()} - {
        "processes"
    }
    late = [
        i for i, row in enumerate(rows) if "compiled" in row.get("rung", "") or row["part"] == "processes"
    ]
    assert late == list(range(len(rows) - len(late), len(rows)))
    assert len({json.dumps(row) for row in rows}) == len(rows)


def test_prepare_opens_the_model_and_takes_at_most_seven_windows() -> None:
    made = speed_ladder.prepare({"device": "cpu", "n": 1000, "seed": 3, "model": "mnist-unet"})
    assert (made.windows, made.seed, made.model.shape) == (7, 3, (1, 32, 32))


def test_a_row_is_measured_with_one_thread_and_puts_them_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before, seen = torch.get_num_threads(), []

    def measured(*_: object) -> dict[str, Any]:
        seen.append(torch.get_num_threads())
        return {}

    monkeypatch.setattr(machine, "measure", measured)
    torch.set_num_threads(2)
    try:
        speed_ladder.measure(bench(), {"part": "machine"}, {})
        assert (seen, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    "name", ["as it is", "channels-last", "fused AdamW", "checkpointed", "4 micro-batches of 8"]
)
def test_rungs_that_change_no_arithmetic_have_the_same_gradient(name: str) -> None:
    found = training.measure(bench(), {"rung": name})
    assert found["gradient_apart"] < 1e-5 and found["gradients_lost"] == 0
    assert found["peak_bytes"] > 0 and len(found["faster"]) == 3


def test_checkpointing_and_accumulation_keep_less() -> None:
    peaks = {
        name: training.measure(bench(), {"rung": name})["peak_bytes"]
        for name in ("as it is", "checkpointed", "4 micro-batches of 8")
    }
    assert peaks["checkpointed"] < 0.8 * peaks["as it is"]
    assert peaks["4 micro-batches of 8"] < 0.5 * peaks["as it is"]


def test_a_gradient_that_is_lost_or_wrong_is_told() -> None:
    true = [torch.ones(3), torch.ones(2)]
    assert training.difference(true, true) == {"gradient_apart": 0.0, "gradients_lost": 0}
    lost = training.difference([torch.ones(3), torch.zeros(2)], true)
    assert lost["gradients_lost"] == 1 and lost["gradient_apart"] == pytest.approx((2 / 5) ** 0.5, rel=0.1)


def test_flops_of_a_step_are_about_three_evaluations_whatever_the_way() -> None:
    from diffusion_lessons.networks.counting import unet_costs

    made = bench()
    network: Any = made.model.network
    forward = sum(each.flops for each in unet_costs(network.network.config, 8, 8).values())
    step = training.Step(made, replace(training.PLAIN, channels_last=True, fused=True))
    assert 2.8 * forward < step.flops() <= 3 * forward


def test_what_does_not_run_here_is_a_row_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> nn.Module:
        raise RuntimeError("no compiler here\nand more")

    monkeypatch.setattr("diffusion_lessons.training.speed.SpeedMode.compiled", broken)
    for part, name in ((training, "compiled"), (sampling, "compiled")):
        found = part.measure(bench(), {"rung": name})
        assert found["missing"] == "no compiler here" and "faster" not in found


def test_students_and_solvers_are_asked_less_often() -> None:
    ways = sampling.ways(cuda=False)
    assert ways["student of 4 steps"][0].evaluations == 4
    assert ways["guidance 2"][0].evaluations == 2 * ways["as it is"][0].evaluations == 50
    assert all(way.provider != "tensorrt" for way, _ in ways.values())
    assert "ONNX Runtime, tensorrt, batch of 1" in sampling.ways(cuda=True)


@pytest.mark.parametrize("name", ["channels-last", "guidance 2", "batch of 1"])
def test_a_rung_of_sampling_is_measured(name: str) -> None:
    found = sampling.measure(bench(), {"rung": name})
    assert len(found["faster"]) == 3 and found["peak_bytes"] > 0
    if name == "channels-last":
        assert found["pictures_apart"] < 1e-4


def test_attention_tells_formula_bytes_and_clock() -> None:
    found = attention.measure(bench(), {"tokens": 128, "dtype": "float32"})
    assert found["written_largest_bytes"] == 4 * attention.HEADS * 128**2
    assert found["fused_largest_bytes"] < found["written_largest_bytes"]
    assert found["written_bytes_moved"] > found["fused_bytes_moved"]
    assert found["apart"] < 1e-5 and found["fused_trained_seconds"][1] > 0


def test_the_machine_tells_rates() -> None:
    assert machine.measure(bench(), {"dtype": "float32", "side": 64})["flops_a_second"][1] > 1e6
    assert machine.measure(bench(), {"copied": 2**20})["bytes_a_second"][1] > 1e6


def test_each_stage_of_the_network_is_told() -> None:
    made = bench(2)
    found = stages.measure(made, {"batch": 4})["stages"]
    assert list(found) == ["embedding", "stem", "down 0", "down 1", "middle", "up 1", "up 0", "out"]
    network: Any = made.model.network
    assert sum(each["parameters"] for each in found.values()) == sum(p.numel() for p in network.parameters())
    assert all(each["seconds_a_picture"][1] > 0 and each["kept_bytes"] > 0 for each in found.values())
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize("source", data.SOURCES)
def test_every_source_of_pictures_is_read(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "ROWS", 40)
    found = data.measure(bench(), {"source": source})
    assert found["shape"] == [3, 64, 64] and found["pictures_a_second"][1] > 0


def test_several_processes_are_not_timed_on_a_busy_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What was measured before is kept, and the same command goes on."""
    monkeypatch.setattr("psutil.cpu_percent", lambda interval: 80.0)
    monkeypatch.setattr(processes, "cores", lambda: 2)
    assert [row["processes"] for row in processes.settings(cuda=False)] == [1, 1, 2]
    rows: list[dict[str, Any]] = [{"part": "machine"}, {"part": "processes", "processes": 2, "threads": 1}]
    monkeypatch.setattr(machine, "measure", lambda bench, row: {"faster": 1.0})
    experiment = replace(speed_ladder.EXPERIMENT, settings=lambda o: rows, prepare=lambda o: bench())
    with pytest.raises(ValueError, match=r"80% of this machine is busy.*the rows before are kept"):
        experiments.run(experiment, tmp_path / "r.json", {"seed": 0})
    assert len(json.loads((tmp_path / "r.json").read_text())["rows"]) == 1


def test_recomputed_blocks_give_the_same_gradients_with_dropout_and_are_put_back() -> None:
    torch.manual_seed(0)
    network = UNet(UNetConfig(1, 1, 8, (1, 2), attention_levels=(), dropout=0.5)).train()
    for p in network.parameters():
        p.data.add_(0.1 * torch.randn_like(p))
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([1.0, 500.0])

    def gradients() -> list[torch.Tensor]:
        torch.manual_seed(1)
        return list(torch.autograd.grad(network(x, t).square().sum(), list(network.parameters())))

    plain = gradients()
    with recomputed(network, (Stage,)) as number:
        again = gradients()
    assert number == 6  # two on the way down, one in the middle that attends, … each once
    for one, other in zip(plain, again, strict=True):
        torch.testing.assert_close(one, other)
    assert not any("forward" in vars(module) for module in network.modules())
    with (
        pytest.raises(ValueError, match="UNet has no module of the kind LSTM"),
        recomputed(network, (nn.LSTM,)),
    ):
        pass


def test_the_record_has_every_row_but_those_of_several_processes() -> None:
    result = experiments.recorded("speed-ladder")
    done = [row["settings"] for row in result["rows"]]
    wanted = [row for row in speed_ladder.settings({"device": "cpu"}) if row["part"] != "processes"]
    assert [row for row in wanted if row not in done] == []
    by_name = {(row["settings"]["part"], row["settings"].get("rung")): row for row in result["rows"]}
    assert 0.9 < by_name["training", "as it is"]["faster"][1] < 1.1  # a way against itself
    assert 0.9 < by_name["sampling", "as it is"]["faster"][1] < 1.1
