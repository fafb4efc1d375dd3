"""From captions to latents to pictures, with networks so small that seconds are enough."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from diffusion_lessons.checkpoint import load_checkpoint
from diffusion_lessons.data.captioned import scene_rows, scene_tokenizer
from diffusion_lessons.data.captions import WRONGS, read
from diffusion_lessons.data.dataset import Dataset
from diffusion_lessons.data.scenes import draw
from diffusion_lessons.networks import Prompted, Vae, VaeConfig
from diffusion_lessons.networks.clip import TextTransformer, TwoTowers, VisionConfig
from diffusion_lessons.training.autoencoding import Autoencoding, latent_scale
from diffusion_lessons.training.contrast import Contrast
from diffusion_lessons.training.loop import Trainer, train
from diffusion_lessons.training.recipe import Plan, Recipe
from diffusion_lessons.training.run_folder import LOG, MODEL, STATE, log, logged
from diffusion_lessons.training.text_to_image import (
    TextToImage,
    WrongCaptions,
    latents_of,
    prompted,
    text_config,
    widened,
)
from diffusion_lessons.zoo.files import load_autoencoder, load_towers

QUIET: dict[str, Any] = {"device": "cpu", "progress": False}
TOKENIZER = scene_tokenizer()
RECIPE = Recipe(
    data="scenes",
    steps=2,
    batch=4,
    base_channels=16,
    channel_mults=(1, 2),
    attention_levels=(0, 1),
    head_dim=16,
    time_power=0.5,
    precision="float32",
)


def tiny_vae(**changes: Any) -> Vae:
    torch.manual_seed(0)
    shape: dict[str, Any] = {"widths": (8, 16), "blocks_per_level": 1, "groups": 4, "patch": 2, "scale": 1.0}
    return Vae(VaeConfig(**(shape | changes)))


def scenes(n: int = 8, **how: Any) -> Dataset:
    return scene_rows(TOKENIZER, 32, **how).kept(n)


def network(recipe: Recipe = RECIPE, text: Any = None, **how: Any) -> Prompted:
    return prompted(recipe, 4, text or text_config(TOKENIZER, 32, 1), **how)


def task(recipe: Recipe = RECIPE, net: Prompted | None = None, **how: Any) -> TextToImage:
    vae = tiny_vae()
    rows = latents_of(vae, scenes(), seed=0)
    return TextToImage(recipe, rows, net or network(recipe), TOKENIZER, vae, **how)


def plan(**changes: Any) -> Plan:
    return Plan(**({"steps": 2, "batch": 4, "precision": "float32"} | changes))


# Data ----------------------------------------------------------------------------------------------


def test_rows_that_are_kept_are_those_that_are_rendered_one_by_one() -> None:
    rendered = scene_rows(TOKENIZER, 32, wrongs=("colour",), holes=True)
    kept, index = rendered.kept(300), torch.tensor([0, 255, 256, 299])
    images, told = rendered.rows(index)
    assert torch.equal(kept.images[index], images)
    assert all(torch.equal(kept.conditions[name][index], value) for name, value in told.items())
    assert "the first 300 rows of seed 0" in kept.words()


def test_every_word_of_a_caption_is_a_token() -> None:
    caption = "a picture of a small crimson disc to the left of two huge turquoise boxes"
    assert len(TOKENIZER.encode(caption)) == 2 + len(caption.split())


def test_holes_are_boxes_about_an_object_or_anywhere() -> None:
    index = torch.arange(200)
    told = scene_rows(TOKENIZER, 32, holes=True).rows(index)[1]
    holes, objects = told["hole"][:, 0], draw(0, index).masks(32)
    assert holes.dtype == torch.bool
    covered = ((holes[:, None] & objects).sum((2, 3)) == objects.sum((2, 3))) & (objects.sum((2, 3)) > 0)
    assert 0.6 < covered.any(1).float().mean() < 0.95  # a box anywhere may cover one too
    everything = holes.all((1, 2)).float().mean()
    assert 0.04 < everything < 0.2
    for hole in holes[:50]:
        if hole.any():
            y, x = hole.any(1).nonzero(), hole.any(0).nonzero()
            assert hole.sum() == len(y) * len(x)  # a box


# The autoencoder and the towers --------------------------------------------------------------------


def test_an_autoencoder_learns_and_keeps_the_scale_of_its_latents(tmp_path: Path) -> None:
    rows = scenes(64)
    start = train(Autoencoding(tiny_vae(), plan(), rows), tmp_path / "a", **QUIET)
    longer = plan(steps=60, batch=16, lr=5e-3, ema_decay=0.5)
    end = train(Autoencoding(tiny_vae(), longer, rows), tmp_path / "b", **QUIET)
    assert end["loss"] < 0.7 * start["loss"]
    vae = load_autoencoder(tmp_path / "b" / MODEL)
    z = latents_of(vae, rows, seed=1).images
    assert float(z.std()) == pytest.approx(1, abs=0.05)
    assert vae.config.scale == pytest.approx(latent_scale(replace_scale(vae), pictures(rows)), rel=1e-3)


def replace_scale(vae: Vae) -> Vae:
    plain = Vae(replace(vae.config, scale=1.0))
    plain.load_state_dict(vae.state_dict())
    return plain


def pictures(rows: Dataset) -> Tensor:
    return rows.images.float() / 127.5 - 1


def test_towers_learn_to_find_a_caption_among_wrong_ones(tmp_path: Path) -> None:
    images = VisionConfig(32, 8, 32, 64, layers=1, heads=2, projection=16)
    rows = scenes(64, wrongs=("colour", "swapped"))
    torch.manual_seed(0)
    towers = TwoTowers(text_config(TOKENIZER, 32, 1, projection=16), images)
    how = plan(steps=60, batch=16, lr=3e-3, warmup=5, ema_decay=0.5)
    result = train(Contrast(towers, how, rows, TOKENIZER), tmp_path / "run", **QUIET)
    first, last = result["curve"]["loss"][0], result["loss"]
    assert last < 0.75 * first
    loaded, tokenizer = load_towers(tmp_path / "run" / MODEL)
    assert tokenizer.encode("a red circle") == TOKENIZER.encode("a red circle")
    tokens = rows.conditions["tokens"][:4]
    assert loaded(pictures(rows)[:4], tokens).shape == (4, 4)


# Text to image -------------------------------------------------------------------------------------


def test_a_run_leaves_a_whole_pipeline(tmp_path: Path) -> None:
    how = task(probe=WrongCaptions(tiny_vae(), TOKENIZER, rows=4))
    train(how, tmp_path / "run", **QUIET)
    model = load_checkpoint(tmp_path / "run" / MODEL)
    assert model.vae is not None
    assert model.shape == (4, 8, 8)
    drawn = model.pictures(torch.randn(1, *model.shape))
    assert drawn.shape == (1, 3, 32, 32)
    assert model.prompts(["a red circle"])["tokens"].shape == (1, TOKENIZER.context)
    assert model.sampling["guidance"] == 2


def test_a_frozen_tower_stays_and_another_learns(tmp_path: Path) -> None:
    torch.manual_seed(1)
    tower = TextTransformer(text_config(TOKENIZER, 32, 1))
    before = {name: weight.clone() for name, weight in tower.state_dict().items()}
    for learn in (False, True):
        net = network(text=tower, learn_text=learn)
        assert all(torch.equal(weight, before[name]) for name, weight in net.text.state_dict().items())
        train(task(net=net), tmp_path / str(learn), **QUIET)
        after = load_checkpoint(tmp_path / str(learn) / MODEL).network.text.state_dict()  # type: ignore[union-attr]
        same = all(torch.equal(weight, before[name]) for name, weight in after.items())
        assert same is not learn


def test_times_are_drawn_towards_noise() -> None:
    def mean(power: float) -> float:
        how = task(replace(RECIPE, batch=256, time_power=power)).place()
        return float(how.times(0).mean())

    assert mean(1.0) == pytest.approx(500, abs=5)
    assert mean(0.5) == pytest.approx(667, abs=5)
    with pytest.raises(ValueError, match="time_power must be above 0, got 0"):
        replace(RECIPE, time_power=0.0)


def test_a_pooled_text_is_one_vector() -> None:
    net, tokens = network(pooled=True), TOKENIZER(["a red circle", "a blue square"])
    assert net.told(tokens)["context"].shape == (2, 1, 32)
    assert network().told(tokens)["context"].shape == (2, TOKENIZER.context, 32)


def test_new_channels_change_nothing_at_first() -> None:
    net = network()
    with torch.no_grad():
        for weight in net.parameters():
            weight.add_(0.02 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
    wider, told = widened(net, known=5), TOKENIZER(["a red circle"] * 2)
    x, t = torch.randn(2, 4, 8, 8), torch.tensor([10.0, 900.0])
    known = torch.randn(2, 5, 8, 8)
    assert torch.allclose(wider(x, t, {**told, "known": known}), net(x, t, told), atol=1e-6)
    assert wider.config.unet.in_channels == 9


def test_latents_know_hole_and_hidden_picture() -> None:
    vae, rows = tiny_vae(scale=2.0), scenes(4, holes=True)
    made = latents_of(vae, rows, seed=0)
    hole, x = rows.conditions["hole"].float(), pictures(rows)
    known = made.conditions["known"]
    assert known.shape == (4, 5, 8, 8)
    assert torch.equal(known[:, :1], torch.nn.functional.max_pool2d(hole, 4))
    with torch.no_grad():
        assert torch.allclose(known[:, 1:], vae.encode(x * (1 - hole)), atol=1e-5)
    assert torch.equal(latents_of(vae, rows, seed=0).images, made.images)
    assert not torch.equal(latents_of(vae, rows, seed=1).images, made.images)


# What wrong captions cost --------------------------------------------------------------------------


def test_wrong_captions_differ_in_one_thing_and_cost_nothing_to_the_deaf(tmp_path: Path) -> None:
    probe = WrongCaptions(tiny_vae(), TOKENIZER, rows=6)
    right = [read(TOKENIZER.decode(row)) for row in probe.told["right"]["tokens"].tolist()]
    for what in WRONGS:
        wrong = [read(TOKENIZER.decode(row)) for row in probe.told[what]["tokens"].tolist()]
        assert all(a != b for a, b in zip(right, wrong, strict=True))
    how = task(probe=probe)
    with torch.no_grad():
        for name, weight in how.network.named_parameters():
            if "attn2.to_out" in name:
                weight.zero_()  # the text is not heard
    figures = how.watched(how.network)
    assert set(figures) == {f"{what} at {t}" for what in WRONGS for t in (700, 950)}
    assert all(value == pytest.approx(0, abs=1e-5) for value in figures.values())


def test_figures_are_logged_with_each_checkpoint_and_forgotten_with_a_lost_one(tmp_path: Path) -> None:
    often = replace(RECIPE, steps=3, checkpoint_every=0.0)
    train(task(often, probe=WrongCaptions(tiny_vae(), TOKENIZER, rows=4)), tmp_path / "run", **QUIET)
    lines = logged(tmp_path / "run" / LOG)
    assert [line["step"] for line in lines] == [1, 2, 3]
    log(tmp_path / "run" / LOG, {"step": 2, "relation at 950": 0.5})  # a killed run went on from before 2
    assert [line["step"] for line in logged(tmp_path / "run" / LOG)] == [1, 2]
    assert logged(tmp_path / "none") == []


def test_a_killed_run_reaches_the_same_weights(tmp_path: Path) -> None:
    how = replace(RECIPE, steps=4, checkpoint_every=0.0)
    train(task(how), tmp_path / "whole", **QUIET)

    class Killed(Exception):
        pass

    def kill(self: Trainer, done: float) -> None:
        if self.state.step == 2:
            raise Killed
        step(self, done)

    step = Trainer.step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", kill)
        with pytest.raises(Killed):
            train(task(how), tmp_path / "killed", **QUIET)
    assert (tmp_path / "killed" / STATE).exists()
    train(task(how), tmp_path / "killed", resume=True, **QUIET)
    a, b = (load_checkpoint(tmp_path / run / MODEL).network.state_dict() for run in ("whole", "killed"))
    assert all(torch.equal(weight, b[name]) for name, weight in a.items())
