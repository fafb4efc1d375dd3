"""Long measurements, one command each: `diffusion-lessons experiment NAME`.

An experiment is a list of settings and a function that measures one of them. Each row is written
to the result file as soon as it is measured, so that a stopped run goes on where it was.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from tqdm import tqdm

from diffusion_lessons.support.errors import unknown
from diffusion_lessons.support.files import atomic_write, writable_file
from diffusion_lessons.support.machine import hardware, versions
from diffusion_lessons.support.seeds import checked_seed

Row = dict[str, Any]

FOLDER = Path(__file__).parent
RECORDED = FOLDER / "results"
SHARED = {"__init__", "clock", "damages", "pictures"}  # files here that are no experiments


@dataclass(frozen=True)
class Experiment:
    """A measurement over a list of settings."""

    module: str  # `__name__` of its file; the file's name with dashes is the experiment's
    about: str  # `__doc__` of its file; the first line says what is measured
    columns: str  # of the table that is printed at the end, with blanks between
    settings: Callable[[Row], list[Row]]  # options -> one dict a row; cheap ones first
    prepare: Callable[[Row], Any]  # options -> whatever all rows share (a model, reference statistics)
    measure: Callable[[Any, Row, Row], Row]  # (what `prepare` made, settings of the row, options) -> figures;
    # NaN and infinity are written as null

    @property
    def name(self) -> str:
        """As on the command line, and of the result file."""
        return self.module.rpartition(".")[2].replace("_", "-")


def names() -> list[str]:
    """What there is: each file here but those that are `SHARED`, by its name with dashes."""
    stems = {file.stem for file in FOLDER.glob("*.py")} - SHARED
    return sorted(stem.replace("_", "-") for stem in stems)


def find(name: str) -> Experiment:
    """The experiment of that name; none is a ValueError that names the nearest."""
    if name not in names():
        raise unknown("experiment", name, names())
    return import_module(f"{__name__}.{name.replace('-', '_')}").EXPERIMENT


def recorded(name: str, gpu: str | None = None) -> Row:
    """The recorded result of an experiment: its options, hardware, versions, and rows.

    NAME.json is what lessons tell of; NAME.GPU.json is the same command on a GPU, which `recorded_on` lists.
    Where none is bundled, the ValueError names the command that makes one.
    """
    find(name)
    file = RECORDED / (f"{name}.json" if gpu is None else f"{name}.{gpu}.json")
    if not file.exists():
        on, where = ("", "") if gpu is None else (f" on {gpu!r}", " --device cuda")
        command = f"diffusion-lessons experiment {name}{where}"
        raise ValueError(f"no recorded result of {name!r}{on}: make one with {command}")
    return json.loads(file.read_text())


def recorded_on(name: str) -> list[str]:
    """The GPUs that an experiment has a result of, beside its own, as file names have them."""
    find(name)
    return sorted(file.name.removeprefix(f"{name}.")[:-5] for file in RECORDED.glob(f"{name}.*.json"))


def run(experiment: Experiment, file: Path, options: Row) -> Row:
    """Measure every setting that the result file does not hold yet; gives all rows in the order of settings.

    A row whose figures tell what was "missing" on the machine, such as a compiler, is measured again.
    The file, JSON, is made, or gone on with where its options are these: model, seed, n, device. One that
    belongs to another run, or cannot be read or written, and less than one sample a row are a ValueError.
    """
    checked_seed(options.get("seed", 0))
    if options.get("n", 1) < 1:
        raise ValueError(f"the number of samples a row must be at least 1, got {options['n']}")
    writable_file(file)
    result = _begun(experiment, file, options)
    result["rows"] = [row for row in result["rows"] if "missing" not in row]
    done, wanted = [row["settings"] for row in result["rows"]], experiment.settings(options)
    missing = [settings for settings in wanted if settings not in done]
    shared = experiment.prepare(options) if missing else None
    for settings in tqdm(missing, desc=experiment.name, unit="row"):
        started = time.perf_counter()
        figures = experiment.measure(shared, settings, options)
        seconds = round(time.perf_counter() - started, 2)
        result["rows"].append({"settings": settings, **_plain(figures), "seconds": seconds})
        result["rows"].sort(key=lambda row: _place(row["settings"], wanted))
        with atomic_write(file) as partial:
            partial.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
    return result


def _place(settings: Row, wanted: list[Row]) -> int:
    """Where settings stand in the list; those that are in it no more come last, as they were."""
    return wanted.index(settings) if settings in wanted else len(wanted)


def _plain(value: Any) -> Any:
    """A figure as JSON knows it: what is no finite number becomes None, also inside lists and dicts."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _begun(experiment: Experiment, file: Path, options: Row) -> Row:
    """The result as far as it was measured, or an empty one."""
    fresh = {
        "experiment": experiment.name,
        "title": experiment.about.splitlines()[0].rstrip("."),
        "options": options,
        "hardware": hardware(options.get("device") or "cpu"),
        "versions": versions(),
        "rows": [],
    }
    if not file.exists():
        return fresh
    try:
        result = json.loads(file.read_text())
        same = result["experiment"] == experiment.name and result["options"] == options
    except (ValueError, KeyError, TypeError) as error:
        remedy = "move it or name another --out"
        raise ValueError(f"{file} is no result file of an experiment: {remedy}") from error
    if not same:
        raise ValueError(f"{file} holds a run with other options ({result['options']}): name another --out")
    return result


def table(experiment: Experiment, result: Row) -> str:
    """The rows as text, one line each."""
    columns, rows = experiment.columns.split(), [{**row["settings"], **row} for row in result["rows"]]
    cells = [columns, *([_cell(row.get(column)) for column in columns] for row in rows)]
    return "\n".join("  ".join(f"{cell:>12}" for cell in line) for line in cells)


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
