"""Progressive distillation, against exact denoisers and against the steps it should replace."""

from pathlib import Path
from typing import Any

import pytest
import torch

from diffusion_lessons.checkpoint import Checkpoint, load_checkpoint
from diffusion_lessons.guidance import ClassifierFreeGuidance, Clip
from diffusion_lessons.mixtures import GaussianMixture
from diffusion_lessons.paths import DiscreteVP, NoisePath, StraightPath, add_noise
from diffusion_lessons.samplers import ddim_step, sample
from diffusion_lessons.schedules import cosine_betas
from diffusion_lessons.targets import Estimate
from diffusion_lessons.training.distillation import Distillation, distillation_target, two_steps
from diffusion_lessons.training.loop import train
from diffusion_lessons.training.tasks import Batch, Denoising
from tests.tiny_checkpoint import tiny
from tests.tiny_training import assert_same_run, tiny_dataset, tiny_recipe

CLUSTERS = GaussianMixture([[-1.0, -0.5], [1.0, -0.6], [0.1, 1.0]], [0.2, 0.1, 0.15])
PATHS = [DiscreteVP(cosine_betas()), StraightPath()]


@pytest.mark.parametrize("path", PATHS, ids=["vp", "straight"])
@pytest.mark.parametrize("n", [1, 2, 4, 32])
def test_one_step_with_the_target_lands_where_two_steps_do(path: NoisePath, n: int) -> None:
    """At the last step, where σ'' = 0, too."""
    teacher = CLUSTERS
    x = torch.randn(500, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    levels = path.levels(2 * n)
    for i in {0, n - 1}:
        now, middle, next = levels[2 * i : 2 * i + 3]
        reached = two_steps(teacher, x, now, middle, next)
        target = Estimate.from_x0(distillation_target(x, reached, now, next), x, now)
        assert torch.allclose(ddim_step(x, target, now, next), reached, atol=1e-9)
    assert torch.equal(reached, sample(teacher, x, levels[-3:]))


def test_each_sample_may_have_levels_of_its_own() -> None:
    path, teacher = PATHS[0], CLUSTERS
    x = torch.randn(3, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    times = torch.tensor([[1000.0, 750, 500], [500, 250, 0], [32, 16, 0]])

    def apart(i: int) -> torch.Tensor:
        now, middle, next = (path(t) for t in times[i])
        one = x[i : i + 1]
        return distillation_target(one, two_steps(teacher, one, now, middle, next), now, next)

    now, middle, next = (path(t) for t in times.T)
    together = distillation_target(x, two_steps(teacher, x, now, middle, next), now, next)
    assert torch.allclose(together, torch.cat([apart(i) for i in range(3)]))


def test_a_target_upwards_is_refused() -> None:
    path, x = PATHS[0], torch.zeros(2, 2)
    with pytest.raises(ValueError, match="distillation goes down"):
        distillation_target(x, x, path(10.0), path(20.0))
    with pytest.raises(ValueError, match="same shape"):
        distillation_target(x, x[:1], path(20.0), path(10.0))


def student_of(teacher: Checkpoint, steps: int, guidance: float = 1.0) -> Distillation:
    return Distillation(tiny_recipe(), tiny_dataset(), teacher, steps, guidance).place()


@pytest.mark.parametrize("steps", [1, 2, 3, 8])
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_a_batch_is_taught_at_the_students_times_and_keeps_its_noisy_pictures(
    steps: int, guidance: float
) -> None:
    model = tiny()
    generator = torch.Generator().manual_seed(0)
    x0, noise = (torch.randn(10, 1, 8, 8, generator=generator) for _ in range(2))
    batch = Batch(x0, noise, torch.arange(10, 101, 10, dtype=torch.float64), torch.arange(10) % 3)
    taught = student_of(model, steps, guidance).taught(batch)
    student = [level.t for level in model.path.levels(steps)]
    assert set(taught.t.tolist()) <= {float(t) for t in student[:-1]}
    assert bool((taught.t >= batch.t - 1).all())  # rounded up, to a student's time that is itself rounded
    now = model.path(taught.t)
    x = add_noise(x0, noise, now)
    assert torch.allclose(add_noise(taught.x0, taught.noise, now), x, atol=1e-5)
    assert taught.condition is batch.condition

    guided = ClassifierFreeGuidance(model.denoiser(), guidance)
    last = taught.t == student[-2]
    levels = [level for level in model.path.levels(2 * steps)][-3:]
    with torch.no_grad():
        expected = sample(Clip(guided), x[last], levels, (torch.arange(10) % 3)[last])
    assert torch.allclose(taught.x0[last], expected, atol=1e-4)


def test_times_are_spread_evenly_over_the_students() -> None:
    model = tiny()
    times = torch.arange(1, 101, dtype=torch.float64)
    pictures = torch.zeros(100, 1, 8, 8)
    taught = student_of(model, 4).taught(Batch(pictures, pictures + 1, times, torch.zeros(100).long()))
    assert taught.t.unique(return_counts=True)[1].tolist() == [25, 25, 25, 25]


def test_a_student_starts_from_its_teacher_and_says_how_it_is_sampled(tmp_path: Path) -> None:
    dataset = tiny_dataset()
    train(Denoising(tiny_recipe(), dataset), tmp_path / "teacher", device="cpu", progress=False)
    teacher = load_checkpoint(tmp_path / "teacher" / "model.safetensors")
    assert teacher.sampling == {"steps": 25, "guidance": 2.0}
    before = {name: weight.clone() for name, weight in teacher.network.state_dict().items()}
    recipe = tiny_recipe(lr=1e-9, steps=2, class_dropout=0.0, weight="truncated-snr")
    task = Distillation(recipe, dataset, teacher, 2, 2.0)
    train(task, tmp_path / "student", device="cpu", progress=False)
    student = load_checkpoint(tmp_path / "student" / "model.safetensors")
    assert student.sampling == {"steps": 2, "guidance": 1.0}
    for name, weight in student.network.state_dict().items():
        assert torch.allclose(weight, before[name], atol=1e-6), name
        assert torch.equal(teacher.network.state_dict()[name], before[name]), name
    assert not any(weight.grad is not None for weight in teacher.network.parameters())


def test_a_student_comes_closer_to_its_teachers_two_steps(tmp_path: Path) -> None:
    dataset = tiny_dataset()
    task = Denoising(tiny_recipe(steps=60, lr=5e-3), dataset)
    train(task, tmp_path / "teacher", device="cpu", progress=False)
    teacher = load_checkpoint(tmp_path / "teacher" / "model.safetensors")
    recipe = tiny_recipe(steps=40, lr=5e-3, class_dropout=0.0, weight="truncated-snr", ema_decay=0.9)
    task = Distillation(recipe, dataset, teacher, 1)
    train(task, tmp_path / "student", device="cpu", progress=False)
    student = load_checkpoint(tmp_path / "student" / "model.safetensors")

    noise = torch.randn(60, 1, 8, 8, generator=torch.Generator().manual_seed(7))
    labels, path = torch.arange(60) % 3, teacher.path
    wanted = sample(Clip(teacher.denoiser()), noise, path.levels(2), labels)
    before = sample(Clip(teacher.denoiser()), noise, path.levels(1), labels)
    after = sample(Clip(student.denoiser()), noise, path.levels(1), labels)
    assert (after - wanted).square().mean() < 0.6 * (before - wanted).square().mean()


def test_a_killed_distillation_is_resumed_as_if_nothing_had_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, teacher = tiny_dataset(), tiny()
    recipe = tiny_recipe(checkpoint_every=0.0)
    how: dict[str, Any] = {"device": "cpu", "progress": False}
    train(Distillation(recipe, dataset, teacher, 2, 2.0), tmp_path / "whole", **how)
    plain = Distillation.batch

    def killed(self: Distillation, step: int, most: int | None = None) -> Batch:
        if step == 6:
            raise KeyboardInterrupt
        return plain(self, step, most)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Distillation, "batch", killed)
        train(Distillation(recipe, dataset, teacher, 2, 2.0), tmp_path / "killed", **how)
    train(Distillation(recipe, dataset, teacher, 2, 2.0), tmp_path / "killed", resume=True, **how)
    assert_same_run(tmp_path / "killed", tmp_path / "whole")


def test_levels_of_a_student_are_every_second_one_of_its_teacher() -> None:
    for T in (1000, 100):
        path = DiscreteVP(cosine_betas(T))
        for n in (1, 2, 3, 4, 7, 8, 16, 32):
            times = [float(level.t) for level in path.levels(2 * n)]
            assert times[::2] == [float(level.t) for level in path.levels(n)]
