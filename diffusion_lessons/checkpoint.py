"""A trained model as one safetensors file: weights, and as JSON what is needed to use them.

Only safetensors: loading a file never runs code that is in it. A file is written whole or not at
all, and carries a SHA-256 over all it holds, so that a damaged one is told from a good one.
"""

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path as File
from typing import Any

import safetensors
import torch
from safetensors.torch import load as parse
from safetensors.torch import save as serialize
from torch import Tensor, nn

from diffusion_lessons.data.clips import clip_tokens
from diffusion_lessons.data.tokenizer import Tokenizer
from diffusion_lessons.denoiser import NetworkDenoiser
from diffusion_lessons.networks import Vae, Video, build, describe
from diffusion_lessons.paths import DiscreteVP, NoisePath, StraightPath
from diffusion_lessons.support.files import atomic_write
from diffusion_lessons.support.machine import fastest_layout
from diffusion_lessons.targets import TARGETS, Target

FORMAT = 1
KEY = "diffusion_lessons"  # of the file's metadata: holds checksum and description as JSON
WEIGHTS, VAE, BETAS = "network.", "vae.", "path.betas"  # what tensors are called in files


class CheckpointError(ValueError):
    """A file that cannot be read as what it should be; the message says why, in one line."""


@dataclass(frozen=True)
class Checkpoint:
    """A model with the path and the target it was trained with, ready to sample from."""

    network: nn.Module  # in evaluation mode, float32, on the CPU, when it comes from a file
    path: NoisePath
    target: Target
    classes: tuple[str, ...]  # names of the labels it knows, in order; empty for a model without labels
    shape: tuple[int, ...]  # of one sample, (C, H, W) of a picture, (F, C, H, W) of a clip
    recipe: Mapping[str, Any] = field(default_factory=dict)  # how it was trained, as plain values
    info: Mapping[str, Any] = field(default_factory=dict)  # steps, seconds, versions; its own "sampling"
    vae: Vae | None = None  # that its samples are latents of
    tokenizer: Tokenizer | None = None  # of the prompts that its network is told

    def denoiser(self) -> NetworkDenoiser:
        """The denoiser that samplers ask."""
        return NetworkDenoiser(self.network, self.path, self.target)

    @property
    def data(self) -> str:
        """The name of the data set it was trained on; where its recipe names none, a ValueError."""
        name = self.recipe.get("data")
        if not isinstance(name, str) or not name:
            raise ValueError(
                "this checkpoint does not say what it was trained on: name the data set with --data, where "
                "the command has it, or take another checkpoint"
            )
        return name

    def on(self, device: torch.device | str, layout: torch.memory_format | None = None) -> "Checkpoint":
        """The same model on a device, to be evaluated, in a layout as `placed`: this one stays where it is.

        Weights that are there already, in that layout, are shared and not copied.
        """
        parts = (self.network, self.vae)
        there: dict[int, Any] = {}
        for part in filter(None, parts):
            for weight in part.parameters():
                moved = placed(weight.detach(), device, layout)
                there[id(weight)] = nn.Parameter(moved, weight.requires_grad)
            for buffer in part.buffers():
                there[id(buffer)] = placed(buffer, device, layout)
        network, vae = copy.deepcopy(parts, there)
        return replace(self, network=network.eval(), vae=None if vae is None else vae.eval())

    def prompts(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """The condition that these prompts are; for a model without a tokenizer, a ValueError."""
        if self.tokenizer is None:
            raise ValueError("this model was trained without captions: it takes no prompt")
        return (clip_tokens if isinstance(self.network, Video) else Tokenizer.__call__)(self.tokenizer, texts)

    @torch.no_grad()
    def pictures(self, x: Tensor) -> Tensor:
        """What samples (B, ...) look like: where they are latents, each picture or frame decoded."""
        return x if self.vae is None else self.vae.decode(x.flatten(0, -4)).unflatten(0, x.shape[:-3])

    @property
    def sampling(self) -> dict[str, Any]:
        """The steps and guidance to sample with unless told otherwise, and the spacing if not "trailing".

        A published model is "usual"ly sampled in its own way; a distilled one knows its own "sampling" alone.
        """
        told = self.classes or self.tokenizer
        usual = {"steps": 25, "guidance": 2.0 if told else 1.0}
        return usual | dict(self.info.get("usual", {})) | dict(self.info.get("sampling", {}))


def save_checkpoint(file: File | str, checkpoint: Checkpoint, dtype: torch.dtype | None = None) -> None:
    """Write a checkpoint by `write_tensors`; a dtype (torch.float16 halves the file) is for its weights."""
    tensors, description = weights_of(checkpoint.network, dtype), described(checkpoint)
    if isinstance(checkpoint.path, DiscreteVP):
        tensors[BETAS] = checkpoint.path.betas
    if checkpoint.vae is not None:
        tensors |= weights_of(checkpoint.vae, dtype, VAE)
    write_tensors(file, tensors, description)


def load_checkpoint(file: File | str) -> Checkpoint:
    """Read a checkpoint or raise a CheckpointError; the network is float32, on the CPU, ready to evaluate."""
    tensors, description = read_tensors(file, kind="model")
    try:
        network = network_in(tensors, description["network"])
        vae = network_in(tensors, description["vae"], VAE) if "vae" in description else None
        return restored(description, network, tensors.get(BETAS), vae)  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{file} does not hold a model this version can build: {reason}") from error


def described(checkpoint: Checkpoint) -> dict[str, Any]:
    """All of a checkpoint but its tensors, for JSON; a network or a path of one's own is a ValueError."""
    if not isinstance(checkpoint.path, DiscreteVP | StraightPath):
        raise ValueError(
            f"a checkpoint holds a DiscreteVP or a StraightPath, got {type(checkpoint.path).__name__}"
        )
    description = {
        "kind": "model",
        "network": describe(checkpoint.network),
        "target": checkpoint.target.name,
        "classes": list(checkpoint.classes),
        "shape": list(checkpoint.shape),
        "recipe": dict(checkpoint.recipe),
        "info": dict(checkpoint.info),
    }
    if checkpoint.vae is not None:
        description["vae"] = describe(checkpoint.vae)
    if checkpoint.tokenizer is not None:
        description["tokenizer"] = checkpoint.tokenizer.to_json()
    return description


def restored(
    description: Mapping[str, Any], network: nn.Module, betas: Tensor | None, vae: Vae | None
) -> Checkpoint:
    """The checkpoint that `described` told of, from its parts; no betas are those of a `StraightPath`.

    What is no such description is a KeyError, TypeError or ValueError.
    """
    return Checkpoint(
        network,
        StraightPath() if betas is None else DiscreteVP(betas),
        TARGETS[description["target"]],
        tuple(description["classes"]),
        tuple(description["shape"]),
        dict(description.get("recipe") or {}),
        dict(description.get("info") or {}),
        vae,
        Tokenizer.from_json(description["tokenizer"]) if "tokenizer" in description else None,
    )


def weights_of(
    network: nn.Module, dtype: torch.dtype | None = None, prefix: str = WEIGHTS
) -> dict[str, Tensor]:
    """The weights by the names they have in files; a dtype is for those that are floats."""
    weights = {f"{prefix}{name}": weight for name, weight in network.state_dict().items()}
    if dtype is None:
        return weights
    return {name: t.to(dtype) if t.is_floating_point() else t for name, t in weights.items()}


def placed(weight: Tensor, device: torch.device | str, layout: torch.memory_format | None = None) -> Tensor:
    """A weight on a device; those of convolutions in a layout, by default the fastest there."""
    layout = fastest_layout(device) if layout is None else layout
    return weight.to(device, memory_format=layout) if weight.ndim == 4 else weight.to(device)


def network_in(
    tensors: Mapping[str, Tensor], description: dict[str, Any], prefix: str = WEIGHTS
) -> nn.Module:
    """The network of a description, with its weights in a file: float32, evaluation mode, on the CPU."""
    with torch.device("meta"):  # no random start for weights that are read
        network = build(description)
    mine = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
    network.load_state_dict({name: t.to(torch.float32, copy=True) for name, t in mine.items()}, assign=True)
    return network.eval()


# The file itself -----------------------------------------------------------------------------------


def write_tensors(file: File | str, tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    """Write tensors and a JSON description as safetensors, whole or not at all, with a checksum.

    A disk that is full or a folder that cannot be written is a ValueError; an older file stays intact.
    """
    tensors = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    described = {"format": FORMAT, **description}
    contents = {"sha256": digest(tensors, described), "description": described}
    data = serialize(tensors, {KEY: json.dumps(contents, sort_keys=True)})  # one key: their order is random
    with atomic_write(file) as partial:
        partial.write_bytes(data)


def read_tensors(file: File | str, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write_tensors` wrote; missing, damaged, foreign or of another kind is a CheckpointError."""
    try:
        data = File(file).read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read the checkpoint {file}: {error.strerror}") from error
    try:
        tensors = parse(data)
        length = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + length]).get("__metadata__") or {}
        contents = json.loads(metadata.get(KEY, "null"))
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise CheckpointError(f"{file} is cut short, damaged or no safetensors file ({error})") from error
    if contents is None:
        raise CheckpointError(f"{file} is a safetensors file, but none that diffusion-lessons wrote")
    description = contents.get("description", {})
    if contents.get("sha256") != digest(tensors, description):
        raise CheckpointError(f"{file} is damaged: its contents do not match its checksum")
    if description.get("format") != FORMAT:
        raise CheckpointError(f"{file} has format {description.get('format')}, this version reads {FORMAT}")
    if description.get("kind") != kind:
        raise CheckpointError(f"{file} holds a {description.get('kind')}, not a {kind}")
    return tensors, description


def digest(tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> str:
    """SHA-256 over the description and over every tensor's name, type, shape and bytes."""
    sha = hashlib.sha256(json.dumps(description, sort_keys=True, allow_nan=False).encode())
    for name in sorted(tensors):
        t = tensors[name]
        sha.update(f"\0{name}\0{t.dtype}\0{tuple(t.shape)}\0".encode())
        sha.update(t.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()
