"""Folders in diffusers' layout open as checkpoints that draw what diffusers' own pipelines draw.

Small random models, written by the reference libraries, with every bias disturbed. Their noise is ours.
"""

import json
import re
import shutil
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from diffusion_lessons import zoo
from diffusion_lessons.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from diffusion_lessons.generate import generate, walk
from diffusion_lessons.guidance import ClassifierFreeGuidance, Inpaint
from diffusion_lessons.networks import Prompted
from diffusion_lessons.painting import Begun, Canvas
from diffusion_lessons.paths import add_noise
from diffusion_lessons.samplers import sample
from tests.published_folder import Shape, pipeline

PROMPTS = ["a red circle left of a blue square", "two cats"]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("published")
    return folder, pipeline(folder, Shape())


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("negative", [None, ["a blue square", ""]])
def test_ten_guided_steps_and_the_decoded_pictures_agree(
    published: tuple[Path, Any], negative: list[str] | None
) -> None:
    folder, theirs = published
    model, start = zoo.open_model(str(folder)), noise(2, 4, 8, 8)
    how = dict(num_inference_steps=10, guidance_scale=7.5, negative_prompt=negative, latents=start)
    latents = theirs(PROMPTS, output_type="latent", **how).images
    away = None if negative is None else model.prompts(negative)
    *_, (_, x, _) = walk(model, model.prompts(PROMPTS), start, steps=10, negative=away, precision="float32")
    assert (x - latents).abs().max() < 1e-5 * latents.abs().max()
    pictures = theirs(PROMPTS, output_type="pt", **how).images  # in [0, 1]
    assert (model.pictures(x) / 2 + 0.5).clamp(0, 1).sub(pictures).abs().max() < 1e-5


def test_generate_takes_prompts_and_decodes(published: tuple[Path, Any]) -> None:
    model = zoo.open_model(str(published[0]))
    drawn = generate(model, model.prompts([*PROMPTS, "a"]), seed=3, steps=2, batch=2, precision="float32")
    assert drawn.shape == (3, 3, 16, 16)
    one = generate(model, model.prompts(PROMPTS), seed=3, steps=2, batch=1, precision="float32")
    torch.testing.assert_close(one, drawn[:2])  # whatever the batch
    other = generate(model, model.prompts(["two cats"] * 2), seed=3, steps=2, precision="float32")
    assert not torch.allclose(other[0], one[0], atol=1e-3)


def test_weights_in_half_precision_draw_nearly_the_same(published: tuple[Path, Any]) -> None:
    model = zoo.open_model(str(published[0]))
    assert model.vae is not None
    half = replace(model, network=deepcopy(model.network).bfloat16(), vae=deepcopy(model.vae).bfloat16())
    full, drawn = (
        generate(each, each.prompts(PROMPTS), steps=2, precision="float32") for each in (model, half)
    )
    assert drawn.dtype == torch.float32
    assert (drawn - full).abs().mean() < 0.03 * full.abs().mean()


def test_a_prompt_is_encoded_once(published: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model, calls = zoo.open_model(str(published[0])), []
    tower = model.network.text
    tower.register_forward_hook(lambda *_: calls.append(1))
    list(walk(model, model.prompts(PROMPTS), noise(2, 4, 8, 8), steps=5))
    assert len(calls) == 2  # the prompts, and the empty text


def test_nine_channels_of_inpainting_agree(tmp_path: Path) -> None:
    theirs = pipeline(tmp_path, Shape(channels=9))
    model, start = zoo.open_model(str(tmp_path)), noise(1, 4, 8, 8)
    picture, mask = noise(1, 3, 16, 16).clamp(-1, 1), torch.zeros(1, 1, 16, 16)
    mask[..., 4:12, 2:10] = 1
    how = dict(num_inference_steps=10, guidance_scale=7.5, latents=start, height=16, width=16, strength=1.0)
    generator = torch.Generator().manual_seed(5)
    expected = theirs(PROMPTS[:1], picture, mask, output_type="latent", generator=generator, **how).images
    hidden = picture * (mask < 0.5)
    assert model.vae is not None
    seen = theirs.vae.encode(hidden).latent_dist
    drawn = seen.mean + seen.std * torch.randn(seen.mean.shape, generator=torch.Generator().manual_seed(5))
    small = nn.functional.interpolate(mask, size=(8, 8))
    known = torch.cat([small, 0.3 * drawn], 1)
    condition = {**model.prompts(PROMPTS[:1]), "known": known}
    *_, (_, x, _) = walk(model, condition, start, steps=10, precision="float32")
    assert (x - expected).abs().max() < 1e-4 * expected.abs().max()


@pytest.mark.parametrize("strength", [0.6, 0.25, 1.0])
def test_a_picture_to_begin_with_agrees(published: tuple[Path, Any], strength: float) -> None:
    folder, theirs = published
    model, picture = zoo.open_model(str(folder)), noise(1, 3, 16, 16).clamp(-1, 1)
    begun = Begun(Canvas(picture, strength), model)
    img2img = diffusers.StableDiffusionImg2ImgPipeline(**theirs.components, requires_safety_checker=False)
    img2img.set_progress_bar_config(disable=True)
    how = dict(num_inference_steps=10, guidance_scale=7.5, generator=torch.Generator().manual_seed(5))
    expected = img2img(PROMPTS[:1], begun.known, strength, output_type="latent", **how).images
    start = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    if strength == 1:  # they begin with the noised picture there, too; we with noise
        start = add_noise(begun.known, start, model.path(902.0))
    *_, (_, x, _) = walk(model, model.prompts(PROMPTS[:1]), start, steps=10, begun=begun, precision="float32")
    assert (x - expected).abs().max() < 1e-5 * expected.abs().max()


def test_a_thin_mask_is_painted_and_what_is_kept_comes_back_exactly(published: tuple[Path, Any]) -> None:
    model, picture = zoo.open_model(str(published[0])), noise(1, 3, 16, 16).clamp(-1, 1)
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., 7] = 1  # one pixel wide: half of a latent's cell
    begun = Begun(Canvas(picture, mask=mask), model)
    assert begun.mask is not None
    assert begun.mask.sum() == 8
    drawn = generate(model, model.prompts(PROMPTS), steps=3, canvas=Canvas(picture, mask=mask))
    kept = (mask == 0).expand_as(drawn)
    assert torch.equal(drawn[kept], picture.expand_as(drawn)[kept])
    assert not torch.allclose(drawn[~kept], picture.expand_as(drawn)[~kept], atol=0.01)


@pytest.mark.parametrize(
    ("canvas", "message"),
    [
        (dict(picture=torch.zeros(2, 3, 16, 16)), "one picture (1, C, H, W)"),
        (dict(strength=0.0), "a share above 0, at most 1, got 0.0"),
        (dict(mask=torch.zeros(1, 1, 8, 8)), "the mask of this picture is (1, 1, 16, 16), got (1, 1, 8, 8)"),
    ],
)
def test_a_canvas_that_does_not_fit_is_refused(canvas: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Canvas(**dict(picture=torch.zeros(1, 3, 16, 16)) | canvas)


@torch.no_grad()
def test_what_is_known_is_exact_at_the_end_and_at_its_level_on_the_way(published: tuple[Path, Any]) -> None:
    model, start, known = zoo.open_model(str(published[0])), noise(2, 4, 8, 8), noise(2, 4, 8, 8).tanh()
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 2:6, 2:6] = 1
    network = model.denoiser()
    told = model.network.told(model.prompts(PROMPTS))  # type: ignore[operator]
    guided = ClassifierFreeGuidance(network, 3.0, model.network.told(network.null_condition(1)))  # type: ignore[operator]
    painting = Inpaint(guided, known, mask)
    levels = model.path.levels(10)
    x = sample(painting, start, levels, told)
    outside = (mask == 0).expand_as(x)
    assert torch.equal(x[outside], known[outside])
    x = sample(painting, start, levels[:6], told)
    ends = ((start, levels[0]), (x, levels[5]))
    noises = [(each - level.like(x)[0] * known) / level.like(x)[1] for each, level in ends]
    torch.testing.assert_close(noises[1][outside], noises[0][outside])  # its first noise, at its level


# Files


def test_it_is_the_same_from_a_file_of_our_own(published: tuple[Path, Any], tmp_path: Path) -> None:
    model = zoo.open_model(str(published[0]))
    save_checkpoint(tmp_path / "own.safetensors", model)
    again = load_checkpoint(tmp_path / "own.safetensors")
    same = [generate(each, each.prompts(PROMPTS), steps=2) for each in (model, again)]
    assert torch.equal(*same)
    assert again.sampling == model.sampling == dict(steps=25, guidance=7.5, spacing="stable-diffusion")


def test_a_pipeline_that_was_saved_today_opens(published: tuple[Path, Any], tmp_path: Path) -> None:
    """transformers 5 writes the tokenizer as tokenizer.json, without merges.txt and vocab.json."""
    folder = tmp_path / "saved"
    published[1].save_pretrained(folder)
    assert not (folder / "tokenizer" / "merges.txt").exists()
    model, first = zoo.open_model(str(folder)), zoo.open_model(str(published[0]))
    assert all(map(torch.equal, model.prompts(PROMPTS).values(), first.prompts(PROMPTS).values()))


def test_names_of_the_first_files_are_known(published: tuple[Path, Any], tmp_path: Path) -> None:
    folder = tmp_path / "old"
    shutil.copytree(published[0], folder)
    file = next((folder / "vae").glob("*.safetensors"))
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = {}
    for name, weight in load_file(file).items():
        if "attentions" in name:
            for new, before in old.items():
                name = name.replace(f".{new}.", f".{before}.")
        weights[name] = weight[:, :, None, None].clone() if ".query.w" in name else weight
    save_file(weights, file)
    file = next((folder / "text_encoder").glob("*.safetensors"))
    weights = {f"text_model.{name.removeprefix('text_model.')}": w for name, w in load_file(file).items()}
    save_file({**weights, "text_model.embeddings.position_ids": torch.arange(77)[None]}, file)
    models = [zoo.open_model(str(each)) for each in (published[0], folder)]
    assert torch.equal(*(generate(each, each.prompts(PROMPTS), steps=2) for each in models))


def drop(path: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        target = folder / path
        shutil.rmtree(target) if target.is_dir() else target.unlink()

    return change


def pickled(folder: Path) -> None:
    for file in (folder / "unet").glob("*.safetensors"):
        file.rename(file.with_suffix(".bin"))


def cut(folder: Path) -> None:
    for file in (folder / "unet").glob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:-100])


def renamed(folder: Path) -> None:
    file = next((folder / "vae").glob("*.safetensors"))
    weights = load_file(file)
    weights["encoder.conv_inn.bias"] = weights.pop("encoder.conv_in.bias")
    save_file(weights, file)


def scheduled(setting: str, value: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / "scheduler" / "scheduler_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {setting: value}))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop("vae"), "no folder 'vae'"),
        (drop("text_encoder"), "no folder 'text_encoder'"),
        (drop("unet"), "no folder 'unet'"),
        (drop("unet/config.json"), "cannot read"),
        (pickled, "is a pickle, which can run any code when it is opened: take the safetensors files"),
        (cut, "are cut short or damaged"),
        (renamed, "don't fit: encoder.conv_in.bias is missing, and 1 more"),
        (scheduled("beta_schedule", "squaredcos_cap_v2"), "does not know: 'squaredcos_cap_v2'"),
        (scheduled("prediction_type", "sample"), "does not know: 'sample'"),
        (scheduled("rescale_betas_zero_snr", True), "its scheduler has rescale_betas_zero_snr"),
        (scheduled("trained_betas", [0.1]), "its scheduler has trained_betas"),
    ],
)
def test_what_cannot_be_opened_is_said(
    published: tuple[Path, Any], tmp_path: Path, change: Callable[[Path], None], message: str
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(published[0], folder)
    change(folder)
    with pytest.raises(CheckpointError, match=re.escape(message)):
        zoo.open_model(str(folder))


def test_a_model_without_captions_takes_no_prompt() -> None:
    model = zoo.open_model("mnist-unet")
    assert isinstance(model, Checkpoint)
    assert not isinstance(model.network, Prompted)
    with pytest.raises(ValueError, match="trained without captions"):
        model.prompts(["a 3"])
