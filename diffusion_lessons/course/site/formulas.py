"""Which formulas of the lessons stand on the interview page and on the cheat sheet.

A formula is named by its lesson and by a part of its LaTeX that only this one has. A lesson that is not
named here gives its first formula.
"""

import re
from collections.abc import Iterable, Sequence

from diffusion_lessons.course.site.reading import Study

# One for each question of the interview page, where the first one of the lesson is not the best.
KEY = {
    "02": r"x_t = \sqrt{\bar\alpha_t}\; x_0",
    "03": r"p_\theta(x_{t-1}\mid x_t) = ",
    "04": r"L_{\text{simple}} =",
    "06": r"h \leftarrow \mathrm{block}",
    "09": r"\hat\varepsilon_y =",
    "10": r"\tilde\varepsilon = \hat\varepsilon(\varnothing)",
    "11": r"x_t = \alpha_t\, s z",
    "15": r"\;\leftarrow\; m \odot x_t",
    "16": r"Q = XW_Q^\top",
}
SHEET = (
    (
        "The path",
        (
            ("01", r"x_t = \alpha_t\, x_0 +"),
            ("02", r"x_t = \sqrt{\bar\alpha_t}\; x_0"),
            ("18", r"v^*(x, t) ="),
            ("17", r"v = \alpha\, \varepsilon - \sigma\, x_0"),
        ),
    ),
    ("Noise levels", (("02", r"\mathrm{SNR}(t) ="), ("05", r"\text{cosine: }"), ("05", r"\bar\alpha'_t"))),
    (
        "The way back",
        (("03", r"\tilde\beta_t = \frac"), ("03", r"_t(x_t, x_0) ="), ("03", r"\log q(x_t) = -")),
    ),
    (
        "Losses",
        (
            ("04", r"L_{t-1} ="),
            ("04", r"L_{\text{simple}} ="),
            ("16", r"\mathcal L = -"),
            ("07", r"\tilde v\big"),
            ("13", r"L_D ="),
        ),
    ),
    (
        "Steps",
        (
            ("03", r"p_\theta(x_{t-1}\mid x_t) ="),
            ("08", r"s = \eta\sqrt"),
            ("08", r"\longrightarrow"),
            ("08", r"\text{2M:}"),
        ),
    ),
    (
        "Guidance",
        (
            ("09", r"\hat\varepsilon_y ="),
            ("10", r"\tilde\varepsilon ="),
            ("10", r"x_0' = \varphi"),
            ("12", r"c = \tau("),
        ),
    ),
    (
        "Networks, latents, holes, frames",
        (
            ("06", r"\mathrm{emb}(t) ="),
            ("16", r"Q = XW_Q"),
            ("11", r"x_t = \alpha_t\, s z"),
            ("15", r"m \odot x_t"),
            ("14", r"\operatorname{softmax}_g"),
        ),
    ),
    ("Cost and quality", (("19", r"\text{convolution: }"), ("20", r"d^2 = \lvert"))),
)


def key_formula(study: Study) -> str:
    """The one formula for a question, "" where its lesson has none."""
    if study.entry.number in KEY and study.formulas:
        return formula(study, KEY[study.entry.number])
    return study.formulas[0] if study.formulas else ""


def sheet(studies: Iterable[Study]) -> list[tuple[str, list[tuple[Study, str]]]]:
    """The cheat sheet: topics with their formulas; lessons that are in no topic give theirs at the end."""
    written = {study.entry.number: study for study in studies if study.written}
    topics = [
        (
            topic,
            [
                (written[number], formula(written[number], part))
                for number, part in parts
                if number in written
            ],
        )
        for topic, parts in SHEET
    ]
    named = {number for _, parts in SHEET for number, _ in parts}
    more = [(study, key_formula(study)) for number, study in written.items() if number not in named]
    return [(topic, rows) for topic, rows in [*topics, ("More", [row for row in more if row[1]])] if rows]


def formula(study: Study, part: str) -> str:
    """The one formula of a lesson that holds a part; ValueError where none or several do."""
    found = [each for each in study.formulas if part in each]
    if len(found) != 1:
        raise ValueError(
            f"{len(found)} formulas of lesson {study.entry.number} hold {part!r}, expected one: "
            "name another part in course/site/formulas.py"
        )
    return found[0]


def pieces(latex: str) -> list[str]:
    r"""A formula where it stands in pieces, "a = b, \qquad c = d": a line may end between two of them."""
    return re.split(r"\s*\\qquad\s*|(?<=,)\s*\\quad\s*", latex)


def first_sentences(text: str, least: int = 110) -> str:
    """The beginning of an answer: whole sentences until there are so many characters."""
    said: Sequence[str] = text.split("\n\n")[0].split(". ")
    for count in range(1, len(said)):
        if len(begun := ". ".join(said[:count])) >= least:
            return begun + "."
    return ". ".join(said)
