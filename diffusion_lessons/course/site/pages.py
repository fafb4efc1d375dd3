"""The sources of the site as Sphinx reads them: written into a folder, from the lessons and docs/."""

import re
import shutil
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import nbformat
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from diffusion_lessons.course.authoring import opening, render
from diffusion_lessons.course.authoring.notebook import read_notebook
from diffusion_lessons.course.authoring.repository import context_of
from diffusion_lessons.course.authoring.source import read
from diffusion_lessons.course.lessons import LESSONS, PLAYGROUND
from diffusion_lessons.course.site import api
from diffusion_lessons.course.site.flashcards import flashcards, paragraphs, table, write_deck
from diffusion_lessons.course.site.formulas import first_sentences, key_formula, pieces, sheet
from diffusion_lessons.course.site.notebooks import Picture, first_picture, site_notebook
from diffusion_lessons.course.site.reading import Study, studies
from diffusion_lessons.course.site.social import save_card
from diffusion_lessons.course.student.quiz import STYLE
from diffusion_lessons.course.widgets.page import markup

TEMPLATES = Path("docs") / "site" / "pages"
GUIDES = ("instructors", "authoring", "architecture", "scale")
LESSON = re.compile(r"\b([Ll]esson) (\d\d?)\b")
NOTE = '- **Take it with you:** <a href="../notebooks/{stem}.ipynb" download>the notebook to work in</a>'


@dataclass(frozen=True)
class Pages:
    """What was read for one build: `solved` are the executed notebooks by stem, in the course's order."""

    root: Path
    studies: list[Study]
    solved: dict[str, nbformat.NotebookNode]

    @property
    def pictures(self) -> dict[str, Picture | None]:
        """The picture of each lesson's opening, by number; None where there is none."""
        found = {stem[:2]: first_picture(notebook) for stem, notebook in self.solved.items()}
        return {study.entry.number: found.get(study.entry.number) for study in self.studies}


def read_all(root: Path) -> Pages:
    """A repository's lessons and the solved notebooks that are there; ValueError for what cannot be read."""
    solved = {}
    for entry in LESSONS:
        file = root / "solutions" / f"{entry.stem}.ipynb"
        if (notebook := read_notebook(file)) is not None:
            solved[entry.stem] = notebook
        elif file.exists():
            raise ValueError(f"{file} is no notebook: build it again, or take it away")
    return Pages(root, studies(root), solved)


def write_sources(pages: Pages, folder: Path) -> None:
    """All that Sphinx reads but its settings, into an empty folder."""
    for name in ("_static/lessons", "extra/notebooks", "lessons", "guides", "api"):
        (folder / name).mkdir(parents=True)
    shutil.copytree(pages.root / "docs" / "site" / "static", folder / "_static", dirs_exist_ok=True)
    shutil.copy(pages.root / opening.FILE, folder / "_static")
    save_card(pages.root / opening.FILE, folder / "_static" / "card.png")
    for number, picture in pages.pictures.items():
        if picture:
            (folder / "_static" / "lessons" / f"{number}.png").write_bytes(picture.png)
    for stem, notebook in pages.solved.items():
        shutil.copy(pages.root / "notebooks" / f"{stem}.ipynb", folder / "extra" / "notebooks")
        nbformat.write(site_notebook(notebook, NOTE.format(stem=stem)), folder / "lessons" / f"{stem}.ipynb")
    for name in GUIDES:
        shutil.copy(pages.root / "docs" / f"{name}.md", folder / "guides")
    rooms = api.rooms(pages.root)
    (folder / "api" / "index.md").write_text(api.index(pages.root, rooms), encoding="utf-8")
    for room, modules in rooms.items():
        (folder / "api" / f"{room.partition('.')[2]}.rst").write_text(api.page(modules), encoding="utf-8")
    cards = flashcards(pages.studies)
    (folder / "extra" / "cards.csv").write_text(table(cards), encoding="utf-8")
    write_deck(cards, folder / "extra" / "cards.apkg")


def write_printed(pages: Pages, folder: Path) -> None:
    """The cheat sheet as a page of its own."""
    made = _environment(pages).get_template("cheatsheet-print.html.jinja").render(**_known(pages))
    (folder / "cheatsheet-print.html").write_text(made, encoding="utf-8")


def write_pages(pages: Pages, folder: Path, *, pdf: bool, play: dict[str, Any] | None = None) -> None:
    """The pages that stand in templates; `pdf`: the cheat sheet is there as a PDF, too.

    `play` is what `write_playground` tells; without it there is no playground.
    """
    environment, known = _environment(pages), _known(pages)
    places = {"lessons": "lessons/index.md", "guides": "guides/index.md"}
    names = ["index", "interview", "quiz", "cheatsheet", "flashcards", "lessons", "guides"]
    for name in [*names, *(["playground"] if play else [])]:
        made = environment.get_template(f"{name}.md.jinja").render(**known, pdf=pdf, play=play)
        (folder / places.get(name, f"{name}.md")).write_text(made, encoding="utf-8")
    if play:
        made = environment.get_template(f"{PLAYGROUND}.jinja").render(play=play)
        (folder / "extra" / PLAYGROUND).write_text(made, encoding="utf-8")


def _known(pages: Pages) -> dict[str, Any]:
    """What the templates may use."""
    context = context_of(pages.root)
    lessons = {stem: read(pages.root / "solutions" / f"{stem}.py") for stem in pages.solved}
    fragment = {"sheet": sheet(pages.studies), "written": _written(pages)}
    return {
        "studies": pages.studies,
        "written": _written(pages),
        "pages": list(pages.solved),
        "minutes": {stem: render.reading_minutes(lesson, context) for stem, lesson in lessons.items()},
        "formulas": {study.entry.number: key_formula(study) for study in pages.studies},
        "pictures": pages.pictures,
        "cards": flashcards(pages.studies),
        "count": sum(len(study.questions) for study in pages.studies),
        "dots": render.DOTS,
        "style": STYLE,
        "opening_alt": opening.ALT,
        "fragment": _environment(pages).get_template("sheet.html.jinja").render(**fragment),
    }


def _written(pages: Pages) -> list[Study]:
    return [study for study in pages.studies if study.written]


def _environment(pages: Pages) -> Environment:
    made = Environment(
        loader=FileSystemLoader(pages.root / TEMPLATES), undefined=StrictUndefined, keep_trailing_newline=True
    )
    there = {int(stem[:2]): stem for stem in pages.solved}
    made.filters |= {
        "marked": markup,
        "said": paragraphs,
        "begun": first_sentences,
        "pieces": pieces,
        "linked": lambda html: linked(html, there),
        "e": escape,
    }
    return made


def linked(html: str, there: dict[int, str]) -> str:
    """HTML in which "lesson 3" leads to that lesson where it has a page; tags and their attributes stay."""

    def link(found: re.Match[str]) -> str:
        stem = there.get(int(found[2]))
        return f'<a href="lessons/{stem}.html">{found[0]}</a>' if stem else found[0]

    parts = re.split(r"(<[^>]*>)", html)
    return "".join(part if part.startswith("<") else LESSON.sub(link, part) for part in parts)
