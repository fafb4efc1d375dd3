"""Stable Diffusion 1.x and 2.x as they were published: a folder in diffusers' layout, as a checkpoint.

    unet/ vae/ text_encoder/   config.json and safetensors weights
    tokenizer/                 vocab.json and merges.txt, or tokenizer.json
    scheduler/                 scheduler_config.json

Names are the published ones, so that hardly any has to be mapped. Only safetensors files are read: opening
one never runs code that is in it.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from diffusion_lessons.checkpoint import Checkpoint, CheckpointError, placed
from diffusion_lessons.data.tokenizer import Tokenizer
from diffusion_lessons.networks import Prompted, PromptedConfig, Vae, VaeConfig
from diffusion_lessons.networks.clip import TextConfig
from diffusion_lessons.networks.unet_text import TextUNetConfig
from diffusion_lessons.paths import DiscreteVP
from diffusion_lessons.schedules import linear_betas, scaled_linear_betas
from diffusion_lessons.support.errors import unknown
from diffusion_lessons.targets import EPSILON, Target, V

PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
USUAL = {"steps": 25, "guidance": 7.5, "spacing": "stable-diffusion"}
TARGETS = {"epsilon": EPSILON, "v_prediction": V}
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
SCHEDULES = {"linear": linear_betas, "scaled_linear": scaled_linear_betas}
OTHER = ("rescale_betas_zero_snr", "trained_betas")  # settings that make another schedule
# the autoencoders of Stable Diffusion 1 were published before these layers were renamed
OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
NO_WEIGHT = ("text_model.embeddings.position_ids",)  # a constant in older files


def is_published(folder: Path) -> bool:
    """Whether a folder looks like a published model."""
    return (folder / "unet").is_dir() or (folder / "model_index.json").is_file()


def open_published(folder: Path) -> Checkpoint:
    """The model in a folder, in float32 on the CPU.

    A part or a setting that this version does not know, weights that don't fit, and pickled weights are a
    CheckpointError.
    """
    missing = [name for name in PARTS if not (folder / name).is_dir()]
    if missing:
        raise CheckpointError(f"{folder} is no published model: it has no folder {missing[0]!r}")
    unet, scheduler = (
        read_settings(folder / "unet"),
        read_settings(folder / "scheduler", "scheduler_config.json"),
    )
    text, vae = (
        _text_config(read_settings(folder / "text_encoder")),
        _vae_config(read_settings(folder / "vae")),
    )
    try:
        if other := [name for name in OTHER if scheduler.get(name)]:
            raise ValueError(f"its scheduler has {other[0]}")
        config = PromptedConfig(text, _unet_config(unet))
        target = TARGETS[scheduler.get("prediction_type", "epsilon")]
        betas = SCHEDULES[scheduler["beta_schedule"]](
            scheduler["num_train_timesteps"], scheduler["beta_start"], scheduler["beta_end"]
        )
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{folder} is a model that this version does not know: {error}") from error
    side = int(unet.get("sample_size", 64))
    return assembled(
        folder,
        config,
        vae,
        lambda part: read_weights(folder / part),
        betas,
        target,
        side,
        folder / "tokenizer",
    )


def assembled(
    file: Path,
    config: PromptedConfig,
    vae: VaeConfig,
    weights: Callable[[str], dict[str, Tensor]],
    betas: Tensor,
    target: Target,
    side: int,
    tokenizer: Path,
) -> Checkpoint:
    """The model of these parts, from a folder or a file.

    `weights` gives those of "unet", "text_encoder" and "vae", read one after the other; side is that of its
    latents, tokenizer a folder. What does not fit is a CheckpointError.
    """
    network, decoder = _made(Prompted, config), _made(Vae, vae)
    load_weights(network.unet, weights("unet"), file, "unet")
    load_weights(network.text, _text_names(weights("text_encoder")), file, "text_encoder")
    load_weights(decoder, _vae_names(weights("vae")), file, "vae")
    try:
        words = Tokenizer.from_folder(tokenizer)
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    if len(words) > config.text.vocabulary:
        raise CheckpointError(
            f"the tokenizer in {tokenizer} has {len(words)} tokens, the text tower of {file} knows "
            f"{config.text.vocabulary}"
        )
    shape, info = (config.unet.out_channels, side, side), {"usual": USUAL, "published": str(file)}
    return Checkpoint(network, DiscreteVP(betas), target, (), shape, {}, info, decoder, words)


def refuse_pickle(file: Path) -> None:
    """A CheckpointError for a file that could run code."""
    if file.suffix.lower() in PICKLES:
        raise CheckpointError(
            f"{file} is a pickle, which can run any code when it is opened: take the safetensors "
            "files of this model, or convert it with its publisher's tools on a machine that may be lost"
        )


# Settings ------------------------------------------------------------------------------------------


def read_settings(folder: Path, name: str = "config.json") -> dict[str, Any]:
    """The settings of a part; a file that is none is a CheckpointError."""
    try:
        found = json.loads((folder / name).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {folder / name}: {error}") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{folder / name} does not hold settings")
    return found


def _unet_config(given: Mapping[str, Any]) -> TextUNetConfig:
    widths = tuple(given["block_out_channels"])
    kinds = given["down_block_types"]
    for kind in kinds:
        if kind not in ("CrossAttnDownBlock2D", "DownBlock2D"):
            raise unknown("block", kind, ("CrossAttnDownBlock2D", "DownBlock2D"))
    heads = given.get("attention_head_dim", 8)  # their name for the number of heads
    return TextUNetConfig(
        in_channels=given.get("in_channels", 4),
        out_channels=given.get("out_channels", 4),
        widths=widths,
        attention=tuple(kind == "CrossAttnDownBlock2D" for kind in kinds),
        blocks_per_level=given.get("layers_per_block", 2),
        heads=(heads,) * len(widths) if isinstance(heads, int) else tuple(heads),
        context=given["cross_attention_dim"],
        linear=given.get("use_linear_projection", False),
        groups=given.get("norm_num_groups", 32),
    )


def _vae_config(given: Mapping[str, Any]) -> VaeConfig:
    return VaeConfig(
        in_channels=given.get("in_channels", 3),
        latent_channels=given.get("latent_channels", 4),
        widths=tuple(given["block_out_channels"]),
        blocks_per_level=given.get("layers_per_block", 1),
        groups=given.get("norm_num_groups", 32),
        scale=given.get("scaling_factor", 0.18215),
    )


def _text_config(given: Mapping[str, Any]) -> TextConfig:
    """Old files say that a text ends with token 2, which is not so: the end is the last of the vocabulary."""
    vocabulary = given["vocab_size"]
    end = given.get("eos_token_id", vocabulary - 1)
    return TextConfig(
        vocabulary=vocabulary,
        context=given["max_position_embeddings"],
        width=given["hidden_size"],
        hidden=given["intermediate_size"],
        layers=given["num_hidden_layers"],
        heads=given["num_attention_heads"],
        activation=given.get("hidden_act", "quick_gelu"),
        begin=vocabulary - 2 if end == 2 else given.get("bos_token_id", vocabulary - 2),
        end=vocabulary - 1 if end == 2 else end,
    )


# Weights -------------------------------------------------------------------------------------------


def _made(kind: type[nn.Module], config: Any) -> Any:
    with torch.device("meta"):  # no random start for weights that are read
        return kind(config)


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of a part, in full precision where there is a choice.

    A pickle, no file, and files that are damaged are a CheckpointError.
    """
    files = sorted(folder.glob("*.safetensors"))
    full = [file for file in files if not re.search(r"\.(fp16|bf16|non_ema)\b", file.name)]
    files = full or files
    if not files:
        for file in sorted(folder.iterdir()):
            refuse_pickle(file)
        raise CheckpointError(f"{folder} has no weights: expected a .safetensors file")
    try:
        return {name: weight for file in files for name, weight in load_file(file).items()}
    except Exception as error:
        raise CheckpointError(f"the weights in {folder} are cut short or damaged ({error})") from error


def _text_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Newer files leave the first part of the names out."""
    names = {name: name if name.startswith("text_") else f"text_model.{name}" for name in weights}
    return {new: weights[old] for old, new in names.items() if new not in NO_WEIGHT}


def _vae_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = {}
    for name, weight in weights.items():
        parts = name.split(".")
        if "attentions" in parts and parts[-2] in OLD_ATTENTION:
            name = ".".join([*parts[:-2], OLD_ATTENTION[parts[-2]], parts[-1]])
        # some files keep these layers as convolutions of one pixel
        found[name] = weight[:, :, 0, 0] if "attentions" in parts and weight.ndim == 4 else weight
    return found


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], file: Path, part: str) -> None:
    """Put weights into a network, in float32; names or shapes that don't fit are a CheckpointError."""
    mine = network.state_dict()
    odd = sorted(mine.keys() ^ weights.keys())
    if odd:
        where = "is missing" if odd[0] in mine else "is not known"
        said = f"{odd[0]} {where}, and {len(odd) - 1} more"
        raise CheckpointError(f"the weights of the {part} in {file} don't fit: {said}")
    for name, weight in weights.items():
        if weight.shape != mine[name].shape:
            shapes = f"{tuple(weight.shape)} there and {tuple(mine[name].shape)} here"
            raise CheckpointError(f"the weights of the {part} in {file} don't fit: {name} is {shapes}")
    ready = {name: placed(weight.float(), "cpu") for name, weight in weights.items()}
    network.load_state_dict(ready, assign=True)
    network.eval()
