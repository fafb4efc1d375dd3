"""Nothing is lost: stopped in every way there is, a run goes on to the same weights, bit for bit."""

import multiprocessing
import os
import random
import signal
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch

from diffusion_lessons.checkpoint import load_checkpoint, read_tensors, write_tensors
from diffusion_lessons.support.processes import Processes
from diffusion_lessons.training.loop import Trainer, TrainingInterrupted, train
from diffusion_lessons.training.recipe import Recipe
from diffusion_lessons.training.run_folder import METRICS, MODEL, STATE
from diffusion_lessons.training.tasks import Denoising
from tests.tiny_training import assert_same_run, saved_state, tiny_dataset, tiny_recipe, tiny_task


class Crash(Exception):
    pass


def at_step(monkeypatch: pytest.MonkeyPatch, step: int, action: Any) -> None:
    plain = Trainer.step

    def stepping(self: Trainer, done: float) -> None:
        if self.state.step == step:
            action()
        plain(self, done)

    monkeypatch.setattr(Trainer, "step", stepping)


def crash_at(step: int, recipe: Recipe, folder: Path, resume: bool = False) -> None:
    """Train until an error that nobody foresaw, at the start of a step."""

    def crash() -> None:
        raise Crash

    with pytest.MonkeyPatch.context() as patch:
        at_step(patch, step, crash)
        with pytest.raises(Crash):
            train(Denoising(recipe, tiny_dataset()), folder, resume=resume, device="cpu", progress=False)


@pytest.mark.parametrize(
    ("changes", "stops"),
    [
        ({"steps": 12, "dropout": 0.2}, (1,)),
        ({"steps": 12, "dropout": 0.2}, (5, 6)),
        ({"images": 90, "decay": "linear"}, (11,)),
        ({"steps": 12, "precision": "bf16", "channels_last": False}, (4, 9)),
        ({"steps": 12, "precision": "fp16"}, (7,)),
    ],
)
def test_a_crashed_run_goes_on_to_the_same_weights_bit_for_bit(
    tmp_path: Path, changes: dict[str, Any], stops: tuple[int, ...]
) -> None:
    recipe = tiny_recipe(**changes, checkpoint_every=0.0)
    train(Denoising(recipe, tiny_dataset()), tmp_path / "whole", device="cpu", progress=False)
    for number, stop in enumerate(stops):
        crash_at(stop, recipe, tmp_path / "cut", resume=number > 0)
        assert saved_state(tmp_path / "cut")[1]["step"] == stop
        torch.rand(7)  # other use of the global generator in between
    metrics = train(
        Denoising(recipe, tiny_dataset()), tmp_path / "cut", resume=True, device="cpu", progress=False
    )
    assert metrics["steps"] == 12
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_weights_of_the_model_file_are_the_same_too(tmp_path: Path) -> None:
    recipe = tiny_recipe(checkpoint_every=0.0)
    train(Denoising(recipe, tiny_dataset()), tmp_path / "whole", device="cpu", progress=False)
    crash_at(7, recipe, tmp_path / "cut")
    train(Denoising(recipe, tiny_dataset()), tmp_path / "cut", resume=True, device="cpu", progress=False)
    a, b = (load_checkpoint(tmp_path / name / MODEL).network.state_dict() for name in ("whole", "cut"))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_steps_since_the_last_checkpoint_are_done_again(tmp_path: Path) -> None:
    """The usual crash: the last checkpoint is older than the last step."""
    recipe = tiny_recipe()  # one checkpoint at the start, none before the end
    train(Denoising(recipe, tiny_dataset()), tmp_path / "whole", device="cpu", progress=False)
    crash_at(9, recipe, tmp_path / "cut")
    assert saved_state(tmp_path / "cut")[1]["step"] == 0
    train(Denoising(recipe, tiny_dataset()), tmp_path / "cut", resume=True, device="cpu", progress=False)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_saves_says_how_to_go_on_and_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    train(tiny_task(), tmp_path / "whole", device="cpu", progress=False)
    handler = signal.getsignal(number)
    at_step(monkeypatch, 5, lambda: os.kill(os.getpid(), number))
    with pytest.raises(TrainingInterrupted) as stopped:
        train(tiny_task(), tmp_path / "cut", device="cpu", progress=False)
    monkeypatch.undo()
    assert "stopped at step 6, 50% of the budget" in str(stopped.value)
    assert "--resume" in str(stopped.value)
    assert str(tmp_path / "cut") in str(stopped.value)
    assert isinstance(stopped.value, KeyboardInterrupt)
    assert signal.getsignal(number) is handler
    assert load_checkpoint(tmp_path / "cut" / MODEL).info["steps"] == 6
    train(tiny_task(), tmp_path / "cut", True, "cpu", progress=False)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_time_spent_before_counts_against_a_budget_in_minutes(tmp_path: Path) -> None:
    recipe = tiny_recipe(minutes=1, checkpoint_every=0.0)
    crash_at(3, recipe, tmp_path)
    tensors, description = read_tensors(tmp_path / STATE, "training state")
    assert 0 < description["seconds"] < 60
    write_tensors(tmp_path / STATE, tensors, description | {"seconds": 59.8})
    start = time.perf_counter()
    metrics = train(Denoising(recipe, tiny_dataset()), tmp_path, resume=True, device="cpu", progress=False)
    assert time.perf_counter() - start < 30
    assert metrics["seconds"] >= 60


# What cannot be resumed ----------------------------------------------------------------------------


@pytest.fixture
def cut(tmp_path: Path) -> Path:
    crash_at(3, tiny_recipe(checkpoint_every=0.0), tmp_path / "run")
    return tmp_path / "run"


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize("finished", [False, True])
def test_a_folder_that_holds_a_run_is_not_overwritten(cut: Path, finished: bool) -> None:
    recipe = tiny_recipe(checkpoint_every=0.0)
    if finished:
        train(Denoising(recipe, tiny_dataset()), cut, resume=True, device="cpu", progress=False)
    before = contents(cut)
    with pytest.raises(
        ValueError, match=r"already holds a run \(state.safetensors\): go on with it by --resume"
    ):
        train(Denoising(recipe, tiny_dataset()), cut, device="cpu", progress=False)
    assert contents(cut) == before


@pytest.mark.parametrize("name", [MODEL, METRICS])
def test_any_file_of_a_run_protects_its_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("precious")
    with pytest.raises(ValueError, match="already holds a run"):
        train(tiny_task(), tmp_path, device="cpu", progress=False)
    assert contents(tmp_path) == {name: b"precious"}


def refused(folder: Path, message: str, dataset: object = None, **changes: Any) -> None:
    before = contents(folder)
    recipe = tiny_recipe(**({"checkpoint_every": 0.0} | changes))
    with pytest.raises(ValueError, match=message):
        train(Denoising(recipe, dataset or tiny_dataset()), folder, resume=True, device="cpu", progress=False)  # type: ignore[arg-type]
    assert contents(folder) == before


def test_another_recipe_is_refused(cut: Path) -> None:
    refused(cut, "has another recipe: lr is 0.002 there and 0.001 here", lr=1e-3)
    refused(cut, "steps is 12 there and 13 here", steps=13)


def test_a_run_of_an_older_version_goes_on_where_a_new_field_has_its_default(cut: Path) -> None:
    tensors, description = read_tensors(cut / STATE, "training state")
    del description["recipe"]["time_power"]
    write_tensors(cut / STATE, tensors, description)
    refused(cut, "time_power is 1.0 there and 0.5 here", time_power=0.5)
    train(tiny_task(checkpoint_every=0.0), cut, True, "cpu", progress=False)


def test_other_pictures_are_refused(cut: Path) -> None:
    refused(cut, "trained on other pictures", tiny_dataset(seed=1))


def test_a_finished_run_is_refused_without_a_larger_budget(cut: Path) -> None:
    train(tiny_task(checkpoint_every=0.0), cut, resume=True, device="cpu", progress=False)
    words = r"is finished: nothing to resume; it has 12 steps and 0\.\d minutes, and goes on with a larger"
    refused(cut, words)
    refused(cut, words, steps=11)
    refused(cut, words, images=96)
    refused(cut, "lr is 0.002 there and 0.001 here", steps=20, lr=1e-3)
    refused(cut, "trained on other pictures", tiny_dataset(seed=1), steps=20)


@pytest.mark.parametrize("larger", [{"steps": 20}, {"images": 160}])
def test_a_finished_run_goes_on_with_a_larger_budget(tmp_path: Path, larger: dict[str, int]) -> None:
    """From its own weights, moments and averages; killed on the way it still reaches the same ones."""
    recipe = tiny_recipe(**larger, checkpoint_every=0.0)
    for name in ("whole", "cut"):
        train(tiny_task(checkpoint_every=0.0), tmp_path / name, device="cpu", progress=False)
    first, _ = saved_state(tmp_path / "whole")
    metrics = train(Denoising(recipe, tiny_dataset()), tmp_path / "whole", True, "cpu", progress=False)
    assert (metrics["steps"], len(metrics["curve"]["loss"])) == (20, 20)
    assert load_checkpoint(tmp_path / "whole" / MODEL).info["steps"] == 20
    assert not torch.equal(
        first["network.stem.weight"], saved_state(tmp_path / "whole")[0]["network.stem.weight"]
    )
    crash_at(15, recipe, tmp_path / "cut", resume=True)
    ((budget, most),) = larger.items()
    refused(tmp_path / "cut", f"{budget} is {most} there and (None|12) here")
    train(Denoising(recipe, tiny_dataset()), tmp_path / "cut", True, "cpu", progress=False)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_the_same_pictures_may_have_another_name(cut: Path) -> None:
    train(tiny_task(checkpoint_every=0.0, data="folder:moved"), cut, True, "cpu", progress=False)
    assert load_checkpoint(cut / MODEL).data == "folder:moved"


def test_the_record_names_the_weights_it_started_from(tmp_path: Path) -> None:
    recipe, dataset = tiny_recipe(checkpoint_every=0.0), tiny_dataset()
    train(tiny_task(seed=1), tmp_path / "old", device="cpu", progress=False)
    old = load_checkpoint(tmp_path / "old" / MODEL).network

    def task() -> Denoising:
        return Denoising(recipe, dataset, recipe.build_network(dataset, old), "old")

    trainer = Trainer(task(), tmp_path, Processes("cpu"))
    for weights in (dict(trainer.state.network.named_parameters()), trainer.state.ema.shadow):
        assert all(torch.equal(weight, weights[name]) for name, weight in old.named_parameters())
    metrics = train(task(), tmp_path / "new", device="cpu", progress=False)
    assert metrics["from"] == load_checkpoint(tmp_path / "new" / MODEL).info["from"] == "old"
    refused(tmp_path / "new", "another recipe: from is 'old' there and None here")
    train(
        Denoising(tiny_recipe(steps=14, checkpoint_every=0.0), dataset, start="old"),
        tmp_path / "new",
        True,
        "cpu",
        progress=False,
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"base_channels": 16}, "base_channels is 8 there and 16 here"),
        ({"patch": 2}, "patch is 1 there and 2 here"),
    ],
)
def test_weights_of_another_network_are_refused(changes: dict[str, int], words: str) -> None:
    old = tiny_recipe().build_network(tiny_dataset())
    with pytest.raises(ValueError, match=f"start from are of another network: .*{words}"):
        tiny_recipe(**changes).build_network(tiny_dataset(), old)


def test_a_state_without_a_recipe_is_refused(cut: Path) -> None:
    tensors, description = read_tensors(cut / STATE, "training state")
    write_tensors(cut / STATE, tensors, {k: v for k, v in description.items() if k != "recipe"})
    refused(cut, "is no run that this version can go on with: it lacks 'recipe'")


def test_a_damaged_state_is_refused(cut: Path) -> None:
    data = (cut / STATE).read_bytes()
    (cut / STATE).write_bytes(data[: len(data) // 2])
    refused(cut, "state.safetensors is cut short, damaged or no safetensors file")


def test_nothing_to_resume(tmp_path: Path) -> None:
    refused(tmp_path, "nothing to resume in .*: there is no state.safetensors; start without --resume")
    (tmp_path / MODEL).write_text("")
    refused(tmp_path, "nothing to resume")


# kill -9 -------------------------------------------------------------------------------------------


KILLED = {"steps": 40, "checkpoint_every": 0.0, "dropout": 0.1}


def run_until_killed(folder: Path, tell: Connection) -> None:
    """A process of its own that trains, resuming where there is something to resume."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        plain = Trainer.step

        def step(self: Trainer, done: float) -> None:
            tell.send(self.state.step)
            plain(self, done)

        patch.setattr(Trainer, "step", step)
        tell.send(-1)
        resume = (folder / STATE).exists()
        train(tiny_task(**KILLED), folder, resume=resume, device="cpu", progress=False)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kill -9 is for POSIX systems")
def test_20_killed_processes_lose_nothing(tmp_path: Path) -> None:
    """kill -9 at 20 random moments, most of them while a checkpoint is being written."""
    context = multiprocessing.get_context("forkserver")  # imports once, then forks without threads
    context.set_forkserver_preload(["pytest", "torch._dynamo", "diffusion_lessons.training.loop"])

    def start(folder: Path) -> tuple[Any, Connection]:
        mine, theirs = context.Pipe()
        process = context.Process(target=run_until_killed, args=(folder, theirs))
        process.start()
        theirs.close()
        return process, mine

    whole, _ = start(tmp_path / "whole")
    whole.join(60)
    draw, run, reached, moments = random.Random(0), 0, 0, []
    while len(moments) < 20:
        folder = tmp_path / f"run{run}"
        process, told = start(folder)
        with suppress(EOFError):
            for _ in range(
                draw.choice([1, 1, 2, 3, 5, 8, 13])
            ):  # some die while they start, most while they train
                told.recv()
        process.join(draw.uniform(0, 0.04))
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            assert process.exitcode == -signal.SIGKILL
            reached = check_after_kill(folder, reached)
            moments.append(reached)
        else:  # it was faster than the signal
            assert process.exitcode == 0
            assert_same_run(tmp_path / "whole", folder)
            run, reached = run + 1, 0
    last, _ = start(folder)
    last.join(60)
    assert last.exitcode == 0
    assert_same_run(tmp_path / "whole", folder)
    assert not [name for name in os.listdir(folder) if "partial" in name]  # swept up by the resumed run
    assert len(set(moments)) > 3, f"the kills all fell on the same steps: {moments}"


def check_after_kill(folder: Path, reached: int) -> int:
    """Both files whole, nothing that was saved lost; returns the step of the state."""
    if not (folder / STATE).exists():
        assert reached == 0
        return 0
    if (folder / MODEL).exists():
        load_checkpoint(folder / MODEL)
    step = saved_state(folder)[1]["step"]
    assert step >= reached
    return step
