"""An ONNX file as a checkpoint: the same samplers, guidance and `generate`, its networks by ONNX Runtime."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffusion_lessons.checkpoint import Checkpoint, CheckpointError, restored
from diffusion_lessons.conditions import Condition, as_dict, label_of
from diffusion_lessons.networks import Prompted, PromptedConfig, Vae, VaeConfig
from diffusion_lessons.networks.clip import TextFeatures
from diffusion_lessons.networks.unet_text import NO_MASK
from diffusion_lessons.networks.vae import Latents
from diffusion_lessons.onnx_files.card import KEY, unsealed
from diffusion_lessons.onnx_files.parts import MAIN
from diffusion_lessons.onnx_files.session import Session, checked_provider


def is_onnx(file: Path) -> bool:
    """Whether a name is that of an ONNX file, or of a folder that holds a model of several, or parts."""
    if file.suffix == ".onnx" or (file / f"{MAIN}.onnx").is_file():
        return True
    return any(file.glob("*.onnx")) and not any(file.glob("*.safetensors"))


def open_onnx(file: Path, provider: str = "cpu") -> Checkpoint:
    """The diffusion model in a file or folder that `write_onnx` made, evaluated by a provider of `PROVIDERS`.

    It draws what the model draws that it was made from; it has no weights to go on training from, and has one
    size. What is missing, damaged, somebody else's or no diffusion model is a CheckpointError, and a provider
    that is not here a ValueError.
    """
    checked_provider(provider)
    if file.is_dir() and not (file / f"{MAIN}.onnx").is_file():
        parts = ", ".join(sorted(part.name for part in file.glob("*.onnx"))) or "no ONNX file"
        raise CheckpointError(
            f"{file} holds {parts} and no {MAIN}.onnx: a model that draws nothing, or an export that was "
            "stopped; export it again"
        )
    main, card = _read(file / f"{MAIN}.onnx" if file.is_dir() else file, provider)
    try:
        return _model(file, main, card, provider)
    except CheckpointError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{file} does not hold a model this version can run: {error}") from error


def _model(file: Path, main: Session, card: Mapping[str, Any], provider: str) -> Checkpoint:
    if card["kind"] != "model":
        raise CheckpointError(f"{file} holds a model that draws nothing, of the kind {card['kind']!r}")
    others = [name for name in card["parts"] if name != card["part"]]
    if card["part"] != MAIN or (others and not file.is_dir()):
        raise CheckpointError(
            f"{file} is one part of a model, {card['part']!r}: name its folder, {file.parent}"
        )
    model = card["model"]
    parts = {name: _other(file / f"{name}.onnx", card["parts"][name], provider) for name in others}
    network: nn.Module = (
        OnnxPrompted(_config(model["network"], PromptedConfig), parts["text"], main)
        if "text" in parts
        else OnnxNetwork(main, model.get("null_label"))
    )
    vae = OnnxVae(_config(model["vae"], VaeConfig), parts) if "vae" in model else None
    betas = torch.tensor(model["betas"], dtype=torch.float64) if "betas" in model else None
    return restored(model, network, betas, vae)


def _read(file: Path, provider: str) -> tuple[Session, dict[str, Any]]:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read the ONNX file {file}: {error.strerror}") from error
    try:
        session = Session(file.stem, data, provider)
    except ValueError as error:
        raise CheckpointError(f"{file} is cut short, damaged or no ONNX file: {error}") from error
    entry = session.metadata.get(KEY)
    if entry is None:
        raise CheckpointError(
            f"{file} is an ONNX file, but none that diffusion-lessons wrote, or it was cut short"
        )
    try:
        return session, unsealed(data, entry)
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{file} is damaged: {error}") from error


def _other(file: Path, digest: str, provider: str) -> Session:
    session, card = _read(file, provider)
    if card["parts"].get(card["part"]) != digest:
        raise CheckpointError(
            f"{file} is not of the same model as the files beside it: export the model again"
        )
    return session


def _config(description: Mapping[str, Any], kind: Any) -> Any:
    return kind(**description["config"])


# Networks ------------------------------------------------------------------------------------------


class Evaluated(nn.Module):
    """A graph as a module; its parameter is empty, and says on which device tensors are handed over."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session, self.place = session, nn.Parameter(torch.empty(0), requires_grad=False)

    def forward(self, **inputs: Tensor) -> tuple[Tensor, ...]:
        return self.session(**inputs)


class OnnxNetwork(Evaluated):
    """A network that is told labels, or nothing: as a `UNet`."""

    def __init__(self, session: Session, null_label: int | None) -> None:
        super().__init__(session)
        self.null_label = null_label

    def null_condition(self, batch: int) -> Tensor | None:
        """(batch,) labels that mean "no label"; None where the network takes no labels."""
        null = self.null_label
        return None if null is None else torch.full((batch,), null, device=self.place.device)

    def forward(self, x: Tensor, time: Tensor, condition: Condition = None) -> Tensor:  # type: ignore[override]
        labels, null = label_of(condition), self.null_label
        if null is None:
            if labels is not None:
                raise ValueError("this network was built without classes: pass no labels")
            return super().forward(x=x, time=time)[0]
        labels = self.null_condition(x.shape[0]) if labels is None else labels
        assert labels is not None
        if bool(((labels < 0) | (labels > null)).any()):
            raise ValueError(f"classes are 0 to {null - 1}, and {null} means no label; got {labels.tolist()}")
        return super().forward(x=x, time=time, label=labels)[0]


class OnnxPrompted(Prompted):
    """A text tower and its U-Net, each a graph."""

    def __init__(self, config: PromptedConfig, text: Session, unet: Session) -> None:
        nn.Module.__init__(self)  # without the networks that the graphs stand for
        self.config = config
        self.text, self.unet = OnnxText(text), OnnxUNet(unet)  # type: ignore[assignment]


class OnnxText(Evaluated):
    """As a `TextTransformer` without a projection."""

    def forward(self, tokens: Tensor) -> TextFeatures:  # type: ignore[override]
        context, pooled = super().forward(tokens=tokens)
        return TextFeatures(context, pooled, None)


class OnnxUNet(Evaluated):
    """As a `TextUNet`."""

    def forward(self, x: Tensor, time: Tensor, condition: Condition) -> Tensor:  # type: ignore[override]
        told = as_dict(condition)
        if "known" in self.session.inputs and "known" not in told:
            raise ValueError(NO_MASK)
        return super().forward(x=x, time=time, **told)[0]


class OnnxVae(Vae):
    """An autoencoder whose two ways are graphs, for pictures of the size that they were written for."""

    def __init__(self, config: VaeConfig, parts: Mapping[str, Session]) -> None:
        nn.Module.__init__(self)
        self.config = config
        self.encoder, self.decoder = Evaluated(parts["encoder"]), Evaluated(parts["decoder"])  # type: ignore[assignment]

    def moments(self, x: Tensor) -> Latents:
        """The distribution of the latents of pictures x."""
        return Latents(*self.encoder(pictures=x))

    def decode(self, z: Tensor) -> Tensor:
        """Pictures from scaled latents."""
        return self.decoder(latents=z)[0]
