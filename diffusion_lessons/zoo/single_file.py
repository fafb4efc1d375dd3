"""Stable Diffusion 1.x as one file with the names it was trained under, as a checkpoint.

    model.diffusion_model.…          the U-Net: input_blocks, middle_block, output_blocks, out
    model_ema.diffusion_model…       its averages, in names without dots: taken where the file has them
    first_stage_model.…              the autoencoder: encoder.down, decoder.up
    cond_stage_model.transformer.…   the text tower, in its published names

Such a file holds no settings: sizes are read from the shapes, and what no shape tells (8 heads, heads of 64
in the text tower, 32 groups, the noise schedule) is that of every Stable Diffusion 1. It holds no tokenizer
either: `vocab.json` and `merges.txt`, or `tokenizer.json`, lie beside it, or in a folder `tokenizer` there.
"""

import re
import warnings
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from diffusion_lessons.checkpoint import Checkpoint, CheckpointError
from diffusion_lessons.data.tokenizer import holds_tokenizer
from diffusion_lessons.networks import PromptedConfig, VaeConfig
from diffusion_lessons.networks.clip import TextConfig
from diffusion_lessons.networks.unet_text import TextUNetConfig
from diffusion_lessons.schedules import scaled_linear_betas
from diffusion_lessons.targets import EPSILON
from diffusion_lessons.zoo.published import assembled

UNET, EMA = "model.diffusion_model.", "model_ema."
VAE, TEXT = "first_stage_model.", "cond_stage_model.transformer."
BETAS = scaled_linear_betas(1000, 0.00085, 0.012)
SIDE, HEADS, HEAD_WIDTH, GROUPS = 64, 8, 64, 32  # what no shape tells; HEAD_WIDTH is the text tower's
OTHER = ("v_pred", "ztsnr")  # marks of files that were trained on another target or schedule
INSTEAD = "take the model's folder in diffusers' layout, which says its settings"

UNET_PARTS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "middle_block.0": "mid_block.resnets.0",
    "middle_block.1": "mid_block.attentions.0",
    "middle_block.2": "mid_block.resnets.1",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
VAE_PARTS = {
    "mid.block_1": "mid_block.resnets.0",
    "mid.block_2": "mid_block.resnets.1",
    "mid.attn_1.norm": "mid_block.attentions.0.group_norm",
    "mid.attn_1.q": "mid_block.attentions.0.to_q",
    "mid.attn_1.k": "mid_block.attentions.0.to_k",
    "mid.attn_1.v": "mid_block.attentions.0.to_v",
    "mid.attn_1.proj_out": "mid_block.attentions.0.to_out.0",
    "norm_out": "conv_norm_out",
    "nin_shortcut": "conv_shortcut",
}


def is_single_file(file: Path) -> bool:
    """Whether a file is safetensors and holds a U-Net in the original names."""
    try:
        return any(name.startswith(UNET) for name in _names(file))
    except (OSError, SafetensorError):
        return False


def open_single_file(file: Path) -> Checkpoint:
    """The model in a file, in float32 on the CPU.

    Another model than Stable Diffusion 1.x, sizes that its shapes don't tell, and a tokenizer that is not
    beside it are a CheckpointError.
    """
    names = _names(file)
    _check(file, names)
    shapes = {name: torch.empty(shape, device="meta") for name, shape in _shapes(file).items()}
    try:
        unet = unet_config(_part(shapes, UNET))
        config = PromptedConfig(text_config(_part(shapes, TEXT)), unet)
        vae = vae_config(_part(shapes, VAE))
    except KeyError as error:
        raise CheckpointError(f"{file} is no Stable Diffusion 1: it has no {error}; {INSTEAD}") from error
    except ValueError as error:
        raise CheckpointError(f"the shapes in {file} don't tell its settings ({error}): {INSTEAD}") from error
    if replace(unet, in_channels=4) != TextUNetConfig():
        warnings.warn(
            f"{file} has not the sizes of Stable Diffusion 1: it is taken to have {HEADS} heads and "
            f"{GROUPS} groups as that has",
            stacklevel=2,
        )

    def weights(part: str) -> dict[str, Tensor]:
        if part == "text_encoder":
            return _read(file, {name: name.removeprefix(TEXT) for name in names if name.startswith(TEXT)})
        if part == "vae":
            levels = len(vae.widths)
            mine = [name for name in names if name.startswith(VAE) and not name.startswith(f"{VAE}loss.")]
            return _read(file, {name: vae_name(name.removeprefix(VAE), levels) for name in mine})
        mine = [name for name in names if name.startswith(UNET)]
        new = {name: unet_name(name.removeprefix(UNET), unet.blocks_per_level) for name in mine}
        averaged = any(name.startswith(f"{EMA}diffusion_model") for name in names)
        return _read(file, {_averaged(old) if averaged else old: name for old, name in new.items()})

    return assembled(file, config, vae, weights, BETAS, EPSILON, SIDE, _tokenizer_beside(file))


# Names ---------------------------------------------------------------------------------------------


def unet_name(name: str, blocks: int) -> str:
    """The name that a U-Net's weight has here; `blocks` are those of a level on the way down."""

    def place(match: re.Match[str]) -> str:
        down, layer = match[1] == "input", match[3]
        level, block = divmod(int(match[2]) - down, blocks + 1)
        kind = {"0": f"resnets.{block}", "1": f"attentions.{block}", "0.op": "downsamplers.0.conv"}
        return f"{'down' if down else 'up'}_blocks.{level}.{kind.get(layer, 'upsamplers.0.conv')}"

    name = _renamed(name, UNET_PARTS)
    return re.sub(r"^(input|output)_blocks\.(\d+)\.(0\.op|[12]\.conv|[01])(?=\.)", place, name)


def vae_name(name: str, levels: int) -> str:
    """The name that an autoencoder's weight has here. The original counts the decoder's levels from below."""

    def place(match: re.Match[str]) -> str:
        level = int(match[2]) if match[1] == "down" else levels - 1 - int(match[2])
        kind = {"block": "resnets", "downsample": "downsamplers.0", "upsample": "upsamplers.0"}
        return f".{match[1]}_blocks.{level}.{kind[match[3]]}."

    name = _renamed(name, VAE_PARTS)
    return re.sub(r"\.(down|up)\.(\d+)\.(block|downsample|upsample)\.", place, name)


def _renamed(name: str, parts: Mapping[str, str]) -> str:
    for old, new in parts.items():
        name = re.sub(rf"(^|\.){re.escape(old)}\.", rf"\1{new}.", name)
    return name


def _averaged(name: str) -> str:
    """What a U-Net's weight is called among the averages."""
    return EMA + name.removeprefix("model.").replace(".", "")


# Sizes ---------------------------------------------------------------------------------------------


def unet_config(weights: Mapping[str, Tensor]) -> TextUNetConfig:
    """The shape of the U-Net whose weights these are, in the original names.

    A weight that is missing is a KeyError; sizes of another kind are a ValueError.
    """
    count = _count(weights, "input_blocks.")  # a level's are its blocks, and the layer that leads to it
    ends = [i for i in range(count) if f"input_blocks.{i}.0.op.weight" in weights]
    blocks = (ends[0] if ends else count) - 1
    firsts = range(1, count, blocks + 1)
    attention = tuple(f"input_blocks.{i}.1.norm.weight" in weights for i in firsts)
    transformer = f"input_blocks.{firsts[attention.index(True)]}.1." if any(attention) else ""
    return TextUNetConfig(
        in_channels=weights["input_blocks.0.0.weight"].shape[1],
        out_channels=weights["out.2.weight"].shape[0],
        widths=tuple(weights[f"input_blocks.{i}.0.out_layers.3.weight"].shape[0] for i in firsts),
        attention=attention,
        blocks_per_level=blocks,
        heads=(HEADS,) * len(attention),
        context=weights[f"{transformer}transformer_blocks.0.attn2.to_k.weight"].shape[1],
        linear=weights[f"{transformer}proj_in.weight"].ndim == 2,
        groups=GROUPS,
    )


def vae_config(weights: Mapping[str, Tensor]) -> VaeConfig:
    """The shape of the autoencoder whose weights these are; errors as above."""
    levels = range(_count(weights, "encoder.down."))
    config = VaeConfig(
        in_channels=weights["encoder.conv_in.weight"].shape[1],
        latent_channels=weights["post_quant_conv.weight"].shape[0],
        widths=tuple(weights[f"encoder.down.{i}.block.0.conv2.weight"].shape[0] for i in levels),
        blocks_per_level=_count(weights, "encoder.down.0.block."),
        groups=GROUPS,
    )
    if any(width % GROUPS for width in config.widths):
        raise ValueError(f"{GROUPS} groups must divide a width of the autoencoder, got {config.widths}")
    return config


def text_config(weights: Mapping[str, Tensor]) -> TextConfig:
    """The shape of the text tower whose weights these are; errors as above."""
    weights = {name.removeprefix("text_model."): weight for name, weight in weights.items()}
    vocabulary, width = weights["embeddings.token_embedding.weight"].shape
    if width % HEAD_WIDTH:
        raise ValueError(f"heads of {HEAD_WIDTH} must divide the width of the text tower, got {width}")
    return TextConfig(
        vocabulary=vocabulary,
        context=len(weights["embeddings.position_embedding.weight"]),
        width=width,
        hidden=len(weights["encoder.layers.0.mlp.fc1.weight"]),
        layers=_count(weights, "encoder.layers."),
        heads=width // HEAD_WIDTH,
        begin=vocabulary - 2,
        end=vocabulary - 1,
    )


def _count(names: Collection[str], prefix: str) -> int:
    """How many numbers stand behind a prefix."""
    return len({name.removeprefix(prefix).split(".")[0] for name in names if name.startswith(prefix)})


def _part(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): each for name, each in weights.items() if name.startswith(prefix)}


# The file itself -----------------------------------------------------------------------------------


def _names(file: Path) -> list[str]:
    with safe_open(file, "pt") as opened:
        return list(opened.keys())


def _shapes(file: Path) -> dict[str, list[int]]:
    with safe_open(file, "pt") as opened:
        return {name: opened.get_slice(name).get_shape() for name in opened.keys()}  # noqa: SIM118


def _read(file: Path, wanted: Mapping[str, str]) -> dict[str, Tensor]:
    """Tensors of a file under their new names; of other parts nothing is read."""
    try:
        with safe_open(file, "pt") as opened:
            return {new: opened.get_tensor(old) for old, new in wanted.items()}
    except SafetensorError as error:
        raise CheckpointError(f"cannot read the weights in {file} ({error})") from error


def _check(file: Path, names: Collection[str]) -> None:
    """That the file is a Stable Diffusion 1, and nothing beside that would change what it draws."""
    for prefix, what in ((TEXT, "text tower"), (VAE, "autoencoder")):
        if not any(name.startswith(prefix) for name in names):
            raise CheckpointError(
                f"{file} is no whole Stable Diffusion 1: it has no {what} ({prefix}…); {INSTEAD}"
            )
    known = (UNET, EMA, VAE, TEXT)
    odd = [name for name in names if name in OTHER or ("." in name and not name.startswith(known))]
    if odd:
        raise CheckpointError(f"{file} holds {odd[0]}, which no Stable Diffusion 1 has; {INSTEAD}")
    if "betas" in names:
        found = _read(file, {"betas": "betas"})["betas"].float()
        if found.shape != BETAS.shape or not torch.allclose(found, BETAS.float(), rtol=0.01):
            raise CheckpointError(f"{file} has another noise schedule than Stable Diffusion 1; {INSTEAD}")


def _tokenizer_beside(file: Path) -> Path:
    """The folder with the tokenizer's files."""
    for folder in (file.parent / "tokenizer", file.parent):
        if holds_tokenizer(folder):
            return folder
    raise CheckpointError(
        f"{file} holds no tokenizer: put CLIP's vocab.json and merges.txt (from `tokenizer` in any Stable "
        f"Diffusion 1 in diffusers' layout) into {file.parent / 'tokenizer'} or beside the file"
    )
