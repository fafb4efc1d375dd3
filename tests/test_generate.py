"""From a checkpoint and labels to pictures."""

import unicodedata
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from diffusion_lessons.generate import generate, labels_for, save_samples, save_trajectory, walk
from diffusion_lessons.metrics.cost import count_evaluations
from diffusion_lessons.samplers import SAMPLERS, ddpm_step
from tests.tiny_checkpoint import tiny


def test_labels_go_round_the_classes_or_are_the_wanted_one() -> None:
    model = tiny()
    around, by_number, by_name = labels_for(model, 5), labels_for(model, 2, 1), labels_for(model, 2, "b")
    assert around is not None and around.tolist() == [0, 1, 2, 0, 1]
    assert by_number is not None and by_name is not None
    assert by_number.tolist() == by_name.tolist() == [1, 1]
    assert labels_for(tiny(None), 4) is None


@pytest.mark.parametrize(
    ("n", "label", "message"),
    [
        (0, None, "at least 1, got 0"),
        (2, 3, "out of range: this model knows 0 to 2"),
        (2, -1, "out of range"),
        (2, "cat", "unknown class 'cat'"),
        (2, "²", "unknown class '²'"),
        (2, "--1", "unknown class '--1'"),
    ],
)
def test_labels_that_the_model_does_not_know_are_refused(
    n: int, label: int | str | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        labels_for(tiny(), n, label)


@pytest.mark.parametrize("known", ["NFC", "NFD"])
@pytest.mark.parametrize("asked", ["NFC", "NFD"])
@pytest.mark.parametrize("name", ["café", "Ångström", "가나"])
def test_a_label_may_be_composed_or_taken_apart(name: str, known: str, asked: str) -> None:
    model = replace(tiny(), classes=("a", unicodedata.normalize(known, name), "b"))  # type: ignore[arg-type]
    labels = labels_for(model, 2, unicodedata.normalize(asked, name))  # type: ignore[arg-type]
    assert labels is not None and labels.tolist() == [1, 1]


@pytest.mark.parametrize("seed", [-1, 2**63, 2**64 - 1, 2**64])
def test_a_seed_has_63_bits(seed: int) -> None:
    with pytest.raises(ValueError, match=rf"from 0 to 2.63 - 1 = \d+ .*, got {seed}"):
        generate(tiny(), None, 2, steps=2, device="cpu", seed=seed)
    assert generate(tiny(None), None, 1, steps=1, device="cpu", seed=2**63 - 1).shape == (1, 1, 8, 8)


def test_a_model_without_labels_takes_none_and_no_guidance() -> None:
    model = tiny(None)
    with pytest.raises(ValueError, match="trained without labels"):
        labels_for(model, 2, 1)
    with pytest.raises(ValueError, match="needs a model with labels"):
        generate(model, None, 2, steps=2, guidance=2.0, device="cpu")
    assert generate(model, None, 2, steps=2, device="cpu").shape == (2, 1, 8, 8)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_is_reproducible_and_in_range(sampler: str) -> None:
    model, labels = tiny(), torch.tensor([0, 1, 2])
    first = generate(model, labels, seed=3, steps=4, sampler=sampler, device="cpu")
    again = generate(model, labels, seed=3, steps=4, sampler=sampler, device="cpu")
    other = generate(model, labels, seed=4, steps=4, sampler=sampler, device="cpu")
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    assert first.abs().max() <= 1 + 1e-5  # clipping comes after guidance


def test_a_sample_does_not_depend_on_its_batch() -> None:
    model, labels = tiny(), torch.tensor([0, 1, 2, 0, 1])
    whole = generate(model, labels, steps=4, device="cpu")
    in_twos = generate(model, labels, steps=4, batch=2, device="cpu")
    torch.testing.assert_close(whole, in_twos, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_picture_0_is_the_same_whatever_else_is_drawn(sampler: str) -> None:
    how = {"steps": 6, "sampler": sampler, "seed": 5, "device": "cpu"}
    alone = generate(tiny(), torch.tensor([0]), **how)
    for labels in (torch.tensor([0, 1]), torch.tensor([0, 2, 1, 1, 0])):
        torch.testing.assert_close(generate(tiny(), labels, **how)[:1], alone, atol=1e-4, rtol=0)
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 0])
    whole, in_threes = (generate(tiny(), labels, batch=batch, **how) for batch in (7, 3))
    torch.testing.assert_close(whole, in_threes, atol=1e-4, rtol=0)


def test_no_noise_is_used_twice() -> None:
    """Start and steps, pictures and seeds: all from streams of their own."""
    used: list[torch.Tensor] = []

    def step(x, estimate, now, next, noise):  # type: ignore[no-untyped-def]
        used.append(noise)
        return ddpm_step(x, estimate, now, next, noise)

    for seed in range(4):
        used.append(torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(seed)))  # the start
        generate(tiny(), torch.tensor([0, 1]), seed=seed, steps=3, step=step, device="cpu")
    pictures = torch.cat(used).flatten(1)  # 4 · (1 + 3) · 2 pictures of 64 numbers
    alike = torch.corrcoef(pictures) - torch.eye(len(pictures))
    assert len(pictures) == 32
    assert alike.abs().max() < 0.6  # 5 standard errors of independent noise
    assert abs(pictures.mean()) < 0.1
    assert abs(pictures.std() - 1) < 0.1


def test_the_network_of_the_caller_stays_where_and_as_it_is() -> None:
    model = tiny()
    model.network.train()
    weight = model.network.stem.weight
    layout = weight.stride()
    before = {name: t.clone() for name, t in model.network.state_dict().items()}
    with count_evaluations(model.network) as count:
        generate(model, torch.tensor([0, 1]), steps=3, device="cpu")
    assert model.network.training
    assert model.network.stem.weight is weight
    assert weight.stride() == layout
    assert all(torch.equal(t, before[name]) for name, t in model.network.state_dict().items())
    assert count.pictures == 3 * 2 * 2  # hooks of the caller still count what the copy is asked


def test_a_walk_casts_its_weights_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    model = tiny()
    shape = model.network.stem.weight.shape

    class Casts(TorchDispatchMode):
        """Counts how often a tensor of that shape becomes bf16."""

        count = 0

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            to = (kwargs or {}).get("dtype")
            self.count += to is torch.bfloat16 and args[0].shape == shape
            return function(*args, **(kwargs or {}))

    with Casts() as casts:
        generate(model, torch.tensor([0, 1]), steps=4, device="cpu")
    assert casts.count == 1


def test_guidance_and_labels_change_the_picture() -> None:
    model = tiny()
    labels = torch.tensor([0, 1])
    plain = generate(model, labels, steps=4, guidance=1.0, device="cpu")
    assert not torch.allclose(plain, generate(model, labels, steps=4, guidance=3.0, device="cpu"), atol=1e-4)
    assert not torch.allclose(
        plain, generate(model, labels.flip(0), steps=4, guidance=1.0, device="cpu"), atol=1e-4
    )


def test_a_step_of_ones_own_is_what_runs() -> None:
    model, labels = tiny(), torch.tensor([0, 1])
    given = generate(model, labels, steps=3, step=ddpm_step, device="cpu")
    assert torch.equal(given, generate(model, labels, steps=3, sampler="ddpm", device="cpu"))
    with pytest.raises(ValueError, match="goes with the sampler 'ddim'"):
        generate(model, labels, steps=3, step=ddpm_step, sampler="heun", device="cpu")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"steps": 0}, "from 1 to T = 100, got 0"),
        ({"steps": 101}, "from 1 to T = 100, got 101"),
        ({"guidance": -1.0}, "a guidance scale is a number ≥ 0"),
        ({"sampler": "ddimm"}, "did you mean 'ddim'"),
        ({"precision": "bf32"}, "unknown precision 'bf32'"),
        ({"spacing": "trailling"}, "did you mean 'trailing'"),
    ],
)
def test_bad_settings_are_refused(how: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate(tiny(), torch.tensor([0]), device="cpu", **how)


def test_samples_are_saved_as_arrays(tmp_path: Path) -> None:
    labels = torch.tensor([2, 0])
    save_samples(torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1).expand(2, 1, 4, 5), labels, tmp_path / "grey.npz")
    with np.load(tmp_path / "grey.npz") as grey:
        assert grey["x"].dtype == np.uint8
        assert grey["x"].shape == (2, 4, 5)
        assert grey["x"][:, 0, 0].tolist() == [0, 255]
        assert grey["y"].tolist() == [2, 0]
    save_samples(torch.zeros(2, 3, 4, 5), None, tmp_path / "colour.npz")
    with np.load(tmp_path / "colour.npz") as colour:
        assert colour["x"].shape == (2, 4, 5, 3)
        assert "y" not in colour


def test_a_trajectory_has_a_frame_for_each_level(tmp_path: Path) -> None:
    from PIL import Image

    save_trajectory(tiny(), torch.tensor([0, 1]), 2, tmp_path / "walk.gif", steps=5, device="cpu")
    with Image.open(tmp_path / "walk.gif") as walk:
        assert getattr(walk, "n_frames", 1) == 6


def test_walk_yields_the_levels_from_noise_to_data() -> None:
    model = tiny()
    times = [
        float(level.t) for level, _, _ in walk(model, torch.tensor([0]), torch.zeros(1, 1, 8, 8), steps=4)
    ]
    assert times == [100, 75, 50, 25, 0]


def test_a_distilled_model_is_sampled_as_it_was_distilled_unless_told_otherwise() -> None:
    plain, labels = tiny(), torch.tensor([0, 1, 2])
    model = replace(plain, info={"sampling": {"steps": 2, "guidance": 1.0}})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = generate(model, labels, device="cpu")
        generate(model, labels, steps=1, device="cpu")  # t = T is a time that it knows
    assert torch.equal(ours, generate(plain, labels, steps=2, guidance=1.0, device="cpu"))
    assert not torch.equal(ours, generate(plain, labels, device="cpu"))
    for odd, words in (({"steps": 3}, "t = 67"), ({"guidance": 2.0}, "guidance 2")):
        with pytest.warns(RuntimeWarning, match=f"distilled for 2 steps at guidance 1.*nothing of {words}"):
            generate(model, labels, device="cpu", **odd)
