"""Byte-pair encoding of captions (Sennrich, Haddow and Birch 2016), as CLIP does it (Radford et al. 2021).

A text becomes words, a word the bytes of its letters, and again and again the two neighbours that were
merged earliest in training become one. Every text can be encoded, since every byte is a token. A tokenizer
is trained here on captions, or made from CLIP's published merges.
"""

import json
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import regex
import torch
from torch import Tensor

BEGIN, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"
LAYOUTS = (("merges.txt", "vocab.json"), ("tokenizer.json",))  # of a published tokenizer
CONTEXT = 77  # tokens of a text with both its ends, as published
_ENDS = regex.compile(r"(<\|startoftext\|>|<\|endoftext\|>)")
_WORD = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+")

Pair = tuple[str, str]


def _letters() -> dict[int, str]:
    """A letter that can be seen for each byte: itself where it can be, one from 256 on where it cannot."""
    seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in seen]
    return {byte: chr(byte) for byte in seen} | {byte: chr(256 + i) for i, byte in enumerate(hidden)}


_LETTERS = _letters()  # in the order of the published vocabulary


class Tokenizer:
    """Texts to token ids and back.

    Args:
        merges: pairs of parts, those to be merged first in front.
        context: tokens of a text, its two ends included; longer texts are cut, shorter ones filled up.
        pad: the token they are filled with: END, as in Stable Diffusion 1, or "!", as in Stable Diffusion 2.
        vocabulary: ids by token where they are not in the published order: bytes, bytes that end a word,
            merges, BEGIN, END.
    """

    def __init__(
        self,
        merges: Sequence[Pair] = (),
        context: int = CONTEXT,
        pad: str = END,
        vocabulary: dict[str, int] | None = None,
    ) -> None:
        if context < 3:
            raise ValueError(f"a text takes at least 3 tokens with its two ends, got a context of {context}")
        letters = [*_LETTERS.values(), *(letter + WORD_END for letter in _LETTERS.values())]
        tokens = [*letters, *(first + second for first, second in merges), BEGIN, END]
        self.ids = {token: i for i, token in enumerate(tokens)} if vocabulary is None else dict(vocabulary)
        missing = [token for token in (*tokens, pad) if token not in self.ids]
        if missing:
            raise ValueError(
                f"the vocabulary has no {missing[0]!r}" + f" and {len(missing) - 1} more" * (len(missing) > 1)
            )
        self.merges, self.context, self.pad = tuple(merges), context, pad
        self._rank = {pair: i for i, pair in enumerate(self.merges)}
        self._tokens = {i: token for token, i in self.ids.items()}
        self._split = lru_cache(maxsize=50_000)(self._parts)

    def __len__(self) -> int:
        return max(self.ids.values()) + 1

    def __call__(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """The condition of B texts: "tokens" int64 (B, context), and "mask" bool, True up to END.

        A text that does not fit is cut, its END is kept, and a warning says how many were. What is no text is
        a ValueError.
        """
        if isinstance(texts, str):
            raise ValueError(f"expected a list of texts, got the text {texts!r}: put it into a list")
        tokens = torch.full((len(texts), self.context), self.ids[self.pad])
        mask, cut = torch.zeros(tokens.shape, dtype=torch.bool), 0
        for row, text in enumerate(texts):
            ids = self.encode(text)
            cut += len(ids) > self.context
            ids = [*ids[:-1][: self.context - 1], ids[-1]]
            tokens[row, : len(ids)], mask[row, : len(ids)] = torch.tensor(ids), True
        if cut:
            warnings.warn(
                f"{cut} of {len(texts)} texts are longer than {self.context} tokens and were cut",
                stacklevel=2,
            )
        return {"tokens": tokens, "mask": mask}

    def encode(self, text: str) -> list[int]:
        """All ids of one text with BEGIN and END, however many there are."""
        if not isinstance(text, str):
            raise ValueError(f"a text is a string, got {text!r}")
        parts = [part for word in _words(text) for part in self._split(word)]
        return [self.ids[part] for part in (BEGIN, *parts, END)]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of these ids without its ends, a space between words. An unknown id is a ValueError."""
        kept = []
        for i in map(int, ids):
            if i not in self._tokens:
                raise ValueError(f"no token has the id {i}: there are {len(self)}")
            if self._tokens[i] not in (BEGIN, END):
                kept.append(self._tokens[i])
        bytes_of = {letter: byte for byte, letter in _LETTERS.items()}
        words = "".join(kept).split(WORD_END)
        said = [bytes(bytes_of[letter] for letter in word).decode("utf-8", "replace") for word in words]
        return " ".join(said).strip()

    def to_json(self) -> dict[str, Any]:
        """What `from_json` makes it from again."""
        about = {"merges": [" ".join(pair) for pair in self.merges], "context": self.context, "pad": self.pad}
        in_order = self.ids == type(self)(self.merges).ids
        return about if in_order else {**about, "vocabulary": self.ids}

    @classmethod
    def from_json(cls, about: dict[str, Any]) -> Self:
        """The tokenizer that `to_json` described."""
        merges = [_pair(line) for line in about["merges"]]
        return cls(merges, about["context"], about["pad"], about.get("vocabulary"))

    @classmethod
    def from_folder(cls, folder: Path) -> Self:
        """The tokenizer of a published model, with its pad token, if it names one.

        Read from `merges.txt` and `vocab.json`, or from the `tokenizer.json` that transformers 5 writes.

        Files that are missing, damaged or don't fit together are a ValueError.
        """
        if not holds_tokenizer(folder):
            first, second = (" and ".join(names) for names in LAYOUTS)
            raise ValueError(
                f"{folder} has no {first}, and no {second}: it is no folder of a published tokenizer"
            )
        if all((folder / name).is_file() for name in LAYOUTS[0]):
            merges = merges_of((folder / "merges.txt").read_text("utf-8"))
            vocabulary = _settings(folder / "vocab.json")
        else:
            merges, vocabulary = _in_one_file(folder / "tokenizer.json")
        for name in ("special_tokens_map.json", "tokenizer_config.json"):
            pad = _settings(folder / name).get("pad_token") if (folder / name).is_file() else None
            if pad is not None:
                return cls(merges, pad=pad if isinstance(pad, str) else pad["content"], vocabulary=vocabulary)
        return cls(merges, vocabulary=vocabulary)

    @classmethod
    def train(cls, texts: Iterable[str], size: int, context: int = CONTEXT) -> Self:
        """Learn merges from texts until there are `size` tokens, or no two neighbours that are seen twice.

        A size that has no room for the bytes and the two ends is a ValueError.
        """
        room = size - 2 * len(_LETTERS) - 2
        if room < 0:
            raise ValueError(f"bytes and ends alone are {2 * len(_LETTERS) + 2} tokens, got size {size}")
        counts = Counter(word for text in texts for word in _words(text) if word not in (BEGIN, END))
        words = {word: _spelt(word) for word in counts}
        merges: list[Pair] = []
        while len(merges) < room:
            pairs: Counter[Pair] = Counter()
            for word, parts in words.items():
                for pair in pairwise(parts):
                    pairs[pair] += counts[word]
            best = min(pairs, key=lambda pair: (-pairs[pair], pair), default=None)
            if best is None or pairs[best] < 2:
                break
            merges.append(best)
            words = {word: _merged(parts, best) for word, parts in words.items()}
        return cls(merges, context)

    def _parts(self, word: str) -> list[str]:
        if word in (BEGIN, END):
            return [word]
        parts = _spelt(word)
        while len(parts) > 1:
            pairs = pairwise(parts)
            first = min(pairs, key=lambda pair: self._rank.get(pair, len(self._rank)))
            if first not in self._rank:
                break
            parts = _merged(parts, first)
        return parts


def holds_tokenizer(folder: Path) -> bool:
    """Whether a folder has the files of a published tokenizer."""
    return any(all((folder / name).is_file() for name in names) for names in LAYOUTS)


def merges_of(text: str) -> list[Pair]:
    """The pairs in a published file of merges, one a line behind a line that tells its version."""
    lines = text.split("\n")
    return [_pair(line) for line in lines[("#version" in lines[0]) :] if line.strip()]


def _settings(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is damaged: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{file} does not hold settings")
    return found


def _in_one_file(file: Path) -> tuple[list[Pair], dict[str, int]]:
    """The merges and the ids in a `tokenizer.json`; one of another kind is a ValueError."""
    found = _settings(file)
    try:
        model = found["model"]
        merges = [_pair(each) if isinstance(each, str) else (each[0], each[1]) for each in model["merges"]]
        added = {each["content"]: each["id"] for each in found.get("added_tokens", [])}
        return merges, {**model["vocab"], **added}
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"{file} is no tokenizer of byte pairs, as CLIP's is") from error


def _pair(line: str) -> Pair:
    parts = line.split()
    if len(parts) != 2:
        raise ValueError(f"a merge is two parts with a space between, got {line!r}")
    return parts[0], parts[1]


def _words(text: str) -> list[str]:
    """The words of a text in lower case, in Unicode's composed form, without the spaces between.

    BEGIN and END inside it are words. Each letter is made small by itself, as in transformers: a Σ at the end
    of a word is a σ.
    """
    words: list[str] = []
    for part in _ENDS.split(text):
        small = "".join(map(str.lower, unicodedata.normalize("NFC", part)))
        words += [part] if part in (BEGIN, END) else _WORD.findall(small)
    return words


def _spelt(word: str) -> list[str]:
    letters = [_LETTERS[byte] for byte in word.encode("utf-8", "replace")]
    return [*letters[:-1], letters[-1] + WORD_END]


def _merged(parts: Sequence[str], pair: Pair) -> list[str]:
    """The parts with this pair, wherever it stands, as one."""
    out: list[str] = []
    for part in parts:
        if out and (out[-1], part) == pair:
            out[-1] += part
        else:
            out.append(part)
    return out
