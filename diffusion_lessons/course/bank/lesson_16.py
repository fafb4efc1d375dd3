"""Lesson 16, text conditioning: merges, the contrastive loss, cross-attention, captions that are dropped."""

import math
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from diffusion_lessons import conditions
from diffusion_lessons.course.bank import figures
from diffusion_lessons.course.bank.inputs import blobs, normal, number, several, whole
from diffusion_lessons.course.exercises.exercise import Case, Exercise, Misconception
from diffusion_lessons.data.shapes import COLOURS, SHAPES
from diffusion_lessons.data.tokenizer import Tokenizer
from diffusion_lessons.networks.attention import attend
from diffusion_lessons.networks.clip import LARGEST_SCALE
from diffusion_lessons.networks.clip import contrastive_loss as symmetric
from diffusion_lessons.paths import Level, add_noise
from diffusion_lessons.targets import Estimate
from diffusion_lessons.training.recipe import PATHS

Make = Callable[[torch.Generator], dict[str, Any]]
Pair = tuple[str, str]


# 16.1 Merges ----------------------------------------------------------------------------------------


def learn_merges(counts: dict[str, int], n: int) -> list[Pair]:
    """What `Tokenizer.train` learns from words that occur so often."""
    texts = [word for word, times in counts.items() for _ in range(times)]
    return list(Tokenizer.train(texts, len(Tokenizer()) + n).merges)


def _letters(word: str) -> list[str]:
    return [*word[:-1], word[-1] + "</w>"]


def _joined(parts: list[str], pair: Pair) -> list[str]:
    out: list[str] = []
    for part in parts:
        if out and (out[-1], part) == pair:
            out[-1] += part
        else:
            out.append(part)
    return out


def _joined_from_the_right(parts: list[str], pair: Pair) -> list[str]:
    out: list[str] = []
    for part in reversed(parts):
        if out and (part, out[0]) == pair:
            out[0] = part + out[0]
        else:
            out.insert(0, part)
    return out


def _joined_where_letters_meet(parts: list[str], pair: Pair) -> list[str]:
    """The pair as text, a blank between its parts, inside of longer parts as well."""
    return " ".join(parts).replace(" ".join(pair), "".join(pair)).split(" ")


def _joined_once(parts: list[str], pair: Pair) -> list[str]:
    """The first place alone."""
    for i, two in enumerate(pairwise(parts)):
        if two == pair:
            return [*parts[:i], "".join(pair), *parts[i + 2 :]]
    return parts


def _merging(
    spell: Callable[[str], list[str]] = _letters,
    weigh: Callable[[int], int] = lambda times: times,
    best: Callable[[Counter[Pair]], Pair] = lambda seen: min(seen, key=lambda pair: (-seen[pair], pair)),
    join: Callable[[list[str], Pair], list[str]] = _joined,
    pairs: Callable[[list[str]], Any] = pairwise,
    result: Callable[[Pair], Any] = lambda pair: pair,
) -> Callable[[dict[str, int], int], list[Any]]:
    """The training in plain steps, with a place for each slip."""

    def answer(counts: dict[str, int], n: int) -> list[Any]:
        words = {word: spell(word) for word in counts}
        merges: list[Any] = []
        for _ in range(n):
            seen: Counter[Pair] = Counter()
            for word, parts in words.items():
                for pair in pairs(parts):
                    seen[pair] += weigh(counts[word])
            if not seen:
                break
            found = best(seen)
            merges.append(result(found))
            words = {word: join(parts, found) for word, parts in words.items()}
        return merges

    return answer


def _merged_by_text(counts: dict[str, int], n: int) -> list[Pair]:
    """The same on strings, a blank between two parts."""
    words = {" ".join(_letters(word)): times for word, times in counts.items()}
    merges: list[Pair] = []
    while len(merges) < n:
        seen: dict[Pair, int] = {}
        for word, times in words.items():
            parts = word.split(" ")
            for i in range(1, len(parts)):
                seen[parts[i - 1], parts[i]] = seen.get((parts[i - 1], parts[i]), 0) + times
        if not seen:
            return merges
        merges.append(sorted(seen, key=lambda pair: (-seen[pair], *pair))[0])
        words = {" ".join(_joined(word.split(" "), merges[-1])): times for word, times in words.items()}
    return merges


def _spelt_with_an_end(word: str) -> list[str]:
    return [*word, "</w>"]


def _words_of(
    pool: tuple[str, ...], many: tuple[int, int], n: tuple[int, int], most: int = 30, also: str = ""
) -> Make:
    """Some words of a pool, and perhaps one more, with counts from 2 on; and a number of merges."""

    def make(g: torch.Generator) -> dict[str, Any]:
        chosen = [also] * bool(also) + [pool[i] for i in several(g, whole(g, *many), 0, len(pool) - 1)]
        times = several(g, len(chosen), 2, most)
        return {"counts": dict(zip(chosen, times, strict=True)), "n": whole(g, *n)}

    return make


def _merge_figure(reference: Callable[..., Any]) -> Any:
    from matplotlib import pyplot

    counts = {"red": 9, "green": 8, "left": 6, "right": 6, "circle": 5, "purple": 4}
    parts = {word: _letters(word) for word in counts}
    lengths = [[len(each) for each in parts.values()]]
    for pair in reference(counts, 16):
        parts = {word: _joined(each, pair) for word, each in parts.items()}
        lengths.append([len(each) for each in parts.values()])
    figure, axis = pyplot.subplots(figsize=(5.4, 2.5), layout="constrained")
    for word, line in zip(counts, zip(*lengths, strict=True), strict=True):
        axis.plot(line, drawstyle="steps-post", label=word)
    axis.set(xlabel="merges", ylabel="tokens of the word", ylim=0)
    axis.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


WORDS = (*COLOURS, *SHAPES, "small", "large", "left", "right", "above", "below", "of", "and", "two", "three")
SIMILAR = ("lower", "low", "lowest", "newer", "new", "newest", "wider", "wide", "widest", "slow", "slower")
TWICE = ("murmur", "bonbon", "tartar", "cancan", "pompom", "couscous", "beriberi")
THRICE = ("brrrm", "grrrs", "hmmmmp", "oooh", "aaah", "pssst", "zzzip", "shhhe")

MERGES = Exercise(
    id="16.1",
    name="learn_merges",
    title="Learn to spell in pieces",
    kind="implement",
    difficulty=2,
    minutes=20,
    reference=learn_merges,
    cases=[
        Case("a few words of captions, some merges", _words_of(WORDS, (7, 9), (8, 12))),
        Case("words that share beginnings and ends", _words_of(SIMILAR, (6, 8), (7, 10))),
        Case("pairs that stand in a word more than once", _words_of(TWICE, (4, 6), (5, 7))),
        Case("the same letter three times in a row", _words_of(THRICE, (4, 6), (6, 9))),
        Case("more merges than there are pairs", _words_of(WORDS, (3, 4), (60, 70))),
        Case("words that are equally frequent", _words_of(WORDS, (9, 11), (6, 8), most=14)),
        Case("a word of one letter among others", _words_of(WORDS, (4, 5), (5, 7), also="a")),
    ],
    misconceptions=[
        Misconception(
            "words-counted-once",
            _merging(weigh=lambda times: 1),
            "You counted a pair once for each word. A word that occurs nine times has its pairs nine times: "
            "add counts[word].",
            about="factor",
        ),
        Misconception(
            "pairs-counted-in-the-letters-alone",
            lambda counts, n: _from_letters(counts, n),
            "You counted the pairs once, in the letters, and took the n most frequent. After a merge the "
            "neighbours are others: count anew in every round.",
            about="order",
        ),
        Misconception(
            "word-end-forgotten",
            _merging(spell=list),
            "Your words end without a mark. A word's last letter carries it, as in 'd</w>': without the mark "
            "'red' in 'red' and in 'reduce' would be the same token.",
            about="missing",
        ),
        Misconception(
            "word-end-apart",
            _merging(spell=_spelt_with_an_end),
            "You made '</w>' a part of its own. It belongs to the last letter: 'd</w>' is one part from the "
            "beginning.",
            about="extra",
        ),
        Misconception(
            "last-of-equals",
            _merging(best=lambda seen: max(seen, key=lambda pair: (seen[pair], pair))),
            "Of pairs that are equally frequent you took the last one in the alphabet. The first one is "
            "asked for.",
            about="direction",
        ),
        Misconception(
            "first-seen-of-equals",
            _merging(best=lambda seen: max(seen, key=lambda pair: seen[pair])),
            "Of pairs that are equally frequent you took the one that was seen first. That hangs on the "
            "order "
            "of the words; the first one in the alphabet is asked for.",
            about="order",
        ),
        Misconception(
            "rarest-pair",
            _merging(best=lambda seen: min(seen, key=lambda pair: (seen[pair], pair))),
            "You merged the rarest pair. The most frequent one saves the most tokens.",
            about="direction",
        ),
        Misconception(
            "merged-once-in-a-word",
            _merging(join=_joined_once),
            "You merged a pair only where it first stands in a word. It becomes one part wherever it stands: "
            "'cancan' has 'ca' twice.",
            about="missing",
        ),
        Misconception(
            "joined-from-the-right",
            _merging(join=_joined_from_the_right),
            "You merged from right to left. Of three equal parts in a row the first two become one: go from "
            "left to right.",
            about="direction",
        ),
        Misconception(
            "joined-inside-of-parts",
            _merging(join=_joined_where_letters_meet),
            "You joined wherever the letters meet, inside of longer parts, too. The part 're' ends with "
            "e, but "
            "it is not the part 'e': compare whole parts.",
            about="reading",
        ),
        Misconception(
            "counts-of-all-rounds",
            lambda counts, n: _counted_on(counts, n),
            "You added the counts of a round to those of the rounds before. After a merge the neighbours are "
            "others: begin each round with no counts.",
            about="extra",
        ),
        Misconception(
            "once-in-a-word",
            _merging(pairs=lambda parts: set(pairwise(parts))),
            "You counted a pair once in each word, though it may stand there twice: 'cancan' has 'ca' twice.",
            about="missing",
        ),
        Misconception(
            "joined-in-the-result",
            _merging(result=lambda pair: "".join(pair)),
            "You returned the new parts. Asked are the pairs that were merged, such as ('r', 'e').",
            about="reading",
        ),
        Misconception(
            "any-two-parts",
            _merging(pairs=lambda parts: [(a, b) for i, a in enumerate(parts) for b in parts[i + 1 :]]),
            "You counted any two parts of a word as a pair. Only neighbours can be merged.",
            about="input",
        ),
    ],
    alternatives=[_merging(), _merged_by_text],
    hints=(
        "Keep each word as a list of parts. A round has three steps: count neighbours, choose the most "
        "frequent pair, put it together wherever it stands.",
        "count(a, b) = Σ over words of counts[word] · (how often a stands right before b). The choice is the "
        "least of (−count, pair).",
        "`words = {word: [*word[:-1], word[-1] + '</w>'] …}`, then `for _ in range(n):` a `Counter()`, a "
        "`min(…, key=…)`, and a loop that builds each list anew.",
    ),
    figure=_merge_figure,
    figure_alt="The number of tokens of six words over sixteen merges. Each falls in steps; red is the "
    "first to be "
    "one token, purple still has several.",
)


def _counted_on(counts: dict[str, int], n: int) -> list[Pair]:
    """Counts that are never begun anew; what is merged is taken out of them."""
    words, seen, merges = {word: _letters(word) for word in counts}, Counter[Pair](), list[Pair]()
    for _ in range(n):
        for word, parts in words.items():
            for pair in pairwise(parts):
                seen[pair] += counts[word]
        if not seen:
            break
        merges.append(min(seen, key=lambda pair: (-seen[pair], pair)))
        del seen[merges[-1]]
        words = {word: _joined(parts, merges[-1]) for word, parts in words.items()}
    return merges


def _from_letters(counts: dict[str, int], n: int) -> list[Pair]:
    seen: Counter[Pair] = Counter()
    for word, times in counts.items():
        for pair in pairwise(_letters(word)):
            seen[pair] += times
    return sorted(seen, key=lambda pair: (-seen[pair], pair))[:n]


# 16.2 The contrastive loss --------------------------------------------------------------------------


def contrastive_loss(image: Tensor, text: Tensor, log_scale: Tensor) -> Tensor:
    """`networks.clip.contrastive_loss` of the logits that `TwoTowers` makes."""
    scale = log_scale.exp().clamp(max=LARGEST_SCALE)
    return symmetric(scale * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T)


def _both_ways(logits: Tensor) -> Tensor:
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def _contrast(
    scale: Callable[[Tensor], Tensor] = lambda log_scale: log_scale.exp().clamp(max=100),
    unit: Callable[[Tensor], Tensor] = lambda x: x / x.norm(dim=1, keepdim=True),
    loss: Callable[[Tensor], Tensor] = _both_ways,
) -> Callable[..., Tensor]:
    """The loss in plain steps, with a place for each slip."""
    return lambda image, text, log_scale: loss(scale(log_scale) * unit(image) @ unit(text).T)


def _rows_alone(logits: Tensor) -> Tensor:
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


def _by_log_softmax(logits: Tensor) -> Tensor:
    own = logits.diagonal()
    rows, columns = logits.logsumexp(1) - own, logits.logsumexp(0) - own
    return (rows.mean() + columns.mean()) / 2


def _mean_first(logits: Tensor) -> Tensor:
    rows, columns = (logits.softmax(dim).diagonal().mean().log() for dim in (1, 0))
    return -(rows + columns) / 2


def _own_left_out(logits: Tensor) -> Tensor:
    own = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    others = logits.masked_fill(own, -torch.inf)
    return (others.logsumexp(1) + others.logsumexp(0)).mean() / 2 - logits.diagonal().mean()


def _vectors(batch: tuple[int, int], width: tuple[int, int], scale: tuple[float, float]) -> Make:
    """Pairs of vectors that are somewhat alike, of several lengths; the logarithm of a scale."""

    def make(g: torch.Generator) -> dict[str, Any]:
        n, d = whole(g, *batch), whole(g, *width)
        image = normal(g, n, d)
        text = (0.6 * image + normal(g, n, d)) * (0.5 + 2 * torch.rand(n, 1, generator=g))
        return {"image": image, "text": text, "log_scale": torch.tensor(number(g, *scale))}

    return make


def _contrast_figure(reference: Callable[..., Tensor]) -> Any:
    from matplotlib import pyplot

    image = figures.noise(32, 16)
    texts = {"alike": image + 0.3 * figures.noise(32, 16, seed=1), "strangers": figures.noise(32, 16, seed=2)}
    scales = torch.linspace(0, 5, 21)
    figure, axis = pyplot.subplots(figsize=(4.8, 2.4), layout="constrained")
    for (name, text), mark in zip(texts.items(), ("o-", "s--"), strict=True):
        axis.plot(scales, [float(reference(image, text, each)) for each in scales], mark, ms=3, label=name)
    axis.axhline(math.log(32), color="grey", lw=1)
    axis.set(xlabel="log_scale", ylabel="loss", ylim=(0, 12))
    axis.legend(frameon=False)
    return figure


CONTRAST = Exercise(
    id="16.2",
    name="contrastive_loss",
    title="Find your own caption",
    kind="reproduce",
    difficulty=2,
    minutes=12,
    reference=contrastive_loss,
    trains=("image", "text", "log_scale"),
    cases=[
        Case("a few pairs, the scale that CLIP begins with", _vectors((5, 7), (8, 11), (2.6, 2.7))),
        Case("more pairs than entries", _vectors((13, 17), (4, 6), (0.5, 1.5))),
        Case("a scale that would be above 100", _vectors((6, 9), (9, 12), (4.9, 5.3))),
        Case("two pairs, scale about 1", _vectors((2, 2), (5, 7), (-0.2, 0.2))),
    ],
    misconceptions=[
        Misconception(
            "pictures-alone",
            _contrast(loss=_rows_alone),
            "You let each picture find its text, and that is half of it. Each text has to find its picture, "
            "too: a second cross-entropy, on logits.T, and the mean of both.",
            about="missing",
        ),
        Misconception(
            "texts-alone",
            _contrast(loss=lambda logits: _rows_alone(logits.T)),
            "You let each text find its picture, and that is half of it. Each picture has to find its text, "
            "too: a second cross-entropy, and the mean of both.",
            about="missing",
        ),
        Misconception(
            "lengths-left-in",
            _contrast(unit=lambda x: x),
            "You compared vectors as they came. A long one would be near everybody: bring each to length 1, "
            "so that the product is the cosine.",
            about="missing",
        ),
        Misconception(
            "pictures-alone-to-length-1",
            lambda image, text, log_scale: _both_ways(
                log_scale.exp().clamp(max=100) * F.normalize(image, dim=1) @ text.T
            ),
            "You brought the vectors of the pictures to length 1, and not those of the texts. A cosine needs "
            "both.",
            about="missing",
        ),
        Misconception(
            "columns-to-length-1",
            _contrast(unit=lambda x: x / x.norm(dim=0, keepdim=True)),
            "You divided each column by its length. It is each vector, a row, that gets length 1.",
            about="axis",
        ),
        Misconception(
            "scale-unbounded",
            _contrast(scale=lambda log_scale: log_scale.exp()),
            "Your scale can grow without end. It is held to at most 100; without that, training can end in "
            "NaN.",
            about="missing",
        ),
        Misconception(
            "logarithm-as-scale",
            _contrast(scale=lambda log_scale: log_scale.clamp(max=100)),
            "You multiplied by log_scale. The scale is e to the power of it: always positive, whatever is "
            "learnt.",
            about="formula",
        ),
        Misconception(
            "divided-by-the-scale",
            _contrast(scale=lambda log_scale: 1 / log_scale.exp().clamp(max=100)),
            "You divided the cosines by the scale. They are multiplied by it; a *temperature* would divide.",
            about="direction",
        ),
        Misconception(
            "sum-of-both",
            _contrast(loss=lambda logits: 2 * _both_ways(logits)),
            "You added the two cross-entropies. Their mean is asked for.",
            about="mean",
        ),
        Misconception(
            "each-pair-on-its-own",
            _contrast(
                loss=lambda logits: F.binary_cross_entropy_with_logits(
                    logits, torch.eye(len(logits), device=logits.device)
                )
            ),
            "You asked of each pair alone whether it belongs together (that is another loss, of SigLIP). "
            "Here "
            "a picture chooses among all texts: a cross-entropy over a row, and one over a column.",
            about="formula",
        ),
        Misconception(
            "no-competition",
            _contrast(loss=lambda logits: -logits.diagonal().mean()),
            "You drew each pair together, and nothing apart. Then all vectors become one. The others of the "
            "batch stand in the softmax.",
            about="missing",
        ),
        Misconception(
            "mean-before-the-logarithm",
            _contrast(loss=_mean_first),
            "You took the logarithm of a mean of probabilities. Each pair has its own −log: first the "
            "logarithm, then the mean.",
            about="order",
        ),
        Misconception(
            "one-softmax-over-all",
            _contrast(loss=lambda logits: logits.logsumexp((0, 1)) - logits.diagonal().mean()),
            "Your softmax runs over all B² logits at once. A picture chooses among the texts of its row, a "
            "text among the pictures of its column.",
            about="axis",
        ),
        Misconception(
            "own-left-out-of-the-sum",
            _contrast(loss=_own_left_out),
            "You left the own text out of the sum below the fraction. A softmax sums over all answers, the "
            "right one too.",
            about="missing",
        ),
        Misconception(
            "summed-over-the-batch",
            _contrast(loss=lambda logits: len(logits) * _both_ways(logits)),
            "You summed over the batch. The loss is a mean over the pairs.",
            about="mean",
        ),
    ],
    alternatives=[_contrast(), _contrast(loss=_by_log_softmax)],
    hints=(
        "A picture takes part in a test with as many answers as there are texts in the batch, and its own is "
        "the right one. So does each text.",
        "logits = min(e^log_scale, 100) · cos(image_i, text_j); the loss is the mean of the cross-entropy of "
        "its rows and that of its columns, the right class of i being i.",
        "`F.normalize(…, dim=-1)` twice, `logits = … @ ….T`, `own = torch.arange(len(logits))`, two "
        "`F.cross_entropy`.",
    ),
    figure=_contrast_figure,
    figure_alt="The loss of 32 pairs over log_scale, with a line at log 32. Of pairs that are alike it falls "
    "from below the line to nearly 0; of strangers it begins at the line and rises out of the figure.",
)


# 16.3 Cross-attention -------------------------------------------------------------------------------


def cross_attention(
    x: Tensor, context: Tensor, seen: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor, heads: int
) -> tuple[Tensor, Tensor]:
    """`networks.attention.attend`, and the maps beside it."""
    query, key, value = F.linear(x, w_q), F.linear(context, w_k), F.linear(context, w_v)
    y = attend(query, key, value, heads, seen[:, None, None, :])
    q, k = (each.unflatten(2, (heads, -1)).transpose(1, 2) for each in (query, key))
    scores = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).masked_fill(~seen[:, None, None, :], -torch.inf)
    return y, scores.softmax(-1)


def _transposed(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(2, (heads, -1)).transpose(1, 2)


def _hidden(scores: Tensor, seen: Tensor) -> Tensor:
    return scores.masked_fill(~seen[:, None, None, :], -torch.inf)


def _looking(
    split: Callable[[Tensor, int], Tensor] = _transposed,
    scale: Callable[[Tensor, int], float] = lambda q, heads: q.shape[-1] ** -0.5,
    hide: Callable[[Tensor, Tensor], Tensor] = _hidden,
    weigh: Callable[[Tensor, Tensor], Tensor] = lambda scores, seen: scores.softmax(-1),
    project: Callable[[Tensor, Tensor], Tensor] = lambda x, w: x @ w.T,
    join: Callable[[Tensor, tuple[int, ...]], Tensor] = lambda y, shape: y.transpose(1, 2).flatten(2),
    result: Callable[[Tensor, Tensor], Any] = lambda y, maps: (y, maps),
    keys_for_values: bool = False,
) -> Callable[..., Any]:
    """Cross-attention in plain steps, with a place for each slip."""

    def answer(
        x: Tensor, context: Tensor, seen: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor, heads: int
    ) -> Any:
        q, k = split(project(x, w_q), heads), split(context @ w_k.T, heads)
        v = k if keys_for_values else split(context @ w_v.T, heads)
        maps = weigh(hide(q @ k.transpose(-2, -1) * scale(q, heads), seen), seen)
        return result(join(maps @ v, x.shape), maps)

    return answer


def _viewed(x: Tensor, heads: int) -> Tensor:
    return x.reshape(len(x), heads, x.shape[1], -1)


def _head_by_head(
    x: Tensor, context: Tensor, seen: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor, heads: int
) -> tuple[Tensor, Tensor]:
    width = x.shape[2] // heads
    parts, maps = [], []
    for h in range(heads):
        rows = slice(h * width, (h + 1) * width)
        q, k, v = x @ w_q[rows].T, context @ w_k[rows].T, context @ w_v[rows].T
        scores = torch.einsum("bnd,bld->bnl", q, k) / math.sqrt(width)
        exps = (scores - scores.amax(-1, keepdim=True)).exp() * seen[:, None, :]
        maps.append(exps / exps.sum(-1, keepdim=True))
        parts.append(maps[-1] @ v)
    return torch.cat(parts, 2), torch.stack(maps, 1)


def _zeroed(maps: Tensor, seen: Tensor) -> Tensor:
    return maps.softmax(-1) * seen[:, None, None, :]


def _texts(
    pictures: int, heads: tuple[int, int], width: tuple[int, int], positions: int, tokens: int, all_seen: bool
) -> Make:
    """Places and tokens with weights; the texts end at several places, or all their tokens are seen."""

    def make(g: torch.Generator) -> dict[str, Any]:
        count, each = whole(g, *heads), whole(g, *width)
        channels, told = count * each, count * each + whole(g, 1, 3)
        ends = torch.tensor(several(g, pictures, 2, tokens - 1)) if not all_seen else tokens
        seen = torch.arange(tokens).expand(pictures, -1) < torch.as_tensor(ends).reshape(-1, 1)
        return {
            "x": normal(g, pictures, positions, channels),
            "context": normal(g, pictures, tokens, told),
            "seen": seen,
            "w_q": normal(g, channels, channels) / channels**0.5,
            "w_k": 1.5 * normal(g, channels, told) / told**0.5,
            "w_v": normal(g, channels, told) / told**0.5,
            "heads": count,
        }

    return make


def _look_figure(reference: Callable[..., Any]) -> Any:
    from matplotlib import pyplot

    eye = torch.eye(6)
    x, context = 3 * eye[None], torch.cat([3 * eye.flip(0), figures.noise(2, 6)])[None]
    seen = torch.arange(8)[None] < 6
    _, maps = reference(x, context, seen, eye, eye, eye, 1)
    figure, axis = pyplot.subplots(figsize=(3.4, 2.6), layout="constrained")
    axis.imshow(maps[0, 0].numpy(), cmap="Blues", vmin=0, vmax=1)
    axis.set(xlabel="token", ylabel="place")
    return figure


LOOK = Exercise(
    id="16.3",
    name="cross_attention",
    title="Every place asks every word",
    kind="implement",
    difficulty=3,
    minutes=25,
    reference=cross_attention,
    trains=("x", "context", "w_q", "w_k", "w_v"),
    cases=[
        Case("three pictures, texts of several lengths", _texts(3, (2, 3), (4, 6), 9, 7, False)),
        Case("many narrow heads", _texts(2, (5, 6), (2, 3), 5, 8, False)),
        Case("one head, all tokens seen", _texts(2, (1, 1), (6, 8), 12, 5, True)),
        Case("as many places as tokens", _texts(4, (2, 2), (3, 5), 8, 8, False)),
    ],
    misconceptions=[
        Misconception(
            "mask-inverted",
            _looking(hide=lambda scores, seen: _hidden(scores, ~seen)),
            "Your mask is the wrong way round: you look at the padding alone. `seen` is True for tokens to "
            "look at. (PyTorch has both conventions: True keeps in scaled_dot_product_attention, and "
            "hides in "
            "MultiheadAttention.)",
            about="direction",
        ),
        Misconception(
            "mask-ignored",
            _looking(hide=lambda scores, seen: scores),
            "You look at all tokens, at padding, too. Where seen is False the score becomes −∞ before the "
            "softmax.",
            about="missing",
        ),
        Misconception(
            "mask-added",
            _looking(hide=lambda scores, seen: scores + seen[:, None, None, :].float()),
            "You added the mask to the scores, as 0 and 1. That only shifts them a little: hidden tokens "
            "need "
            "−∞.",
            about="formula",
        ),
        Misconception(
            "zeroed-after-the-softmax",
            _looking(hide=lambda scores, seen: scores, weigh=_zeroed),
            "You set hidden weights to 0 behind the softmax. Then the rest no longer sums to 1: hide tokens "
            "before it, with −∞.",
            about="order",
        ),
        Misconception(
            "scores-zeroed",
            _looking(hide=lambda scores, seen: scores * seen[:, None, None, :]),
            "You set hidden scores to 0. A score of 0 is one like others: e⁰ = 1. They have to become −∞.",
            about="formula",
        ),
        Misconception(
            "heads-viewed",
            _looking(split=_viewed, join=lambda y, shape: y.reshape(shape)),
            "You viewed (B, N, C) as (B, heads, N, d). Entries land in heads of other places. Split the "
            "channels first, (B, N, heads, d), then swap two dimensions.",
            about="shape",
        ),
        Misconception(
            "joined-without-swapping-back",
            _looking(join=lambda y, shape: y.reshape(shape)),
            "The heads are right, and mixed up at the end: swap (B, heads, N, d) back to (B, N, heads, d) "
            "before you flatten.",
            about="shape",
        ),
        Misconception(
            "heads-interleaved",
            _looking(
                split=lambda x, heads: x.unflatten(2, (-1, heads)).permute(0, 3, 1, 2),
                join=lambda y, shape: y.permute(0, 2, 3, 1).flatten(2),
            ),
            "Your head h has every heads-th channel. It has neighbours: channels h·d to (h + 1)·d − 1.",
            about="shape",
        ),
        Misconception(
            "scaled-by-all-channels",
            _looking(scale=lambda q, heads: (heads * q.shape[-1]) ** -0.5),
            "You divided by the root of all channels. A score sums over one head: divide by the root of its "
            "width, C/heads.",
            about="factor",
        ),
        Misconception(
            "divided-by-the-width",
            _looking(scale=lambda q, heads: 1 / q.shape[-1]),
            "You divided the scores by the width of a head. Divide by its root.",
            about="root",
        ),
        Misconception(
            "not-scaled",
            _looking(scale=lambda q, heads: 1.0),
            "You left the scale out. Scores grow with the width of a head: divide by its root.",
            about="missing",
        ),
        Misconception(
            "softmax-over-places",
            _looking(weigh=lambda scores, seen: scores.softmax(-2).nan_to_num()),
            "Your softmax runs over the places: each word spreads over the picture. Each place spreads "
            "its attention over the *tokens*, the last dimension.",
            about="axis",
        ),
        Misconception(
            "keys-for-values",
            _looking(keys_for_values=True),
            "You summed up keys. They say where a token is found; what is taken from it are the values.",
            about="input",
        ),
        Misconception(
            "query-weights-not-transposed",
            _looking(project=lambda x, w: x @ w),
            "You multiplied x by w_q as it stands. Weights are (out, in), as in nn.Linear: x @ w_q.T, or "
            "F.linear(x, w_q).",
            about="shape",
        ),
        Misconception(
            "one-map-for-all-heads",
            _looking(result=lambda y, maps: (y, maps.mean(1))),
            "You averaged the maps over the heads. All of them are asked for: (B, heads, N, L).",
            about="reading",
        ),
        Misconception(
            "maps-left-out",
            _looking(result=lambda y, maps: y),
            "You returned y alone. The pair (y, maps) is asked for.",
            about="reading",
        ),
        Misconception(
            "scores-for-maps",
            lambda x, context, seen, w_q, w_k, w_v, heads: _with_scores(
                x, context, seen, w_q, w_k, w_v, heads
            ),
            "Your second result are scores. The maps are what the softmax makes of them: rows that sum to 1.",
            about="reading",
        ),
    ],
    alternatives=[_looking(), _head_by_head],
    hints=(
        "Places ask (queries), tokens answer (keys), and what is taken over are the tokens' values. It is "
        "lesson 6's attention with queries from one place and keys and values from another.",
        "maps = softmax(QKᵀ/√d), with −∞ in the columns of tokens that are not seen; y = maps·V; Q = x·w_qᵀ, "
        "K = context·w_kᵀ, V = context·w_vᵀ, cut into heads of d = C/heads channels.",
        "`q.unflatten(2, (heads, -1)).transpose(1, 2)` is (B, heads, N, d); `seen[:, None, None, :]` fits "
        "(B, heads, N, L); at the end `.transpose(1, 2).flatten(2)`.",
    ),
    figure=_look_figure,
    figure_alt="A map of six places and eight tokens. Dark squares run along a diagonal from the "
    "sixth token "
    "of the first place to the first of the last; the last two tokens, which are not seen, are white.",
)


def _with_scores(
    x: Tensor, context: Tensor, seen: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor, heads: int
) -> tuple[Tensor, Tensor]:
    y, _ = cross_attention(x, context, seen, w_q, w_k, w_v, heads)
    q, k = _transposed(x @ w_q.T, heads), _transposed(context @ w_k.T, heads)
    return y, q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5


# 16.4 Captions that are dropped ---------------------------------------------------------------------


def drop_captions(
    tokens: Tensor, mask: Tensor, empty_tokens: Tensor, empty_mask: Tensor, drop: Tensor
) -> tuple[Tensor, Tensor]:
    """`conditions.dropped` for a caption and its mask."""
    told = {"tokens": tokens, "mask": mask}
    none = {"tokens": empty_tokens[None], "mask": empty_mask[None]}
    new: Any = conditions.dropped(told, none, drop)
    return new["tokens"], new["mask"]


def _drops(
    tokens: Callable[..., Tensor] = lambda drop, empty, own: torch.where(drop[:, None], empty, own),
    mask: Callable[..., Tensor] = lambda drop, empty, own: torch.where(drop[:, None], empty, own),
    which: Callable[[Tensor], Tensor] = lambda drop: drop,
) -> Callable[..., tuple[Tensor, Tensor]]:
    return lambda tokens_, mask_, empty_tokens, empty_mask, drop: (
        tokens(which(drop), empty_tokens, tokens_),
        mask(which(drop), empty_mask, mask_),
    )


def _as_named(answer: Callable[..., Any]) -> Callable[..., Any]:
    """A function of the five, by their names."""

    def named(tokens: Tensor, mask: Tensor, empty_tokens: Tensor, empty_mask: Tensor, drop: Tensor) -> Any:
        return answer(tokens, mask, empty_tokens, empty_mask, drop)

    return named


def _kept(drop: Tensor, empty: Tensor, own: Tensor) -> Tensor:
    return own.clone()


def _dropped_in_place(
    tokens: Tensor, mask: Tensor, empty_tokens: Tensor, empty_mask: Tensor, drop: Tensor
) -> tuple[Tensor, Tensor]:
    tokens[drop], mask[drop] = empty_tokens, empty_mask
    return tokens, mask


def _row_by_row(
    tokens: Tensor, mask: Tensor, empty_tokens: Tensor, empty_mask: Tensor, drop: Tensor
) -> tuple[Tensor, Tensor]:
    new = [
        (empty_tokens, empty_mask) if gone else (a, b)
        for gone, a, b in zip(drop.tolist(), tokens, mask, strict=True)
    ]
    return torch.stack([a for a, _ in new]), torch.stack([b for _, b in new])


def _captions(rows: tuple[int, int], length: tuple[int, int], gone: float | None = None) -> Make:
    """Token ids between begin and end, masks up to the end; the share that is dropped, or about a half."""

    def make(g: torch.Generator) -> dict[str, Any]:
        n, context = whole(g, *rows), whole(g, *length)
        begin, end = whole(g, 90, 94), whole(g, 95, 99)
        said = torch.tensor([whole(g, 2, context - 3) for _ in range(n)])
        at = torch.arange(context)
        tokens = torch.randint(1, 90, (n, context), generator=g)
        tokens[at > said[:, None]], tokens[:, 0] = end, begin
        drop = torch.rand(n, generator=g) < (0.5 if gone is None else gone)
        if gone is None:
            drop[0], drop[1] = False, True
        empty = torch.full((context,), end)
        empty[0] = begin
        mask = at <= said[:, None] + 1
        return {"tokens": tokens, "mask": mask, "empty_tokens": empty, "empty_mask": at < 2, "drop": drop}

    return make


DROP = Exercise(
    id="16.4",
    name="drop_captions",
    title="A caption that goes missing",
    kind="implement",
    difficulty=1,
    minutes=8,
    reference=drop_captions,
    cases=[
        Case("some captions, about half of them dropped", _captions((7, 9), (8, 11))),
        Case("no caption is dropped", _captions((4, 6), (7, 9), gone=0.0)),
        Case("all captions are dropped", _captions((3, 5), (9, 12), gone=1.0)),
        Case("as many captions as tokens", lambda g: _captions((8, 8), (8, 8))(g)),
    ],
    misconceptions=[
        Misconception(
            "mask-kept",
            _as_named(_drops(mask=_kept)),
            "You dropped the tokens and kept the mask of the old caption. The empty text has a mask of its "
            "own: both go together.",
            about="missing",
        ),
        Misconception(
            "tokens-kept",
            _as_named(_drops(tokens=_kept)),
            "You dropped the mask and kept the tokens. The text tower still reads the caption.",
            about="missing",
        ),
        Misconception(
            "zeros-for-the-empty-text",
            _as_named(_drops(tokens=lambda drop, empty, own: own * ~drop[:, None])),
            "You put 0 in the place of the tokens. Token 0 is a token like others, and there is no end in "
            "the row: the empty text is empty_tokens.",
            about="input",
        ),
        Misconception(
            "nothing-to-look-at",
            _as_named(_drops(mask=lambda drop, empty, own: own & ~drop[:, None])),
            "Your mask hides all tokens of a dropped caption. A softmax over nothing is NaN: the empty text "
            "still has its two ends, empty_mask.",
            about="input",
        ),
        Misconception(
            "drop-inverted",
            _as_named(_drops(which=lambda drop: ~drop)),
            "You dropped the captions that should stay: drop is True where the caption goes.",
            about="direction",
        ),
        Misconception(
            "changed-in-place",
            _dropped_in_place,
            "The result is right, but you wrote it into the caller's tensors: next epoch those captions are "
            "gone. Make new ones.",
            about="extra",
        ),
        Misconception(
            "whole-batch-or-nothing",
            _as_named(_drops(which=lambda drop: drop[:1].expand(len(drop)))),
            "You decided once for the whole batch. Each caption has an entry of its own in drop.",
            about="batch",
        ),
        Misconception(
            "all-when-one",
            _as_named(_drops(which=lambda drop: drop.any().expand(len(drop)))),
            "You dropped all captions as soon as one is dropped. Each caption has its own entry in drop.",
            about="batch",
        ),
        Misconception(
            "begin-forgotten",
            _as_named(_drops(tokens=lambda drop, empty, own: torch.where(drop[:, None], empty[-1], own))),
            "You filled the whole row with the end token. The empty text begins with a begin token: take the "
            "row empty_tokens as it is.",
            about="input",
        ),
        Misconception(
            "rows-left-out",
            lambda tokens, mask, empty_tokens, empty_mask, drop: (tokens[~drop], mask[~drop]),
            "You took the dropped rows out. The pictures stay in the batch: their captions become the empty "
            "text.",
            about="shape",
        ),
        Misconception(
            "mask-as-tokens",
            lambda tokens, mask, empty_tokens, empty_mask, drop: tuple(
                reversed(drop_captions(tokens, mask, empty_tokens, empty_mask, drop))
            ),
            "The two results have changed places: tokens come first, the mask second.",
            about="swap",
        ),
        Misconception(
            "tokens-of-another-caption",
            _as_named(
                _drops(tokens=lambda drop, empty, own: torch.where(drop[:, None], own.roll(1, 0), own))
            ),
            "You gave a dropped picture the caption of its neighbour. That is a wrong caption, and not none.",
            about="input",
        ),
    ],
    alternatives=[_as_named(_drops()), _row_by_row],
    hints=(
        "It is lesson 10's label dropout, with a row of tokens in the place of one number, and the mask "
        "goes with it.",
        "row i of both results is that of the empty text where drop[i], else its own.",
        "`torch.where(drop[:, None], empty_tokens, tokens)` makes a new tensor (B, L); the mask likewise.",
    ),
)


# 16.5 Where a word looks ----------------------------------------------------------------------------


def word_maps(maps: Tensor, words: list[list[int]], side: int) -> Tensor:
    """One map (B, W, side, side) for each word, from the half of a guided batch that has the captions."""
    told = maps.chunk(2)[0].mean(1)  # (B, N, L)
    each = torch.stack([told[:, :, tokens].sum(-1) for tokens in words], 1)  # (B, W, N)
    return each.unflatten(2, (side, side))


def _maps(
    half: Callable[[Tensor], Tensor] = lambda maps: maps.chunk(2)[0],
    heads: Callable[[Tensor], Tensor] = lambda maps: maps.mean(1),
    tokens: Callable[[Tensor], Tensor] = lambda maps: maps.sum(-1),
    place: Callable[[Tensor, int], Tensor] = lambda x, side: x.reshape(*x.shape[:2], side, side),
    finish: Callable[[Tensor], Tensor] = lambda x: x,
) -> Callable[..., Tensor]:
    """The maps in plain steps, with a place for each slip."""

    def answer(maps: Tensor, words: list[list[int]], side: int) -> Tensor:
        told = heads(half(maps))
        return finish(place(torch.stack([tokens(told[:, :, each]) for each in words], 1), side))

    return answer


def _both_halves(maps: Tensor) -> Tensor:
    with_caption, without = maps.chunk(2)
    return (with_caption + without) / 2


def _maps_in_loops(maps: Tensor, words: list[list[int]], side: int) -> Tensor:
    pictures, heads = len(maps.chunk(2)[0]), maps.shape[1]
    out = maps.new_zeros(pictures, len(words), side, side)
    for w, tokens in enumerate(words):
        for token in tokens:
            for h in range(heads):
                out[:, w] += maps[:pictures, h, :, token].reshape(pictures, side, side) / heads
    return out


def _attended(pictures: int, heads: tuple[int, int], side: tuple[int, int], many: tuple[int, int]) -> Make:
    """Maps of both halves, rows that sum to 1, and words of one to three tokens."""

    def make(g: torch.Generator) -> dict[str, Any]:
        edge, count, length = whole(g, *side), whole(g, *heads), whole(g, 9, 12)
        scores = 2 * normal(g, 2 * pictures, count, edge * edge, length)
        words, at = [], 1
        for size in [whole(g, 1, 3) for _ in range(whole(g, *many))]:
            if at + size >= length:
                break
            words.append(list(range(at, at + size)))
            at += size
        words[0] = words[0] if len(words[0]) > 1 else [words[0][0], length - 1]
        return {"maps": scores.softmax(-1), "words": words, "side": edge}

    return make


def _maps_figure(reference: Callable[..., Tensor]) -> Any:
    spot = (blobs(torch.Generator().manual_seed(3), 16, 16) + 1) / 2
    told = torch.stack([spot, spot.flip(0, 1), torch.full((16, 16), 0.3)], -1).reshape(1, 1, 256, 3)
    maps = torch.cat([told, torch.full_like(told, 0.3)])
    made = reference(maps, [[0], [1], [2]], 16)[0]
    return figures.strip([2 * each[None] - 1 for each in made], ["circle", "square", "of"])


MAPS = Exercise(
    id="16.5",
    name="word_maps",
    title="Blurred maps",
    kind="debug",
    difficulty=2,
    minutes=10,
    reference=word_maps,
    planted="both-halves",
    cases=[
        Case("two pictures, a few words", _attended(2, (2, 4), (4, 5), (3, 4))),
        Case("one picture, one head", _attended(1, (1, 1), (6, 7), (2, 3))),
        Case("three pictures, many heads", _attended(3, (5, 8), (3, 4), (2, 4))),
    ],
    misconceptions=[
        Misconception(
            "both-halves",
            _maps(half=_both_halves),
            "The maps are the mean of two: of the half of the batch that has the caption, and of the half "
            "that has the empty text.",
            about="input",
        ),
        Misconception(
            "halves-summed",
            _maps(half=lambda maps: maps[: len(maps) // 2] + maps[len(maps) // 2 :]),
            "The maps are the sum of two: of the half of the batch that has the caption, and of the half "
            "that "
            "has the empty text.",
            about="input",
        ),
        Misconception(
            "empty-half",
            _maps(half=lambda maps: maps[len(maps) // 2 :]),
            "You took the second half: that is the empty text. It has no words to look at. The captions are "
            "in the first half.",
            about="swap",
        ),
        Misconception(
            "every-second",
            _maps(half=lambda maps: maps[::2]),
            "You took every second row. The batch is not interleaved: all captions come first, then all "
            "empty "
            "texts.",
            about="order",
        ),
        Misconception(
            "halves-subtracted",
            _maps(half=lambda maps: maps[: len(maps) // 2] - maps[len(maps) // 2 :]),
            "You subtracted the maps of the empty text. It has other tokens: only the half with captions is "
            "asked for.",
            about="extra",
        ),
        Misconception(
            "mean-over-tokens",
            _maps(tokens=lambda maps: maps.mean(-1)),
            "The half is right. But you took the mean over a word's tokens: what looks at any of them "
            "looks at "
            "the word, so they are summed.",
            about="mean",
        ),
        Misconception(
            "largest-token",
            _maps(tokens=lambda maps: maps.amax(-1)),
            "The half is right. But of a word's tokens you took the one looked at most: sum over all.",
            about="formula",
        ),
        Misconception(
            "last-token-alone",
            _maps(tokens=lambda maps: maps[..., -1]),
            "The half is right. But of a word of several tokens you took the last alone: sum over all.",
            about="missing",
        ),
        Misconception(
            "first-token-alone",
            _maps(tokens=lambda maps: maps[..., 0]),
            "The half is right. But of a word of several tokens you took the first alone: sum over all.",
            about="missing",
        ),
        Misconception(
            "sum-over-heads",
            _maps(heads=lambda maps: maps.sum(1)),
            "The half is right. But you summed over the heads: their mean is asked for, as it was.",
            about="mean",
        ),
        Misconception(
            "largest-head",
            _maps(heads=lambda maps: maps.amax(1)),
            "The half is right. But you took the largest of the heads: their mean is asked for, as it was.",
            about="formula",
        ),
        Misconception(
            "first-head-alone",
            _maps(heads=lambda maps: maps[:, 0]),
            "The half is right. But you took the first head alone: the mean over all is asked for.",
            about="missing",
        ),
        Misconception(
            "turned",
            _maps(place=lambda x, side: x.reshape(*x.shape[:2], side, side).transpose(-2, -1)),
            "The half is right. But your maps are turned: places count along a row first, then the next row.",
            about="axis",
        ),
        Misconception(
            "each-to-its-own-maximum",
            _maps(finish=lambda x: x / x.amax((2, 3), keepdim=True)),
            "The half is right. But you divided each map by its maximum: then a word that nobody looks at "
            "seems as strong as any.",
            about="extra",
        ),
    ],
    alternatives=[_maps(), _maps_in_loops],
    hints=(
        "Guidance asks about captions and the empty text in one batch. Which rows of it know the words?",
        "The first B of the 2·B rows; then the mean over heads, the sum over a word's tokens.",
        "`told = maps[: len(maps) // 2].mean(1)` in the place of two lines.",
    ),
    figure=_maps_figure,
    figure_alt="Three maps: a bright spot for the word circle, one at another place for square, and an "
    "even grey for of.",
)


# 16.6 What a wrong caption costs --------------------------------------------------------------------

Denoise = Callable[[Tensor, Level, Tensor], Any]


def caption_cost(
    denoiser: Denoise, x0: Tensor, noise: Tensor, level: Level, right: Tensor, wrong: Tensor
) -> tuple[float, float]:
    """How much a wrong caption adds to the error of x̂₀: mean and standard error over the pictures."""
    x = add_noise(x0, noise, level)
    errors = [(denoiser(x, level, each)[0] - x0).square().flatten(1).mean(1) for each in (right, wrong)]
    extra = errors[1] - errors[0]
    return float(extra.mean()), float(extra.std() / len(extra) ** 0.5)


def _asked(
    answer: Callable[..., Any],
    path: str,
    t: float,
    x0: Tensor,
    noise: Tensor,
    right: Tensor,
    wrong: Tensor,
    templates: Tensor,
) -> Any:
    """What an answer says of a denoiser that has learnt a picture for each caption."""

    def knows(x: Tensor, level: Level, tokens: Tensor) -> Estimate:
        if tokens.shape != right.shape:
            raise ValueError(f"one caption for each of {len(right)} pictures, got {tuple(tokens.shape)}")
        told = templates.to(x.device)[tokens[:, 0]]
        return Estimate.from_x0(0.3 * torch.tanh(x) + 1.1 * told, x, level)

    return answer(knows, x0, noise, PATHS[path]()(t), right, wrong)


def _errors(
    of: Callable[[Any, Tensor, Tensor], Tensor] = lambda guess, x0, noise: guess[0] - x0,
    measure: Callable[[Tensor], Tensor] = lambda gap: gap.square().flatten(1).mean(1),
    noised: Callable[[Tensor, Tensor, Level], Tensor] = add_noise,
    extra: Callable[[Tensor, Tensor], Tensor] = lambda right, wrong: wrong - right,
    summary: Callable[[Tensor, Tensor, Tensor], Any] = lambda extra, right, wrong: (
        extra.mean(),
        extra.std() / len(extra) ** 0.5,
    ),
) -> Callable[..., Any]:
    """The cost in plain steps, with a place for each slip."""

    def answer(
        denoiser: Denoise, x0: Tensor, noise: Tensor, level: Level, right: Tensor, wrong: Tensor
    ) -> Any:
        x = noised(x0, noise, level)
        a, b = (measure(of(denoiser(x, level, each), x0, noise)) for each in (right, wrong))
        return summary(extra(a, b), a, b)

    return answer


def _answers_compared(
    denoiser: Denoise, x0: Tensor, noise: Tensor, level: Level, right: Tensor, wrong: Tensor
) -> Any:
    x = add_noise(x0, noise, level)
    gap = (denoiser(x, level, right)[0] - denoiser(x, level, wrong)[0]).square().flatten(1).mean(1)
    return gap.mean(), gap.std() / len(gap) ** 0.5


def _cost_by_hand(
    denoiser: Denoise, x0: Tensor, noise: Tensor, level: Level, right: Tensor, wrong: Tensor
) -> tuple[float, float]:
    alpha, sigma = float(level.alpha), float(level.sigma)
    x = alpha * x0 + sigma * noise
    told, fooled = denoiser(x, level, right).x0, denoiser(x, level, wrong).x0
    extra = []
    for mine, other, picture in zip(told, fooled, x0, strict=True):
        extra.append(float(((other - picture) ** 2).mean() - ((mine - picture) ** 2).mean()))
    n = len(extra)
    mean = sum(extra) / n
    return mean, math.sqrt(sum((each - mean) ** 2 for each in extra) / (n - 1) / n)


def _told(
    path: str, rows: tuple[int, int], times: tuple[float, float], *shape: int, read: bool = True
) -> Make:
    """Pictures, right captions and wrong ones, and what the denoiser has learnt.

    The captions say what the pictures show; where they are not read, the pictures show something else.
    """

    def make(g: torch.Generator) -> dict[str, Any]:
        n = whole(g, *rows)
        templates = blobs(g, 6, *shape)
        right = torch.randint(6, (n, 3), generator=g)
        wrong = right.clone()
        wrong[:, 0] = (right[:, 0] + torch.randint(1, 6, (n,), generator=g)) % 6
        shows = right[:, 0] if read else torch.randint(6, (n,), generator=g)
        return {
            "path": path,
            "t": number(g, *times),
            "x0": templates[shows] + 0.3 * normal(g, n, *shape),
            "noise": normal(g, n, *shape),
            "right": right,
            "wrong": wrong,
            "templates": templates,
        }

    return make


def _unpaired(extra: Tensor, right: Tensor, wrong: Tensor) -> Any:
    return extra.mean(), ((right.var() + wrong.var()) / len(extra)) ** 0.5


COST = Exercise(
    id="16.6",
    name="caption_cost",
    title="What a wrong caption costs",
    kind="stretch",
    difficulty=2,
    minutes=12,
    reference=caption_cost,
    call=_asked,
    cases=[
        Case("some pictures, much noise", _told("cosine", (9, 12), (700, 900), 1, 6, 5)),
        Case("latents of four channels, less noise", _told("cosine", (6, 8), (300, 500), 4, 4, 4)),
        Case("a straight path, where α + σ = 1", _told("straight", (5, 7), (0.4, 0.7), 3, 5, 4)),
        Case("captions that are not read", _told("cosine", (12, 15), (500, 800), 2, 4, 5, read=False)),
    ],
    misconceptions=[
        Misconception(
            "sign-turned",
            _errors(extra=lambda right, wrong: right - wrong),
            "You subtracted the wrong caption's error from the right one's. What the wrong caption *adds* is "
            "asked for: wrong minus right.",
            about="sign",
        ),
        Misconception(
            "answers-compared",
            _answers_compared,
            "You compared the two answers with each other. They may differ and both be bad: each is held "
            "against the picture, and the errors are subtracted.",
            about="reading",
        ),
        Misconception(
            "not-noised",
            _errors(noised=lambda x0, noise, level: x0),
            "You showed the denoiser the clean picture. It sees x = α·x0 + σ·noise.",
            about="input",
        ),
        Misconception(
            "unpaired-error",
            _errors(summary=_unpaired),
            "The mean is right. But your error treats the two captions as two draws of pictures. They share "
            "picture and noise: take the spread of the differences.",
            about="formula",
        ),
        Misconception(
            "spread-for-error",
            _errors(summary=lambda extra, right, wrong: (extra.mean(), extra.std())),
            "The mean is right. But you returned the spread of the pictures. The standard error of their "
            "mean "
            "is that over √B.",
            about="missing",
        ),
        Misconception(
            "divided-by-B",
            _errors(summary=lambda extra, right, wrong: (extra.mean(), extra.std() / len(extra))),
            "The mean is right. But you divided the spread by B: the error of a mean falls with √B.",
            about="root",
        ),
        Misconception(
            "without-the-bias",
            _errors(
                summary=lambda extra, right, wrong: (
                    extra.mean(),
                    extra.std(correction=0) / len(extra) ** 0.5,
                )
            ),
            "The mean is right. But your spread divides by B and not by B − 1: leave `std` its default.",
            about="count",
        ),
        Misconception(
            "error-of-eps",
            _errors(of=lambda guess, x0, noise: guess[1] - noise),
            "You measured the error of ε̂. The error of x̂₀, the first of the pair, is asked for.",
            about="input",
        ),
        Misconception(
            "summed-over-entries",
            _errors(measure=lambda gap: gap.square().flatten(1).sum(1)),
            "You summed over the entries of a picture. Their mean is asked for, so that pictures of all "
            "sizes "
            "compare.",
            about="mean",
        ),
        Misconception(
            "absolute-error",
            _errors(measure=lambda gap: gap.abs().flatten(1).mean(1)),
            "You took absolute differences. The squared error is asked for, as in the loss.",
            about="formula",
        ),
        Misconception(
            "sign-lost",
            _errors(extra=lambda right, wrong: (wrong - right).abs()),
            "You took the size of each difference. Then a word that nobody reads seems to cost "
            "something, too: "
            "the wrong caption is better by chance for half of the pictures. The sign counts.",
            about="sign",
        ),
        Misconception(
            "root-of-the-errors",
            _errors(measure=lambda gap: gap.square().flatten(1).mean(1).sqrt()),
            "You took the root of each error. The squared error is asked for, as in the loss.",
            about="root",
        ),
        Misconception(
            "root-of-B-less-1",
            _errors(
                summary=lambda extra, right, wrong: (extra.mean(), extra.std() / (len(extra) - 1) ** 0.5)
            ),
            "The mean is right. But you divided the spread by √(B − 1): B − 1 stands in the spread "
            "already, and "
            "the mean is over B.",
            about="count",
        ),
        Misconception(
            "half-of-an-interval",
            _errors(
                summary=lambda extra, right, wrong: (extra.mean(), 1.96 * extra.std() / len(extra) ** 0.5)
            ),
            "The mean is right. But you returned 1.96 standard errors, half of a 95 % interval: the standard "
            "error alone is asked for.",
            about="factor",
        ),
        Misconception(
            "ratio",
            _errors(extra=lambda right, wrong: wrong / right),
            "You divided the errors. Their difference is asked for.",
            about="formula",
        ),
        Misconception(
            "over-all-entries",
            _errors(
                measure=lambda gap: gap.square().flatten(1),
                summary=lambda extra, right, wrong: (extra.mean(), extra.std() / extra.numel() ** 0.5),
            ),
            "The mean is right. But your error counts every entry as a draw. Entries of one picture hang "
            "together: a picture is one draw.",
            about="count",
        ),
    ],
    alternatives=[_errors(), _cost_by_hand],
    hints=(
        "Noise the pictures once, and ask twice about the same x. What differs then is the caption alone.",
        "dᵢ = mean (x̂₀(x, wrong) − x₀)² − mean (x̂₀(x, right) − x₀)², a number for each picture; the "
        "result is "
        "mean(d) and std(d)/√B.",
        "`x = level.alpha * x0 + level.sigma * noise`; `denoiser(x, level, right)[0]`; "
        "`.flatten(1).mean(1)`.",
    ),
)

EXERCISES = [MERGES, CONTRAST, LOOK, DROP, MAPS, COST]
