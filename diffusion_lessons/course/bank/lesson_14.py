"""Lesson 14, video diffusion: attention and convolution over frames, a time for each frame, and going on."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from diffusion_lessons.course.bank.inputs import data, normal, number, whole
from diffusion_lessons.course.exercises.exercise import Case, Exercise, Misconception
from diffusion_lessons.networks import video
from diffusion_lessons.networks.attention import attend
from diffusion_lessons.paths import Level, NoisePath, add_noise
from diffusion_lessons.samplers import sample
from diffusion_lessons.targets import Estimate, V
from diffusion_lessons.training.recipe import PATHS

Make = Callable[[torch.Generator], dict[str, Any]]


def _columns(shown: list[Tensor], titles: list[str], axes: tuple[str, str]) -> Any:
    """Matrices side by side, each with its title; axes: what is along the side, and along the foot."""
    from matplotlib import pyplot

    figure, places = pyplot.subplots(
        1, len(shown), figsize=(2.2 * len(shown), 2.2), squeeze=False, constrained_layout=True
    )
    for place, matrix, title in zip(places[0], shown, titles, strict=True):
        place.imshow(matrix.float().numpy(), cmap="gray", vmin=0, vmax=1, aspect="auto")
        place.set_title(title, fontsize=10)
        place.set_xlabel(axes[1])
    places[0][0].set_ylabel(axes[0])
    return figure


# 14.1 Attention over time ----------------------------------------------------------------------------


def _folded(clips: Tensor) -> Tensor:
    """Clips (B, F, C, H, W) as sequences of frames (B·H·W, F, C), one for each place."""
    return clips.permute(0, 3, 4, 1, 2).flatten(0, 2)


def _unfolded(tokens: Tensor, clips: Tensor) -> Tensor:
    """The inverse of `_folded`."""
    return tokens.unflatten(0, (len(clips), *clips.shape[3:])).permute(0, 3, 4, 1, 2)


def attend_over_time(
    x: Tensor, frames: int, w_q: Tensor, w_k: Tensor, w_v: Tensor, w_out: Tensor, seen: Tensor
) -> Tensor:
    """What `TemporalTransformer` does, with one head and without norms."""
    clips = x.unflatten(0, (-1, frames))
    tokens = _folded(clips)
    y = attend(tokens @ w_q.T, tokens @ w_k.T, tokens @ w_v.T, 1, seen) @ w_out.T
    return x + _unfolded(y, clips).flatten(0, 1)


def _softmaxed(scores: Tensor, seen: Tensor) -> Tensor:
    return scores.masked_fill(~seen, -torch.inf).softmax(-1)


def _attended(
    fold: Callable[[Tensor, int], Tensor] = lambda x, frames: _folded(x.unflatten(0, (-1, frames))),
    back: Callable[[Tensor, Tensor, int], Tensor] = lambda y, x, frames: _unfolded(
        y, x.unflatten(0, (-1, frames))
    ).flatten(0, 1),
    project: Callable[[Tensor, Tensor], Tensor] = lambda tokens, w: tokens @ w.T,
    size: Callable[[int], float] = lambda channels: channels**0.5,
    share: Callable[[Tensor, Tensor], Tensor] = _softmaxed,
    added: Callable[[Tensor, Tensor], Tensor] = torch.add,
) -> Callable[..., Tensor]:
    """The attention in plain steps, with a place for each slip."""

    def answer(
        x: Tensor, frames: int, w_q: Tensor, w_k: Tensor, w_v: Tensor, w_out: Tensor, seen: Tensor
    ) -> Tensor:
        tokens = fold(x, frames)
        query, key, value = (project(tokens, w) for w in (w_q, w_k, w_v))
        shares = share(query @ key.transpose(1, 2) / size(x.shape[1]), seen)
        return added(x, back(project(shares @ value, w_out), x, frames))

    return answer


def _mixed(x: Tensor, frames: int) -> Tensor:
    """Reshaped as if frames and channels already stood last."""
    return x.reshape(-1, frames, x.shape[1])


def _other_batch(x: Tensor, frames: int) -> Tensor:
    """Unfolded as if the frames stood before the batch."""
    return _folded(x.unflatten(0, (frames, -1)).transpose(0, 1))


def _back_to_other_batch(y: Tensor, x: Tensor, frames: int) -> Tensor:
    clips = x.unflatten(0, (frames, -1)).transpose(0, 1)
    return _unfolded(y, clips).transpose(0, 1).flatten(0, 1)


def _turned(y: Tensor, x: Tensor, frames: int) -> Tensor:
    """Put back with height and width in each other's place."""
    height, width = x.shape[2:]
    places = y.unflatten(0, (-1, width, height)).transpose(1, 2)
    return places.permute(0, 3, 4, 1, 2).flatten(0, 1)


def _over_places(
    x: Tensor, frames: int, w_q: Tensor, w_k: Tensor, w_v: Tensor, w_out: Tensor, seen: Tensor
) -> Tensor:
    tokens = x.flatten(2).transpose(1, 2)
    y = attend(tokens @ w_q.T, tokens @ w_k.T, tokens @ w_v.T, 1) @ w_out.T
    return x + y.transpose(1, 2).reshape(x.shape)


def _attended_place_by_place(
    x: Tensor, frames: int, w_q: Tensor, w_k: Tensor, w_v: Tensor, w_out: Tensor, seen: Tensor
) -> Tensor:
    made = []
    for clip in x.split(frames):
        result = clip.clone()
        for i in range(x.shape[2]):
            for j in range(x.shape[3]):
                tokens = clip[:, :, i, j]
                scores = (tokens @ w_q.T) @ (tokens @ w_k.T).T / x.shape[1] ** 0.5
                scores = torch.where(seen, scores, -1e30)
                result[:, :, i, j] += scores.softmax(1) @ (tokens @ w_v.T) @ w_out.T
        made.append(result)
    return torch.cat(made)


def _features(
    batch: int, lengths: tuple[int, int], channels: int | None, height: int, width: int, causal: bool
) -> Make:
    """Features of clips of so many frames; as many channels, where none are given."""

    def make(g: torch.Generator) -> dict[str, Any]:
        frames = whole(g, *lengths)
        channels_of = frames if channels is None else channels
        weights = {name: normal(g, channels_of, channels_of) for name in ("w_q", "w_k", "w_v", "w_out")}
        seen = torch.ones(frames, frames).bool()
        return {
            "x": normal(g, batch * frames, channels_of, height, width),
            "frames": frames,
            **weights,
            "seen": seen.tril() if causal else seen,
        }

    return make


def _attention_figure(reference: Callable[..., Tensor]) -> Any:
    """Which frames change when one frame changes, with and without the mask."""
    frames, shown = 6, []
    for causal in (False, True):
        given = _features(1, (frames, frames), 4, 3, 3, causal)(torch.Generator().manual_seed(0))
        before, rows = reference(**given), []
        for k in range(frames):
            changed = given["x"].clone()
            changed[k] += 1
            gap = (reference(**{**given, "x": changed}) - before).abs().amax((1, 2, 3))
            rows.append((gap > 1e-6).float())
        shown.append(torch.stack(rows, 1))
    return _columns(shown, ["all frames", "causal"], ("frame of the result", "frame that changes"))


ATTEND = Exercise(
    id="14.1",
    name="attend_over_time",
    title="Attention over time",
    kind="implement",
    difficulty=2,
    minutes=15,
    reference=attend_over_time,
    trains=["w_q", "w_k", "w_v", "w_out"],
    cases=[
        Case("two clips", _features(2, (3, 4), 5, 2, 3, causal=False)),
        Case("three clips, causal", _features(3, (4, 5), 6, 3, 2, causal=True)),
        Case("as many channels as frames", _features(2, (3, 5), None, 4, 3, causal=True)),
    ],
    misconceptions=[
        Misconception(
            "frames-and-channels-mixed",
            _attended(fold=_mixed, back=lambda y, x, frames: y.reshape(x.shape)),
            "You reshaped (B·F, C, H, W) to (B·H·W, F, C) without moving dimensions: your tokens mix "
            "channels, places and frames. Take the frames out of the batch, permute, and only then flatten.",
            about="axis",
        ),
        Misconception(
            "frames-before-batch",
            _attended(fold=_other_batch, back=_back_to_other_batch),
            "You unfolded the batch as (F, B). Frames of one clip lie next to each other: it is (B, F). "
            "With one clip both are the same, so the mistake shows from the second one on.",
            about="axis",
        ),
        Misconception(
            "height-and-width-exchanged",
            _attended(back=_turned),
            "The attention is right, but you put the places back with height and width exchanged.",
            about="axis",
        ),
        Misconception(
            "over-places",
            _over_places,
            "Your places look at each other within a frame: that is the attention of a picture network. "
            "Here each place looks at itself in the other frames.",
            about="axis",
        ),
        Misconception(
            "mask-turned-round",
            _attended(share=lambda scores, seen: scores.masked_fill(seen, -1e30).softmax(-1)),
            "You hid the frames that may be seen: `seen` is True where a frame may look.",
            about="swap",
        ),
        Misconception(
            "mask-forgotten",
            _attended(share=lambda scores, seen: scores.softmax(-1)),
            "Your frames look at all others, also where `seen` is False.",
            about="missing",
        ),
        Misconception(
            "always-causal",
            _attended(share=lambda scores, seen: _softmaxed(scores, torch.ones_like(seen).tril())),
            "You hid later frames in every case. `seen` says which frames may be seen: at times it is all.",
            about="input",
        ),
        Misconception(
            "masked-with-zero",
            _attended(share=lambda scores, seen: (scores * seen).softmax(-1)),
            "You set hidden scores to 0. The softmax gives them a share all the same: e⁰ is 1. Set them to "
            "−∞.",
            about="formula",
        ),
        Misconception(
            "masked-after-the-softmax",
            _attended(share=lambda scores, seen: scores.softmax(-1) * seen),
            "You set shares to 0 after the softmax, so the others no longer add up to 1. Hide before it.",
            about="order",
        ),
        Misconception(
            "softmax-over-queries",
            _attended(share=lambda scores, seen: scores.masked_fill(~seen, -1e30).softmax(1)),
            "Your softmax runs over the frames that look. For each of them the shares of the frames that are "
            "looked *at* add up to 1: the last dimension.",
            about="axis",
        ),
        Misconception(
            "not-divided",
            _attended(size=lambda channels: 1.0),
            "You did not divide the scores by the root of the number of channels.",
            about="missing",
        ),
        Misconception(
            "divided-by-channels",
            _attended(size=float),
            "You divided the scores by the number of channels. It is its root.",
            about="root",
        ),
        Misconception(
            "divided-by-root-of-frames",
            lambda x, frames, w_q, w_k, w_v, w_out, seen: _attended(size=lambda channels: frames**0.5)(
                x, frames, w_q, w_k, w_v, w_out, seen
            ),
            "You divided by the root of the number of frames. It is the length of a token that counts: √C.",
            about="input",
        ),
        Misconception(
            "weights-not-transposed",
            _attended(project=lambda tokens, w: tokens @ w),
            "You multiplied by w. A linear layer multiplies by its transpose: `tokens @ w.T`.",
            about="shape",
        ),
        Misconception(
            "no-residual",
            _attended(added=lambda x, y: y),
            "You returned what was attended to, and lost x: add it. Then w_out = 0 changes nothing.",
            about="missing",
        ),
    ],
    alternatives=[_attended(), _attended_place_by_place],
    hints=(
        "Attention does not know what its tokens are. For one place the tokens are its frames, so all "
        "places and all clips together are the batch.",
        "x + softmax(QKᵀ/√C)·V·w_outᵀ, on tokens (B·H·W, F, C).",
        "`x.unflatten(0, (-1, frames))` is (B, F, C, H, W); `.permute(0, 3, 4, 1, 2).flatten(0, 2)` makes "
        "tokens. At the end undo both.",
    ),
    figure=_attention_figure,
    figure_alt="Two squares, six frames by six, white where a changed frame changes a result. All frames: "
    "white "
    "everywhere. Causal: white on and below the diagonal.",
)


# 14.2 Who may look at whom ---------------------------------------------------------------------------


def frames_seen(queries: int, keys: int) -> Tensor:
    """The last rows of the system's mask."""
    return video.causal_mask(keys)[-queries:]


def _drawn_ahead(offset: Callable[[int, int], int]) -> Callable[..., Tensor]:
    def answer(queries: int, keys: int) -> Tensor:
        return torch.arange(queries)[:, None] + offset(queries, keys) >= torch.arange(keys)

    return answer


def _seen_in_loops(queries: int, keys: int) -> Tensor:
    seen = torch.zeros(queries, keys, dtype=torch.bool)
    for row in range(queries):
        seen[row, : keys - queries + row + 1] = True
    return seen


def _aligned(queries: int, keys: int) -> int:
    return keys - queries


def _sizes(queries: tuple[int, int], more: tuple[int, int]) -> Make:
    def make(g: torch.Generator) -> dict[str, Any]:
        drawn = whole(g, *queries)
        return {"queries": drawn, "keys": drawn + whole(g, *more)}

    return make


SEEN = Exercise(
    id="14.2",
    name="frames_seen",
    title="Who may look at whom",
    kind="reproduce",
    difficulty=1,
    minutes=8,
    reference=frames_seen,
    cases=[
        Case("a whole clip", _sizes((4, 6), (0, 0))),
        Case("some frames behind those that are there", _sizes((2, 4), (2, 5))),
        Case("one frame behind many", _sizes((1, 1), (3, 7))),
    ],
    misconceptions=[
        Misconception(
            "aligned-at-the-first",
            _drawn_ahead(lambda queries, keys: 0),
            "Your first query sees the first key alone. The queries are the *last* frames: query i stands "
            "at key keys − queries + i. (PyTorch's `is_causal=True` aligns at the first, too.)",
            about="index",
        ),
        Misconception(
            "not-itself",
            _drawn_ahead(lambda queries, keys: keys - queries - 1),
            "Your frames do not see themselves. They may: the diagonal is True.",
            about="boundary",
        ),
        Misconception(
            "one-too-far",
            _drawn_ahead(lambda queries, keys: keys - queries + 1),
            "Your frames see the next one, too: one too many.",
            about="boundary",
        ),
        Misconception(
            "mask-turned-round",
            lambda queries, keys: ~frames_seen(queries, keys),
            "Yours is True where a frame must *not* look. Here True means: may look.",
            about="swap",
        ),
        Misconception(
            "later-frames",
            lambda queries, keys: frames_seen(queries, keys).flip(0, 1),
            "Your frames look at themselves and at later ones. Causal is the other direction.",
            about="direction",
        ),
        Misconception(
            "comparison-turned-round",
            lambda queries, keys: (
                torch.arange(queries)[:, None] + _aligned(queries, keys) <= torch.arange(keys)
            ),
            "Your comparison is turned round: your frames see themselves and what comes later. Query i sees "
            "key j where j ≤ keys − queries + i.",
            about="direction",
        ),
        Misconception(
            "all-of-them",
            lambda queries, keys: torch.ones(queries, keys).bool(),
            "Your frames see all others, also the later ones.",
            about="missing",
        ),
        Misconception(
            "itself-alone",
            lambda queries, keys: torch.arange(queries)[:, None] + keys - queries == torch.arange(keys),
            "Your frames see themselves alone. They may look at all earlier ones, too.",
            about="missing",
        ),
        Misconception(
            "keys-by-queries",
            lambda queries, keys: frames_seen(queries, keys).T,
            "Your mask has a row for each key. It has a row for each query: (queries, keys).",
            about="shape",
        ),
        Misconception(
            "mask-to-add",
            lambda queries, keys: torch.zeros(queries, keys).masked_fill(
                ~frames_seen(queries, keys), -torch.inf
            ),
            "You gave a mask to be added to scores, with 0 and −∞. Asked for is True and False: whether a "
            "query may look at a key.",
            about="reading",
        ),
    ],
    alternatives=[_drawn_ahead(_aligned), _seen_in_loops],
    hints=(
        "Give every query the number that it has among the keys. Then compare numbers.",
        "Query i has the number keys − queries + i; it sees key j where j ≤ that.",
        "`torch.arange(queries)[:, None] + …` against `torch.arange(keys)`.",
    ),
    figure=lambda reference: _columns(
        [reference(6, 6), reference(2, 6)],
        ["6 queries, 6 keys", "2 queries, 6 keys"],
        ("frame that looks", "frame looked at"),
    ),
    figure_alt="Left: six rows, white on and below the diagonal. Right: two rows, the first with five white "
    "squares of "
    "six, the second with six.",
)


# 14.3 A convolution that starts as nothing -----------------------------------------------------------


def convolve_over_time(x: Tensor, frames: int, weight: Tensor, bias: Tensor) -> Tensor:
    """What `TemporalConv` does with one convolution, without norm and activation."""
    near = video.neighbours(x.unflatten(0, (-1, frames)), causal=True).flatten(0, 1)
    return x + F.conv2d(near, weight.transpose(1, 2).flatten(1)[:, :, None, None], bias)


def _convolved(
    pad: Callable[[Tensor], Tensor] = lambda clips: F.pad(clips, (0, 0, 0, 0, 0, 0, 2, 0)),
    taps: Callable[[Tensor], Tensor] = lambda weight: weight,
    added: Callable[[Tensor, Tensor], Tensor] = torch.add,
    shift: Callable[[Tensor], Tensor] = lambda bias: bias,
    unfold: Callable[[Tensor, int], Tensor] = lambda x, frames: x.unflatten(0, (-1, frames)),
) -> Callable[..., Tensor]:
    """The convolution in plain steps, with a place for each slip."""

    def answer(x: Tensor, frames: int, weight: Tensor, bias: Tensor) -> Tensor:
        clips = unfold(x, frames)
        near, w, length = pad(clips), taps(weight), clips.shape[1]
        y = sum(torch.einsum("oi,bfihw->bfohw", w[:, :, k], near[:, k : k + length]) for k in range(3))
        return added(x, (y + shift(bias)[:, None, None]).reshape(x.shape))

    return answer


def _convolved_by_conv1d(x: Tensor, frames: int, weight: Tensor, bias: Tensor) -> Tensor:
    clips = x.unflatten(0, (-1, frames))
    series = clips.permute(0, 3, 4, 2, 1).flatten(0, 2)  # (B·H·W, C, F)
    y = F.conv1d(F.pad(series, (2, 0)), weight, bias)
    return x + y.unflatten(0, (len(clips), *x.shape[2:])).permute(0, 4, 3, 1, 2).flatten(0, 1)


def _convolved_by_conv3d(x: Tensor, frames: int, weight: Tensor, bias: Tensor) -> Tensor:
    clips = x.unflatten(0, (-1, frames)).transpose(1, 2)  # (B, C, F, H, W)
    y = F.conv3d(F.pad(clips, (0, 0, 0, 0, 2, 0)), weight[..., None, None], bias)
    return x + y.transpose(1, 2).flatten(0, 1)


def _without_borders(x: Tensor, frames: int) -> Tensor:
    """All frames of all clips as one long clip."""
    return x[None]


def _channels_first(x: Tensor, frames: int) -> Tensor:
    """(B, F, C, H, W) whose numbers stand as (B, C, F, H, W)."""
    clips = x.reshape(-1, x.shape[1], frames, *x.shape[2:])
    return clips.transpose(1, 2)


def _mixed_convolution(x: Tensor, frames: int, weight: Tensor, bias: Tensor) -> Tensor:
    clips = _channels_first(x, frames).transpose(1, 2)
    y = F.conv3d(F.pad(clips, (0, 0, 0, 0, 2, 0)), weight[..., None, None], bias)
    return x + y.reshape(x.shape)


def _to_convolve(batch: int, lengths: tuple[int, int], channels: int | None, height: int, width: int) -> Make:
    """As `_features`, for the convolution."""

    def make(g: torch.Generator) -> dict[str, Any]:
        frames = whole(g, *lengths)
        count = frames if channels is None else channels
        return {
            "x": normal(g, batch * frames, count, height, width),
            "frames": frames,
            "weight": normal(g, count, count, 3),
            "bias": normal(g, count),
        }

    return make


def _response_figure(reference: Callable[..., Tensor]) -> Any:
    x, bias = torch.zeros(6, 1, 1, 1), torch.zeros(1)
    x[2] = 1
    weight = torch.tensor([[[0.3, 0.6, 0.0]]])
    lines = [reference(x, 6, each, bias).flatten()[None] for each in (0 * weight, weight)]
    return _columns(lines, ["weight 0", "weight 0.3, 0.6, 0"], ("", "frame"))


CONVOLVE = Exercise(
    id="14.3",
    name="convolve_over_time",
    title="A convolution that starts as nothing",
    kind="implement",
    difficulty=2,
    minutes=15,
    reference=convolve_over_time,
    trains=["weight", "bias"],
    cases=[
        Case("two clips", _to_convolve(2, (4, 5), 3, 2, 3)),
        Case("as many channels as frames", _to_convolve(3, (3, 5), None, 3, 2)),
        Case("one clip", _to_convolve(1, (5, 6), 2, 3, 3)),
    ],
    misconceptions=[
        Misconception(
            "padded-on-both-sides",
            _convolved(pad=lambda clips: F.pad(clips, (0, 0, 0, 0, 0, 0, 1, 1))),
            "You padded one frame on each side, so every frame sees the next one. Causal: two frames of "
            "zeros before the first, none behind the last.",
            about="direction",
        ),
        Misconception(
            "padded-behind",
            _convolved(pad=lambda clips: F.pad(clips, (0, 0, 0, 0, 0, 0, 0, 2))),
            "You put the zeros behind the last frame: your frames see two later ones, and none before.",
            about="direction",
        ),
        Misconception(
            "first-frame-repeated",
            _convolved(pad=lambda clips: torch.cat([clips[:, :1], clips[:, :1], clips], 1)),
            "You repeated the first frame before itself. Zeros stand there.",
            about="boundary",
        ),
        Misconception(
            "kernel-reversed",
            _convolved(taps=lambda weight: weight.flip(2)),
            "You turned the kernel round: weight[..., 2] belongs to the frame itself, weight[..., 0] to the "
            "one two frames before.",
            about="index",
        ),
        Misconception(
            "channels-exchanged",
            _convolved(taps=lambda weight: weight.transpose(0, 1)),
            "You exchanged the channels of the weight: its first dimension is what comes out.",
            about="swap",
        ),
        Misconception(
            "no-residual",
            _convolved(added=lambda x, y: y),
            "You lost x. With weight 0 the layer must change nothing: x + the convolution.",
            about="missing",
        ),
        Misconception(
            "nothing-added",
            lambda x, frames, weight, bias: x.clone(),
            "You gave x back as it was. Only a weight of 0 makes the layer change nothing: take the weight "
            "and the bias that come in, which are not 0 here.",
            about="missing",
        ),
        Misconception(
            "bias-forgotten",
            _convolved(shift=torch.zeros_like),
            "Your result has no bias: b is added to every frame, also where there are zeros before.",
            about="missing",
        ),
        Misconception(
            "itself-alone",
            _convolved(
                pad=lambda clips: torch.cat([0 * clips[:, :2], clips], 1),
                taps=lambda w: w * torch.tensor([0, 0, 1.0]),
            ),
            "Your frames see themselves alone: the two frames before are missing.",
            about="missing",
        ),
        Misconception(
            "clips-not-kept-apart",
            _convolved(unfold=_without_borders),
            "You took the whole batch for one long clip: the first frames of a clip see the last ones of "
            "another.",
            about="batch",
        ),
        Misconception(
            "frames-and-channels-mixed",
            _mixed_convolution,
            "You reshaped to (B, C, F, H, W) at once. The numbers lie as (B, F, C, H, W): take the frames "
            "out first, then transpose.",
            about="axis",
        ),
    ],
    alternatives=[_convolved(), _convolved_by_conv1d, _convolved_by_conv3d],
    hints=(
        "Put two frames of zeros before each clip. Then every frame has two before it.",
        "y_f = x_f + b + Σ_k W_k·x_{f−2+k}, k = 0, 1, 2; what lies before the first frame is 0.",
        "`torch.nn.functional.conv1d` on (B·H·W, C, F), padded with `torch.nn.functional.pad(…, (2, 0))`; or "
        "`conv3d` on (B, C, F, H, W).",
    ),
    figure=_response_figure,
    figure_alt="Two rows of six frames in grey. Weight 0: only frame 2, which was put in, is white. "
    "Weight 0.3, 0.6, 0: frame 3 is grey and frame 4 is dark grey, too.",
)


# 14.4 A time for each frame (debug) ------------------------------------------------------------------

Network = Callable[[Tensor, Tensor], Tensor]


def clip_loss(network: Network, x0: Tensor, noise: Tensor, t: Tensor, path: NoisePath) -> Tensor:
    """The loss of `TextToVideo`, for a network that predicts v and is told t as it is."""
    clean, drawn, level = x0.flatten(0, 1), noise.flatten(0, 1), path(t.flatten())
    x = add_noise(clean, drawn, level).view_as(x0)
    error = (network(x, t) - V.of(clean, drawn, level).view_as(x0)).square().mean((2, 3, 4))
    noisy = (t > 0).to(error)
    return (error * noisy).sum() / noisy.sum()


def _with_a_network(
    answer: Callable[..., Any], path: str, x0: Tensor, noise: Tensor, t: Tensor, gain: Tensor
) -> Any:
    heard: list[dict[str, Tensor]] = []

    def network(x: Tensor, times: Tensor) -> Tensor:
        heard.append({"x": x, "times": times + torch.zeros_like(x[..., 0, 0, 0])})
        before = F.pad(x, (0, 0, 0, 0, 0, 0, 1, 0))[:, :-1]
        return gain[0].to(x) * x + gain[1].to(x) * before

    loss = answer(network, x0, noise, t, PATHS[path]())
    return {"loss": loss, **(heard[-1] if heard else {})} if loss is not None else None


def _by_clip(error: Tensor, noisy: Tensor) -> Tensor:
    return ((error * noisy).sum(1) / noisy.sum(1)).mean()


def _counted(
    told: Callable[[Tensor], Tensor] = lambda t: t,
    noised: Callable[[Tensor], Tensor] = lambda t: t,
    aim: Callable[..., Tensor] = lambda x0, noise, alpha, sigma: alpha * noise - sigma * x0,
    mean: Callable[[Tensor, Tensor], Tensor] = lambda error, noisy: (error * noisy).sum() / noisy.sum(),
    strength: Callable[[Tensor], Tensor] = lambda sigma: sigma,
) -> Callable[..., Tensor]:
    """The loss in plain steps, with a place for each slip."""

    def answer(network: Network, x0: Tensor, noise: Tensor, t: Tensor, path: NoisePath) -> Tensor:
        level = path(noised(t).flatten())
        alpha, sigma = (each.view(*t.shape, 1, 1, 1).to(x0) for each in (level.alpha, level.sigma))
        x = alpha * x0 + strength(sigma) * noise
        error = (network(x, told(t)) - aim(x0, noise, alpha, sigma)).square().mean((2, 3, 4))
        return mean(error, (t > 0).to(error))

    return answer


def _of_chosen(network: Network, x0: Tensor, noise: Tensor, t: Tensor, path: NoisePath) -> Tensor:
    levels = [path(each) for each in t.flatten().tolist()]
    frames = zip(x0.flatten(0, 1), noise.flatten(0, 1), levels, strict=True)
    pairs = [(float(level.alpha), float(level.sigma), a, e) for a, e, level in frames]
    x = torch.stack([alpha * a + sigma * e for alpha, sigma, a, e in pairs]).view_as(x0)
    v = torch.stack([alpha * e - sigma * a for alpha, sigma, a, e in pairs]).view_as(x0)
    return (network(x, t) - v)[t > 0].square().mean()


def _latest(t: Tensor) -> Tensor:
    return t.amax(1, keepdim=True).expand_as(t)


def _noised_clips(path: str, batch: int, frames: int, first: bool) -> Make:
    """Clips whose frames have times of their own; the first one is clean, or some are."""

    def make(g: torch.Generator) -> dict[str, Any]:
        T = PATHS[path]().T
        t = T * (0.2 + 0.7 * torch.rand(batch, frames, generator=g, dtype=torch.float64))
        t[:, 0] = 0
        if not first:  # one clip with two clean frames, another with none
            t[0, 1], t[-1, 0] = 0, 0.5 * T
        if path != "straight":
            t = t.round()
        return {
            "path": path,
            "x0": 1.8 * data(g, batch, frames, 2, 4, 3),  # latents go beyond ±1
            "noise": normal(g, batch, frames, 2, 4, 3),
            "t": t,
            "gain": torch.tensor([number(g, 0.3, 0.7), number(g, 0.2, 0.5)]),
        }

    return make


LOSS = Exercise(
    id="14.4",
    name="clip_loss",
    title="The first frame is ignored",
    kind="debug",
    difficulty=2,
    minutes=12,
    reference=clip_loss,
    call=_with_a_network,
    planted="told-the-noisy-time",
    cases=[
        Case("the first frame is clean", _noised_clips("cosine", 2, 4, first=True)),
        Case("other numbers of clean frames", _noised_clips("linear", 3, 4, first=False)),
        Case("a straight path", _noised_clips("straight", 2, 3, first=False)),
    ],
    misconceptions=[
        Misconception(
            "told-the-noisy-time",
            _counted(told=_latest),
            "Every frame is told the time of the noisiest one. A clean frame that is told so looks like "
            "noise to be removed, and the network learns to mistrust it. Each frame is told its own time.",
            about="level",
        ),
        Misconception(
            "one-level-for-all",
            _counted(noised=_latest),
            "You noised all frames to one level. Each has its own time, and those with time 0 stay clean.",
            about="level",
        ),
        Misconception(
            "one-level-and-time-for-all",
            _counted(noised=_latest, told=_latest),
            "You gave all frames one time. Then the network never learns to go on from clean frames.",
            about="level",
        ),
        Misconception(
            "told-the-mean-time",
            _counted(told=lambda t: t.mean(1, keepdim=True).expand_as(t)),
            "You told all frames the mean of their times. Each is told its own.",
            about="mean",
        ),
        Misconception(
            "clean-frames-counted",
            _counted(mean=lambda error, noisy: error.mean()),
            "You counted clean frames in the loss. No noise is in them, so nobody can guess their v: leave "
            "them out.",
            about="extra",
        ),
        Misconception(
            "divided-by-all-frames",
            _counted(mean=lambda error, noisy: (error * noisy).mean()),
            "You left clean frames out of the sum and divided by all frames. Divide by the noisy ones.",
            about="count",
        ),
        Misconception(
            "mean-of-means",
            _counted(mean=_by_clip),
            "You took the mean of each clip first. Then a noisy frame counts more in a clip with few of "
            "them: take one mean over all noisy frames.",
            about="mean",
        ),
        Misconception(
            "clean-frames-alone",
            _counted(mean=lambda error, noisy: (error * (1 - noisy)).sum() / (1 - noisy).sum()),
            "You counted the clean frames, and left the noisy ones out.",
            about="swap",
        ),
        Misconception(
            "first-frame-left-out",
            _counted(mean=lambda error, noisy: error[:, 1:].mean()),
            "You left out the first frame of each clip. Left out are the clean ones: any frame may have the "
            "time 0, and the first one may have another.",
            about="index",
        ),
        Misconception(
            "noise-for-v",
            _counted(aim=lambda x0, noise, alpha, sigma: noise),
            "You compared with the noise. This network predicts v = α·ε − σ·x₀.",
            about="input",
        ),
        Misconception(
            "picture-for-v",
            _counted(aim=lambda x0, noise, alpha, sigma: x0),
            "You compared with the clean clip. This network predicts v = α·ε − σ·x₀.",
            about="input",
        ),
        Misconception(
            "v-exchanged",
            _counted(aim=lambda x0, noise, alpha, sigma: alpha * x0 - sigma * noise),
            "You exchanged picture and noise in v: it is α·ε − σ·x₀.",
            about="swap",
        ),
        Misconception(
            "v-with-plus",
            _counted(aim=lambda x0, noise, alpha, sigma: alpha * noise + sigma * x0),
            "You added σ·x₀. In v it is subtracted: α·ε − σ·x₀.",
            about="sign",
        ),
        Misconception(
            "variance-for-std",
            _counted(strength=lambda sigma: sigma**2),
            "You multiplied the noise by σ². It is σ.",
            about="root",
        ),
        Misconception(
            "sum-for-mean",
            _counted(mean=lambda error, noisy: (error * noisy).sum()),
            "You summed over the noisy frames. Take the mean.",
            about="mean",
        ),
    ],
    alternatives=[_counted(), _of_chosen],
    hints=(
        "Look at what the network is told about a clean frame. What would you do with a frame of which "
        "somebody says that it is all noise?",
        "x_f = α(t_f)·x₀ + σ(t_f)·ε, told t_f; the loss is the mean of (output − v)² over frames with t_f > "
        "0.",
        "`network(x, t)`: t has a time for each frame already.",
    ),
)


# 14.5 Going on, frame by frame -----------------------------------------------------------------------

Draw = Callable[[Tensor, Level, Tensor], Any]


def film(
    denoiser: Draw,
    first: Tensor,
    frames: int,
    window: int,
    levels: list[Level],
    noises: Callable[[int], Tensor],
) -> Tensor:
    """`clips.film` in its bare form: each frame drawn by DDIM behind those that are there."""
    clip = first[:, None]
    for k in range(1, frames):
        before = clip[:, 1 - window :]

        def ask(x: Tensor, level: Level, condition: Any = None, before: Tensor = before) -> Estimate:
            return Estimate(*denoiser(x, level, before))

        clip = torch.cat([clip, sample(ask, noises(k), levels)[:, None]], 1)
    return clip


def _filmed(
    answer: Callable[..., Any],
    path: str,
    steps: int,
    frames: int,
    window: int,
    first: Tensor,
    noise: Tensor,
    spread: float,
    weights: Tensor,
) -> Any:
    """What was drawn, how often was asked, and how many frames were shown each time."""
    levels, shown = PATHS[path]().levels(steps), []

    def denoiser(x: Tensor, level: Level, before: Tensor) -> Any:
        shown.append(before.shape[1])
        number = before.shape[1]
        mean = (weights[-number:].to(x).view(-1, 1, 1, 1) * before).sum(1) if number else 0 * x
        alpha, sigma = level.like(x)
        x0 = mean + alpha * spread**2 / (alpha**2 * spread**2 + sigma**2) * (x - alpha * mean)
        return x0, (x - alpha * x0) / sigma.where(sigma > 0, 1)  # finite where no noise is left

    made = answer(denoiser, first, frames, window, levels, lambda k: noise[k - 1])
    return None if made is None else {"clip": made, "shown": torch.tensor(shown)}


def _ddim(x0: Tensor, eps: Tensor, now: Level, next: Level) -> Tensor:
    return float(next.alpha) * x0 + float(next.sigma) * eps


def _filming(
    before: Callable[[Tensor, int], Tensor] = lambda clip, window: clip[:, 1 - window :],
    start: Callable[[Any, int, Tensor], Tensor] = lambda noises, k, clip: noises(k),
    step: Callable[[Tensor, Tensor, Level, Level], Tensor] = _ddim,
    numbers: Callable[[int], range] = lambda frames: range(1, frames),
    pairs: Callable[[list[Level]], list[Level]] = lambda levels: levels,
    kept: Callable[[Tensor], Tensor] = lambda clip: clip,
) -> Callable[..., Tensor]:
    """The loop in plain steps, with a place for each slip."""

    def answer(
        denoiser: Draw,
        first: Tensor,
        frames: int,
        window: int,
        levels: list[Level],
        noises: Callable[[int], Tensor],
    ) -> Tensor:
        clip = first[:, None]
        for k in numbers(frames):
            x, there = start(noises, k, clip), before(clip, window)
            for now, next in pairwise(pairs(levels)):
                x0, eps = denoiser(x, now, there)
                x = step(x0, eps, now, next)
            clip = torch.cat([clip, x[:, None]], 1)
        return kept(clip)

    return answer


def _filmed_in_a_list(
    denoiser: Draw,
    first: Tensor,
    frames: int,
    window: int,
    levels: list[Level],
    noises: Callable[[int], Tensor],
) -> Tensor:
    made = [first]
    while len(made) < frames:
        x, there = noises(len(made)), torch.stack(made[max(0, len(made) - window + 1) :], 1)
        for k in range(len(levels) - 1):
            x0, _ = denoiser(x, levels[k], there)
            ratio = levels[k + 1].sigma / levels[k].sigma
            x = ratio.to(x) * x + (levels[k + 1].alpha - ratio * levels[k].alpha).to(x) * x0
        made.append(x)
    return torch.stack(made, 1)


def _noise_around_the_past(
    denoiser: Draw, first: Tensor, frames: int, window: int, levels: list[Level], noises: Any
) -> Any:
    def noisy(x: Tensor, level: Level, before: Tensor) -> Any:
        return denoiser(x, level, add_noise(before, noises(1)[:, None].expand_as(before), level))

    return _filming()(noisy, first, frames, window, levels, noises)


def _past_of_guesses(
    denoiser: Draw,
    first: Tensor,
    frames: int,
    window: int,
    levels: list[Level],
    noises: Callable[[int], Tensor],
) -> Tensor:
    """Frames are drawn with the noise that was predicted left in: one pair too few."""
    return _filming(pairs=lambda levels: levels[:-1])(denoiser, first, frames, window, levels, noises)


def _start_noise_kept(
    denoiser: Draw,
    first: Tensor,
    frames: int,
    window: int,
    levels: list[Level],
    noises: Callable[[int], Tensor],
) -> Tensor:
    begun: list[Tensor] = []

    def start(noises: Callable[[int], Tensor], k: int, clip: Tensor) -> Tensor:
        begun.append(noises(k))
        return begun[-1]

    filming = _filming(start=start, step=lambda x0, eps, now, next: _ddim(x0, begun[-1], now, next))
    return filming(denoiser, first, frames, window, levels, noises)


def _filled_with_the_first(
    denoiser: Draw,
    first: Tensor,
    frames: int,
    window: int,
    levels: list[Level],
    noises: Callable[[int], Tensor],
) -> Tensor:
    def before(clip: Tensor, window: int) -> Tensor:
        missing = max(0, window - 1 - clip.shape[1])
        return torch.cat([clip[:, :1].expand(-1, missing, -1, -1, -1), clip], 1)[:, 1 - window :]

    return _filming(before=before)(denoiser, first, frames, window, levels, noises)


def _to_go_on(path: str, batch: int, frames: tuple[int, int], window: tuple[int, int], *shape: int) -> Make:
    def make(g: torch.Generator) -> dict[str, Any]:
        count, seen = whole(g, *frames), whole(g, *window)
        return {
            "path": path,
            "steps": whole(g, 3, 5),
            "frames": count,
            "window": seen,
            "first": data(g, batch, *shape),
            "noise": normal(g, count + 1, batch, *shape),
            "spread": number(g, 0.3, 0.6),
            "weights": torch.tensor([0.05, -0.1, 0.15, -0.2, 0.25, -0.3, 0.5, -0.4, 0.9]),
        }

    return make


FILM = Exercise(
    id="14.5",
    name="film",
    title="Go on, frame by frame",
    kind="implement",
    difficulty=3,
    minutes=20,
    reference=film,
    call=_filmed,
    cases=[
        Case("two clips, a window of two or three", _to_go_on("cosine", 2, (5, 6), (2, 3), 1, 4, 5)),
        Case("latents, a window of four", _to_go_on("linear", 2, (7, 8), (4, 4), 4, 3, 3)),
        Case("a window longer than the clip", _to_go_on("straight", 3, (4, 5), (7, 8), 2, 3, 4)),
    ],
    misconceptions=[
        Misconception(
            "window-of-the-past",
            _filming(before=lambda clip, window: clip[:, -window:]),
            "You showed `window` frames before the new one. The new frame is one of the window: show one "
            "less.",
            about="count",
        ),
        Misconception(
            "all-that-is-there",
            _filming(before=lambda clip, window: clip),
            "You showed all frames so far. The network was trained on windows: show the last window − 1.",
            about="count",
        ),
        Misconception(
            "first-frames-of-all",
            _filming(before=lambda clip, window: clip[:, : window - 1]),
            "You showed the first frames again and again. Show the last ones.",
            about="index",
        ),
        Misconception(
            "last-frame-alone",
            _filming(before=lambda clip, window: clip[:, -1:]),
            "You showed the last frame alone. The window has room for window − 1 frames.",
            about="count",
        ),
        Misconception(
            "past-reversed",
            _filming(before=lambda clip, window: clip[:, 1 - window :].flip(1)),
            "You showed the frames in reversed order. The latest one stands last.",
            about="order",
        ),
        Misconception(
            "past-noised",
            _noise_around_the_past,
            "You noised the frames before. They are shown clean, and the network was told so in training.",
            about="level",
        ),
        Misconception(
            "one-noise-for-all",
            _filming(start=lambda noises, k, clip: noises(1)),
            "All your frames begin with the same noise. Frame k begins with noises(k).",
            about="index",
        ),
        Misconception(
            "noises-one-late",
            _filming(start=lambda noises, k, clip: noises(k + 1)),
            "Your noises are one frame late. The given frame is number 0, the first that you draw is number "
            "1: noises(1).",
            about="index",
        ),
        Misconception(
            "noises-one-early",
            _filming(start=lambda noises, k, clip: noises(k - 1)),
            "Your noises are one frame early. Frame k begins with noises(k), and the first that you draw is "
            "number 1; the given frame needs no noise.",
            about="index",
        ),
        Misconception(
            "noise-of-the-start-kept",
            _start_noise_kept,
            "You put the noise that the frame began with into every step. A step takes the noise that the "
            "denoiser predicts there.",
            about="input",
        ),
        Misconception(
            "filled-with-the-first",
            _filled_with_the_first,
            "You filled the window up with copies of the first frame. Show as many frames as there are.",
            about="extra",
        ),
        Misconception(
            "from-the-last-frame",
            _filming(start=lambda noises, k, clip: clip[:, -1]),
            "You began with the last frame in place of noise. At the first level x is noise; what was there "
            "is shown as `before`.",
            about="input",
        ),
        Misconception(
            "level-not-changed",
            _filming(step=lambda x0, eps, now, next: float(now.alpha) * x0 + float(now.sigma) * eps),
            "Your frames are still the noise that they began with: the level at which you ask is the one at "
            "which you put the guess together. Ask at the level where you are; the step goes to the next.",
            about="level",
        ),
        Misconception(
            "guess-alone",
            _filming(step=lambda x0, eps, now, next: x0),
            "You went on with the guess x0 alone, without noise. A step of DDIM is α'·x0 + σ'·eps.",
            about="missing",
        ),
        Misconception(
            "one-level-short",
            _past_of_guesses,
            "Your frames still have noise: you stopped one level too early.",
            about="count",
        ),
        Misconception(
            "one-frame-too-many",
            _filming(numbers=lambda frames: range(1, frames + 1)),
            "Your clip has one frame too many: the given frame counts as well.",
            about="count",
        ),
        Misconception(
            "first-left-out",
            _filming(kept=lambda clip: clip[:, 1:]),
            "The given frame is missing from your clip.",
            about="missing",
        ),
    ],
    alternatives=[_filming(), _filmed_in_a_list],
    hints=(
        "Two loops: the outer one over frames, the inner one over levels. The inner one is lesson 8.",
        "x ← α'·x₀ + σ'·ε with (x₀, ε) = denoiser(x, level, before); before: the last window − 1 frames.",
        "`clip = first[:, None]`, and `clip = torch.cat([clip, x[:, None]], 1)` at the end of each round.",
    ),
)


# 14.6 What time costs --------------------------------------------------------------------------------


def attention_pairs(frames: int, places: int, causal: bool) -> dict[str, int]:
    """Pairs of tokens for which attention makes a score; a causal mask hides those of later frames."""
    over_time = frames * (frames + 1) // 2 if causal else frames**2
    return {"joint": places**2 * over_time, "factorised": frames * places**2 + places * over_time}


def _pairs(
    joint: Callable[[int, int, int], int] = lambda f, n, over: n * n * over,
    factorised: Callable[[int, int, int], int] = lambda f, n, over: f * n * n + n * over,
    over_time: Callable[[int], int] = lambda f: f * (f + 1) // 2,
) -> Callable[..., dict[str, int]]:
    def answer(frames: int, places: int, causal: bool) -> dict[str, int]:
        over = over_time(frames) if causal else frames**2
        return {"joint": joint(frames, places, over), "factorised": factorised(frames, places, over)}

    return answer


def _triangle(count: int) -> int:
    return count * (count + 1) // 2


def _pairs_counted(frames: int, places: int, causal: bool) -> dict[str, int]:
    seen = torch.ones(frames, frames)
    over = int((seen.tril() if causal else seen).sum())
    return {
        "joint": over * places**2,
        "factorised": sum(places * places for _ in range(frames)) + places * over,
    }


def _clip_sizes(frames: tuple[int, int], places: tuple[int, int], causal: bool) -> Make:
    def make(g: torch.Generator) -> dict[str, Any]:
        return {"frames": whole(g, *frames), "places": whole(g, *places), "causal": causal}

    return make


COST = Exercise(
    id="14.6",
    name="attention_pairs",
    title="What time costs",
    kind="reproduce",
    difficulty=1,
    minutes=8,
    reference=attention_pairs,
    cases=[
        Case("all frames see all", _clip_sizes((3, 6), (7, 20), causal=False)),
        Case("causal", _clip_sizes((3, 6), (7, 20), causal=True)),
        Case("a long clip of small frames", _clip_sizes((20, 40), (4, 9), causal=True)),
        Case("one frame", _clip_sizes((1, 1), (7, 20), causal=False)),
    ],
    misconceptions=[
        Misconception(
            "causal-ignored",
            lambda frames, places, causal: attention_pairs(frames, places, False),
            "Your counts are the same with and without the mask. Causal frames see themselves and earlier "
            "ones: F(F + 1)/2 pairs of frames.",
            about="missing",
        ),
        Misconception(
            "half-of-the-square",
            _pairs(over_time=lambda f: f * f // 2),
            "You halved F². The diagonal belongs to what is seen: F(F + 1)/2.",
            about="count",
        ),
        Misconception(
            "not-itself",
            _pairs(over_time=lambda f: f * (f - 1) // 2),
            "You left out that a frame sees itself: F(F + 1)/2, not F(F − 1)/2.",
            about="boundary",
        ),
        Misconception(
            "time-left-out",
            _pairs(factorised=lambda f, n, over: f * n * n),
            "The second half of factorised attention is missing: each of N places looks over time.",
            about="missing",
        ),
        Misconception(
            "space-left-out",
            _pairs(factorised=lambda f, n, over: n * over),
            "The first half of factorised attention is missing: in each of F frames N places look at N.",
            about="missing",
        ),
        Misconception(
            "one-place",
            _pairs(factorised=lambda f, n, over: f * n * n + over),
            "You counted attention over time once. Every one of the N places has its own.",
            about="factor",
        ),
        Misconception(
            "one-frame",
            _pairs(factorised=lambda f, n, over: n * n + n * over),
            "You counted attention in space once. Every one of the F frames has its own.",
            about="factor",
        ),
        Misconception(
            "tokens-not-pairs",
            _pairs(joint=lambda f, n, over: f * n),
            "You counted tokens. Each of the F·N tokens looks at many: count pairs.",
            about="reading",
        ),
        Misconception(
            "triangle-of-tokens",
            lambda frames, places, causal: {
                **attention_pairs(frames, places, causal),
                "joint": _triangle(frames * places) if causal else (frames * places) ** 2,
            },
            "You hid later *tokens*. Causal is meant of frames: inside a frame all places see all.",
            about="reading",
        ),
        Misconception(
            "half-of-all-tokens",
            lambda frames, places, causal: {
                **attention_pairs(frames, places, causal),
                "joint": (frames * places) ** 2 // (2 if causal else 1),
            },
            "You halved the pairs of all tokens. A causal mask leaves more: inside a frame all places see "
            "all, so it is N²·F(F + 1)/2.",
            about="count",
        ),
        Misconception(
            "itself-counted-once",
            _pairs(factorised=lambda f, n, over: f * n * n + n * over - f * n),
            "You counted a place with itself once. Attention in space and attention over time are two "
            "layers, and it is in both.",
            about="count",
        ),
        Misconception(
            "places-not-squared",
            _pairs(joint=lambda f, n, over: n * over),
            "In joint attention a place looks at *all* places of a frame, not at itself alone: N² for each "
            "pair of frames.",
            about="factor",
        ),
        Misconception(
            "exchanged",
            lambda frames, places, causal: dict(
                zip(("factorised", "joint"), attention_pairs(frames, places, causal).values(), strict=True)
            ),
            "You exchanged the two counts: joint is the one where every token looks at every other.",
            about="swap",
        ),
    ],
    alternatives=[_pairs(), _pairs_counted],
    hints=(
        "Count who looks at whom: first inside one frame, then for one place over time.",
        "Joint: N²·P, factorised: F·N² + N·P, where P is the number of pairs of frames: F² or F(F + 1)/2.",
        "`over_time = frames * (frames + 1) // 2 if causal else frames**2`.",
    ),
)

EXERCISES = [ATTEND, SEEN, CONVOLVE, LOSS, FILM, COST]
