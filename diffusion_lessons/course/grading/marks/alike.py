"""Answers of different students that are equal or nearly so, whatever the names, comments and spaces."""

import builtins
import io
import json
import keyword
import tokenize
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import cache
from itertools import combinations

from diffusion_lessons.course.exercises.mark import ids_in
from diffusion_lessons.course.student.lab import lessons_folder

GRAM = 4  # words in a row
LEAST = 24  # grams beyond what was handed out: a shorter answer is what the exercise makes of everybody's
OWN = 12  # grams that two answers share and few others have, before they are called nearly equal
HEADS = (["@"], ["def"], ["class"])  # of lines that the exercise gives
NEAR = 0.7  # of the grams that few others have; independent right answers share half at most
MOST_WORDS = 2_000
MOST_SHARING = 12  # students who share a gram, before it says nothing about two of them


def alike(answers: Sequence[str], stub: str = "") -> list[tuple[tuple[int, ...], bool]]:
    """Groups of answers, by their places, that are equal (True) or nearly equal (False).

    Each answer is another student's. What lies in the `stub` that was handed out, and what more than a third
    of the class has, is nobody's own.
    """
    many = max(3, len(answers) // 3)
    handed_out = _grams(_words(stub, numbered=False))
    same: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
    grams: dict[int, frozenset[tuple[str, ...]]] = {}
    for i, text in enumerate(answers):
        own = _grams(_words(text, numbered=False)) - handed_out
        if len(own) >= LEAST:
            grams[i] = own
            same[_words(text, numbered=True)].append(i)
    few = [group for group in same.values() if len(group) <= many]
    groups = [(tuple(group), True) for group in few if len(group) > 1]
    holders: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
    for i, own in grams.items():
        for gram in own:
            holders[gram].append(i)
    rare = [places for places in holders.values() if len(places) <= min(many, MOST_SHARING)]
    size = Counter(i for places in rare for i in places)
    shared = Counter(pair for places in rare for pair in combinations(places, 2))
    equal = {pair for group in same.values() for pair in combinations(group, 2)}
    near = [
        pair
        for pair, count in sorted(shared.items())
        if pair not in equal and count >= max(OWN, NEAR * max(size[i] for i in pair))
    ]
    return groups + [(pair, False) for pair in near]


def _grams(words: Sequence[str]) -> frozenset[tuple[str, ...]]:
    return frozenset(tuple(words[i : i + GRAM]) for i in range(len(words) - GRAM + 1))


def _words(text: str, numbered: bool) -> tuple[str, ...]:
    """The words of some code without heads, comments, docstrings and layout; its own names read alike.

    `numbered` tells one such name from another, in their order.
    """
    words: list[str] = []
    line: list[str] = []
    names: dict[str, str] = {}
    try:
        for kind, word, *_ in tokenize.generate_tokens(io.StringIO(text).readline):
            if kind == tokenize.NEWLINE:
                said = line[:1] not in HEADS and any(each[0] not in "\"'" for each in line)
                words, line = words + [*line, ";"] * said, []
            elif kind in (tokenize.INDENT, tokenize.DEDENT):
                words.append(":{" if kind == tokenize.INDENT else "}")
            elif kind == tokenize.NAME and not _is_pythons(word) and line[-1:] != ["."]:
                line.append(names.setdefault(word, f"name {len(names)}" if numbered else "name"))
            elif word.strip() and kind != tokenize.COMMENT:
                line.append(word)
            if len(words) > MOST_WORDS:
                break
    except (tokenize.TokenError, SyntaxError):
        pass  # what was read before it is compared
    return tuple(words + line)


def _is_pythons(name: str) -> bool:
    return keyword.iskeyword(name) or hasattr(builtins, name)


@cache
def stubs(lesson: str) -> dict[str, str]:
    """The cells of a lesson's exercises as they are handed out, by id; none where there are no lessons."""
    try:
        file = next(lessons_folder().glob(f"{lesson}_*.ipynb"))
        cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
    except (ValueError, OSError, StopIteration):
        return {}
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return {id: source for source in sources for id in ids_in(source)}
