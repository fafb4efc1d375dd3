"""What stands in a lesson's `{{…}}`: header, setup cell, exercise cards and links between lessons."""

import base64
import io
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from diffusion_lessons.course.authoring.opening import ALT, FILE
from diffusion_lessons.course.authoring.source import Cell, Lesson
from diffusion_lessons.course.exercises.mark import ids_in_cell_id
from diffusion_lessons.course.lessons import LESSONS, Entry, entries

PLACEHOLDER = re.compile(r"\{\{([a-z][a-z-]*)(?: ([\w.]+))?\}\}")
GITHUB = re.compile(r"https://github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?/?")
COLAB = "https://colab.research.google.com"
IMAGE = re.compile(r"!\[[^\]]*\]\(data:image/png;base64,([A-Za-z0-9+/=]+)\)")
SETUP = """\
import importlib.util, subprocess, sys

if importlib.util.find_spec("diffusion_lessons") is None:  # on Colab: add this package, replace nothing
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, {what}], check=True)
from diffusion_lessons.course import hint, progress, setup

device, generator = setup("{number}", seed=0)"""
FROM_FOLDER = '"--no-index", "--find-links=.", "diffusion-lessons"'
DOTS = {1: "●○○", 2: "●●○", 3: "●●●"}


@dataclass(frozen=True)
class Context:
    """What the pages of the course depend on besides their source.

    `old` holds the pictures of the student notebook of before, kept where they look the same.
    """

    root: Path  # the repository
    repository: str = ""  # its public address, "" where it has none
    stems: tuple[str, ...] = ()  # file names, without ending, of the lessons that exist
    timings: Mapping[str, Any] = field(default_factory=dict)  # solutions/timings.json
    bank: Callable[[str], Mapping[str, Any]] = lambda number: {}  # number of a lesson -> its exercises by id
    built: Mapping[str, str] = field(default_factory=dict)  # names and modules -> the lesson that builds them
    old: Mapping[str, str] = field(default_factory=dict)  # base64 by exercise number


def read_timings(root: Path) -> dict[str, Any]:
    """What the build measured when it ran the lessons, nothing at first; ValueError for a damaged file."""
    file = root / "solutions" / "timings.json"
    try:
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    except ValueError as error:
        raise ValueError(f"solutions/timings.json: {error}") from None


def setup_cell(number: str, repository: str) -> str:
    """The one text of the setup cell: the same in every lesson, in JupyterLab and in Colab."""
    what = f'"git+{repository}"' if repository else FROM_FOLDER
    return SETUP.format(what=what, number=number)


def expand(cell: Cell, lesson: Lesson, context: Context) -> str:
    """The cell's text, placeholders filled; ValueError for one that is none or names what is not there."""
    if "header" in cell.tags:
        return header(lesson, context)
    text = cell.source
    if cell.kind == "code":
        text = re.sub(r"(?m)^# (\{\{setup\}\})$", r"\1", text)
    return PLACEHOLDER.sub(lambda found: _filled(found[1], found[2] or "", lesson, context), text)


def _filled(name: str, value: str, lesson: Lesson, context: Context) -> str:
    fill: dict[str, Callable[[], str]] = {
        "setup": lambda: setup_cell(lesson.number, context.repository),
        "exercise": lambda: card(_exercise(value, context), context),
        "lesson": lambda: link(_entry(value), context),
        "built-in": lambda: "you build this in " + link(_entry(value), context, f"lesson {value}"),
        "lessons": lambda: lesson_map(context),
        "speed": lambda: str(reference_speed(context)),
        "opening": lambda: opening(context),
        "colab": lambda: _colab(lesson, context),
    }
    if name not in fill:
        raise ValueError(f"{{{{{name}}}}} is no placeholder: there are {', '.join(fill)}")
    return fill[name]()


def _entry(number: str) -> Entry:
    if number not in entries():
        raise ValueError(f"there is no lesson {number}: they are numbered 00 to 20, with two digits")
    return entries()[number]


def _exercise(number: str, context: Context) -> Any:
    bank = context.bank(number[:2])
    if number not in bank:
        raise ValueError(f"exercise {number} has no entry in the bank")
    return bank[number]


def opening(context: Context) -> str:
    """The start page's moving picture, and the way into the first lesson."""
    first = link(_entry("01"), context, "▶ Start: lesson 01")
    file = context.root / FILE
    if not file.exists():
        return first
    data = base64.b64encode(file.read_bytes()).decode()
    look = 'width="680" style="image-rendering: pixelated; max-width: 100%"'
    return f'<img alt="{ALT}" {look} src="data:image/gif;base64,{data}">\n\n## {first}'


# Pieces of a page ----------------------------------------------------------------------------------


def link(entry: Entry, context: Context, text: str | None = None) -> str:
    """A link to a lesson's notebook, or its name alone where it is not there yet."""
    if entry.stem in context.stems:
        return f"[{text or f'{entry.number} {entry.title}'}]({entry.stem}.ipynb)"
    return text or f"{entry.number} {entry.title} (to come)"


def header(lesson: Lesson, context: Context) -> str:
    """Title, question, times, difficulty, what to know before, and the way into Colab."""
    keys, number = lesson.header, lesson.number
    title = keys.get("title", lesson.stem)
    if number == "00":  # it says the rest in its own words
        return f"# {title}"
    parts = [f"# {number} · {title}"]
    if "question" in keys:
        parts.append(f"**{keys['question']}**")
    minutes = reading_minutes(lesson, context)
    facts = [f"**Time:** about {minutes} minutes to read and do; {_run_time(lesson, context)}"]
    if "difficulty" in keys:
        level = int(keys["difficulty"])
        facts.append(f"**Difficulty:** {level} of 3 {DOTS[level]}")
    if "prerequisites" in keys:
        facts.append(f"**Before this:** {_prerequisites(keys['prerequisites'], context)}")
    facts.append(_colab(lesson, context))
    return "\n\n".join([*parts, "\n".join(f"- {fact}" for fact in facts)])


def reading_minutes(lesson: Lesson, context: Context) -> int:
    """Minutes to read and do: 150 words and 15 lines of code a minute, and each exercise's own time."""
    prose = "\n".join(cell.source for cell in lesson.cells if cell.kind == "markdown")
    words = len(re.sub(r"(?m)^builds:.*$", "", prose).split())  # that line is for the build alone
    code = sum(cell.source.count("\n") + 1 for cell in lesson.code if cell.visible)
    exercises = sum(exercise.minutes for exercise in context.bank(lesson.number).values())
    return 5 * round((words / 150 + code / 15 + exercises) / 5)


def _run_time(lesson: Lesson, context: Context) -> str:
    measured = context.timings.get(lesson.stem)
    if measured is None:
        return "the time to run it has not been measured yet"
    seconds = max(5 * round(measured["seconds"] / 5), 5)
    return f"all cells run in about {seconds} s on {measured['hardware']} (measured)"


def reference_speed(context: Context) -> int | None:
    """Images a second on the machine of the stated run times: the median over the lessons."""
    speeds = [measured["images_per_second"] for measured in context.timings.values()]
    return round(median(speeds)) if speeds else None


def _prerequisites(value: str, context: Context) -> str:
    parts = [part.strip() for part in value.split(",")]
    return ", ".join(link(_entry(part), context) if re.fullmatch(r"\d\d", part) else part for part in parts)


def _colab(lesson: Lesson, context: Context) -> str:
    if found := GITHUB.fullmatch(context.repository):  # owner/name: an address that Colab can open
        where = f"{COLAB}/github/{found[1]}/blob/main/notebooks/{lesson.stem}.ipynb"
        return f"[![Open in Colab]({COLAB}/assets/colab-badge.svg)]({where})"
    return (
        "**In Colab:** open this notebook with *File → Upload notebook*, put the package's `.whl` file "
        "(made by `pip wheel --no-deps .`) into the *Files* pane, then run the setup cell."
    )


def lesson_map(context: Context) -> str:
    """All lessons, those that exist as links."""
    return "\n".join(f"- {link(entry, context)}" for entry in LESSONS if entry.number != "00")


def card(exercise: Any, context: Context) -> str:
    """What stands above an exercise: number, title, kind, difficulty, minutes, expected figure."""
    lines = [
        f"### Exercise {exercise.id} · {exercise.title}",
        f"*{exercise.kind}* · difficulty {exercise.difficulty} of 3 {DOTS[exercise.difficulty]} · "
        f'about {exercise.minutes} min · stuck? `hint("{exercise.id}")`',
    ]
    if exercise.choices:
        lines.append("Return one of: " + " · ".join(f'`"{choice}"`' for choice in exercise.choices))
    if exercise.figure is not None:
        picture = small_picture(exercise.figure(exercise.reference), context.old.get(exercise.id))
        lines.append(f"![{exercise.figure_alt}](data:image/png;base64,{picture})")
    return "\n\n".join(lines)


# Pictures ------------------------------------------------------------------------------------------


def small_picture(figure: Any, old: str | None = None) -> str:
    """A matplotlib figure as a small PNG in base64; the old bytes where the pictures look the same.

    Two versions of a plotting library differ in a few pixels; the student file must not.
    """
    from matplotlib import pyplot
    from PIL import Image

    large, small = io.BytesIO(), io.BytesIO()
    figure.savefig(large, format="png", dpi=80, bbox_inches="tight", metadata={"Software": None})
    pyplot.close(figure)
    Image.open(large).convert("RGB").quantize(64).save(small, format="PNG", optimize=True)
    new = base64.b64encode(small.getvalue()).decode()
    return old if old is not None and alike(old, new) else new


def alike(a: str, b: str) -> bool:
    """Do two pictures (PNG, base64) look the same: nearly the same size, mean difference under 2 %?"""
    from PIL import Image, ImageChops, ImageStat

    one, two = (Image.open(io.BytesIO(base64.b64decode(text))).convert("L") for text in (a, b))
    if abs(one.width - two.width) > 3 or abs(one.height - two.height) > 3:
        return False
    return ImageStat.Stat(ImageChops.difference(one, two.resize(one.size))).mean[0] < 0.02 * 255


def pictures_in(notebook: Mapping[str, Any]) -> dict[str, str]:
    """The pictures on the cards of a built notebook, base64 by exercise number."""
    return {
        id: image[1]
        for cell in notebook.get("cells", ())
        for id in ids_in_cell_id(cell.get("id", ""))
        if (image := IMAGE.search(cell["source"]))
    }
