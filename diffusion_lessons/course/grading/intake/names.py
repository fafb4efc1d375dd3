"""What one part of a path says: whose work it is, in which section, whether late; or nothing of anybody."""

import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

from diffusion_lessons.course.lessons import LESSONS

LONGEST = 255  # characters of a part that are looked at: no file system has longer ones
PLATFORMS = (
    ("Moodle", re.compile(r"(?P<name>.+?)_(?P<id>\d+)_assignsubmission_(?:file|onlinetext)")),
    ("Blackboard", re.compile(r".+_(?P<id>[^_]+)_attempt_\d{4}-\d\d-\d\d")),
    ("Brightspace", re.compile(r"(?P<id>\d+)-\d+ - (?P<name>.+?) - .*\d{4}")),
    ("Gradescope", re.compile(r"(?P<name>submission)_(?P<id>\d{5,})$")),
    ("Canvas", re.compile(r"(?P<name>anon)_(?P<late>LATE_)?(?P<id>[^_]+)_\d{4,}(?:_|\.|$)")),
    ("Canvas", re.compile(r"(?P<name>[^_]+)_(?P<late>LATE_)?(?P<id>\d+)_\d{4,}(?:_|\.|$)")),
)

ENDING = re.compile(r"(?i)(\.ipynb)?(\.json|\.txt|\.\w{1,5})?$")
COPY = re.compile(r"(?i)[\s_-]{0,9}(\(\d{1,4}\)|\bcopy ?\d{0,3}|\bkopie|\bfinal|\bv\d{1,3})$")
# The same person's, while a browser writes "(1)" for whatever has a name that is there already.
DUPLICATE = re.compile(r"(?i)[\s_-]{1,9}(copy|kopie) ?\d{0,3}$")
COPY_OF = re.compile(r"(?i)(^|- )(copy of|kopie von) ")
_STEMS = "|".join(entry.stem[k:].replace("_", "[ _-]?") for entry in LESSONS for k in (0, 3))
LESSON = re.compile(rf"(?i)(?<![^\W_])(?:{_STEMS})(?![^\W_])")
LATE_END = re.compile(r"(?i)[\s_-]\(?late\)?$")
TASK = re.compile(
    r"(?i)(hw|homework|assignment|exercises?|problem set|pset|ps|week|lesson|task|sheet)[ _-]?\d+[ _-]+"
)
_DAYS = """mon tue tues wed thu thur thurs fri sat sun monday tuesday wednesday thursday friday saturday
sunday montag dienstag mittwoch donnerstag freitag"""
_SECTIONS = """section sec group grp team tutorial tut cohort stream seminar class sektion gruppe kurs
klasse grupo groupe"""
_LATE = "late verspätet nachgereicht overdue"
_WORDS = """hw homework homeworks assignment assignments assign exercise exercises problem problems set
pset ps lab labs task tasks sheet week weeks wk unit module lesson lessons lecture chapter part project
course day übung übungen aufgabe aufgaben hausaufgabe blatt woche tp td devoir tarea semaine submission
submissions submitted handed hand in on time ontime pünktlich file files folder notebook notebooks nb
ipynb zip work working solution solutions answer answers untitled unbenannt download downloads upload
uploads export exports archive all my mine the of and for to me code src version ver v attempt attempts
try retry resubmission resubmitted resubmit revision revised rev draft drafts final copy kopie new newer
old older original first second third last latest better best test main done finished corrected correction
fixed update updated misc stuff tmp temp data student students canvas moodle blackboard brightspace
gradescope teams nbgrader classroom google drive attachment attachments feedback readme diffusion colab"""
DAYS, SECTIONS, LATE = (frozenset(text.split()) for text in (_DAYS, _SECTIONS, _LATE))
# Of folders and files that are nobody's name: what was to be done, how it was handed in, which try it is.
WORDS = LATE | {*_WORDS.split()}
HIDDEN = ("participant", "anon", "submission")  # what platforms write for everybody
TEACHERS = re.compile(
    r"(?i)(readme|licen[cs]e|class|roster|points|overrides?|grades|gradebook|requirements|environment|index"
    r"|manifest|submission_metadata)(\.\w+)?"
)


@dataclass(frozen=True)
class Part:
    """One folder or file of a path."""

    text: str  # as it is shown, without a lesson's name and a copy's marks
    kind: str  # "name"; "section", which may be one or a team that hands in; "words", which are nobody's
    late: bool = False


@lru_cache(maxsize=2**14)
def part(raw: str, is_file: bool = False, numbers: tuple[str, ...] = (), days: bool = False) -> Part:
    """What a folder or a file says.

    Args:
        numbers: of the lessons that it may be of, two digits each; other numbers are the student's.
        days: are days of the week sections here?
    """
    raw = unicodedata.normalize("NFC", raw[:LONGEST])
    raw = without_ending(raw) if is_file else raw.removesuffix(".ipynb")
    late = LATE_END.search(raw)
    rest = raw[: late.start()] if late else raw
    whole = COPY_OF.sub(r"\1", rest)
    rest = COPY.sub("", whole)
    rest = TASK.sub("", LESSON.sub(" ", rest), count=1) if not TASK.fullmatch(rest) else rest
    for entry in LESSONS:
        if entry.number in numbers:
            rest = _without(rest, entry.number, entry.stem[3:].split("_"))
    rest = " ".join(rest.split()).strip(" _-.")
    tokens = [token for token in re.split(r"[\W_]+", rest.casefold()) if token]
    words = [token.rstrip("0123456789") for token in tokens]
    plain = [len(token) < 4 if not word else word in WORDS for token, word in zip(tokens, words, strict=True)]
    kind = "name"
    if {*tokens} <= SECTIONS or (all(plain) and not "".join(tokens).isdecimal()):
        kind = "words"
    elif all(
        fine or word in SECTIONS or len(token) == 1 or (days and word in DAYS)
        for fine, token, word in zip(plain, tokens, words, strict=True)
    ):
        kind = "section"
    mark = COPY.search(whole) if kind == "name" and not is_file else None
    return Part(rest + (mark[0] if mark else ""), kind, bool(late or LATE & {*words}))


def without_ending(file: str) -> str:
    """A file's name without its ending."""
    return ENDING.sub("", file, count=1)


def _without(text: str, number: str, words: Collection[str]) -> str:
    """A name without the number of its lesson at either end, and the lesson's words behind a first one."""
    rest = re.sub(rf"^\s*{number}[\s_-]+|[\s_-]+{number}\s*$", "", text)
    tokens = re.split(r"([\s_-]+)", rest) if text.lstrip().startswith(number) else []
    while len(tokens) > 2 and tokens[0].casefold() in words:
        tokens = tokens[2:]
    return "".join(tokens) or rest


def platform(raw: str) -> dict[str, str] | None:
    """What a folder or a file says in a learning platform's pattern: platform, name, id, late; else None."""
    raw = unicodedata.normalize("NFC", raw[:LONGEST])
    matches = ((name, pattern.match(raw)) for name, pattern in PLATFORMS)
    found = next(((name, match.groupdict("")) for name, match in matches if match), None)
    return {"name": "", "late": ""} | found[1] | {"platform": found[0]} if found else None


def norm(name: str) -> str:
    """What is the same for all ways to write a name: accents' coding, case, spaces, "Lee, Ann"."""
    text = unicodedata.normalize("NFKC", name).casefold()
    last, comma, first = text.partition(",")
    return " ".join(re.split(r"[\s_]+", f"{first} {last}" if comma else text)).strip()
