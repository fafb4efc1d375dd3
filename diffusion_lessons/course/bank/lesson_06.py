"""Lesson 06, the U-Net: how far it sees, how it is told the time, its block, its attention, the whole.

And a transformer's block in its place.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffusion_lessons.course.bank import figures
from diffusion_lessons.course.bank.inputs import normal, number, several, whole
from diffusion_lessons.course.exercises.exercise import Case, Exercise, Misconception
from diffusion_lessons.networks import embedding as embeddings
from diffusion_lessons.networks.attention import attention
from diffusion_lessons.networks.blocks import ResidualBlock, Upsample
from diffusion_lessons.networks.counting import receptive_field
from diffusion_lessons.networks.dit import DiTBlock
from diffusion_lessons.networks.unet import UNet, UNetConfig

Make = Callable[[torch.Generator], dict[str, Any]]
Layers = Sequence[tuple[int, int]]


def _randomized(network: nn.Module, seed: int) -> nn.Module:
    """The network with all its weights drawn anew: a fresh one ends in zeros, whatever flows through it."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            parameter.copy_(centre + 0.3 * torch.randn(parameter.shape, generator=generator))
    return network


@lru_cache(maxsize=16)
def _drawn(network: type[nn.Module], seed: int, *shape: Any) -> dict[str, Tensor]:
    """The weights of such a network, drawn once for all answers."""
    return _randomized(network(*shape), seed).state_dict()


def _seed(generator: torch.Generator) -> int:
    return int(torch.randint(1_000_000, (1,), generator=generator))


# 06.1 How far a chain of convolutions sees ----------------------------------------------------------


def _field(widen: Callable[[int, int, int], int], start: int = 1) -> Callable[[Layers], int]:
    """The field where each layer adds what `widen(kernel, stride, step)` says."""

    def field(layers: Layers) -> int:
        size, step = start, 1
        for kernel, stride in layers:
            size += widen(kernel, stride, step)
            step *= stride
        return size

    return field


def _steps_added(layers: Layers) -> int:
    size, step = 1, 1
    for kernel, stride in layers:
        size += (kernel - 1) * step
        step += stride - 1
    return size


def _step_shrinks(layers: Layers) -> float:
    size, step = 1.0, 1.0
    for kernel, stride in layers:
        size += (kernel - 1) * step
        step /= stride
    return size


def _field_stretched(layers: Layers) -> int:
    size = 1
    for kernel, stride in layers:
        size = (size + kernel - 1) * stride
    return size


def _from_the_end(layers: Layers) -> int:
    """The other way round: how many positions below does one position need, layer by layer."""
    size = 1
    for kernel, stride in reversed(layers):
        size = (size - 1) * stride + kernel
    return size


def _summed(layers: Layers) -> int:
    strides = [stride for _, stride in layers]
    return 1 + sum((kernel - 1) * math.prod(strides[:i]) for i, (kernel, _) in enumerate(layers))


def _layers(*parts: Callable[[torch.Generator], list[tuple[int, int]]]) -> Make:
    return lambda g: {"layers": [layer for part in parts for layer in part(g)]}


def _plain(low: int, high: int) -> Callable[[torch.Generator], list[tuple[int, int]]]:
    """So many convolutions of 3 × 3 without a stride."""
    return lambda g: [(3, 1)] * whole(g, low, high)


def _halving(g: torch.Generator) -> list[tuple[int, int]]:
    return [(3, 2)]


def _several_sizes(g: torch.Generator) -> list[tuple[int, int]]:
    """Kernels of 1, 3 and 5 with strides of 2 and 3, each of them twice, and one more after them."""
    layers = [(5, 1), (1, 1), (3, 3), (3, 2), (5, 2), (3, 3)]
    return [layers[i] for i in several(g, 6, 0, 5)] + [(2 * whole(g, 1, 3) + 1, 1)]


def _patches(g: torch.Generator) -> list[tuple[int, int]]:
    side = 2 * whole(g, 1, 2)
    return [(side, side)]


def _field_figure(reference: Callable[[Layers], int]) -> Any:
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(4.4, 2.4), layout="constrained")
    for name, every, mark in (("stride 1", 0, "o-"), ("stride 2 at every third", 3, "s--")):
        chain = [(3, 2 if every and i % every == 0 else 1) for i in range(1, 10)]
        axis.plot(range(10), [reference(chain[:n]) for n in range(10)], mark, label=name)
    axis.set(xlabel="3 × 3 convolutions", ylabel="pixels a side")
    axis.legend(frameon=False)
    return figure


def _last_stride(layers: Layers) -> int:
    size, step = 1, 1
    for kernel, stride in layers:
        size += (kernel - 1) * step
        step = stride
    return size


def _kernel_in_the_step(layers: Layers) -> int:
    size, step = 1, 1
    for kernel, stride in layers:
        size += (kernel - 1) * step
        step *= kernel * stride
    return size


def _first_stride_forgotten(layers: Layers) -> int:
    size, step = layers[0][0], 1
    for kernel, stride in layers[1:]:
        size += (kernel - 1) * step
        step *= stride
    return size


def _strides_of_all(layers: Layers) -> int:
    size = 1
    for kernel, stride in reversed(layers):
        size = size * stride + kernel - 1
    return size


FIELD = Exercise(
    id="06.1",
    name="receptive_field",
    title="How far a chain of convolutions sees",
    kind="reproduce",
    difficulty=1,
    minutes=8,
    reference=receptive_field,
    cases=[
        Case("a few convolutions of 3 × 3", _layers(_plain(3, 8))),
        Case(
            "two halvings on the way", _layers(_plain(1, 4), _halving, _plain(1, 4), _halving, _plain(1, 4))
        ),
        Case("kernels of several sizes, strides of 2 and 3", _layers(_several_sizes)),
        Case("patches to begin with", _layers(_patches, _plain(1, 4), _halving, _plain(1, 4))),
        Case("no layer at all: the pixel itself", _layers()),
    ],
    misconceptions=[
        Misconception(
            "whole-kernels-added",
            _field(lambda kernel, stride, step: kernel * step),
            "You added the whole kernel. Its centre is inside the field already: a kernel of k widens the "
            "field by k − 1 positions, not by k.",
            about="count",
        ),
        Misconception(
            "strides-forgotten",
            _field(lambda kernel, stride, step: kernel - 1),
            "You left the strides out. After a stride of 2 neighbouring positions lie two pixels apart, so "
            "every later kernel reaches twice as far.",
            about="missing",
        ),
        Misconception(
            "own-stride-counted",
            _field(lambda kernel, stride, step: (kernel - 1) * step * stride),
            "You let a layer's own stride widen its own reach. A strided kernel reads neighbours on the grid "
            "as it was; the stride makes the grid coarser for the layers after it.",
            about="order",
        ),
        Misconception(
            "pixel-itself-forgotten",
            _field(lambda kernel, stride, step: (kernel - 1) * step, start=0),
            "You started at 0. With no layer at all one number sees one pixel, itself: start at 1.",
            about="count",
        ),
        Misconception(
            "strides-added",
            _steps_added,
            "You added the strides up. They multiply: after two strides of 2 the positions lie four pixels "
            "apart, after three of them eight.",
            about="formula",
        ),
        Misconception(
            "kernels-multiplied",
            lambda layers: math.prod(kernel for kernel, _ in layers),
            "You multiplied the kernels. Two kernels of 3 in a row see 5 pixels, not 9: each adds k − 1 to "
            "what the ones before it see.",
            about="formula",
        ),
        Misconception(
            "field-stretched",
            _field_stretched,
            "You multiplied the field itself by the stride. What is already seen does not grow; it is the "
            "step, the distance between two positions, that the stride makes longer.",
            about="input",
        ),
        Misconception(
            "one-side-only",
            _field(lambda kernel, stride, step: (kernel - 1) // 2 * step),
            "You counted the reach to one side, (k − 1)/2. A kernel reaches that far to both sides, so the "
            "field grows by k − 1.",
            about="factor",
        ),
        Misconception(
            "both-sides-of-a-whole-kernel",
            _field(lambda kernel, stride, step: 2 * (kernel - 1) * step),
            "You let a kernel of k reach k − 1 to *each* side. It reaches (k − 1)/2 to each side, k − 1 in "
            "all.",
            about="factor",
        ),
        Misconception(
            "last-layer-first",
            lambda layers: receptive_field(layers[::-1]),
            "You went through the layers from the last to the first, as if the strides of later layers "
            "widened what earlier ones see. Each stride counts for the layers after it.",
            about="direction",
        ),
        Misconception(
            "strides-multiplied-alone",
            lambda layers: math.prod(stride for _, stride in layers),
            "You returned the product of the strides, the step between two positions at the end. Asked is "
            "the width of the field.",
            about="reading",
        ),
        Misconception(
            "step-shrinks",
            _step_shrinks,
            "You divided the step by the stride. After a stride of 2 the positions lie twice as far *apart*, "
            "counted in pixels: multiply.",
            about="direction",
        ),
        Misconception(
            "area-for-side",
            lambda layers: receptive_field(layers) ** 2,
            "You counted all pixels of the field. Asked are the pixels a side.",
            about="reading",
        ),
        Misconception(
            "last-stride-only",
            _last_stride,
            "Your step is the stride of the last layer alone. Strides multiply: after two strides of 2 the "
            "positions lie four pixels apart.",
            about="missing",
        ),
        Misconception(
            "own-stride-alone",
            _field(lambda kernel, stride, step: (kernel - 1) * stride),
            "You multiplied each layer's reach by its own stride alone. What counts are the strides of the "
            "layers before it, all multiplied; its own one counts for the layers after it.",
            about="input",
        ),
        Misconception(
            "kernel-and-stride-swapped",
            lambda layers: receptive_field([(stride, kernel) for kernel, stride in layers]),
            "You took the pairs for (stride, kernel). They are (kernel, stride).",
            about="swap",
        ),
        Misconception(
            "half-kernels",
            _field(lambda kernel, stride, step: kernel // 2 * 2 * step),
            "You let a kernel reach k // 2 to each side. For an even kernel that is one too many: in all it "
            "widens the field by k − 1.",
            about="rounding",
        ),
        Misconception(
            "always-3",
            _field(lambda kernel, stride, step: 2 * step),
            "You took every kernel for one of 3. Each layer has its own k: it widens the field by k − 1.",
            about="input",
        ),
        Misconception(
            "all-strides-for-all",
            lambda layers: (
                math.prod(stride for _, stride in layers) * _field(lambda k, s, step: k - 1)(layers)
            ),
            "You multiplied the whole field by all the strides. A stride counts for the layers after it, "
            "and for no others.",
            about="order",
        ),
        Misconception(
            "kernel-in-the-step",
            _kernel_in_the_step,
            "Your step grows by the kernels, too. Only a stride makes it longer.",
            about="extra",
        ),
        Misconception(
            "half-the-field",
            lambda layers: receptive_field(layers) // 2,
            "That is how far the field reaches to one side. Asked is its whole width.",
            about="reading",
        ),
        Misconception(
            "first-stride-forgotten",
            _first_stride_forgotten,
            "You began with the first kernel and left the first layer's stride out. It counts for the layers "
            "after it. And where there is no layer at all, there is no first one: begin at 1.",
            about="missing",
        ),
        Misconception(
            "a-stride-too-many",
            _strides_of_all,
            "You went from the last layer to the first, and counted one stride too many: between r positions "
            "there are r − 1 strides, so r of them need (r − 1)·stride + kernel.",
            about="count",
        ),
    ],
    alternatives=[_from_the_end, _summed],
    hints=(
        "Keep two numbers: how many pixels the field spans, and how many pixels lie between two neighbouring "
        "positions of the grid that you have reached.",
        "A layer widens the field by (k − 1)·step. Only then does its stride make the step longer: "
        "step ← step·s. Both begin at 1.",
        "`field, step = 1, 1`, then `for kernel, stride in layers:` with two lines, and `return field`.",
    ),
    figure=_field_figure,
    figure_alt="The field over the number of 3 by 3 convolutions. With stride 1 it grows evenly to 19 pixels "
    "after nine. With every third convolution of stride 2 it grows faster and faster, to 43.",
)


# 06.2 The time as a vector --------------------------------------------------------------------------


def sinusoidal_embedding(time: Tensor, dim: int) -> Tensor:
    """(B, dim) sines, then cosines, at the usual frequencies."""
    return embeddings.sinusoidal_embedding(time, dim)


def _angles(time: Tensor, dim: int, frequencies: Callable[[Tensor, int], Tensor]) -> Tensor:
    """(B, dim/2) angles from frequencies(index 0 … dim/2 − 1, dim/2)."""
    index = torch.arange(dim // 2, dtype=torch.float32, device=time.device)
    return time.float()[:, None] * frequencies(index, dim // 2)


def _usual(index: Tensor, half: int) -> Tensor:
    return 10_000 ** (-index / half)


def _sines_of(frequencies: Callable[[Tensor, int], Tensor]) -> Callable[[Tensor, int], Tensor]:
    """The embedding with other frequencies."""

    def embed(time: Tensor, dim: int) -> Tensor:
        angles = _angles(time, dim, frequencies)
        return torch.cat([angles.sin(), angles.cos()], dim=1)

    return embed


def _halves_swapped(time: Tensor, dim: int) -> Tensor:
    angles = _angles(time, dim, _usual)
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def _interleaved(time: Tensor, dim: int) -> Tensor:
    angles = _angles(time, dim, _usual)
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)


def _sines_twice(time: Tensor, dim: int) -> Tensor:
    angles = _angles(time, dim, _usual)
    return torch.cat([angles.sin(), angles.sin()], dim=1)


def _bare_angles(time: Tensor, dim: int) -> Tensor:
    angles = _angles(time, dim, _usual)
    return torch.cat([angles, angles], dim=1)


def _embedded_by_exp(time: Tensor, dim: int) -> Tensor:
    frequencies = torch.logspace(0, -4 * (dim - 2) / dim, dim // 2)  # from 1 down, the last above 1/10000
    angles = torch.outer(time.float(), frequencies.to(time.device))
    return torch.stack([angles.sin(), angles.cos()], dim=1).flatten(1)


def _embedded_by_loop(time: Tensor, dim: int) -> Tensor:
    half = dim // 2
    rows = []
    for t in time.tolist():
        angles = [t / 10_000 ** (i / half) for i in range(half)]
        rows.append([math.sin(a) for a in angles] + [math.cos(a) for a in angles])
    return torch.tensor(rows, device=time.device)


def _times(low: int, high: int, count: int) -> Make:
    """So many times from 0 to 1000, and an even width between two bounds."""
    return lambda g: {"time": 1000 * torch.rand(count, generator=g), "dim": 2 * whole(g, low // 2, high // 2)}


def _both_ends(g: torch.Generator) -> dict[str, Any]:
    return {"time": torch.tensor([0.0, 1.0, number(g, 20, 60), 1000.0]), "dim": 2 * whole(g, 4, 6)}


def _embedding_figure(reference: Callable[..., Tensor]) -> Any:
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(5, 2.3), layout="constrained")
    rows = reference(torch.arange(0.0, 1000, 2), 32).T.numpy()
    image = axis.imshow(rows, aspect="auto", extent=(0, 1000, 31.5, -0.5), cmap="gray", vmin=-1, vmax=1)
    axis.set(xlabel="time", ylabel="entry")
    figure.colorbar(image)
    return figure


def _of_dim_frequencies(time: Tensor, dim: int) -> Tensor:
    angles = _angles(time, 2 * dim, _usual)
    return torch.cat([angles[:, ::2].sin(), angles[:, 1::2].cos()], dim=1)


EMBEDDING = Exercise(
    id="06.2",
    name="sinusoidal_embedding",
    title="The time as a vector",
    kind="reproduce",
    difficulty=1,
    minutes=8,
    reference=sinusoidal_embedding,
    cases=[
        Case("four times, 0 and 1000 among them, some ten entries", _both_ends),
        Case("the width of our network, 32 entries", _times(32, 32, 3)),
        Case("seven times, a few entries", _times(4, 6, 7)),
    ],
    misconceptions=[
        Misconception(
            "halves-swapped",
            _halves_swapped,
            "The halves are swapped: the sines come first, then the cosines. It would train just as well, "
            "but weights from elsewhere expect the sines first.",
            about="swap",
        ),
        Misconception(
            "interleaved",
            _interleaved,
            "You let sines and cosines take turns, as the Transformer paper writes it. Here the first half "
            "of the vector is all sines, the second all cosines.",
            about="order",
        ),
        Misconception(
            "divided-by-one-less",
            _sines_of(lambda index, half: 10_000 ** (-index / (half - 1))),
            "You divided by dim/2 − 1, so that the last frequency is exactly 1/10000. The code of the DDPM "
            "paper does that; here, as in most code since, it is dim/2.",
            about="factor",
        ),
        Misconception(
            "divided-by-dim",
            _sines_of(lambda index, half: 10_000 ** (-index / (2 * half))),
            "You divided the index by dim. It runs over dim/2 frequencies, so divide by dim/2: else they end "
            "at 1/100, and the slow half of the clock is missing.",
            about="factor",
        ),
        Misconception(
            "frequencies-rise",
            _sines_of(lambda index, half: 10_000 ** (index / half)),
            "Your frequencies rise from 1 to thousands: the sign in the exponent is turned. Between two "
            "neighbouring times such a wave goes round many times, so they look unrelated.",
            about="sign",
        ),
        Misconception(
            "turns-for-radians",
            _sines_of(lambda index, half: 2 * math.pi * _usual(index, half)),
            "You multiplied by 2π. The angle is time·frequency in radians; with 2π the first wave goes round "
            "once in each unit of time, and is the same at all whole times.",
            about="factor",
        ),
        Misconception(
            "time-brought-to-one",
            _sines_of(lambda index, half: _usual(index, half) / 1000),
            "You divided the time by 1000 first. The frequencies are made for times from 0 to 1000; with "
            "times below 1 all but the first few waves stand still.",
            about="factor",
        ),
        Misconception(
            "sines-twice",
            _sines_twice,
            "Both halves are sines. A sine alone cannot tell an angle from its mirror image, sin(a) = "
            "sin(π − a): the second half is the cosine.",
            about="missing",
        ),
        Misconception(
            "base-of-e",
            _sines_of(lambda index, half: torch.exp(-index / half)),
            "The base of your frequencies is e, so that the slowest wave is hardly slower than the first. "
            "They fall from 1 to near 1/10000: 10000^(−i/(dim/2)).",
            about="factor",
        ),
        Misconception(
            "base-of-1000",
            _sines_of(lambda index, half: 1000 ** (-index / half)),
            "The base of your frequencies is 1000. As everywhere it is 10000: the slowest wave should take "
            "more than all times to go round once.",
            about="factor",
        ),
        Misconception(
            "counted-from-one",
            _sines_of(lambda index, half: _usual(index + 1, half)),
            "You counted the frequencies from 1. They are counted from 0, so that the first is 1: one "
            "radian in a unit of time.",
            about="index",
        ),
        Misconception(
            "evenly-spaced",
            _sines_of(lambda index, half: 1 - index / half),
            "Your frequencies fall in equal steps. They fall by equal *factors*, as a power of 10000.",
            about="formula",
        ),
        Misconception(
            "divided-by-the-power",
            _sines_of(lambda index, half: 1 / (10_000 * (index + 1) / half)),
            "You multiplied by the index where it is an exponent: ω_i = 10000^(−i/(dim/2)).",
            about="formula",
        ),
        Misconception(
            "angles-returned",
            _bare_angles,
            "You returned the angles themselves. Each hand of the clock is written down by its sine and its "
            "cosine, which stay between −1 and 1.",
            about="missing",
        ),
        Misconception(
            "whole-exponents",
            _sines_of(lambda index, half: 10_000 ** -(index // half)),
            "Your exponents are whole numbers, so all frequencies are 1: divide by /, not by //.",
            about="rounding",
        ),
        Misconception(
            "no-dimension-for-the-entries",
            lambda time, dim: time * _usual(torch.arange(dim // 2, device=time.device), dim // 2),
            "The times lack a dimension for the entries. Every time meets every frequency: time[:, None] is "
            "(B, 1), and multiplied by the frequencies, (dim/2,), it gives (B, dim/2).",
            about="shape",
        ),
        Misconception(
            "a-frequency-for-each-entry",
            _of_dim_frequencies,
            "You made dim frequencies, and sines and cosines have other ones. There are dim/2: each stands "
            "once with its sine and once with its cosine.",
            about="count",
        ),
    ],
    alternatives=[_embedded_by_exp, _embedded_by_loop],
    hints=(
        "Think of a clock with dim/2 hands. The first turns by one radian in a unit of time, each next one a "
        "little slower. Each hand is written down by its sine and its cosine.",
        "ω_i = 10000^(−i/(dim/2)) for i = 0 … dim/2 − 1; the entries are sin(ω_i·t), all of them, then "
        "cos(ω_i·t).",
        "`index = torch.arange(dim // 2, device=time.device)`, then the frequencies, then "
        "`angles = time[:, None] * …`, then `torch.cat([…, …], dim=1)`.",
    ),
    figure=_embedding_figure,
    figure_alt="The 32 entries of the vector over times from 0 to 1000, black is −1, white 1. The first rows "
    "are fine stripes, each next one has wider ones; from row 16 on the same again, shifted.",
    atol=1e-3,
)


# 06.3 The residual block ----------------------------------------------------------------------------


def _block_output(
    answer: Any, channels: tuple[int, int], groups: int, x: Tensor, embedding: Tensor, weights: int
) -> Tensor:
    """What a block gives with the weights of that seed."""
    shape = (*channels, embedding.shape[1], groups)
    block = answer(*shape)
    block.load_state_dict(_drawn(ResidualBlock, weights, *shape))
    return block.to(x.device).eval().requires_grad_(False)(x, embedding)


def _block(forward: Callable[[Any, Tensor, Tensor], Tensor]) -> type[ResidualBlock]:
    """A block with the same layers, through which other things flow."""
    return type("ResidualBlock", (ResidualBlock,), {"forward": forward})


def _scale_shift(block: Any, embedding: Tensor) -> tuple[Tensor, Tensor]:
    scale, shift = block.to_scale_shift(embedding)[:, :, None, None].chunk(2, dim=1)
    return scale, shift


def _block_told(
    tell: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda h, scale, shift: h * (1 + scale) + shift,
    activate: Callable[[Tensor], Tensor] = F.silu,
    embed: Callable[[Tensor], Tensor] = lambda embedding: embedding,
    first: Callable[[Tensor], Tensor] = F.silu,
) -> type[ResidualBlock]:
    """A block that is told by other means, or with other activations."""

    def forward(self: Any, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.norm_2(self.conv_1(first(self.norm_1(x))))
        h = tell(h, *_scale_shift(self, embed(embedding)))
        return self.shortcut(x) + self.conv_2(activate(h))

    return _block(forward)


def _norm_last(self: Any, x: Tensor, embedding: Tensor) -> Tensor:
    scale, shift = _scale_shift(self, embedding)
    h = self.conv_1(F.silu(self.norm_1(x))) * (1 + scale) + shift
    return self.shortcut(x) + self.conv_2(F.silu(self.norm_2(h)))


def _told_at_the_end(self: Any, x: Tensor, embedding: Tensor) -> Tensor:
    scale, shift = _scale_shift(self, embedding)
    h = self.norm_2(self.conv_1(F.silu(self.norm_1(x))))
    return self.shortcut(x) + self.conv_2(F.silu(h)) * (1 + scale) + shift


def _no_shortcut(self: Any, x: Tensor, embedding: Tensor) -> Tensor:
    return ResidualBlock.forward(self, x, embedding) - self.shortcut(x)


def _x_itself(self: Any, x: Tensor, embedding: Tensor) -> Tensor:
    return x + _no_shortcut(self, x, embedding)


def _without_norm_1(self: Any, x: Tensor, embedding: Tensor) -> Tensor:
    scale, shift = _scale_shift(self, embedding)
    h = self.norm_2(self.conv_1(F.silu(x))) * (1 + scale) + shift
    return self.shortcut(x) + self.conv_2(F.silu(h))


def _without_norm_2(self: Any, x: Tensor, embedding: Tensor) -> Tensor:
    scale, shift = _scale_shift(self, embedding)
    h = self.conv_1(F.silu(self.norm_1(x))) * (1 + scale) + shift
    return self.shortcut(x) + self.conv_2(F.silu(h))


def _activated_first(self: Any, x: Tensor, embedding: Tensor) -> Tensor:
    scale, shift = _scale_shift(self, embedding)
    h = self.conv_1(self.norm_1(F.silu(x)))
    return self.shortcut(x) + self.conv_2(self.norm_2(F.silu(h)) * (1 + scale) + shift)


def _block_in_steps(self: Any, x: Tensor, embedding: Tensor) -> Tensor:
    told = self.to_scale_shift(embedding)
    half = told.shape[1] // 2
    scale, shift = told[:, :half, None, None], told[:, half:, None, None]
    y = self.norm_1(x)
    y = self.conv_1(y * y.sigmoid())
    y = self.norm_2(y)
    y = y + y * scale + shift
    y = self.conv_2(y * y.sigmoid())
    return y + self.shortcut(x)


def _block_by_functions(self: Any, x: Tensor, embedding: Tensor) -> Tensor:
    told = F.linear(embedding, self.to_scale_shift.weight, self.to_scale_shift.bias)
    scale, shift = told.unflatten(1, (2, -1)).unbind(1)
    y = F.silu(self.norm_1(x))
    y = torch.addcmul(shift[..., None, None], self.norm_2(self.conv_1(y)), 1 + scale[..., None, None])
    return torch.add(self.conv_2(F.silu(y)), self.shortcut(x))


def _block_case(channels: tuple[int, int], groups: int, batch: int, size: tuple[int, int]) -> Make:
    return lambda g: {
        "channels": channels,
        "groups": groups,
        "x": normal(g, batch, channels[0], *size),
        "embedding": normal(g, batch, 12),
        "weights": _seed(g),
    }


def _block_figure(reference: Callable[..., Any]) -> Any:
    block = _randomized(ResidualBlock(8, 8, 12, 4), 3)
    made = reference(8, 8, 12, 4)
    made.load_state_dict(block.state_dict())
    x = figures.digits(4)[3:].expand(1, 8, 16, 16)
    with torch.no_grad():
        pictures = [made(x, k * figures.noise(1, 12, seed=1))[0, :1] / 2 for k in (0.0, 0.5, 1.0, 1.5)]
    titles = ["x", "e = 0", "0.5·e", "e", "1.5·e"]
    return figures.strip([x[0, :1], *pictures], titles)


def _split_along_the_batch(self: Any, x: Tensor, embedding: Tensor) -> Tensor:
    scale, shift = self.to_scale_shift(embedding)[:, :, None, None].chunk(2)
    h = self.norm_2(self.conv_1(F.silu(self.norm_1(x)))) * (1 + scale) + shift
    return self.shortcut(x) + self.conv_2(F.silu(h))


def _x_overwritten(self: Any, x: Tensor, embedding: Tensor) -> Tensor:
    normed = F.silu(self.norm_1(x))
    return _no_shortcut(self, x, embedding) + self.shortcut(normed)


def _every_second_entry(self: Any, x: Tensor, embedding: Tensor) -> Tensor:
    told = self.to_scale_shift(embedding)[:, :, None, None]
    h = self.norm_2(self.conv_1(F.silu(self.norm_1(x)))) * (1 + told[:, ::2]) + told[:, 1::2]
    return self.shortcut(x) + self.conv_2(F.silu(h))


BLOCK = Exercise(
    id="06.3",
    name="ResidualBlock",
    title="A residual block that is told the time",
    kind="implement",
    difficulty=2,
    minutes=15,
    reference=ResidualBlock,
    trains=("x", "embedding"),
    cases=[
        Case("two pictures of 8 channels, as many out", _block_case((8, 8), 4, 2, (6, 5))),
        Case("from 8 channels to 12", _block_case((8, 12), 4, 3, (4, 4))),
        Case("from 16 channels to 8, one group", _block_case((16, 8), 1, 2, (5, 4))),
    ],
    misconceptions=[
        Misconception(
            "one-forgotten",
            _block_told(lambda h, scale, shift: h * scale + shift),
            "You multiplied by scale. The factor is 1 + scale, so that a scale of 0 changes nothing and the "
            "layer that makes it can start near 0.",
            about="missing",
        ),
        Misconception(
            "scale-and-shift-swapped",
            _block_told(lambda h, scale, shift: h * (1 + shift) + scale),
            "Scale and shift are swapped: of the two halves that `to_scale_shift` gives, the first is the "
            "scale.",
            about="swap",
        ),
        Misconception(
            "norm-after-scale-shift",
            _block(_norm_last),
            "You scaled and shifted before the second norm. A norm takes the mean out again and brings the "
            "spread back to 1, and with them much of what the embedding said. Norm first, then scale and "
            "shift.",
            about="order",
        ),
        Misconception(
            "shift-alone",
            _block_told(lambda h, scale, shift: h + shift),
            "You only added the shift. The DDPM paper does so; this block also has a scale, which lets the "
            "time turn a channel up or off.",
            about="missing",
        ),
        Misconception(
            "no-shortcut",
            _block(_no_shortcut),
            "What comes in is missing from what goes out. The block adds its result to `self.shortcut(x)`; "
            "without it the layers below can no longer pass the picture on.",
            about="missing",
        ),
        Misconception(
            "x-itself-added",
            _block(_x_itself),
            "You added x itself. That works while the widths are the same; where they are not, "
            "`self.shortcut` is the 1 × 1 convolution that brings x to the new width.",
            about="input",
        ),
        Misconception(
            "embedding-activated-again",
            _block_told(embed=F.silu),
            "You put a SiLU on the embedding. The network has done that already, once for all its blocks: "
            "the linear layer takes the embedding as it comes.",
            about="extra",
        ),
        Misconception(
            "told-at-the-end",
            _block(_told_at_the_end),
            "You scaled and shifted the block's result. The embedding acts in between, right after the "
            "second norm, so that the second convolution can work with it.",
            about="order",
        ),
        Misconception(
            "first-activation-forgotten",
            _block_told(first=lambda h: h),
            "There is no SiLU before the first convolution. Both convolutions are led up to in the same way: "
            "norm, SiLU, convolution (the second with scale and shift after its norm).",
            about="missing",
        ),
        Misconception(
            "relu",
            _block_told(activate=F.relu, first=F.relu),
            "You used ReLU. This network uses SiLU, x·sigmoid(x), which is smooth and not quite 0 for "
            "negative numbers; weights that were trained with the one do not fit the other.",
            about="formula",
        ),
        Misconception(
            "second-activation-forgotten",
            _block_told(activate=lambda h: h),
            "There is no SiLU before the second convolution. Both are led up to in the same way: norm, SiLU, "
            "convolution (the second with scale and shift after its norm).",
            about="missing",
        ),
        Misconception(
            "first-norm-forgotten",
            _block(_without_norm_1),
            "`self.norm_1` is not used. Both convolutions are led up to in the same way: norm, SiLU, "
            "convolution.",
            about="missing",
        ),
        Misconception(
            "second-norm-forgotten",
            _block(_without_norm_2),
            "`self.norm_2` is not used. Both convolutions are led up to in the same way: norm, SiLU, "
            "convolution; scale and shift come right after the second norm.",
            about="missing",
        ),
        Misconception(
            "activated-before-the-norm",
            _block(_activated_first),
            "You put the SiLU before the norm. The order is norm, SiLU, convolution, in both rounds.",
            about="order",
        ),
        Misconception(
            "activated-at-the-end",
            _block(lambda self, x, embedding: F.silu(ResidualBlock.forward(self, x, embedding))),
            "You put a SiLU on the sum. A residual block ends in the sum itself, so that what comes in can "
            "pass unchanged.",
            about="extra",
        ),
        Misconception(
            "embedding-ignored",
            _block_told(lambda h, scale, shift: h),
            "The embedding has no say: scale and shift are not used. They act right after the second norm.",
            about="missing",
        ),
        Misconception(
            "scale-alone",
            _block_told(lambda h, scale, shift: h * (1 + scale)),
            "You only scaled. The embedding gives a shift as well, which is added: h·(1 + scale) + shift.",
            about="missing",
        ),
        Misconception(
            "shift-scaled-too",
            _block_told(lambda h, scale, shift: (h + shift) * (1 + scale)),
            "You shifted first and scaled the shift as well. It is h·(1 + scale) + shift: the shift comes "
            "last.",
            about="order",
        ),
        Misconception(
            "told-after-the-activation",
            _block_told(lambda h, scale, shift: F.silu(h) * (1 + scale) + shift, activate=lambda h: h),
            "You scaled and shifted after the SiLU. They come between norm and SiLU: norm, scale and shift, "
            "SiLU, convolution.",
            about="order",
        ),
        Misconception(
            "split-along-the-batch",
            _block(_split_along_the_batch),
            "You split along the batch: chunk(2) cuts dimension 0 unless it is told another one. Scale and "
            "shift lie along dimension 1: chunk(2, dim=1).",
            about="axis",
        ),
        Misconception(
            "x-overwritten",
            _block(_x_overwritten),
            "You overwrote x by what comes out of the first norm, so the shortcut no longer carries what "
            "came in. Give the new tensor another name.",
            about="input",
        ),
        Misconception(
            "every-second-entry",
            _block(_every_second_entry),
            "You took every second entry for the scale. The two halves lie one behind the other: the first "
            "half is the scale, chunk(2, dim=1).",
            about="index",
        ),
    ],
    alternatives=[_block(_block_in_steps), _block(_block_by_functions)],
    hints=(
        "Two rounds of norm, SiLU, convolution, and at the end what came in is added. The embedding acts in "
        "the second round, between the norm and the SiLU.",
        "h = conv₁(silu(norm₁(x))); h = norm₂(h)·(1 + scale) + shift; result = shortcut(x) + "
        "conv₂(silu(h)). Scale and shift are the halves of `to_scale_shift(embedding)`.",
        "`scale, shift = self.to_scale_shift(embedding)[:, :, None, None].chunk(2, dim=1)`, then three "
        "lines: `h = self.conv_1(…)`, `h = self.norm_2(h) * …`, `return self.shortcut(x) + …`.",
    ),
    call=_block_output,
    figure=_block_figure,
    figure_alt="A digit, and one channel of a block with random weights on it, for an embedding that grows "
    "from zero: the same edges throughout, darker or lighter and in other strengths.",
)


# 06.4 Debug: attention with the wrong scale ---------------------------------------------------------


def _attention(
    scale: Callable[[Tensor, Tensor], float] = lambda query, key: query.shape[-1] ** -0.5, dim: int = -1
) -> Callable[..., Tensor]:
    """Attention whose scores are multiplied by scale(query, key), and add up to 1 along dim."""

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        scores = query @ key.transpose(-2, -1) * scale(query, key)
        return torch.softmax(scores, dim=dim) @ value

    return attend


def _scaled_after_softmax(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    scores = query @ key.transpose(-2, -1)
    return torch.softmax(scores, dim=-1) / query.shape[-1] ** 0.5 @ value


def _asked_by_the_key(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return attention(key, query, value)


def _attention_by_einsum(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    scores = torch.einsum("bhid,bhjd->bhij", query, key) / math.sqrt(key.size(3))
    weights = (scores - scores.amax(3, keepdim=True)).exp()
    return torch.einsum("bhij,bhjd->bhid", weights / weights.sum(3, keepdim=True), value)


def _attention_fused(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value)


def _heads(batch: int, heads: tuple[int, int], positions: tuple[int, int], width: tuple[int, int]) -> Make:
    """Each of three between two bounds."""

    def make(g: torch.Generator) -> dict[str, Any]:
        shape = (batch, whole(g, *heads), whole(g, *positions), whole(g, *width))
        return {"query": 2 * normal(g, *shape), "key": 2 * normal(g, *shape), "value": normal(g, *shape)}

    return make


def _attention_figure(reference: Callable[..., Tensor]) -> Any:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(5.4, 2), layout="constrained", sharey=True)
    for axis, heads in zip(axes, (1, 4, 8), strict=True):
        query, key = (figures.noise(1, heads, 16, 24, seed=seed) for seed in (1, 2))
        weights = reference(query, key, torch.eye(16).expand(1, heads, 16, 16))  # value = I: the weights
        axis.imshow(weights[0, 0].numpy(), cmap="gray", vmin=0, vmax=0.3)
        axis.set(xlabel="position seen", title=f"{heads} head{'s' * (heads > 1)}", xticks=[], yticks=[])
    axes[0].set_ylabel("position that looks")
    return figure


def _weights(
    query: Tensor, key: Tensor, share: Callable[[Tensor], Tensor] = lambda scores: scores.softmax(-1)
) -> Tensor:
    return share(query @ key.transpose(-2, -1) * query.shape[3] ** -0.5)


ATTENTION = Exercise(
    id="06.4",
    name="attention",
    title="Every head looks everywhere",
    kind="debug",
    difficulty=2,
    minutes=10,
    reference=attention,
    trains=("query", "key", "value"),
    cases=[
        Case("a few heads, more positions", _heads(2, (3, 5), (10, 14), (6, 9))),
        Case("one head, wider than there are positions", _heads(1, (1, 1), (5, 7), (10, 14))),
        Case("more heads than each is wide", _heads(2, (7, 9), (16, 22), (4, 6))),
        Case("three pictures, a few wide heads", _heads(3, (2, 4), (6, 8), (14, 18))),
    ],
    planted="scaled-by-all-channels",
    misconceptions=[
        Misconception(
            "scaled-by-all-channels",
            _attention(lambda query, key: (query.shape[1] * query.shape[3]) ** -0.5),
            "The scores are divided by the root of all channels, although each is a sum over the channels "
            "of one head only.",
            about="factor",
        ),
        Misconception(
            "not-scaled",
            _attention(lambda query, key: 1.0),
            "You took the scale out. Then scores grow with the width of a head, and the softmax puts nearly "
            "all its weight on one position: the maps are now too sharp.",
            about="missing",
        ),
        Misconception(
            "root-forgotten",
            _attention(lambda query, key: 1 / query.shape[3]),
            "It is the width of one head that counts: the cause is found. But you divided by d itself. A sum "
            "of d products has a spread of √d, so divide by that.",
            about="root",
        ),
        Misconception(
            "scaled-by-positions",
            _attention(lambda query, key: query.shape[2] ** -0.5),
            "You divided by the root of the number of positions. A score is a sum over the entries of a "
            "query, not over positions: what counts is how many of those there are.",
            about="axis",
        ),
        Misconception(
            "scaled-by-heads",
            _attention(lambda query, key: query.shape[1] ** -0.5),
            "You divided by the root of the number of heads. A score belongs to one head, whatever the "
            "others do: what counts is the width of that head.",
            about="axis",
        ),
        Misconception(
            "multiplied",
            _attention(lambda query, key: query.shape[3] ** 0.5),
            "It is the width of one head that counts, but you multiplied by its root. Scores are too large "
            "already: divide.",
            about="direction",
        ),
        Misconception(
            "softmax-over-those-who-look",
            _attention(dim=-2),
            "The scale is right now, but your softmax runs over the positions that look. Each position that "
            "looks shares out a weight of 1 among those it sees: the last dimension.",
            about="axis",
        ),
        Misconception(
            "scaled-after-softmax",
            _scaled_after_softmax,
            "You divided after the softmax. Its weights then no longer add up to 1, and are as sharp as "
            "without a scale: the scores are divided, before it.",
            about="order",
        ),
        Misconception(
            "keys-ask",
            _asked_by_the_key,
            "The scale is right now, but query and key have changed places: row i must hold what position i "
            "sees, query_i · key_j for all j.",
            about="swap",
        ),
        Misconception(
            "heads-and-positions-transposed",
            lambda query, key, value: (
                torch.softmax(query @ key.transpose(1, 2) * query.shape[3] ** -0.5, -1) @ value
            ),
            "You swapped dimensions 1 and 2 of the keys, heads and positions. A score is a sum over the "
            "entries of one head: the last two dimensions change places, key.transpose(-2, -1).",
            about="axis",
        ),
        Misconception(
            "not-transposed",
            lambda query, key, value: torch.softmax(query @ key * query.shape[3] ** -0.5, dim=-1) @ value,
            "The keys are not transposed. query @ key.transpose(-2, -1) multiplies each query with each key, "
            "(N, d) times (d, N).",
            about="axis",
        ),
        Misconception(
            "softmax-forgotten",
            lambda query, key, value: query @ key.transpose(-2, -1) * query.shape[3] ** -0.5 @ value,
            "The softmax is gone. Each position shares out a weight of 1 among those it sees: the softmax "
            "of its scores.",
            about="missing",
        ),
        Misconception(
            "both-halves-of-the-scale",
            _attention(lambda query, key: query.shape[3] ** -0.25),
            "You divided by the fourth root of the width. The spread of a sum of d products is √d: divide by "
            "that.",
            about="root",
        ),
        Misconception(
            "scaled-twice",
            _attention(
                lambda query, key: query.shape[1] ** -0.5 * query.shape[3] ** -0.5 * query.shape[3] ** -0.5
            ),
            "You divided by √d a second time, beside what was there. Replace the old scale by √d, the root "
            "of the width of one head.",
            about="factor",
        ),
        Misconception(
            "softmax-over-heads",
            _attention(dim=1),
            "The scale is right now, but your softmax runs over the heads. Each position shares out a "
            "weight of 1 among the positions it sees: the last dimension.",
            about="axis",
        ),
        Misconception(
            "weights-transposed",
            lambda query, key, value: _weights(query, key).transpose(-2, -1) @ value,
            "The scale is right now, but you turned the weights round: row i holds what position i sees, "
            "and is multiplied with all values as it is.",
            about="axis",
        ),
        Misconception(
            "only-what-came-before",
            lambda query, key, value: F.scaled_dot_product_attention(query, key, value, is_causal=True),
            "The scale is right now, but each position sees only those before it, as in a language model. "
            "The pixels of a picture have no order: all see all.",
            about="extra",
        ),
        Misconception(
            "root-cut-off",
            _attention(lambda query, key: 1 / math.isqrt(query.shape[3])),
            "It is the width of one head that counts: the cause is found. But you cut its root off to a "
            "whole number: divide by √d as it is, d ** 0.5.",
            about="rounding",
        ),
        Misconception(
            "softmax-over-all-pairs",
            lambda query, key, value: (
                _weights(query, key, lambda s: s.flatten(2).softmax(-1).view_as(s)) @ value
            ),
            "The scale is right now, but your weights add up to 1 over all pairs of a head. Each position "
            "that looks has a weight of 1 to share out: the last dimension.",
            about="axis",
        ),
        Misconception(
            "split-once-more",
            _attention(lambda query, key: (query.shape[3] / query.shape[1]) ** -0.5),
            "You divided the width by the number of heads once more. query.shape[-1] is the width of one "
            "head already.",
            about="factor",
        ),
        Misconception(
            "width-of-the-bundled-model",
            _attention(lambda query, key: 24**-0.5),
            "You wrote down 24, the width of a head in one of our networks. Another network has another: "
            "take it from query.shape.",
            about="input",
        ),
        Misconception(
            "weights-returned",
            lambda query, key, value: _weights(query, key),
            "You returned the weights. Asked is what each position gathers with them: weights @ value.",
            about="missing",
        ),
    ],
    alternatives=[_attention_by_einsum, _attention_fused],
    hints=(
        "How large are the scores? Each is a sum of products, one for each entry of a query. Count the "
        "entries of one query, in one head.",
        "A sum of d products of independent numbers with variance 1 has variance d. To bring its spread "
        "back to 1, divide by √d, where d is the width of one head.",
        "Only the scale is wrong. `query` has the shape (B, heads, N, d): which entry of `query.shape` is "
        "it? Then `scores = query @ key.transpose(-2, -1) / …`.",
    ),
    figure=_attention_figure,
    figure_alt="Weights of 16 positions for 16 others with 1, 4 and 8 heads of the same width: in all three "
    "a few bright spots in each row. The number of heads makes no difference.",
)


# 06.5 The whole network -----------------------------------------------------------------------------


def _unet_output(
    answer: Any, config: UNetConfig, x: Tensor, time: Tensor, label: Tensor, weights: int
) -> Tensor:
    """What a network gives with the weights of that seed."""
    network = answer(config)
    network.load_state_dict(_drawn(UNet, weights, config))
    return network.to(x.device).eval().requires_grad_(False)(x, time, label)


def _pass(layer: Any, h: Tensor, embedding: Tensor) -> Tensor:
    """Through one entry of `down` or `up`: a block with its attention, or a change of size."""
    return layer[1](layer[0](h, embedding)) if isinstance(layer, nn.ModuleList) else layer(h)


def _unet(
    take: Callable[[list[Tensor]], Tensor] = lambda skips: skips.pop(),
    join: Callable[[Tensor, Tensor], Tensor] = lambda h, skip: torch.cat([h, skip], dim=1),
    keep: Callable[[Any], bool] = lambda layer: True,
    stem_kept: bool = True,
    embed: Callable[[Any, Tensor, Tensor], Tensor] = lambda net, time, label: F.silu(
        net.time_embedding(time) + net.label_embedding(label)
    ),
    middle: Callable[[Any, Tensor], Tensor] = lambda net, h: net.middle_attention(h),
    after: Callable[[Any, Tensor], Tensor] = lambda net, h: h,
    crosses: Callable[[Any], bool] = lambda layer: not isinstance(layer, Upsample),
    end: Callable[[Any, Tensor], Tensor] = lambda net, h: net.conv_out(F.silu(net.norm_out(h))),
) -> type[UNet]:
    """A U-Net that does one thing in another way."""

    def forward(self: Any, x: Tensor, time: Tensor, condition: Tensor) -> Tensor:
        embedding = embed(self, time, condition)
        h = self.stem(x)
        skips = [h] if stem_kept else []
        for layer in self.down:
            h = _pass(layer, h, embedding)
            if keep(layer):
                skips.append(h)
        h = self.middle_1(h, embedding)
        h = middle(self, h)
        h = after(self, self.middle_2(h, embedding))
        for layer in self.up:
            h = join(h, take(skips)) if crosses(layer) else h
            h = _pass(layer, h, embedding)
        return end(self, h)

    return type("UNet", (UNet,), {"forward": forward})


class _ByRecursion(UNet):
    """Written from the outside in: each skip waits in a call of its own."""

    def forward(self, x: Tensor, time: Tensor, condition: Any = None) -> Tensor:
        assert self.label_embedding is not None
        embedding = F.silu(self.time_embedding(time) + self.label_embedding(condition))
        ups = iter(self.up)

        def inside(h: Tensor, downs: list[Any]) -> Tensor:
            if downs:
                y = inside(_pass(downs[0], h, embedding), downs[1:])
            else:
                y = self.middle_2(self.middle_attention(self.middle_1(h, embedding)), embedding)
            layer = next(ups)
            if isinstance(layer, Upsample):
                y, layer = layer(y), next(ups)
            return _pass(layer, torch.cat((y, h), 1), embedding)

        return self.conv_out(F.silu(self.norm_out(inside(self.stem(x), list(self.down)))))


class _ByIndex(UNet):
    """The skips are kept in a list that is read from its end."""

    def forward(self, x: Tensor, time: Tensor, condition: Any = None) -> Tensor:
        assert self.label_embedding is not None
        embedding = self.time_embedding(time) + self.label_embedding(condition)
        embedding = embedding * embedding.sigmoid()
        kept = [self.stem(x)]
        for layer in self.down:
            kept.append(_pass(layer, kept[-1], embedding))
        h = self.middle_2(self.middle_attention(self.middle_1(kept[-1], embedding)), embedding)
        place = len(kept)
        for layer in self.up:
            if isinstance(layer, nn.ModuleList):
                place -= 1
                h = torch.cat([h, kept[place]], dim=1)
            h = _pass(layer, h, embedding)
        return self.conv_out(F.silu(self.norm_out(h)))


def _network(batch: int, size: tuple[int, int], **shape: Any) -> Make:
    config = UNetConfig(base_channels=8, head_dim=8, num_classes=3, groups=4, **shape)
    return lambda g: {
        "config": config,
        "x": normal(g, batch, config.in_channels, *size),
        "time": 1000 * torch.rand(batch, generator=g),
        "label": torch.randint(4, (batch,), generator=g),
        "weights": _seed(g),
    }


def _unet_figure(reference: Callable[..., Any]) -> Any:
    from dataclasses import replace

    from diffusion_lessons import zoo
    from diffusion_lessons.generate import generate
    from diffusion_lessons.networks import Patched

    bundled = zoo.load("mnist-unet")
    network = reference(bundled.network.network.config)
    network.load_state_dict(bundled.network.network.state_dict())
    model = replace(bundled, network=Patched(network, 2))
    labels = torch.arange(3, 9)
    pictures = generate(model, labels, steps=8, guidance=1.0, precision="float32", device="cpu")
    return figures.strip(list(pictures), [str(int(label)) for label in labels])


class _SkipsForAll(UNet):
    """Entries of `up` and skips in pairs, until the skips end."""

    def forward(self, x: Tensor, time: Tensor, condition: Any = None) -> Tensor:
        assert self.label_embedding is not None
        embedding = F.silu(self.time_embedding(time) + self.label_embedding(condition))
        kept = [self.stem(x)]
        for layer in self.down:
            kept.append(_pass(layer, kept[-1], embedding))
        h = self.middle_2(self.middle_attention(self.middle_1(kept[-1], embedding)), embedding)
        for layer, skip in zip(self.up, reversed(kept), strict=False):
            h = _pass(layer, h if isinstance(layer, Upsample) else torch.cat([h, skip], dim=1), embedding)
        return self.conv_out(F.silu(self.norm_out(h)))


class _InputAdded(UNet):
    def forward(self, x: Tensor, time: Tensor, condition: Any = None) -> Tensor:
        return x + UNet.forward(self, x, time, condition)


ASSEMBLE = Exercise(
    id="06.5",
    name="UNet",
    title="Down, across and up",
    kind="implement",
    difficulty=3,
    minutes=20,
    reference=UNet,
    trains=("x",),
    cases=[
        Case(
            "two levels, attention at the lower",
            _network(2, (4, 6), channel_mults=(1, 2), attention_levels=(1,)),
        ),
        Case(
            "one level, two blocks down, three up",
            _network(2, (4, 6), channel_mults=(1,), blocks_per_level=2, attention_levels=(0,)),
        ),
        Case(
            "three levels, colour in and out",
            _network(
                2, (4, 8), in_channels=3, out_channels=3, channel_mults=(1, 1, 2), attention_levels=(2,)
            ),
        ),
    ],
    misconceptions=[
        Misconception(
            "first-in-first-out",
            _unet(take=lambda skips: skips.pop(0)),
            "You took the skips in the order in which they were kept. The way up begins at the bottom, so "
            "what was kept last is needed first: `skips.pop()`.",
            about="order",
        ),
        Misconception(
            "skip-not-removed",
            _unet(take=lambda skips: skips[-1]),
            "You read the last skip and left it in the list, so every block gets the same one. "
            "`skips.pop()` reads it and takes it off.",
            about="missing",
        ),
        Misconception(
            "skip-put-first",
            _unet(join=lambda h, skip: torch.cat([skip, h], dim=1)),
            "You put the skip before h. Every channel has its own weights in the next convolution, so the "
            "order counts: h first, then the skip.",
            about="order",
        ),
        Misconception(
            "skip-added",
            _unet(join=lambda h, skip: h + skip),
            "You added the skip to h. In this network it is put beside it as further channels, "
            "`torch.cat([h, skip], dim=1)`: the blocks on the way up are built for the sum of both widths.",
            about="formula",
        ),
        Misconception(
            "stem-not-kept",
            _unet(stem_kept=False),
            "One skip is missing at the end of the way up: the stem's output. Start the list with it, "
            "before the first layer down.",
            about="missing",
        ),
        Misconception(
            "halvings-not-kept",
            _unet(keep=lambda layer: isinstance(layer, nn.ModuleList)),
            "Skips and blocks do not come out even. Every entry of `self.down` hands its output across, the "
            "halvings too; on the way up every block takes one of them, and an `Up` takes none.",
            about="missing",
        ),
        Misconception(
            "a-skip-spent-on-an-up",
            _SkipsForAll,
            "You went through `self.up` and the skips in pairs. An `Up` takes no skip: one is lost at each "
            "of them, and the last blocks never run. Take a skip only for a block.",
            about="count",
        ),
        Misconception(
            "label-forgotten",
            _unet(embed=lambda net, time, label: F.silu(net.time_embedding(time))),
            "The label is missing: all blocks are told the time alone, so a 3 and an 8 are drawn from the "
            "same advice. Add the two embeddings before the SiLU.",
            about="missing",
        ),
        Misconception(
            "embedding-not-activated",
            _unet(embed=lambda net, time, label: net.time_embedding(time) + net.label_embedding(label)),
            "The SiLU on the embedding is missing. It comes once, after time and label are added and before "
            "any block is told.",
            about="missing",
        ),
        Misconception(
            "activated-apart",
            _unet(
                embed=lambda net, time, label: (
                    F.silu(net.time_embedding(time)) + F.silu(net.label_embedding(label))
                )
            ),
            "You put a SiLU on each embedding and then added them. Add first: the one SiLU after it lets "
            "time and label act on each other.",
            about="order",
        ),
        Misconception(
            "middle-without-attention",
            _unet(middle=lambda net, h: h),
            "The middle has three parts: a block, attention, a block. You left `self.middle_attention` out.",
            about="missing",
        ),
        Misconception(
            "middle-attention-last",
            _unet(middle=lambda net, h: h, after=lambda net, h: net.middle_attention(h)),
            "You put `self.middle_attention` behind both blocks of the middle. It stands between them: "
            "middle_1, middle_attention, middle_2.",
            about="order",
        ),
        Misconception(
            "bare-end",
            _unet(end=lambda net, h: net.conv_out(h)),
            "The last convolution, too, is led up to by norm and SiLU: "
            "`self.conv_out(silu(self.norm_out(h)))`.",
            about="missing",
        ),
        Misconception(
            "end-without-silu",
            _unet(end=lambda net, h: net.conv_out(net.norm_out(h))),
            "The SiLU before the last convolution is missing: `self.conv_out(silu(self.norm_out(h)))`.",
            about="missing",
        ),
        Misconception(
            "end-without-norm",
            _unet(end=lambda net, h: net.conv_out(F.silu(h))),
            "`self.norm_out` is not used. The last convolution is led up to by norm and SiLU: "
            "`self.conv_out(silu(self.norm_out(h)))`.",
            about="missing",
        ),
        Misconception(
            "attention-added-again",
            _unet(middle=lambda net, h: h + net.middle_attention(h)),
            "You added h to what `self.middle_attention` gives. It has a shortcut of its own and has added "
            "it already.",
            about="extra",
        ),
        Misconception(
            "input-added",
            _InputAdded,
            "You added x to what comes out. The blocks have shortcuts of their own; the whole network has "
            "none.",
            about="extra",
        ),
    ],
    alternatives=[_ByRecursion, _ByIndex],
    hints=(
        "Go down and keep every output in a list, the stem's first. Go through the middle. Go up, and let "
        "each block take the last one that is left.",
        "e = silu(time + label). Down: h ← layer(h, e), kept. Up: h ← layer([h, skip], e), where a layer of "
        "the class Up takes no skip. Out: conv(silu(norm(h))).",
        "`skips = [h]`; `for layer in self.down:` two lines; the middle, three calls; "
        "`for layer in self.up:` an `if not isinstance(layer, Up):` with "
        "`h = torch.cat([h, …], dim=1)`, then the call.",
    ),
    call=_unet_output,
    figure=_unet_figure,
    figure_alt="Digits 3 to 8 that the network draws in eight steps with the bundled weights: all readable.",
    rtol=1e-3,
    atol=1e-4,
)


# 06.6 A transformer's block -------------------------------------------------------------------------


def _tokens_output(
    answer: Any, channels: int, head_dim: int, tokens: Tensor, embedding: Tensor, weights: int
) -> Tensor:
    """What a transformer's block gives with the weights of that seed."""
    shape = (channels, embedding.shape[1], head_dim)
    block = answer(*shape)
    block.load_state_dict(_drawn(DiTBlock, weights, *shape))
    return block.to(tokens.device).eval().requires_grad_(False)(tokens, embedding)


Six = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def _six(block: Any, embedding: Tensor) -> Six:
    shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = block.to_six(embedding)[:, None].chunk(6, dim=2)
    return shift_1, scale_1, gate_1, shift_2, scale_2, gate_2


def _dit(
    six: Callable[[Any, Tensor], Any] = _six,
    tell: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda h, shift, scale: h * (1 + scale) + shift,
    gate: Callable[[Tensor, Tensor], Tensor] = lambda gate, h: gate * h,
    first: Callable[[Any, Tensor], Tensor] = lambda block, tokens: block.norm_1(tokens),
    second: Callable[[Any, Tensor], Tensor] = lambda block, tokens: block.norm_2(tokens),
    keep: Callable[[Tensor, Tensor], Tensor] = lambda tokens, normed: tokens,
    layers: tuple[str, str] = ("attend", "think"),
) -> type[DiTBlock]:
    """A transformer's block that does one thing in another way."""

    def forward(self: Any, tokens: Tensor, embedding: Tensor) -> Tensor:
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = six(self, embedding)
        h = first(self, tokens)
        tokens = keep(tokens, h) + gate(gate_1, getattr(self, layers[0])(tell(h, shift_1, scale_1)))
        h = second(self, tokens)
        return keep(tokens, h) + gate(gate_2, getattr(self, layers[1])(tell(h, shift_2, scale_2)))

    return type("DiTBlock", (DiTBlock,), {"forward": forward})


def _ordered(*order: int) -> Callable[[Any, Tensor], Any]:
    """The six vectors, taken in another order."""

    def six(block: Any, embedding: Tensor) -> Any:
        vectors = _six(block, embedding)
        return [vectors[i] for i in order]

    return six


def _side_by_side(self: Any, tokens: Tensor, embedding: Tensor) -> Tensor:
    shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = _six(self, embedding)
    seen = gate_1 * self.attend(self.norm_1(tokens) * (1 + scale_1) + shift_1)
    return tokens + seen + gate_2 * self.think(self.norm_2(tokens) * (1 + scale_2) + shift_2)


def _first_kept_apart(self: Any, tokens: Tensor, embedding: Tensor) -> Tensor:
    shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = _six(self, embedding)
    h = tokens + gate_1 * self.attend(self.norm_1(tokens) * (1 + scale_1) + shift_1)
    return tokens + gate_2 * self.think(self.norm_2(h) * (1 + scale_2) + shift_2)


def _attention_alone(self: Any, tokens: Tensor, embedding: Tensor) -> Tensor:
    shift, scale, gate, *_ = _six(self, embedding)
    return tokens + gate * self.attend(self.norm_1(tokens) * (1 + scale) + shift)


def _gate_on_the_sum(self: Any, tokens: Tensor, embedding: Tensor) -> Tensor:
    shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = _six(self, embedding)
    tokens = gate_1 * (tokens + self.attend(self.norm_1(tokens) * (1 + scale_1) + shift_1))
    return gate_2 * (tokens + self.think(self.norm_2(tokens) * (1 + scale_2) + shift_2))


Layer = Callable[[Tensor], Tensor]
Round = Callable[[Tensor, Layer, Layer, Tensor, Tensor, Tensor], Tensor]


def _round(h: Tensor, norm: Layer, layer: Layer, shift: Tensor, scale: Tensor, gate: Tensor) -> Tensor:
    return h + gate * layer(norm(h) * (1 + scale) + shift)


def _rounds(first: Round = _round, second: Round = _round) -> type[DiTBlock]:
    """A transformer's block of two rounds: the attention's, then that of the linear layers."""

    def forward(self: Any, tokens: Tensor, embedding: Tensor) -> Tensor:
        six = _six(self, embedding)
        tokens = first(tokens, self.norm_1, self.attend, *six[:3])
        return second(tokens, self.norm_2, self.think, *six[3:])

    return type("DiTBlock", (DiTBlock,), {"forward": forward})


def _both(wrong: Round) -> type[DiTBlock]:
    return _rounds(wrong, wrong)


def _ungated(h: Tensor, norm: Layer, layer: Layer, shift: Tensor, scale: Tensor, gate: Tensor) -> Tensor:
    return h + layer(norm(h) * (1 + scale) + shift)


def _opened_by_one(
    h: Tensor, norm: Layer, layer: Layer, shift: Tensor, scale: Tensor, gate: Tensor
) -> Tensor:
    return h + (1 + gate) * layer(norm(h) * (1 + scale) + shift)


def _not_added(h: Tensor, norm: Layer, layer: Layer, shift: Tensor, scale: Tensor, gate: Tensor) -> Tensor:
    return gate * layer(norm(h) * (1 + scale) + shift)


def _one_forgotten(
    h: Tensor, norm: Layer, layer: Layer, shift: Tensor, scale: Tensor, gate: Tensor
) -> Tensor:
    return h + gate * layer(norm(h) * scale + shift)


def _told_kept(h: Tensor, norm: Layer, layer: Layer, shift: Tensor, scale: Tensor, gate: Tensor) -> Tensor:
    told = norm(h) * (1 + scale) + shift
    return told + gate * layer(told)


def _second_on(seen: Callable[[Tensor, Tensor], Tensor]) -> type[DiTBlock]:
    """The second norm gets seen(gate, what the attention gave) in the place of the tokens."""

    def forward(self: Any, tokens: Tensor, embedding: Tensor) -> Tensor:
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = _six(self, embedding)
        h = self.attend(self.norm_1(tokens) * (1 + scale_1) + shift_1)
        told = self.norm_2(seen(gate_1, h)) * (1 + scale_2) + shift_2
        return tokens + gate_1 * h + gate_2 * self.think(told)

    return type("DiTBlock", (DiTBlock,), {"forward": forward})


def _token_by_token(self: Any, tokens: Tensor, embedding: Tensor) -> Tensor:
    shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = self.to_six(embedding).chunk(6)
    tokens = tokens + gate_1 * self.attend(self.norm_1(tokens) * (1 + scale_1) + shift_1)
    return tokens + gate_2 * self.think(self.norm_2(tokens) * (1 + scale_2) + shift_2)


class _DiTByStacking(DiTBlock):
    """The six vectors as one tensor (6, B, 1, C)."""

    def forward(self, tokens: Tensor, embedding: Tensor) -> Tensor:
        six = self.to_six(embedding).unflatten(1, (6, -1)).transpose(0, 1).unsqueeze(2)
        for norm, layer, (shift, scale, gate) in (
            (self.norm_1, self.attend, six[:3]),
            (self.norm_2, self.think, six[3:]),
        ):
            normed = norm(tokens)
            tokens = tokens + layer(normed + normed * scale + shift) * gate
        return tokens


class _DiTByFunctions(DiTBlock):
    """Every picture's vectors cut out by hand, the norms written out."""

    def forward(self, tokens: Tensor, embedding: Tensor) -> Tensor:
        width = tokens.shape[2]
        told = F.linear(embedding, self.to_six.weight, self.to_six.bias)[:, None]

        def part(i: int) -> Tensor:
            return told[..., i * width : (i + 1) * width]

        def normed(h: Tensor) -> Tensor:
            return F.layer_norm(h, (width,))

        first = torch.addcmul(part(0), normed(tokens), 1 + part(1))
        between = torch.addcmul(tokens, part(2), self.attend(first))
        second = torch.addcmul(part(3), normed(between), 1 + part(4))
        return torch.addcmul(between, part(5), self.think(second))


def _tokens_case(
    batch: int, heads: tuple[int, int], halves: tuple[int, int], positions: tuple[int, int] | None = None
) -> Make:
    """Between two bounds: heads, half the width of each, tokens (None: as many as there are channels)."""

    def make(g: torch.Generator) -> dict[str, Any]:
        head_dim = 2 * whole(g, *halves)
        channels = head_dim * whole(g, *heads)
        count = channels if positions is None else whole(g, *positions)
        return {
            "channels": channels,
            "head_dim": head_dim,
            "tokens": normal(g, batch, count, channels),
            "embedding": normal(g, batch, 10),
            "weights": _seed(g),
        }

    return make


def _dit_figure(reference: Callable[..., Any]) -> Any:
    from matplotlib import pyplot

    block = _randomized(DiTBlock(16, 12, 8), 3)
    made = reference(16, 12, 8)
    made.load_state_dict(block.state_dict())
    tokens, embedding = figures.noise(1, 12, 16, seed=2), figures.noise(1, 12, seed=1)
    with torch.no_grad():
        made.to_six.bias.zero_()
        rows = [made(tokens, k * embedding)[0] - tokens[0] for k in (0.0, 0.5, 1.0)]
    figure, axes = pyplot.subplots(1, 3, figsize=(6, 2.2), layout="constrained", sharey=True)
    for axis, row, title in zip(axes, rows, ("e = 0", "0.5·e", "e"), strict=True):
        axis.imshow(row.numpy(), cmap="gray", vmin=-4, vmax=4)
        axis.set(title=title, xlabel="channel", xticks=[], yticks=[])
    axes[0].set_ylabel("token")
    return figure


TOKENS = Exercise(
    id="06.6",
    name="DiTBlock",
    title="A block of a transformer, told by six vectors",
    kind="stretch",
    difficulty=2,
    minutes=15,
    reference=DiTBlock,
    trains=("tokens", "embedding"),
    cases=[
        Case("two pictures of a few tokens", _tokens_case(2, (2, 2), (1, 2), (5, 9))),
        Case("three pictures, as many tokens as channels", _tokens_case(3, (3, 3), (1, 1))),
        Case("six pictures, one head", _tokens_case(6, (1, 1), (2, 4), (3, 4))),
    ],
    misconceptions=[
        Misconception(
            "one-forgotten",
            _dit(tell=lambda h, shift, scale: h * scale + shift),
            "You multiplied by scale. The factor is 1 + scale, so that a scale of 0 changes nothing.",
            about="missing",
        ),
        Misconception(
            "gate-opened-by-one",
            _dit(gate=lambda gate, h: (1 + gate) * h),
            "You multiplied by 1 + gate. The gate has no 1: where it is 0, the layer adds nothing, so the "
            "block begins as the identity.",
            about="extra",
        ),
        Misconception(
            "gates-forgotten",
            _dit(gate=lambda gate, h: h),
            "Your gates are not used. What the attention gives, and what the linear layers give, is "
            "multiplied by its gate before it is added.",
            about="missing",
        ),
        Misconception(
            "gate-squeezed",
            _dit(gate=lambda gate, h: gate.sigmoid() * h),
            "You put a sigmoid on the gates. They are plain factors; at 0 a gate is shut, and a sigmoid of "
            "0 is one half.",
            about="extra",
        ),
        Misconception(
            "gate-bent",
            _dit(gate=lambda gate, h: gate.tanh() * h),
            "You put a tanh on the gates. They are plain factors, as `to_six` gives them.",
            about="extra",
        ),
        Misconception(
            "gate-on-the-sum",
            type("DiTBlock", (DiTBlock,), {"forward": _gate_on_the_sum}),
            "You multiplied the sum by the gate. The gate belongs to what is added; what came in passes "
            "unchanged.",
            about="order",
        ),
        Misconception(
            "scale-and-shift-swapped",
            _dit(six=_ordered(1, 0, 2, 4, 3, 5)),
            "Scale and shift are swapped: of each three vectors the first is the shift, the second the "
            "scale, the third the gate.",
            about="swap",
        ),
        Misconception(
            "taken-in-pairs",
            _dit(six=_ordered(0, 2, 4, 1, 3, 5)),
            "You took both shifts first, then both scales, then both gates. The six come as shift, scale, "
            "gate of the attention, then shift, scale, gate of `think`.",
            about="order",
        ),
        Misconception(
            "same-three-twice",
            _dit(six=_ordered(0, 1, 2, 0, 1, 2)),
            "You used the same three vectors twice. `think` has three of its own: the last three of the six.",
            about="input",
        ),
        Misconception(
            "first-norm-forgotten",
            _dit(first=lambda block, tokens: tokens),
            "`self.norm_1` is not used. Both parts begin with a norm; scale and shift come right after it.",
            about="missing",
        ),
        Misconception(
            "second-norm-forgotten",
            _dit(second=lambda block, tokens: tokens),
            "`self.norm_2` is not used. Both parts begin with a norm; scale and shift come right after it.",
            about="missing",
        ),
        Misconception(
            "not-scaled",
            _dit(tell=lambda h, shift, scale: h + shift),
            "You only added the shift. The embedding gives a scale as well: norm(h)·(1 + scale) + shift.",
            about="missing",
        ),
        Misconception(
            "not-shifted",
            _dit(tell=lambda h, shift, scale: h * (1 + scale)),
            "You only scaled. The embedding gives a shift as well: norm(h)·(1 + scale) + shift.",
            about="missing",
        ),
        Misconception(
            "shift-scaled-too",
            _dit(tell=lambda h, shift, scale: (h + shift) * (1 + scale)),
            "You shifted first and scaled the shift as well. It is norm(h)·(1 + scale) + shift: the shift "
            "comes last.",
            about="order",
        ),
        Misconception(
            "normed-kept",
            _dit(keep=lambda tokens, normed: normed),
            "You added to the normed tokens. What comes in passes on as it is: keep `tokens`, and give the "
            "normed ones another name.",
            about="input",
        ),
        Misconception(
            "no-shortcut",
            _dit(keep=lambda tokens, normed: 0 * tokens),
            "What comes in is missing from what goes out. Each part is *added* to the tokens.",
            about="missing",
        ),
        Misconception(
            "side-by-side",
            type("DiTBlock", (DiTBlock,), {"forward": _side_by_side}),
            "Attention and `think` both got the tokens that came in. They work one after the other: `think` "
            "gets the tokens to which the attention has been added.",
            about="order",
        ),
        Misconception(
            "attention-not-kept",
            type("DiTBlock", (DiTBlock,), {"forward": _first_kept_apart}),
            "At the end you added to the tokens that came in, so the attention's part is lost. Add to the "
            "tokens as they are after the attention.",
            about="input",
        ),
        Misconception(
            "attention-alone",
            type("DiTBlock", (DiTBlock,), {"forward": _attention_alone}),
            "The second half is missing: norm, scale and shift, `think`, gate, added.",
            about="missing",
        ),
        Misconception(
            "split-along-the-batch",
            type("DiTBlock", (DiTBlock,), {"forward": _token_by_token}),
            "You split along the batch: chunk(6) cuts dimension 0 unless it is told another one. The six "
            "vectors lie along the last dimension; they then need a dimension of 1 for the tokens.",
            about="axis",
        ),
        Misconception(
            "embedding-activated-again",
            _dit(six=lambda block, embedding: _six(block, F.silu(embedding))),
            "You put a SiLU on the embedding. The network has done that already, once for all its blocks: "
            "`to_six` takes the embedding as it comes.",
            about="extra",
        ),
        Misconception(
            "no-dimension-for-the-tokens",
            _dit(six=lambda block, embedding: block.to_six(embedding).chunk(6, dim=1)),
            "Your six vectors lack a dimension for the tokens. Made for each picture they are (B, C). "
            "To meet the tokens, (B, N, C), they become (B, 1, C), with the 1 in the middle.",
            about="shape",
        ),
        Misconception(
            "dimension-at-the-end",
            _dit(six=lambda block, embedding: block.to_six(embedding)[:, :, None].chunk(6, dim=1)),
            "Your six vectors are (B, C, 1). The channels of a token lie along the last dimension, so the 1 "
            "that stands for the tokens comes in the middle: (B, 1, C).",
            about="shape",
        ),
        Misconception(
            "dimensions-of-a-picture",
            _dit(six=lambda block, embedding: block.to_six(embedding)[:, :, None, None].chunk(6, dim=1)),
            "Your six vectors are (B, C, 1, 1), as in the residual block, which works on pictures. Tokens "
            "are (B, N, C): here it is (B, 1, C).",
            about="shape",
        ),
        Misconception(
            "gate-and-scale-swapped",
            _dit(six=_ordered(0, 2, 1, 3, 5, 4)),
            "Scale and gate are swapped: of each three vectors the first is the shift, the second the scale, "
            "the third the gate.",
            about="swap",
        ),
        Misconception(
            "one-gate-for-both",
            _dit(six=_ordered(0, 1, 2, 3, 4, 2)),
            "You used the first gate twice. `think` has a gate of its own, the last of the six.",
            about="input",
        ),
        Misconception(
            "first-gate-forgotten",
            _rounds(first=_ungated),
            "The attention's gate is not used: what `attend` gives is multiplied by it before it is added.",
            about="missing",
        ),
        Misconception(
            "second-gate-forgotten",
            _rounds(second=_ungated),
            "The second gate is not used: what `think` gives is multiplied by it before it is added.",
            about="missing",
        ),
        Misconception(
            "one-on-the-first-gate",
            _rounds(first=_opened_by_one),
            "You multiplied what `attend` gives by 1 + gate. Only the scales get a 1: where a gate is 0, the "
            "layer adds nothing.",
            about="extra",
        ),
        Misconception(
            "one-on-the-second-gate",
            _rounds(second=_opened_by_one),
            "You multiplied what `think` gives by 1 + gate. Only the scales get a 1: where a gate is 0, the "
            "layer adds nothing.",
            about="extra",
        ),
        Misconception(
            "gate-before-the-layer",
            _both(lambda h, norm, layer, b, s, g: h + layer(g * (norm(h) * (1 + s) + b))),
            "You put the gate on what goes into the layer. It belongs on what comes out, right before that "
            "is added.",
            about="order",
        ),
        Misconception(
            "mixed-by-the-gate",
            _both(lambda h, norm, layer, b, s, g: (1 - g) * h + g * layer(norm(h) * (1 + s) + b)),
            "You mixed by gate and 1 − gate, as in a recurrent network. Here what came in passes whole, and "
            "the gate is a factor of what is added.",
            about="formula",
        ),
        Misconception(
            "one-forgotten-in-the-first",
            _rounds(first=_one_forgotten),
            "Before the attention you multiplied by scale. The factor is 1 + scale in both rounds.",
            about="missing",
        ),
        Misconception(
            "one-forgotten-in-the-second",
            _rounds(second=_one_forgotten),
            "Before `think` you multiplied by scale. The factor is 1 + scale in both rounds.",
            about="missing",
        ),
        Misconception(
            "norms-forgotten",
            _both(lambda h, norm, layer, b, s, g: h + g * layer(h * (1 + s) + b)),
            "The norms are not used. Both parts begin with one; scale and shift come right after it.",
            about="missing",
        ),
        Misconception(
            "norm-after-scale-shift",
            _both(lambda h, norm, layer, b, s, g: h + g * layer(norm(h * (1 + s) + b))),
            "You scaled and shifted before the norm, which takes much of it out again. Norm first, then "
            "scale and shift.",
            about="order",
        ),
        Misconception(
            "norm-on-the-sum",
            _both(lambda h, norm, layer, b, s, g: norm(h + g * layer(h * (1 + s) + b))),
            "You put the norm on the sum, as the first transformers did. Here it comes before scale, shift "
            "and layer, and the sum passes on as it is.",
            about="order",
        ),
        Misconception(
            "gates-alone",
            _dit(tell=lambda h, shift, scale: h),
            "Shifts and scales are not used: each norm is followed by ·(1 + scale) + shift.",
            about="missing",
        ),
        Misconception(
            "activated-after-the-norm",
            _dit(tell=lambda h, shift, scale: F.silu(h * (1 + scale) + shift)),
            "You put a SiLU before the layer, as in the residual block. A transformer's block has none "
            "there: `think` holds the only activation.",
            about="extra",
        ),
        Misconception(
            "told-kept",
            _both(_told_kept),
            "You added to what came out of norm, scale and shift. What comes in passes on as it is: keep "
            "`tokens`, and give the other tensor another name.",
            about="input",
        ),
        Misconception(
            "first-shortcut-missing",
            _rounds(first=_not_added),
            "After the attention what came in is gone. What `attend` gives, times its gate, is *added* to "
            "the tokens.",
            about="missing",
        ),
        Misconception(
            "second-shortcut-missing",
            _rounds(second=_not_added),
            "At the end what went into the second round is missing. What `think` gives, times its gate, is "
            "*added* to the tokens.",
            about="missing",
        ),
        Misconception(
            "second-on-the-attention-alone",
            _second_on(lambda gate, h: h),
            "The second norm got what `attend` gave. It gets the tokens to which that has been added.",
            about="input",
        ),
        Misconception(
            "second-on-the-gated-attention",
            _second_on(lambda gate, h: gate * h),
            "The second norm got what the attention adds. It gets the sum, the tokens to which that has been "
            "added.",
            about="input",
        ),
        Misconception(
            "attention-twice",
            _dit(layers=("attend", "attend")),
            "You called `attend` in both rounds. The second one's layer is `think`.",
            about="input",
        ),
    ],
    alternatives=[_dit(), _DiTByStacking, _DiTByFunctions],
    hints=(
        "Two rounds of the same: norm, scale and shift, a layer, a gate, and what came in is added. The "
        "layer is attention in the first round, `think` in the second.",
        "tokens ← tokens + gate₁·attend(norm₁(tokens)·(1 + scale₁) + shift₁), then the same with norm₂, "
        "`think` and the other three vectors.",
        "`six = self.to_six(embedding)[:, None].chunk(6, dim=2)`, unpacked as shift, scale, gate, twice; "
        "then `tokens = tokens + gate_1 * self.attend(…)` and `return tokens + gate_2 * self.think(…)`.",
    ),
    call=_tokens_output,
    figure=_dit_figure,
    figure_alt="What a block with random weights adds to 12 tokens of 16 channels. With an embedding of 0 "
    "all gates are shut, and it adds nothing; with a larger embedding it adds more.",
)

EXERCISES = [FIELD, EMBEDDING, BLOCK, ATTENTION, ASSEMBLE, TOKENS]
