"""`diffusion-lessons release`: one archive to hand to a class."""

import json
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from jinja2 import StrictUndefined, Template

from diffusion_lessons.course.grading.wheel import build
from diffusion_lessons.course.lessons import LESSONS, repository_address
from diffusion_lessons.course.student.class_seed import NAME as SEED
from diffusion_lessons.course.student.lab import START, lessons_folder
from diffusion_lessons.support.errors import unknown
from diffusion_lessons.support.files import atomic_write

DATE = (2000, 1, 1, 0, 0, 0)  # of every file: the same lessons give the same archive
TOP = "course"
README = Path(__file__).parent / "README.md.jinja"


def release(
    lessons: Iterable[str], out: Path, seed: int | None = None, wheel: Path | None = None
) -> list[str]:
    """Write the archive, a .zip file; the names of the files in it.

    Args:
        lessons: two digits each; the start page always comes along.
        seed: of cases that the published lessons do not show; the notebooks and `check` use it.
        wheel: of this package, for a class that cannot get it from its repository; where there is no public
            one, default a wheel that is built here.

    A lesson that does not exist, and nowhere to install the package from, are a ValueError.
    """
    if out.suffix != ".zip":
        raise ValueError(f"--out is a .zip file, got {out}")
    if wheel is not None and (wheel.suffix != ".whl" or not wheel.is_file()):
        raise ValueError(f"--wheel is a .whl file, as `pip wheel --no-deps .` makes it; got {wheel}")
    notebooks = chosen([START[:2], *lessons])
    with TemporaryDirectory() as folder:
        if wheel is None and not repository_address():
            wheel = build(Path(folder))
        package = {} if wheel is None else {wheel.name: wheel.read_bytes()}
    files: dict[str, bytes] = {f"notebooks/{file.name}": file.read_bytes() for file in notebooks}
    files |= package
    files["README.md"] = readme([file.stem for file in notebooks], next(iter(package), "")).encode()
    if seed is not None:
        files[f"notebooks/{SEED}"] = (json.dumps({"seed": seed}) + "\n").encode()
    write(out, {f"{TOP}/{name}": content for name, content in files.items()})
    return sorted(files)


def chosen(lessons: Iterable[str]) -> list[Path]:
    """The student notebooks of some lessons in order; one that does not exist is a ValueError."""
    there = {file.name[:2]: file for file in sorted(lessons_folder().glob("[0-9][0-9]_*.ipynb"))}
    for number in (numbers := list(lessons)):
        if number not in there:
            raise unknown("lesson", number, there)
    return [there[number] for number in sorted(set(numbers))]


def readme(stems: list[str], wheel: str) -> str:
    """The page for the class: what is in the archive, how to install, how to check.

    pip installs the `wheel` in the archive, "" for the public repository.
    """
    titles = {entry.stem: entry.title for entry in LESSONS}
    lessons = {stem: titles.get(stem, stem) for stem in sorted(stems)}
    example = next((stem for stem in lessons if not START.startswith(stem)), START.removesuffix(".ipynb"))
    page = Template(README.read_text(encoding="utf-8"), trim_blocks=True, undefined=StrictUndefined)
    source = f'"./{wheel}[lab]"' if wheel else f'"diffusion-lessons[lab] @ git+{repository_address()}"'
    return page.render(lessons=lessons, source=source, start=START, example=example) + "\n"


def write(out: Path, files: Mapping[str, bytes]) -> None:
    """Write an archive of some files, whole or not at all and always the same bytes."""
    with atomic_write(out) as partial, zipfile.ZipFile(partial, "w") as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, files[name])
