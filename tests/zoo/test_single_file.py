"""A Stable Diffusion 1.x in one file draws what it draws from diffusers' layout.

The files are written here, by the published grammar of names, from the weights of a small random pipeline.
"""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
import transformers
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
from safetensors.torch import load_file, save_file
from torch import Tensor

from diffusion_lessons import zoo
from diffusion_lessons.__main__ import main
from diffusion_lessons.checkpoint import CheckpointError
from diffusion_lessons.generate import generate
from diffusion_lessons.networks import VaeConfig
from diffusion_lessons.networks.clip import TextConfig
from diffusion_lessons.networks.unet_text import TextUNetConfig
from diffusion_lessons.zoo import single_file
from tests.published_folder import Shape, pipeline

UNET = [  # from diffusers' names to the original ones, in this order
    (r"^conv_in\.", "input_blocks.0.0."),
    (r"^conv_norm_out\.", "out.0."),
    (r"^conv_out\.", "out.2."),
    (r"^time_embedding\.linear_1", "time_embed.0"),
    (r"^time_embedding\.linear_2", "time_embed.2"),
    (r"^mid_block\.resnets\.0", "middle_block.0"),
    (r"^mid_block\.attentions\.0", "middle_block.1"),
    (r"^mid_block\.resnets\.1", "middle_block.2"),
    (r"\.conv1\.", ".in_layers.2."),
    (r"\.time_emb_proj\.", ".emb_layers.1."),
    (r"\.conv2\.", ".out_layers.3."),
    (r"\.conv_shortcut\.", ".skip_connection."),
]
VAE = [
    (r"mid_block\.resnets\.0", "mid.block_1"),
    (r"mid_block\.resnets\.1", "mid.block_2"),
    (r"mid_block\.attentions\.0\.group_norm", "mid.attn_1.norm"),
    (r"mid_block\.attentions\.0\.to_([qkv])", r"mid.attn_1.\1"),
    (r"mid_block\.attentions\.0\.to_out\.0", "mid.attn_1.proj_out"),
    (r"down_blocks\.(\d)\.resnets", r"down.\1.block"),
    (r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample"),
    (r"conv_norm_out", "norm_out"),
    (r"conv_shortcut", "nin_shortcut"),
]


def unet_original(name: str, blocks: int, attention: tuple[bool, ...]) -> str:
    if found := re.match(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.", name):
        side, level, kind, block = found[1], int(found[2]), found[3], int(found[4])
        down, rest = side == "down", name[found.end() :]
        first = level * (blocks + 1) + down  # of the level
        transformers_here = attention[level] if down else attention[::-1][level]
        if kind == "downsamplers":
            return f"input_blocks.{first + blocks}.0.op.{rest.removeprefix('conv.')}"
        if kind == "upsamplers":
            return f"output_blocks.{first + blocks}.{1 + transformers_here}.{rest}"
        name = f"{'input' if down else 'output'}_blocks.{first + block}.{int(kind == 'attentions')}.{rest}"
    if "transformer_blocks" in name:
        for old, new in UNET[:8]:
            name = re.sub(old, new, name)
        return name
    name = name.replace(".norm1.", ".in_layers.0.").replace(".norm2.", ".out_layers.0.")
    for old, new in UNET:
        name = re.sub(old, new, name)
    return name


def vae_original(name: str, levels: int) -> str:
    for old, new in VAE:
        name = re.sub(old, new, name)
    if found := re.search(r"up_blocks\.(\d)\.(resnets|upsamplers\.0)", name):
        kind = {"resnets": "block", "upsamplers.0": "upsample"}[found[2]]
        name = name.replace(found[0], f"up.{levels - 1 - int(found[1])}.{kind}")
    return name


def original(
    parts: dict[str, dict[str, Tensor]], blocks: int, attention: tuple[bool, ...]
) -> dict[str, Tensor]:
    """The weights of a pipeline in the original names."""
    whole = {
        f"model.diffusion_model.{unet_original(name, blocks, attention)}": weight
        for name, weight in parts["unet"].items()
    }
    for name, weight in parts["vae"].items():
        new = f"first_stage_model.{vae_original(name, len(attention))}"
        whole[new] = weight[:, :, None, None] if "attn_1" in new and weight.ndim == 2 else weight
    for name, weight in parts["text_encoder"].items():
        whole[f"cond_stage_model.transformer.text_model.{name.removeprefix('text_model.')}"] = weight
    return {name: weight.clone() if weight.device.type == "cpu" else weight for name, weight in whole.items()}


SMALL = Shape(
    attention=(True, True, False),
    widths=(32, 64, 96),
    blocks=2,
    heads=(8, 8, 8),
    groups=32,
    text_width=128,
    text_heads=2,
    vae_widths=(32, 64, 96),
    vae_scale=0.18215,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in diffusers' layout, in a folder with nothing else."""
    folder = tmp_path_factory.mktemp("models") / "folder"
    pipeline(folder, SMALL)
    return folder


def weights_of(folder: Path) -> dict[str, Tensor]:
    parts = {
        part: load_file(next((folder / part).glob("*.safetensors")))
        for part in ("unet", "vae", "text_encoder")
    }
    return original(parts, SMALL.blocks, SMALL.attention)


@pytest.fixture
def whole(folder: Path) -> dict[str, Tensor]:
    return weights_of(folder)


@pytest.fixture
def file(folder: Path, tmp_path: Path) -> Path:
    """Where to write a file, the tokenizer beside it."""
    shutil.copytree(folder / "tokenizer", tmp_path / "tokenizer")
    return tmp_path / "sd.safetensors"


def opened(file: Path) -> Any:
    with pytest.warns(UserWarning, match="not the sizes of Stable Diffusion 1: it is taken to have 8 heads"):
        return zoo.open_model(str(file))


def drawn(model: Any) -> Tensor:
    condition = model.prompts(["a red circle left of a blue square"])
    begin = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(7))
    from diffusion_lessons.generate import walk

    *_, (_, x, _) = walk(model, condition, begin, steps=3, precision="float32")
    return model.pictures(x)


def test_the_picture_is_that_of_the_folder(folder: Path, whole: dict[str, Tensor], file: Path) -> None:
    save_file(whole, file)
    assert torch.equal(drawn(opened(file)), drawn(zoo.open_model(str(folder))))


def test_names_are_what_diffusers_makes_of_them(folder: Path, whole: dict[str, Tensor]) -> None:
    unet = convert_ldm_unet_checkpoint(whole, {"layers_per_block": 2})
    vae = convert_ldm_vae_checkpoint(whole, {"down_block_types": [0] * 3, "up_block_types": [0] * 3})
    for part, theirs in (("unet", unet), ("vae", vae)):
        written = load_file(next((folder / part).glob("*.safetensors")))
        assert theirs.keys() == written.keys()
        assert all(torch.equal(theirs[name], weight) for name, weight in written.items())


def test_settings_of_the_real_size_are_read_from_its_shapes() -> None:
    with torch.device("meta"):
        parts = {
            "unet": diffusers.UNet2DConditionModel(cross_attention_dim=768),
            "vae": diffusers.AutoencoderKL(
                down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
                block_out_channels=(128, 256, 512, 512), layers_per_block=2,
            ),
            "text_encoder": transformers.CLIPTextModel(
                transformers.CLIPTextConfig(
                    vocab_size=49408, hidden_size=768, intermediate_size=3072, num_attention_heads=12
                )
            ),
        }  # fmt: skip
    weights = {part: dict(network.state_dict()) for part, network in parts.items()}
    whole = original(weights, 2, (True, True, True, False))
    unet, vae, text = (
        {name.removeprefix(prefix): weight for name, weight in whole.items() if name.startswith(prefix)}
        for prefix in (single_file.UNET, single_file.VAE, single_file.TEXT)
    )
    assert single_file.unet_config(unet) == TextUNetConfig()
    assert single_file.vae_config(vae) == VaeConfig()
    assert single_file.text_config(text) == TextConfig()
    assert {single_file.unet_name(name, 2) for name in unet} == weights["unet"].keys()
    assert {single_file.vae_name(name, 4) for name in vae} == weights["vae"].keys()
    # as published: the first, and one from each corner
    assert "input_blocks.11.0.in_layers.0.weight" in unet
    assert "output_blocks.8.2.conv.weight" in unet
    assert "output_blocks.2.1.conv.weight" in unet  # no transformers at this level
    assert "decoder.up.3.upsample.conv.weight" in vae
    assert "decoder.up.1.block.0.nin_shortcut.weight" in vae
    assert "text_model.encoder.layers.11.mlp.fc2.bias" in text


def test_averages_are_taken_where_the_file_has_them(whole: dict[str, Tensor], file: Path) -> None:
    save_file(whole, file)
    plain = drawn(opened(file))
    prefix = "model.diffusion_model."
    averages = {
        "model_ema." + name.removeprefix("model.").replace(".", ""): weight
        for name, weight in whole.items()
        if name.startswith(prefix)
    }
    others = {name: weight + 0.1 if name.startswith(prefix) else weight for name, weight in whole.items()} | {
        "model_ema.decay": torch.tensor(0.9999),
        "model_ema.num_updates": torch.tensor(3),
    }
    save_file(others, file)
    assert not torch.allclose(drawn(opened(file)), plain, atol=1e-3)
    save_file(others | averages, file)
    assert torch.equal(drawn(opened(file)), plain)


def test_what_training_left_in_the_file_changes_nothing(whole: dict[str, Tensor], file: Path) -> None:
    save_file(whole, file)
    plain = drawn(opened(file))
    rest = {
        "betas": single_file.BETAS.float(),
        "alphas_cumprod": (1 - single_file.BETAS).cumprod(0).float(),
        "first_stage_model.loss.logvar": torch.zeros(()),
        "cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(77)[None],
    }
    save_file(whole | rest, file)
    assert torch.equal(drawn(opened(file)), plain)


def test_half_precision_is_read_in_full(whole: dict[str, Tensor], file: Path) -> None:
    save_file({name: weight.half() for name, weight in whole.items()}, file)
    model = opened(file)
    assert {weight.dtype for weight in model.network.parameters()} == {torch.float32}


def test_the_command_draws_from_a_file(
    whole: dict[str, Tensor], file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file(whole, file)
    to = ["--out", str(file.parent / "x.png"), "--device", "cpu", "--json"]
    main(["sample", str(file), "--prompt", "a red circle", "--size", "32", "--steps", "2", *to])
    out, err = capsys.readouterr()
    assert json.loads(out.strip().splitlines()[-1])["n"] == 1
    assert "no safety check" in err  # nothing of the kind is beside the file
    assert (file.parent / "x.png").is_file()


Weights = dict[str, Tensor]


def without(prefix: str) -> Callable[[Weights], Weights]:
    return lambda whole: {name: weight for name, weight in whole.items() if not name.startswith(prefix)}


def with_(name: str, weight: Tensor) -> Callable[[Weights], Weights]:
    return lambda whole: whole | {name: weight}


def cut(name: str, *size: int) -> Callable[[Weights], Weights]:
    return lambda whole: whole | {name: torch.zeros(size)}


TABLE = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("cond_stage_model."), "it has no text tower (cond_stage_model.transformer.…); take the"),
        (without("first_stage_model."), "it has no autoencoder (first_stage_model.…)"),
        (without("model.diffusion_model.out.2"), "it has no 'out.2.weight'"),
        (without("model.diffusion_model.middle_block.1.norm"), "mid_block.attentions.0.norm.bias is missing"),
        (with_("control_model.a", torch.zeros(1)), "holds control_model.a, which no Stable Diffusion 1 has"),
        (with_("v_pred", torch.zeros(0)), "holds v_pred, which no"),
        (with_("betas", torch.linspace(1e-4, 0.02, 1000)), "has another noise schedule"),
        (cut(TABLE, 600, 96), "heads of 64 must divide the width of the text tower, got 96"),
        (cut(TABLE, 520, 128), " tokens, the text tower"),
        (
            cut("model.diffusion_model.input_blocks.1.0.out_layers.3.weight", 40, 1),
            "8 heads and 32 groups must divide a width, got 40",
        ),
        (
            cut("first_stage_model.encoder.down.0.block.0.conv2.weight", 16, 1),
            "32 groups must divide a width of the autoencoder, got (16, 64, 96)",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:.*not the sizes of Stable Diffusion 1")
def test_what_cannot_be_opened_is_said(
    whole: Weights, file: Path, change: Callable[[Weights], Weights], message: str
) -> None:
    save_file(change(whole), file)
    with pytest.raises(CheckpointError, match=re.escape(message)):
        zoo.open_model(str(file))


@pytest.mark.filterwarnings("ignore:.*not the sizes of Stable Diffusion 1")
def test_a_tokenizer_is_asked_for_and_found_beside_the_file(whole: Weights, file: Path) -> None:
    save_file(whole, file)
    shutil.move(file.parent / "tokenizer", file.parent / "elsewhere")
    with pytest.raises(
        CheckpointError, match=re.escape("holds no tokenizer: put CLIP's vocab.json and merges")
    ):
        zoo.open_model(str(file))
    for each in (file.parent / "elsewhere").iterdir():
        shutil.copy(each, file.parent)
    assert zoo.open_model(str(file)).tokenizer is not None


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".bin", ".CKPT"])
def test_a_pickle_is_refused_unopened(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"sd{suffix}"
    torch.save({"harm": Harm(tmp_path / "harmed")}, file)
    with pytest.raises(CheckpointError, match=r"is a pickle, which can run any code .* take the safetensors"):
        zoo.open_model(str(file))
    assert not (tmp_path / "harmed").exists()


class Harm:
    """What a pickle may do when it is opened."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return (Path.touch, (self.file,))


def test_a_picture_is_generated_in_any_size(whole: Weights, file: Path) -> None:
    save_file(whole, file)
    model = opened(file)
    assert model.shape == (4, 64, 64)  # no shape tells it: that of Stable Diffusion 1
    from dataclasses import replace

    small = replace(model, shape=(4, 4, 4))
    assert generate(small, small.prompts(["a"]), steps=1).shape == (1, 3, 16, 16)
