"""Lesson 19, compute and data: FLOPs, traffic, attention in blocks, accumulation, profiles, Amdahl's law."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from diffusion_lessons.course.bank.inputs import normal, number, whole
from diffusion_lessons.course.exercises.exercise import Case, Exercise, Misconception
from diffusion_lessons.experiments.clock import Largest
from diffusion_lessons.networks.attention import attention
from diffusion_lessons.networks.counting import attention_bytes, attention_flops

Make = Callable[[torch.Generator], dict[str, Any]]
Layer = tuple[Any, ...]


# 19.1 Count the FLOPs --------------------------------------------------------------------------------


def count_flops(layers: Sequence[Layer], height: int, width: int) -> list[int]:
    """FLOPs of each layer for one picture: ("conv", in, out, kernel, stride), ("attention", channels, heads),
    ("linear", in, out); convolutions are padded, attention has its four projections."""
    counts = []
    for kind, *sizes in layers:
        if kind == "conv":
            channels, out, kernel, stride = sizes
            height, width = (height - 1) // stride + 1, (width - 1) // stride + 1
            counts.append(2 * height * width * channels * out * kernel * kernel)
        elif kind == "attention":
            channels, heads = sizes
            tokens = height * width
            counts.append(8 * tokens * channels**2 + attention_flops(tokens, channels // heads, heads))
        else:
            channels, out = sizes
            counts.append(2 * channels * out)
    return counts


def _flops(
    conv: Callable[..., int] = lambda places, before, i, o, k: 2 * places * i * o * k * k,
    attend: Callable[..., int] = lambda n, c, h: 8 * n * c * c + 4 * n * n * c,
    linear: Callable[..., int] = lambda i, o, places: 2 * i * o,
    strided: Callable[[int, int], int] = lambda side, stride: -(-side // stride),
) -> Callable[..., list[int]]:
    """The count in plain steps, with a place for each slip."""

    def answer(layers: Sequence[Layer], height: int, width: int) -> list[int]:
        counts = []
        for kind, *sizes in layers:
            if kind == "conv":
                before = height * width
                height, width = strided(height, sizes[3]), strided(width, sizes[3])
                counts.append(conv(height * width, before, *sizes[:3]))
            elif kind == "attention":
                counts.append(attend(height * width, *sizes))
            else:
                counts.append(linear(*sizes, height * width))
        return counts

    return answer


def _counted_on_meta(layers: Sequence[Layer], height: int, width: int) -> list[int]:
    counts = []
    x = torch.empty(1, 1, height, width, device="meta")
    for kind, *sizes in layers:
        if kind == "conv":
            i, o, k, s = sizes
            x = torch.nn.Conv2d(i, o, k, s, k // 2, device="meta")(x.expand(1, i, *x.shape[2:]))
            counts.append(2 * x.numel() * i * k**2)
            x = x[:, :1]
        elif kind == "attention":
            n = x[0, 0].numel()
            counts.append(2 * n * sizes[0] * (4 * sizes[0] + 2 * n))
        else:
            counts.append(2 * sizes[0] * sizes[1])
    return counts


def _network(strides: Sequence[int], heads: int, odd: int = 0, last: bool = True) -> Make:
    """Some convolutions, attention on the last grid, and a linear layer for the vector of times."""

    def make(g: torch.Generator) -> dict[str, Any]:
        widths = [whole(g, 3, 9), *(4 * heads * whole(g, 1, 3) + heads for _ in strides)]
        layers: list[Layer] = [("linear", whole(g, 5, 20), whole(g, 21, 40))]
        for (i, o), stride in zip(pairwise(widths), strides, strict=True):
            layers.append(("conv", i, o, 2 * whole(g, 1, 2) + 1, stride))
        if last:
            layers.append(("attention", widths[-1], heads))
        height, width = 2 * whole(g, 4, 6) + odd, 2 * whole(g, 7, 9) + odd
        return {"layers": layers, "height": height, "width": width}

    return make


FLOPS = Exercise(
    id="19.1",
    name="count_flops",
    title="Count before you run",
    kind="reproduce",
    difficulty=1,
    minutes=12,
    reference=count_flops,
    cases=[
        Case("two convolutions and attention", _network((1, 2), 2)),
        Case("sides that cannot be halved", _network((2, 1, 2), 3, odd=1)),
        Case("strides of three", _network((3, 1), 4)),
        Case("convolutions alone", _network((1, 1, 2), 2, last=False)),
    ],
    misconceptions=[
        Misconception(
            "multiply-adds",
            lambda layers, height, width: [each // 2 for each in count_flops(layers, height, width)],
            "You counted a multiplication with its addition as one. Here each of the two counts: twice as "
            "many.",
            about="factor",
        ),
        Misconception(
            "input-grid",
            _flops(conv=lambda places, before, i, o, k: 2 * before * i * o * k * k),
            "You counted a convolution at each place of its input. It is computed at the places of its "
            "output, fewer where the stride is 2.",
            about="input",
        ),
        Misconception(
            "grid-kept",
            _flops(strided=lambda side, stride: side),
            "Your grid stays as large as at the start. After a stride of 2 every layer works on half the "
            "height and width.",
            about="missing",
        ),
        Misconception(
            "grid-rounded-down",
            _flops(strided=lambda side, stride: max(1, side // stride)),
            "You rounded the grid down. A padded convolution of stride 2 makes 7 of 13: its side is "
            "rounded up.",
            about="rounding",
        ),
        Misconception(
            "kernel-side",
            _flops(conv=lambda places, before, i, o, k: 2 * places * i * o * k),
            "You multiplied by the side of the kernel. A kernel of side k has k² weights for each pair of "
            "channels.",
            about="root",
        ),
        Misconception(
            "one-channel",
            _flops(conv=lambda places, before, i, o, k: 2 * places * o * k * k),
            "Every output channel of a convolution looks at all input channels: multiply by these, too.",
            about="missing",
        ),
        Misconception(
            "scores-alone",
            _flops(attend=lambda n, c, h: 8 * n * c * c + 2 * n * n * c),
            "Attention has two products of N² · channels: the scores, and the maps times the values. You "
            "counted one of them.",
            about="missing",
        ),
        Misconception(
            "projections-alone",
            _flops(attend=lambda n, c, h: 8 * n * c * c),
            "You counted the projections of attention, and not the products of all tokens with all tokens.",
            about="missing",
        ),
        Misconception(
            "no-projections",
            _flops(attend=lambda n, c, h: 4 * n * n * c),
            "You left out attention's projections: queries, keys, values and the output, each channels × "
            "channels.",
            about="missing",
        ),
        Misconception(
            "three-projections",
            _flops(attend=lambda n, c, h: 6 * n * c * c + 4 * n * n * c),
            "You counted three projections of attention. The output has one, too: four in all.",
            about="count",
        ),
        Misconception(
            "heads-on-top",
            _flops(attend=lambda n, c, h: 8 * n * c * c + 4 * n * n * c * h),
            "You multiplied by the heads. They share the channels out among themselves: together they cost "
            "what one head of full width costs.",
            about="extra",
        ),
        Misconception(
            "linear-at-each-place",
            _flops(linear=lambda i, o, places: 2 * i * o * places),
            "You counted a linear layer at each place of the grid. Here it works on one vector a picture.",
            about="extra",
        ),
        Misconception(
            "backward-too",
            lambda layers, height, width: [3 * each for each in count_flops(layers, height, width)],
            "You counted the way back, too: three times the FLOPs. One evaluation is asked for.",
            about="reading",
        ),
        Misconception(
            "sum-of-all",
            lambda layers, height, width: [sum(count_flops(layers, height, width))],
            "You added the layers up. A list with one number for each layer is asked for.",
            about="reading",
        ),
    ],
    alternatives=[_flops(), _counted_on_meta],
    hints=(
        "A layer is a product of matrices. How many numbers come out of it, and how many products are summed "
        "for each of them?",
        "Convolution: 2 · H'W' · in · out · k². Attention of N tokens: 2 · N · C · 4C + 2 · 2 · N² · C.",
        "A loop `for kind, *sizes in layers:` with a branch for each kind; the convolution changes "
        "`height` and `width`: `(height + stride - 1) // stride`.",
    ),
)


# 19.2 What attention moves ---------------------------------------------------------------------------


def attention_traffic(tokens: int, head_dim: int, heads: int, size: int, written: bool) -> tuple[int, float]:
    """Bytes that attention of one picture moves, and FLOPs for each of them."""
    moved = attention_bytes(tokens, head_dim, heads, size, written)
    return moved, attention_flops(tokens, head_dim, heads) / moved


def _traffic(
    scores: Callable[[int, int], int] = lambda n, d: 6 * n * n,
    ends: int = 4,
    fused: Callable[[int, int], int] = lambda n, d: 0,
    flops: Callable[[int, int], int] = lambda n, d: 4 * n * n * d,
    ratio: Callable[[float, float], float] = lambda flops, moved: flops / moved,
    unit: Callable[[int], float] = lambda size: size,
    of_heads: Callable[[int], int] = lambda heads: heads,
) -> Callable[..., tuple[float, float]]:
    """The traffic in plain steps, with a place for each slip."""

    def answer(tokens: int, head_dim: int, heads: int, size: int, written: bool) -> tuple[float, float]:
        numbers = ends * tokens * head_dim + (scores if written else fused)(tokens, head_dim)
        moved = of_heads(heads) * numbers * unit(size)
        return moved, ratio(heads * flops(tokens, head_dim), moved)

    return answer


def _traffic_by_operations(
    tokens: int, head_dim: int, heads: int, size: int, written: bool
) -> tuple[int, float]:
    small, large = heads * tokens * head_dim, heads * tokens * tokens
    product = [small, small, large]  # reads Q and K, writes the scores
    scaling = softmax = [large, large]
    mixing = [large, small, small]
    parts = [*product, *scaling, *softmax, *mixing] if written else [small] * 4
    flops = 2 * (2 * large * head_dim)
    return sum(parts) * size, flops / (sum(parts) * size)


def _shape(written: bool, tokens: tuple[int, int]) -> Make:
    def make(g: torch.Generator) -> dict[str, Any]:
        return {
            "tokens": whole(g, *tokens),
            "head_dim": whole(g, 9, 80),
            "heads": whole(g, 2, 8),
            "size": 2 * whole(g, 1, 2),
            "written": written,
        }

    return make


TRAFFIC = Exercise(
    id="19.2",
    name="attention_traffic",
    title="What attention carries to and fro",
    kind="implement",
    difficulty=2,
    minutes=12,
    reference=attention_traffic,
    cases=[
        Case("written out, a few hundred tokens", _shape(True, (200, 400))),
        Case("fused, a few hundred tokens", _shape(False, (200, 400))),
        Case("written out, thousands of tokens", _shape(True, (3000, 5000))),
        Case("fused, thousands of tokens", _shape(False, (3000, 5000))),
    ],
    misconceptions=[
        Misconception(
            "scores-once",
            _traffic(scores=lambda n, d: n * n),
            "You counted the N² scores once. They are written, read and written by the scaling, read and "
            "written by the softmax, and read by the last product: six times.",
            about="count",
        ),
        Misconception(
            "scaling-forgotten",
            _traffic(scores=lambda n, d: 4 * n * n),
            "Four times N² is what products and softmax move. The division by √d is an operation of its "
            "own: it reads the scores and writes them once more.",
            about="missing",
        ),
        Misconception(
            "written-and-not-read",
            _traffic(scores=lambda n, d: 3 * n * n),
            "You counted what is written. Whatever is written is read again by the next operation.",
            about="missing",
        ),
        Misconception(
            "tokens-not-squared",
            _traffic(scores=lambda n, d: 6 * n),
            "Every token has a score with every token: N² of them, not N.",
            about="root",
        ),
        Misconception(
            "scores-as-wide-as-a-head",
            _traffic(scores=lambda n, d: 6 * n * n * d),
            "You multiplied the scores by the width of a head. A score is one number: the width was summed "
            "over.",
            about="extra",
        ),
        Misconception(
            "fused-still-writes-scores",
            _traffic(fused=lambda n, d: 2 * n * n),
            "Fused attention never writes its scores to memory: what is left is Q, K, V and the output.",
            about="extra",
        ),
        Misconception(
            "output-forgotten",
            _traffic(ends=3),
            "You counted Q, K and V. The output is as large, and has to be written.",
            about="missing",
        ),
        Misconception(
            "one-head",
            _traffic(of_heads=lambda heads: 1),
            "You counted the bytes of one head. All heads have queries, keys, values and scores of their "
            "own.",
            about="missing",
        ),
        Misconception(
            "numbers-for-bytes",
            _traffic(unit=lambda size: 1),
            "You counted numbers. Each of them takes `size` bytes.",
            about="factor",
        ),
        Misconception(
            "bits-for-bytes",
            _traffic(unit=lambda size: 8 * size),
            "You counted bits: `size` is in bytes already.",
            about="factor",
        ),
        Misconception(
            "one-product",
            _traffic(flops=lambda n, d: 2 * n * n * d),
            "The bytes are right. But there are two products of 2 · N² · d FLOPs: the scores, and the maps "
            "times the values.",
            about="missing",
        ),
        Misconception(
            "multiply-adds",
            _traffic(flops=lambda n, d: n * n * d),
            "The bytes are right. For the FLOPs, multiplications and additions both count, in two products: "
            "4 · N² · d.",
            about="factor",
        ),
        Misconception(
            "bytes-a-flop",
            _traffic(ratio=lambda flops, moved: moved / flops),
            "The bytes are right. You divided them by the FLOPs: asked for are FLOPs for each byte.",
            about="swap",
        ),
    ],
    alternatives=[_traffic(), _traffic_by_operations],
    hints=(
        "Follow one number of the scores: which operation writes it, which ones read it, and which write "
        "it anew?",
        "Fused: 4·N·d numbers a head. Written out: 6·N² more. FLOPs: 4·N²·d a head.",
        "`numbers = heads * (4 * tokens * head_dim + ...)`, then bytes, then a quotient.",
    ),
)


# 19.3 Attention in blocks (the whole piece) ----------------------------------------------------------


def attention_in_blocks(query: Tensor, key: Tensor, value: Tensor, block: int) -> Tensor:
    """Attention over `block` keys at a time (Dao et al. 2022, algorithm 1, without its blocks of queries)."""
    query = query / query.shape[-1] ** 0.5
    most = torch.full_like(query[..., :1], -torch.inf)  # largest score so far
    total: Any = 0.0
    mixed: Any = 0.0
    for keys, values in zip(key.split(block, -2), value.split(block, -2), strict=True):
        scores = query @ keys.transpose(-2, -1)
        higher = torch.maximum(most, scores.amax(-1, keepdim=True))
        weights, kept = torch.exp(scores - higher), torch.exp(most - higher)
        total = kept * total + weights.sum(-1, keepdim=True)
        mixed = kept * mixed + weights @ values
        most = higher
    return mixed / total


def _in_blocks(answer: Callable[..., Any], query: Tensor, key: Tensor, value: Tensor, block: int) -> Any:
    """The output, and whether no tensor on the way was as large as the whole map."""
    with Largest() as largest:
        made = answer(query, key, value, block)
    if made is None:
        return None
    widest = max(block, query.shape[-1], value.shape[-1])
    allowed = 2 * query.element_size() * max(query[..., 0].numel() * widest, key.numel(), value.numel())
    return {"output": made, "no whole map": largest.bytes <= allowed}


def _blocks(
    scale: Callable[[int], float] = lambda d: d**-0.5,
    shift: Callable[..., Tensor] = lambda most, scores: torch.maximum(most, scores.amax(-1, keepdim=True)),
    kept: Callable[..., tuple[Any, Any]] = lambda most, higher: 2 * (torch.exp(most - higher),),
    end: Callable[..., Tensor] = lambda mixed, total, n: mixed / total,
    pieces: Callable[[int, int], Any] = lambda n, block: range(0, n, block),
    normed: bool = False,
) -> Callable[..., Tensor]:
    """The blocks in plain steps, with a place for each slip."""

    def answer(query: Tensor, key: Tensor, value: Tensor, block: int) -> Tensor:
        most = torch.full_like(query[..., :1], -1e30)
        total: Any = 0.0
        mixed: Any = 0.0
        starts = pieces(key.shape[-2], block)
        for start in starts:
            scores = scale(query.shape[-1]) * query @ key[..., start : start + block, :].transpose(-2, -1)
            higher = shift(most, scores)
            weights = torch.exp(scores - higher)
            if normed:
                weights = weights / weights.sum(-1, keepdim=True)
            of_total, of_mixed = kept(most, higher)
            total = of_total * total + weights.sum(-1, keepdim=True)
            mixed = of_mixed * mixed + weights @ value[..., start : start + block, :]
            most = higher
        return end(mixed, total, len(starts))

    return answer


def _blocks_by_logs(query: Tensor, key: Tensor, value: Tensor, block: int) -> Tensor:
    output = log = None
    for start in range(0, key.shape[-2], block):
        here = slice(start, start + block)
        scores = query @ key[..., here, :].mT / query.shape[-1] ** 0.5
        mine, ours = scores.softmax(-1) @ value[..., here, :], scores.logsumexp(-1, keepdim=True)
        if output is None or log is None:
            output, log = mine, ours
            continue
        both = torch.logaddexp(log, ours)
        output, log = torch.exp(log - both) * output + torch.exp(ours - both) * mine, both
    assert output is not None
    return output


def _tokens(queries: int, width: int, large: float = 1.5, rest: int | None = None) -> Make:
    """Seven whole blocks of keys, and a shorter one: of `rest` keys, or of some."""

    def make(g: torch.Generator) -> dict[str, Any]:
        block = whole(g, 5, 9)
        keys = 7 * block + (whole(g, 1, block - 1) if rest is None else rest)
        return {
            "query": large * normal(g, 2, 3, queries, width),
            "key": large * normal(g, 2, 3, keys, width),
            "value": normal(g, 2, 3, keys, width),
            "block": block,
        }

    return make


def _rising(g: torch.Generator) -> dict[str, Any]:
    """Scores that rise by far from the first key to the last, and for some queries are all far below 0.

    All are multiples of 1/128, so that no order of sums rounds them.
    """
    inputs = _tokens(42, 4)(g)
    query, key = inputs["query"], inputs["key"]
    query[..., 0], key[..., 0] = 6.0, torch.linspace(-30, 30, key.shape[-2])
    query[..., 1], key[..., 1] = torch.linspace(-120, 120, query.shape[-2]), 4.0
    return {**inputs, "query": (8 * query).round() / 8, "key": (8 * key).round() / 8}


BLOCKS = Exercise(
    id="19.3",
    name="attention_in_blocks",
    title="Attention without its map",
    kind="implement",
    difficulty=3,
    minutes=25,
    reference=attention_in_blocks,
    call=_in_blocks,
    cases=[
        Case("seven whole blocks", _tokens(44, 5, rest=0)),
        Case("a last block that is shorter", _tokens(40, 4)),
        Case("a last block of one key", _tokens(37, 4, rest=1)),
        Case("scores far apart", _tokens(48, 6, large=4.0)),
        Case("fewer queries than keys", _tokens(21, 5)),
        Case("scores that rise by hundreds, from query to query and key to key", _rising),
    ],
    misconceptions=[
        Misconception(
            "whole-map",
            lambda query, key, value, block: attention(query, key, value),
            "The output is right. But on the way you made a tensor with all scores: look at `block` keys "
            "at a time.",
            about="reading",
        ),
        Misconception(
            "softmax-in-each-block",
            _blocks(normed=True, kept=lambda most, higher: (1.0, 1.0), end=lambda mixed, total, n: mixed / n),
            "You took a softmax of each block and averaged. A block with high scores weighs more: sum "
            "exponentials, and divide once, at the end.",
            about="mean",
        ),
        Misconception(
            "nothing-rescaled",
            _blocks(kept=lambda most, higher: (1.0, 1.0)),
            "When a block has a higher score than all before, what was summed so far belongs to another "
            "maximum: multiply it by exp(old − new).",
            about="missing",
        ),
        Misconception(
            "total-not-rescaled",
            _blocks(kept=lambda most, higher: (1.0, torch.exp(most - higher))),
            "You rescaled the mixed values and not the sum of the exponentials. Both were made with the old "
            "maximum.",
            about="missing",
        ),
        Misconception(
            "mixed-not-rescaled",
            _blocks(kept=lambda most, higher: (torch.exp(most - higher), 1.0)),
            "You rescaled the sum of the exponentials and not the mixed values. Both were made with the old "
            "maximum.",
            about="missing",
        ),
        Misconception(
            "rescaled-by-the-block",
            _blocks(
                shift=lambda most, scores: scores.amax(-1, keepdim=True), kept=lambda most, higher: (1.0, 1.0)
            ),
            "You subtract each block's own maximum, so the sums of the blocks are on different scales. "
            "Keep one running maximum, and rescale when it rises.",
            about="formula",
        ),
        Misconception(
            "maximum-of-the-first-block",
            _blocks(
                shift=lambda most, scores: torch.where(most > -1e29, most, scores.amax(-1, keepdim=True))
            ),
            "You keep the largest score of the first block. A later block may have one that is higher by "
            "hundreds, and its exponential is infinite: let the maximum rise.",
            about="boundary",
        ),
        Misconception(
            "maximum-of-all-queries",
            _blocks(shift=lambda most, scores: torch.maximum(most, scores.max())),
            "You subtract one maximum for all queries. Where a query's scores are far below it, all its "
            "exponentials are 0: each query has a maximum of its own.",
            about="formula",
        ),
        Misconception(
            "maximum-from-zero",
            _blocks(
                shift=lambda most, scores: torch.maximum(most, scores.amax(-1, keepdim=True)).clamp(min=0)
            ),
            "Your maximum starts at 0. Where all scores of a query are far below 0, its exponentials are "
            "all 0: start at −∞.",
            about="boundary",
        ),
        Misconception(
            "last-block-dropped",
            _blocks(pieces=lambda n, block: range(0, n - block + 1, block)),
            "You left out the last block where it is shorter than the others.",
            about="boundary",
        ),
        Misconception(
            "first-block-alone",
            _blocks(pieces=lambda n, block: range(0, block, block)),
            "You looked at the first block only: go on to the last key.",
            about="missing",
        ),
        Misconception(
            "not-scaled",
            _blocks(scale=lambda d: 1.0),
            "Your scores are not divided by √d, the root of a head's width.",
            about="missing",
        ),
        Misconception(
            "scaled-by-the-width",
            _blocks(scale=lambda d: 1 / d),
            "You divided the scores by d. It is the root of the width, √d.",
            about="root",
        ),
        Misconception(
            "never-divided",
            _blocks(end=lambda mixed, total, n: mixed),
            "You never divided by the sum of the exponentials: the weights of a token do not sum to 1.",
            about="missing",
        ),
        Misconception(
            "divided-by-the-keys",
            _blocks(end=lambda mixed, total, n: mixed / n),
            "You divided by the number of blocks. The weights sum to 1 when you divide by the sum of all "
            "exponentials.",
            about="formula",
        ),
    ],
    alternatives=[_blocks(), _blocks_by_logs],
    hints=(
        "A softmax needs the largest score and the sum of all exponentials. Both can be kept up to date "
        "from block to block, and so can the sum of the weighted values.",
        "m' = max(m, block's largest); ℓ' = e^(m − m')·ℓ + Σ e^(s − m'); o' = e^(m − m')·o + e^(s − m')·V; "
        "at the end o/ℓ.",
        "Three tensors before the loop, `for start in range(0, key.shape[-2], block):`, four updates in it.",
    ),
)


# 19.4 The batch that grows when it is cut (debug) ----------------------------------------------------


def accumulated(
    gradient_of: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor, size: int, most: float
) -> Tensor:
    """The clipped gradient of the mean loss of a batch, from micro-batches of at most `size` rows."""
    total = x.new_zeros(())
    for rows, wanted in zip(x.split(size), y.split(size), strict=True):
        total = total + gradient_of(rows, wanted) * (len(rows) / len(x))
    return total * min(1.0, most / float(total.norm()))


def _learning(
    answer: Callable[..., Any], weights: Tensor, x: Tensor, y: Tensor, size: int, most: float
) -> Any:
    def gradient_of(rows: Tensor, wanted: Tensor) -> Tensor:
        return 2 * rows.T @ (rows @ weights - wanted) / len(rows)

    return answer(gradient_of, x, y, size, most)


def _clipped(total: Tensor, most: float) -> Tensor:
    return total * min(1.0, most / float(total.norm()))


def _summed(
    weight: Callable[[int, int, int], float] = lambda rows, batch, size: rows / batch,
    starts: Callable[[int, int], range] = lambda batch, size: range(0, batch, size),
    joined: Callable[[Tensor, Tensor], Tensor] = lambda total, mine: total + mine,
    each: Callable[[Tensor, float], Tensor] = lambda mine, most: mine,
    end: Callable[[Tensor, float], Tensor] = _clipped,
) -> Callable[..., Tensor]:
    """The sum in plain steps, with a place for each slip."""

    def answer(gradient_of: Callable[..., Tensor], x: Tensor, y: Tensor, size: int, most: float) -> Tensor:
        total = x.new_zeros(x.shape[1])
        for start in starts(len(x), size):
            rows = x[start : start + size]
            mine = each(gradient_of(rows, y[start : start + size]), most)
            total = joined(total, mine * weight(len(rows), len(x), size))
        return end(total, most)

    return answer


def _summed_by_rows(
    gradient_of: Callable[..., Tensor], x: Tensor, y: Tensor, size: int, most: float
) -> Tensor:
    parts = [
        (gradient_of(rows, wanted), len(rows))
        for rows, wanted in zip(x.split(size), y.split(size), strict=True)
    ]
    total = torch.stack([gradient * n for gradient, n in parts]).sum(0) / sum(n for _, n in parts)
    norm = total.norm()
    return total if norm <= most else total / norm * most


def _rows(parts: int, clipped: bool, rest: bool = True) -> Make:
    """Rows with a slope of their own in each part, and a largest norm above or below what comes out."""

    def make(g: torch.Generator) -> dict[str, Any]:
        size = whole(g, 3, 5)
        batch = parts * size + (whole(g, 1, size - 1) if rest else 0)
        return {
            "weights": normal(g, 3),
            "x": normal(g, batch, 3) * torch.linspace(0.5, 2, batch)[:, None],
            "y": normal(g, batch) + 4,
            "size": size,
            "most": number(g, 0.5, 1.0) if clipped else number(g, 200.0, 300.0),
        }

    return make


ACCUMULATED = Exercise(
    id="19.4",
    name="accumulated",
    title="The learning rate that nobody set",
    kind="debug",
    difficulty=2,
    minutes=12,
    reference=accumulated,
    call=_learning,
    planted="not-divided",
    cases=[
        Case("four parts of as many rows", _rows(4, False, rest=False)),
        Case("a last part that is smaller", _rows(3, False)),
        Case("a gradient that has to be clipped", _rows(3, True)),
        Case("one part that holds all", _rows(0, False)),
    ],
    misconceptions=[
        Misconception(
            "not-divided",
            _summed(weight=lambda rows, batch, size: 1.0),
            "The gradients of the parts are added, and each is a mean already: the sum of four means is "
            "four times the mean. Weigh each by its share of the rows.",
            about="mean",
        ),
        Misconception(
            "every-part-alike",
            _summed(weight=lambda rows, batch, size: 1 / -(-batch // size)),
            "You divided by the number of parts. Where the last part is smaller its rows count for more "
            "than the others: weigh each part by its rows.",
            about="mean",
        ),
        Misconception(
            "full-parts-alone",
            _summed(weight=lambda rows, batch, size: size / batch),
            "You weighed each part as if it were full. The last one may have fewer rows.",
            about="boundary",
        ),
        Misconception(
            "last-part-dropped",
            _summed(starts=lambda batch, size: range(0, max(batch - size + 1, 1), size)),
            "You left out the last part where it is smaller than the others.",
            about="boundary",
        ),
        Misconception(
            "summed-over-rows",
            _summed(weight=lambda rows, batch, size: float(rows)),
            "You summed over the rows. The gradient of their mean is asked for: divide by the batch.",
            about="mean",
        ),
        Misconception(
            "divided-by-the-batch",
            _summed(weight=lambda rows, batch, size: 1 / batch),
            "You divided by the rows of the batch. The gradient of a part is a mean over its rows already: "
            "multiply by these first.",
            about="factor",
        ),
        Misconception(
            "overwritten",
            _summed(joined=lambda total, mine: mine),
            "Only your last part is left: each gradient took the place of the sum before it.",
            about="missing",
        ),
        Misconception(
            "clipped-part-by-part",
            _summed(each=_clipped, end=lambda total, most: total),
            "You clipped each part. Parts point different ways, so clip once, when their mean is complete.",
            about="order",
        ),
        Misconception(
            "not-clipped",
            _summed(end=lambda total, most: total),
            "The mean is right where it is short. Where its norm is above `most`, it has to be shortened "
            "to that.",
            about="missing",
        ),
        Misconception(
            "always-of-that-length",
            _summed(end=lambda total, most: total * most / float(total.norm())),
            "You made every gradient as long as `most`. Shorter ones stay as they are.",
            about="boundary",
        ),
        Misconception(
            "clipped-entry-by-entry",
            _summed(end=lambda total, most: total.clamp(-most, most)),
            "You clipped each entry alone, which turns the gradient. Its norm is what `most` bounds.",
            about="formula",
        ),
        Misconception(
            "squared-norm",
            _summed(end=lambda total, most: total * min(1.0, most / float(total.square().sum()))),
            "You took the sum of squares for the norm: it is its root.",
            about="root",
        ),
    ],
    alternatives=[_summed(), _summed_by_rows],
    hints=(
        "Try it with two parts of one row each: what does the batch of two give, and what does the sum give?",
        "g = Σₖ (nₖ/B)·gₖ with nₖ the rows of part k; then g·min(1, most/‖g‖).",
        "`len(rows) / len(x)` as a weight inside the loop; the clipping stays where it is.",
    ),
)


# 19.5 Read a profile ---------------------------------------------------------------------------------


def own_seconds(events: Sequence[tuple[str, float, float]]) -> dict[str, float]:
    """Seconds of each name without what it calls, over all its calls, of (name, begin, end) of a thread."""
    found: dict[str, float] = {}
    open_calls: list[tuple[str, float]] = []
    for name, begin, end in sorted(events, key=lambda event: (event[1], -event[2])):
        while open_calls and open_calls[-1][1] <= begin:
            open_calls.pop()
        found[name] = found.get(name, 0.0) + end - begin
        if open_calls:
            found[open_calls[-1][0]] -= end - begin
        open_calls.append((name, end))
    return found


def _profile(
    of: Callable[[float, list[float], list[float]], float] = lambda whole, children, all_: (
        whole - sum(children)
    ),
    joined: Callable[[list[float]], float] = sum,
    leaves: bool = False,
) -> Callable[..., dict[str, float]]:
    """Own times by looking for the children of each event, with a place for each slip."""

    def answer(events: Sequence[tuple[str, float, float]]) -> dict[str, float]:
        def inside(a: Any, b: Any) -> bool:
            return a is not b and b[1] <= a[1] and a[2] <= b[2]

        calls: dict[str, list[float]] = {}
        for event in events:
            below = [each for each in events if inside(each, event)]
            children = [each for each in below if not any(inside(each, other) for other in below)]
            whole, lasting = event[2] - event[1], [each[2] - each[1] for each in children]
            if not (leaves and children):
                mine = of(whole, lasting, [each[2] - each[1] for each in below])
                calls.setdefault(event[0], []).append(mine)
        return {name: joined(each) for name, each in calls.items()}

    return answer


def _own_by_points(events: Sequence[tuple[str, float, float]]) -> dict[str, float]:
    points = sorted({time for _, begin, end in events for time in (begin, end)})
    found = {name: 0.0 for name, _, _ in events}
    for left, right in pairwise(points):
        covering = [event for event in events if event[1] <= left and right <= event[2]]
        if covering:
            found[min(covering, key=lambda event: event[2] - event[1])[0]] += right - left
    return found


def _trace(steps: int, deep: bool, tight: bool = False) -> Make:
    """A step that calls forward and backward, these layers, and some of these one operation more.

    A tight one has no time between layers, nor after the last.
    """

    def make(g: torch.Generator) -> dict[str, Any]:
        events, now = [], number(g, 0.0, 5.0)

        def lasting(low: float, high: float) -> float:
            nonlocal now
            now = round(now + number(g, low, high), 4)
            return now

        for _ in range(steps):
            step = lasting(0.1, 0.4)
            lasting(0.1, 0.3)
            for half, layers in (("forward", ("conv", "norm", "conv")), ("backward", ("conv", "norm"))):
                begin = lasting(0.05, 0.2)
                lasting(0.05, 0.2)
                for layer in layers:
                    inner = now if tight else lasting(0.05, 0.2)
                    if deep and layer == "conv":
                        first = lasting(0.2, 0.5)
                        events.append(("copy", first, lasting(0.3, 0.9)))
                    events.append((layer, inner, lasting(0.5, 2.0)))
                events.append((half, begin, now if tight else lasting(0.1, 0.3)))
            events.append(("step", step, lasting(0.1, 0.5)))
        return {"events": sorted(events, key=lambda event: (event[1], -event[2]))}

    return make


PROFILE = Exercise(
    id="19.5",
    name="own_seconds",
    title="Read a profile",
    kind="implement",
    difficulty=2,
    minutes=15,
    reference=own_seconds,
    cases=[
        Case("a step with two layers below it", _trace(1, False)),
        Case("operations inside layers inside a step", _trace(1, True)),
        Case("layers without a pause between them", _trace(2, True, tight=True)),
        Case("three steps", _trace(3, True)),
    ],
    misconceptions=[
        Misconception(
            "children-counted-too",
            _profile(of=lambda whole, children, all_: whole),
            "Your times include what is called inside: the step alone then takes all the time there is. "
            "Subtract what lies directly inside an event.",
            about="missing",
        ),
        Misconception(
            "all-below-subtracted",
            _profile(of=lambda whole, children, all_: whole - sum(all_)),
            "You subtracted everything inside, the children of children, too. Their time is part of the "
            "children's already.",
            about="extra",
        ),
        Misconception(
            "one-child-subtracted",
            _profile(of=lambda whole, children, all_: whole - max(children, default=0.0)),
            "You subtracted one of the events inside. All that lie directly inside belong off.",
            about="missing",
        ),
        Misconception(
            "leaves-alone",
            _profile(leaves=True),
            "You left out events that call others. What they do between their calls is time of their own.",
            about="missing",
        ),
        Misconception(
            "last-call-alone",
            _profile(joined=lambda calls: calls[-1]),
            "A name may be called several times: your later calls took the place of the earlier. Add them "
            "up.",
            about="missing",
        ),
        Misconception(
            "mean-of-the-calls",
            _profile(joined=lambda calls: sum(calls) / len(calls)),
            "You averaged over the calls of a name. Where the time goes is told by their sum.",
            about="mean",
        ),
        Misconception(
            "calls-counted",
            _profile(joined=lambda calls: float(len(calls))),
            "You counted the calls. Many of them may take no time, and one may take all: add up seconds.",
            about="reading",
        ),
        Misconception(
            "children-alone",
            _profile(of=lambda whole, children, all_: sum(children)),
            "Your numbers are what is called inside. Own time is the rest: the event's seconds without "
            "these.",
            about="swap",
        ),
    ],
    alternatives=[_profile(), _own_by_points],
    hints=(
        "An event that lies inside another was called by it. The time of the outer one without the inner "
        "ones is its own.",
        "own = (end − begin) − Σ over the events directly inside; summed over all events of a name.",
        "Sorted by begin, a list of the calls that are still open: the last one whose end is not yet "
        "reached is the caller.",
    ),
)


# 19.6 Together ---------------------------------------------------------------------------------------


def faster_together(shares: Sequence[float], factors: Sequence[float]) -> float:
    """Amdahl 1967: the speed-up of the whole where parts with these shares of its time get faster."""
    rest = 1 - sum(shares)
    return 1 / (rest + sum(share / factor for share, factor in zip(shares, factors, strict=True)))


def _faster_by_saving(shares: Sequence[float], factors: Sequence[float]) -> float:
    left = 1.0
    for share, factor in zip(shares, factors, strict=True):
        left -= share * (1 - 1 / factor)
    return 1 / left


def _faster_in_tensors(shares: Sequence[float], factors: Sequence[float]) -> float:
    s, f = (torch.tensor(each, dtype=torch.float64) for each in (shares, factors))
    return float(1 / (1 + (s / f - s).sum()))


def _product(factors: Sequence[float]) -> float:
    found = 1.0
    for factor in factors:
        found *= factor
    return found


def _parts(n: int, high: float, slower: bool = False) -> Make:
    def make(g: torch.Generator) -> dict[str, Any]:
        shares = [number(g, 0.1, 0.8 / n) for _ in range(n)]
        factors = [number(g, 1.5, high) for _ in range(n)]
        if slower:
            factors[0] = number(g, 0.4, 0.8)
        return {"shares": shares, "factors": factors}

    return make


TOGETHER = Exercise(
    id="19.6",
    name="faster_together",
    title="Ten times faster, and little gained",
    kind="stretch",
    difficulty=2,
    minutes=8,
    reference=faster_together,
    cases=[
        Case("one part, ten times faster at most", _parts(1, 10.0)),
        Case("three parts", _parts(3, 6.0)),
        Case("a part that gets slower", _parts(2, 4.0, slower=True)),
        Case("parts that nearly vanish", _parts(2, 500.0)),
    ],
    misconceptions=[
        Misconception(
            "product",
            lambda shares, factors: _product(factors),
            "You multiplied the factors. Each of them acts on its own part of the time alone.",
            about="formula",
        ),
        Misconception(
            "weighted-mean-of-factors",
            lambda shares, factors: (
                1 - sum(shares) + sum(s * f for s, f in zip(shares, factors, strict=True))
            ),
            "You averaged the factors by their shares. Times add up, not speeds: divide each share by its "
            "factor.",
            about="mean",
        ),
        Misconception(
            "rest-forgotten",
            lambda shares, factors: 1 / sum(s / f for s, f in zip(shares, factors, strict=True)),
            "You forgot what gets no faster: 1 minus all shares stays as it is, and in the end is most of "
            "the time.",
            about="missing",
        ),
        Misconception(
            "time-for-speed-up",
            lambda shares, factors: 1 / faster_together(shares, factors),
            "That is the time that is left. The speed-up is 1 over it.",
            about="swap",
        ),
        Misconception(
            "share-of-what-is-saved",
            lambda shares, factors: 1 / (1 - sum(s / f for s, f in zip(shares, factors, strict=True))),
            "You subtracted what the parts still take. They save the rest of it: share − share/factor.",
            about="swap",
        ),
        Misconception(
            "largest-alone",
            lambda shares, factors: (
                max(1 / (1 - s + s / f) for s, f in zip(shares, factors, strict=True))
                if len(shares) > 1
                else _product(factors)
            ),
            "You took the best of the parts alone. All of them get faster together: add up what each leaves.",
            about="missing",
        ),
        Misconception(
            "rests-multiplied",
            lambda shares, factors: (
                _product([1 / (1 - s + s / f) for s, f in zip(shares, factors, strict=True)])
                if len(shares) > 1
                else shares[0] * factors[0]
            ),
            "You multiplied the speed-ups of single parts. The second part's share is of the old time, not "
            "of what the first has left: add up the times.",
            about="formula",
        ),
    ],
    alternatives=[_faster_by_saving, _faster_in_tensors],
    hints=(
        "Write down what each part takes afterwards, in shares of the old time, and what is left untouched.",
        "1/((1 − Σ p) + Σ p/f).",
        "`rest = 1 - sum(shares)`, then a sum over `zip(shares, factors)`.",
    ),
)

EXERCISES = [FLOPS, TRAFFIC, BLOCKS, ACCUMULATED, PROFILE, TOGETHER]
