"""All that deserves a GPU, the worthiest first, within some minutes: `make gpu`.

It runs in the Python that calls it, and leaves its PyTorch as it is: packages that are missing come from a
folder of wheels, or from the index, into a folder beside the results. A part is a command with a log. What is
done is not done again, a part that the time cut goes on where it can, and every result carries its hardware.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).parents[2]
BENCHES = ("training", "sampling", "prompting", "onnx", "real-size", "memory", "quality")
EXPERIMENTS = (
    "speed-ladder",
    "text-conditioning",
)  # whose figures on a GPU are others, or take hours without
RECIPES = ("scenes-text", "scenes-inpaint", "scenes-clip", "mnist-unet")
LAST_WORDS = 20.0  # seconds that a part has to save what it made
SHORTEST = 3.0  # seconds under which no part is begun


@dataclass(frozen=True)
class Part:
    """A command for this Python, and the most seconds that it may take."""

    name: str
    seconds: float
    arguments: tuple[str, ...]


def parts(gpu: str, out: Path) -> list[Part]:
    """What there is to do on a GPU of this name (as in file names), in order of worth."""
    tests = ("-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", "tests")
    bench = ("-m", "tests.benchmarks.run", "--windows", "3", "--window-seconds", "2", "--seconds", "30")
    record = str(ROOT / "tests" / "benchmarks" / "results" / f"{gpu}.json")
    measured = ROOT / "diffusion_lessons" / "experiments" / "results"
    lessons = ("-m", "diffusion_lessons", "experiment")
    return [
        Part("tests", 180, tests),
        *(Part(f"bench-{name}", 90, (*bench, name, "--out", record)) for name in BENCHES),
        *(
            Part(
                name, 400, (*lessons, name, "--device", "cuda", "--out", str(measured / f"{name}.{gpu}.json"))
            )
            for name in EXPERIMENTS
        ),
        *(
            Part(name, 400, ("-m", "diffusion_lessons.makers", name, "--out", str(out / "zoo")))
            for name in RECIPES
        ),
    ]


def run(todo: list[Part], out: Path, deadline: float, say: Callable[[str], object] = print) -> dict[str, str]:
    """Do the parts until the deadline (of `time.monotonic`): what became of each, by name.

    "done", "done before", "no time", "stopped" by the clock, or "failed" with the exit code; a part that is
    done leaves a file of its name, and every part its log, in the folder `out`.
    """
    out.mkdir(parents=True, exist_ok=True)
    ended: dict[str, str] = {}
    for part in todo:
        mark, log = out / f"{part.name}.done", out / f"{part.name}.log"
        left = min(part.seconds, deadline - time.monotonic() - LAST_WORDS)
        started = time.monotonic()
        if mark.exists():
            ended[part.name] = "done before"
        elif left < SHORTEST:
            ended[part.name] = "no time"
        else:
            code = _finished(part, log, left)
            ended[part.name] = {0: "done", None: "stopped by the clock"}.get(code, f"failed ({code}): {log}")
            if code == 0:
                mark.touch()
        say(f"{part.name:<20} {time.monotonic() - started:6.0f} s  {ended[part.name]}")
    return ended


def _finished(part: Part, log: Path, seconds: float) -> int | None:
    """The exit code of a part; None where its time ran out, after it was asked to end."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, *part.arguments],
            cwd=ROOT,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(LAST_WORDS)
            return None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def missing(pyproject: Path = ROOT / "pyproject.toml") -> list[str]:
    """The packages of the project and of its tests that this Python lacks; never PyTorch."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    names = {re.split(r"[\[<>=!~; ]", each)[0] for each in wanted} - {project["name"]}
    return sorted(name for name in names if not _installed(name))


def missing_wheels(wheels: Path) -> list[str]:
    """The packages in a folder of wheels that this Python lacks; never PyTorch."""
    names = {file.name.split("-")[0].replace("_", "-") for file in wheels.glob("*.whl")}
    return sorted(name for name in names if not _installed(name))


def _installed(name: str) -> bool:
    try:
        return bool(version(name))
    except PackageNotFoundError:
        return name == "torch"


def install(folder: Path, wheels: Path | None) -> None:
    """Put what is missing where this Python finds it: wheels into the folder, else from the index."""
    if wheels is not None and not wheels.is_dir():
        raise ValueError(f"no folder of wheels {wheels}: name the one that holds the .whl files")
    names = missing() if wheels is None else missing_wheels(wheels)
    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    if wheels is None and names:
        kept = folder.with_suffix(".txt")
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(f"torch=={version('torch')}\n")
        subprocess.run([*pip, "--constraint", str(kept), *names], check=True)
    elif names:
        found = ["--no-deps", "--no-index", "--find-links", str(wheels), "--target", str(folder)]
        subprocess.run([*pip, *found, *names], check=True)
    paths = [str(ROOT), str(folder), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))


def main() -> int:
    """Exit codes: 0 all is done, 1 a part failed, 2 no GPU or no packages, 3 time ran out: call it again."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gpu", description=__doc__)
    parser.add_argument("--minutes", type=float, default=9.0, help="in all, installation included")
    parser.add_argument("--wheels", type=Path, help="folder of wheels for packages that are missing")
    parser.add_argument("--out", type=Path, default=Path("out/gpu"), help="logs, and what is made")
    given = parser.parse_args()
    deadline, out = time.monotonic() + 60 * given.minutes, given.out.resolve()
    try:
        gpu = _gpu()
        install(out / "packages", given.wheels)
        ended = run(parts(gpu, out), out, deadline).values()
    except (ValueError, OSError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on", file=sys.stderr)
        return 130
    if any(state.startswith("failed") for state in ended):
        return 1
    return 0 if all(state.startswith("done") for state in ended) else 3


def _gpu() -> str:
    """The name of the GPU as file names have it."""
    try:
        import torch
    except ImportError as error:
        raise ValueError("this Python has no PyTorch: name one that has, make gpu PYTHON=…") from error
    if not torch.cuda.is_available():
        raise ValueError("PyTorch sees no CUDA device here; `make test` and `make bench` do without one")
    return re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name().lower()).strip("-")


if __name__ == "__main__":
    sys.exit(main())
