"""What of a model becomes a graph: its parts, how each is called, and what describes them together."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from diffusion_lessons.checkpoint import Checkpoint, described
from diffusion_lessons.data.tokenizer import Tokenizer
from diffusion_lessons.guidance import NetworkClassifier
from diffusion_lessons.networks import Classifier, Prompted, Vae, Video, describe
from diffusion_lessons.networks.clip import TextConfig, TwoTowers
from diffusion_lessons.paths import DiscreteVP, NoisePath

Draw = Callable[[int, torch.Generator], Tensor]  # (rows, generator) -> an input to try a part on
LATENT_SIDE = 16  # of an autoencoder alone: it does not say what size it is for
MAIN = "network"  # the part whose card describes the whole model


@dataclass(frozen=True)
class Part:
    """One graph: `call(network, *inputs)` gives the outputs, all batch-first."""

    name: str
    network: nn.Module
    call: Callable[..., Any]
    inputs: Mapping[str, Draw]
    outputs: tuple[str, ...]

    def draw(self, rows: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Random inputs by name."""
        return {name: draw(rows, generator) for name, draw in self.inputs.items()}

    @torch.no_grad()
    def answers(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """What the network itself says of these inputs."""
        said = self.call(self.network, *inputs.values())
        return (said,) if isinstance(said, Tensor) else tuple(said)


def parts_of(model: Any) -> tuple[dict[str, Any], list[Part]]:
    """The description of a model, ready for JSON, and its parts; the first is the one that describes it.

    A model is whatever `zoo.load` gives; one of clips, another, or a network of one's own, is a ValueError.
    """
    if isinstance(model, Checkpoint):
        if isinstance(model.network, Video):
            raise ValueError(
                "a model of clips cannot be written as ONNX: it is shown more frames as it goes on, and "
                "a graph has one number of them; sample it as it is, or export a model of pictures"
            )
        parts = _prompted(model) if isinstance(model.network, Prompted) else [_told_labels(model)]
        null = "label" in parts[0].inputs and {"null_label": _null_label(model.network)}
        vae = [] if model.vae is None else _autoencoder(model.vae, _size(model))
        return described(model) | _betas(model.path) | (null or {}), [*parts, *vae]
    if isinstance(model, Vae):
        return {"kind": "autoencoder", "network": describe(model)}, _autoencoder(
            model, 16 * model.config.factor
        )
    if isinstance(model, Classifier):
        return {"kind": "classifier", "network": describe(model)}, [_classifier(model)]
    if isinstance(model, NetworkClassifier) and isinstance(model.network, Classifier):
        about = {"kind": "noisy-classifier", "network": describe(model.network), **_betas(model.path)}
        return about, [_classifier(model.network)]
    if isinstance(model, tuple) and isinstance(model[0], TwoTowers):
        return _towers(*model)
    raise ValueError(f"no model that can be written as ONNX: {type(model).__name__}")


# The kinds -----------------------------------------------------------------------------------------


def _told_labels(model: Checkpoint) -> Part:
    inputs = {"x": normal(*model.shape), "time": times}
    null = _null_label(model.network)
    if null is not None:
        inputs["label"] = whole(null + 1)
    return Part(MAIN, model.network, lambda network, *given: network(*given), inputs, ("output",))


def _prompted(model: Checkpoint) -> list[Part]:
    assert isinstance(model.network, Prompted)
    config = model.network.config
    channels, (*_, height, width) = model.shape[0], model.shape
    length = 1 if config.pooled else config.text.context
    inputs = {"x": normal(*model.shape), "time": times, "context": normal(length, config.unet.context)}
    if config.unet.in_channels > channels:
        inputs["known"] = normal(config.unet.in_channels - channels, height, width)
    names = tuple(inputs)[2:]

    def unet(network: nn.Module, x: Tensor, time: Tensor, *told: Tensor) -> Tensor:
        return network(x, time, dict(zip(names, told, strict=True)))

    def text(network: nn.Module, tokens: Tensor) -> tuple[Tensor, Tensor]:
        said = network(tokens)
        return said.context, said.pooled

    told = {"tokens": tokens_of(config.text)}
    return [
        Part(MAIN, model.network.unet, unet, inputs, ("output",)),
        Part("text", model.network.text, text, told, ("context", "pooled")),
    ]


def _autoencoder(vae: Vae, side: int) -> list[Part]:
    config = vae.config
    pictures, small = uniform(config.in_channels, side, side), side // config.factor
    latents = normal(config.latent_channels, small, small)
    return [
        Part(
            "encoder", vae, lambda vae, x: tuple(vae.moments(x)), {"pictures": pictures}, ("mean", "logvar")
        ),
        Part("decoder", vae, lambda vae, z: vae.decode(z), {"latents": latents}, ("pictures",)),
    ]


def _classifier(network: Classifier) -> Part:
    def call(network: Any, *given: Tensor) -> tuple[Tensor, Tensor]:
        features = network.features(*given)
        return network.classify(features), features

    c = network.config
    inputs: dict[str, Draw] = {"pictures": uniform(c.in_channels, c.image_size, c.image_size)}
    inputs |= {"time": times} if c.time else {}
    return Part("classifier", network, call, inputs, ("logits", "features"))


def _towers(towers: TwoTowers, tokenizer: Tokenizer) -> tuple[dict[str, Any], list[Part]]:
    text, vision = towers.text.config, towers.vision.config
    about: dict[str, Any] = {"kind": "towers", "text": asdict(text), "vision": asdict(vision)}
    about |= {"tokenizer": tokenizer.to_json(), "logit_scale": float(towers.logit_scale.detach().exp())}
    tokens, pictures = {"tokens": tokens_of(text)}, {"pictures": uniform(3, vision.size, vision.size)}
    return about, [
        Part("image", towers.vision, lambda network, x: network(x), pictures, ("projected",)),
        Part("text", towers.text, lambda network, x: network(x).projected, tokens, ("projected",)),
    ]


def _null_label(network: nn.Module) -> int | None:
    null = network.null_condition(1)  # type: ignore[operator]
    return None if null is None else int(null)


def _betas(path: NoisePath) -> dict[str, Any]:
    return {"betas": path.betas.tolist()} if isinstance(path, DiscreteVP) else {}


def _size(model: Checkpoint) -> int:
    assert model.vae is not None
    return model.shape[-1] * model.vae.config.factor


# What parts are tried on ---------------------------------------------------------------------------


def normal(*shape: int) -> Draw:
    return lambda rows, generator: torch.randn(rows, *shape, generator=generator)


def uniform(*shape: int) -> Draw:
    """Of pictures in [−1, 1]."""
    return lambda rows, generator: 2 * torch.rand(rows, *shape, generator=generator) - 1


def times(rows: int, generator: torch.Generator) -> Tensor:
    """On the scale of `path.network_time`."""
    return 1000 * torch.rand(rows, generator=generator)


def whole(n: int) -> Draw:
    """From 0 to n − 1."""
    return lambda rows, generator: torch.randint(n, (rows,), generator=generator)


def tokens_of(config: TextConfig) -> Draw:
    def draw(rows: int, generator: torch.Generator) -> Tensor:
        tokens = torch.randint(config.vocabulary, (rows, config.context), generator=generator)
        tokens[:, 0], tokens[:, -1] = config.begin, config.end
        return tokens

    return draw
