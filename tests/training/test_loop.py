import json
import math
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diffusion_lessons.checkpoint import load_checkpoint
from diffusion_lessons.losses import diffusion_loss
from diffusion_lessons.support.processes import Processes
from diffusion_lessons.targets import V
from diffusion_lessons.training import loop as training
from diffusion_lessons.training.ema import EMA
from diffusion_lessons.training.loop import NonFiniteLossError, Trainer, train
from diffusion_lessons.training.run_folder import METRICS, MODEL, STATE, TrainingState
from diffusion_lessons.training.speed import SpeedMode
from diffusion_lessons.training.tasks import Denoising
from tests.tiny_training import Deaf, assert_same_run, saved_state, tiny_dataset, tiny_recipe, tiny_task


def test_a_run_leaves_a_model_that_learnt_and_metrics_that_say_how(tmp_path: Path) -> None:
    metrics = train(tiny_task(steps=80, lr=8e-3), tmp_path, device="cpu", progress=False)
    assert sorted(os.listdir(tmp_path)) == [METRICS, MODEL, STATE]
    assert json.loads((tmp_path / METRICS).read_text()) == metrics
    assert {"steps", "images_per_second", "loss", "seconds", "seed", "device", "versions"} <= metrics.keys()
    assert (metrics["steps"], metrics["images"], metrics["device"], metrics["seed"]) == (80, 640, "cpu", 0)
    assert metrics["mode"] == "eager float32"
    assert metrics["images_per_second"] == pytest.approx(640 / metrics["seconds"])
    assert metrics["curve"]["step"] == list(range(1, 81))
    losses = metrics["curve"]["loss"]
    assert losses[0] > 0.6  # the mean square of v, since a fresh network outputs zeros
    assert metrics["loss"] == pytest.approx(sum(losses[-8:]) / 8)
    assert metrics["loss"] < 0.4

    model = load_checkpoint(tmp_path / MODEL)
    assert model.classes == ("top", "middle", "bottom")
    assert model.shape == (1, 8, 8)
    assert model.recipe["lr"] == 8e-3
    assert model.info["steps"] == 80


def test_model_file_holds_the_averaged_weights_and_the_state_the_raw_ones(tmp_path: Path) -> None:
    train(tiny_task(), tmp_path, device="cpu", progress=False)
    tensors, _ = saved_state(tmp_path)
    model = load_checkpoint(tmp_path / MODEL).network
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, tensors[f"ema.{name}"])
    assert not torch.equal(tensors["ema.stem.weight"], tensors["network.stem.weight"])


def test_steps_are_what_adamw_on_the_loss_does(tmp_path: Path) -> None:
    """The whole loop against eight plain lines."""
    recipe = tiny_recipe(steps=5, grad_clip=0.5, decay="linear")
    train(Denoising(recipe, tiny_dataset()), tmp_path, device="cpu", progress=False)

    trainer = Trainer(Denoising(recipe, tiny_dataset()), tmp_path, Processes("cpu"))
    path = recipe.build_path()
    network = recipe.build_network(tiny_dataset()).to(memory_format=trainer.task.layout)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01, fused=True)
    ema = EMA(network, 0.999)
    for step in range(5):
        loss = diffusion_loss(network, path, V, *trainer.task.batch(step)).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 0.5)
        optimizer.param_groups[0]["lr"] = 2e-3 * min(1, (step + 1) / 3) * (1 - step / 5)
        optimizer.step()
        ema.update(network)
    tensors, _ = saved_state(tmp_path)
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(tensors[f"network.{name}"], parameter.detach(), rtol=0, atol=1e-6)
        torch.testing.assert_close(tensors[f"ema.{name}"], ema.shadow[name], rtol=0, atol=1e-6)


def test_same_seed_same_bytes_and_nothing_global_is_touched(tmp_path: Path) -> None:
    dataset = tiny_dataset()
    images, state = dataset.images.clone(), torch.get_rng_state()
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(
            Denoising(tiny_recipe(seed=seed, dropout=0.2), dataset),
            tmp_path / name,
            device="cpu",
            progress=False,
        )
        torch.rand(3)
    assert_same_run(tmp_path / "a", tmp_path / "b")
    a, c = (saved_state(tmp_path / name)[0]["network.conv_out.weight"] for name in "ac")
    assert not torch.equal(a, c)
    assert torch.equal(dataset.images, images)
    torch.set_rng_state(state)


def test_random_state_of_the_caller_is_left_alone(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    train(tiny_task(dropout=0.2, steps=2), tmp_path, device="cpu", progress=False)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("changes", [{"images": 33}, {"steps": 5}])
def test_budgets_end_where_they_say(tmp_path: Path, changes: dict[str, int]) -> None:
    assert train(tiny_task(**changes), tmp_path, device="cpu", progress=False)["steps"] == 5


def test_budget_in_minutes(tmp_path: Path) -> None:
    metrics = train(tiny_task(minutes=0.02), tmp_path, device="cpu", progress=False)
    assert 1.2 <= metrics["seconds"] < 6
    assert metrics["steps"] > 0


def test_bar_shows_the_loss_and_the_time_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tiny_task(), tmp_path, device="cpu")
    shown = capsys.readouterr()
    assert "100%" in shown.err
    assert "loss 0." in shown.err
    assert shown.out == ""


# Loss and gradient that are not finite -------------------------------------------------------------


def spoil(monkeypatch: pytest.MonkeyPatch, step: int, spoiled: object) -> None:
    """From this step on, the loss goes through `spoiled`."""
    loss, batch = Denoising.loss, Denoising.batch
    seen = [0]

    def counted(self: Denoising, step: int, most: int | None = None) -> Any:
        seen[0] = step
        return batch(self, step, most)

    def spoilt(self: Denoising, forward: nn.Module, batch: Any) -> Tensor:
        value = loss(self, forward, batch)
        return spoiled(value) if seen[0] >= step else value  # type: ignore[operator]

    monkeypatch.setattr(Denoising, "batch", counted)
    monkeypatch.setattr(Denoising, "loss", spoilt)


class InfiniteGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return gradient * math.inf


@pytest.mark.parametrize(
    ("spoiled", "words"),
    [
        (lambda loss: loss * math.nan, "the loss is nan"),
        (lambda loss: loss + math.inf, "the loss is inf"),
        (InfiniteGradient.apply, "the gradient's norm (inf|nan)"),
    ],
)
@pytest.mark.parametrize("every", [0.0, 1e9])
def test_non_finite_loss_stops_with_the_step_and_keeps_good_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoiled: object, words: str, every: float
) -> None:
    spoil(monkeypatch, 7, spoiled)
    recipe = tiny_recipe(checkpoint_every=every)
    with pytest.raises(NonFiniteLossError, match=rf"stopped at step 7: .*{words}.*lower lr than 0.002"):
        train(Denoising(recipe, tiny_dataset()), tmp_path, device="cpu", progress=False)
    tensors, description = saved_state(tmp_path)
    assert all(t.isfinite().all() for t in tensors.values())
    assert description["step"] == (7 if every == 0 else 0)
    assert not description["finished"]
    assert not (tmp_path / METRICS).exists()
    if every == 0:
        assert all(p.isfinite().all() for p in load_checkpoint(tmp_path / MODEL).network.parameters())


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Trainer.step

    def poison(self: Trainer, done: float) -> None:
        step(self, done)
        if self.state.step == 5:
            next(self.state.network.parameters()).data[0] = math.inf

    monkeypatch.setattr(Trainer, "step", poison)
    with pytest.raises(NonFiniteLossError, match=r"step [56]: .*(a weight is not a finite number|norm nan)"):
        train(tiny_task(checkpoint_every=0.0), tmp_path, device="cpu", progress=False)
    tensors, description = saved_state(tmp_path)
    assert description["step"] == 4
    assert all(t.isfinite().all() for t in tensors.values())


def test_a_learning_rate_far_too_high_is_found_out(tmp_path: Path) -> None:
    recipe = tiny_recipe(lr=1e38, warmup=0, steps=50)
    with pytest.raises(NonFiniteLossError, match="training stopped at step"):
        train(Denoising(recipe, tiny_dataset()), tmp_path, device="cpu", progress=False)


def test_scaled_fp16_may_skip_steps_but_not_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(tiny_task(precision="fp16"), tmp_path, Processes("cpu"))
    if trainer.mode.precision != "fp16":
        pytest.skip(f"fp16 does not hold here: {trainer.checks[0]}")
    assert trainer.state.scaler.is_enabled()
    norm, loss = torch.tensor(math.inf), torch.tensor(0.5)
    for _ in range(training.MAX_SKIPPED):
        trainer.meter.add(loss, norm)
        trainer.state.step += 1
    trainer.read()
    trainer.meter.add(loss, norm)
    trainer.state.step += 1
    with pytest.raises(NonFiniteLossError, match=f"step {training.MAX_SKIPPED}: "):
        trainer.read()


# Speed modes ---------------------------------------------------------------------------------------


def test_refused_mode_is_told_and_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SpeedMode, "compiled", lambda mode, net: Deaf(net) if mode.compile else net)
    with pytest.warns(RuntimeWarning, match=r"compiled bf16 refused.*training goes on in eager bf16"):
        metrics = train(tiny_task(precision="bf16", compile="on"), tmp_path, device="cpu", progress=False)
    assert metrics["mode"] == "eager bf16"
    assert len(metrics["checks"]) == 2
    assert all(math.isfinite(loss) for loss in metrics["curve"]["loss"])


def test_bf16_follows_float32(tmp_path: Path) -> None:
    curves = []
    for precision in ("float32", "bf16"):
        recipe = tiny_recipe(precision=precision, steps=20)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            metrics = train(
                Denoising(recipe, tiny_dataset()), tmp_path / precision, device="cpu", progress=False
            )
        curves.append(torch.tensor(metrics["curve"]["loss"]))
    assert (curves[0] - curves[1]).abs().max() < 0.03
    assert not torch.equal(*curves)
    assert load_checkpoint(tmp_path / "bf16" / MODEL).network.stem.weight.dtype == torch.float32


# Checkpoints in time -------------------------------------------------------------------------------


def test_checkpoints_are_written_at_the_interval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock on which a step takes a tenth of a second, and nothing else any time."""
    now, saved = [0.0], []
    step, save = Trainer.step, TrainingState.save

    def timed(self: Trainer, done: float) -> None:
        step(self, done)
        now[0] += 0.1

    def noted(self: TrainingState, *args: object) -> None:
        saved.append(self.step)
        save(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(training.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(Trainer, "step", timed)
    monkeypatch.setattr(TrainingState, "save", noted)
    recipe = tiny_recipe(minutes=0.03, checkpoint_every=0.45)  # 1.8 seconds: 18 steps, one saved in five
    train(Denoising(recipe, tiny_dataset()), tmp_path, device="cpu", progress=False)
    assert saved == [0, 5, 10, 15, 18]


def test_full_disk_ends_with_one_line_and_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Path.write_bytes
    written = []

    def write(self: Path, data: bytes) -> int:
        written.append(self.name)
        if len(written) > 4:
            plain(self, data[:100])
            raise OSError(28, "No space left on device")
        return plain(self, data)

    monkeypatch.setattr(Path, "write_bytes", write)
    with pytest.raises(ValueError, match="No space left on device; free some space"):
        train(tiny_task(checkpoint_every=0.0), tmp_path, device="cpu", progress=False)
    assert saved_state(tmp_path)[1]["step"] in (1, 2)
    load_checkpoint(tmp_path / MODEL)
    assert [name for name in os.listdir(tmp_path) if "partial" in name] == []
    monkeypatch.undo()
    train(tiny_task(checkpoint_every=0.0), tmp_path, resume=True, device="cpu", progress=False)


def test_folder_that_cannot_be_written_is_refused_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"cannot write into the folder .*file"):
        train(tiny_task(), tmp_path / "file", device="cpu", progress=False)


# Imports and GPUs ----------------------------------------------------------------------------------


def test_import_needs_no_plotting_no_command_line_and_no_launcher() -> None:
    script = (
        "import sys, diffusion_lessons.training.loop\n"
        "heavy = {'matplotlib', 'sklearn', 'tyro', 'accelerate', 'IPython', 'diffusers'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "tf32", "fp16", "auto"])
def test_training_on_a_gpu_follows_the_cpu_and_never_waits(tmp_path: Path, precision: str) -> None:
    recipe = tiny_recipe(precision=precision, steps=40)
    metrics = train(Denoising(recipe, tiny_dataset()), tmp_path / "gpu", device="cuda", progress=False)
    assert metrics["curve"]["loss"][-1] < metrics["curve"]["loss"][0]
    load_checkpoint(tmp_path / "gpu" / MODEL)
    trainer = Trainer(Denoising(recipe, tiny_dataset()), tmp_path / "t", Processes("cuda"))
    trainer.step(0.0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(5):
            trainer.step(0.1)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@pytest.mark.slow
def test_compiled_training_on_a_gpu(tmp_path: Path) -> None:
    recipe = tiny_recipe(precision="auto", compile="on", steps=30)
    metrics = train(Denoising(recipe, tiny_dataset()), tmp_path, device="cuda", progress=False)
    assert "compiled" in metrics["mode"], metrics["checks"]
