"""All that deserves a GPU, the worthiest first, within some minutes: `make gpu`.

It runs in the Python that calls it, and leaves its PyTorch as it is: packages that are missing come from a
folder of wheels into a folder beside the results, or else from the index into this Python. A part is a
command with a log. What is done is not done again, a part that was begun before comes after those that were
not, one that the time cut goes on where it can, and every result carries its hardware.
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
from importlib import invalidate_caches
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).parents[2]
ALL_SIZES = ("small", "medium", "large")
BENCHES: dict[str, tuple[float, tuple[str, ...]]] = {  # seconds at most; sizes, each a part of its own
    "training": (150, ALL_SIZES),
    "sampling": (90, ALL_SIZES),
    "prompting": (240, ("small", "medium")),
    "onnx": (120, ()),
    "real-size": (90, ()),
    "memory": (150, ALL_SIZES),
    "quality": (150, ()),
}
EXPERIMENTS = {"speed-ladder": 400, "text-conditioning": 500}  # other on a GPU, or hours without; seconds
RECIPES = ("scenes-text", "scenes-inpaint", "scenes-clip", "mnist-unet")
LAST_WORDS = 20.0  # seconds that a part has to save what it made
SHORTEST = 3.0  # seconds under which no part is begun
MARK = "@pytest.mark." + "gpu"
TOOLS = {"accelerate", "diffusers", "pytest", "transformers"}  # of the packages of the tests, what parts need
ON_GPUS = {"onnxruntime": "onnxruntime-gpu"}  # the package that has the same module, with CUDA


@dataclass(frozen=True)
class Part:
    """A command for this Python, and the most seconds that it may take."""

    name: str
    seconds: float
    arguments: tuple[str, ...]


def parts(gpu: str, out: Path) -> list[Part]:
    """What there is to do on a GPU of this name (as in file names), in order of worth."""
    tests = ("-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", "--continue-on-collection-errors")
    return [
        Part("tests", 180, (*tests, *tests_for_a_gpu())),
        *_benches(ROOT / "tests" / "benchmarks" / "results" / f"{gpu}.json"),
        *_experiments(gpu),
        *(
            Part(name, 500, ("-m", "diffusion_lessons.makers", name, "--out", str(out / "zoo")))
            for name in RECIPES
        ),
    ]


def tests_for_a_gpu() -> list[str]:
    """The files that hold a test marked `gpu`: the others need packages that may not be there."""
    files = (ROOT / "tests").rglob("test_*.py")
    return sorted(str(file.relative_to(ROOT)) for file in files if MARK in file.read_text(encoding="utf-8"))


def _benches(record: Path) -> list[Part]:
    how = ("-m", "tests.benchmarks.run", "--windows", "3", "--window-seconds", "2", "--seconds", "30")
    how += ("--out", str(record))
    return [
        Part(f"bench-{name}-{size}".rstrip("-"), seconds, (*how, name, *(("--sizes", size) if size else ())))
        for name, (seconds, sizes) in BENCHES.items()
        for size in sizes or ("",)
    ]


def _experiments(gpu: str) -> list[Part]:
    measured = ROOT / "diffusion_lessons" / "experiments" / "results"
    how = ("-m", "diffusion_lessons", "experiment")
    return [
        Part(name, seconds, (*how, name, "--device", "cuda", "--out", str(measured / f"{name}.{gpu}.json")))
        for name, seconds in EXPERIMENTS.items()
    ]


def run(todo: list[Part], out: Path, deadline: float, say: Callable[[str], object] = print) -> dict[str, str]:
    """Do the parts until the deadline (of `time.monotonic`): what became of each, by name.

    Those that no call has begun come first: one that never fits its seconds keeps no other from its turn.
    "done", "done before", "no time", "stopped" by the clock, or "failed" with the exit code; a part that is
    done leaves a file of its name, and every part its log, in the folder `out`.
    """
    out.mkdir(parents=True, exist_ok=True)
    ended: dict[str, str] = {}
    for part in sorted(todo, key=lambda part: (out / f"{part.name}.log").exists()):
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
        say(f"{part.name:<23} {time.monotonic() - started:6.0f} s  {ended[part.name]}")
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
    """The packages that a part needs and this Python lacks; never PyTorch."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    known, tools = (
        {re.split(r"[\[<>=!~; ]", each)[0] for each in listed}
        for listed in (project["dependencies"] + extras["onnx"], extras["test"])
    )
    lacking = sorted(name for name in known | (tools & TOOLS) if not _installed(name))
    return [ON_GPUS.get(name, name) for name in lacking if not _installed(ON_GPUS.get(name, name))]


def missing_wheels(wheels: Path) -> list[str]:
    """The packages in a folder of wheels that this Python lacks; never PyTorch."""
    names = {file.name.split("-")[0].replace("_", "-") for file in wheels.glob("*.whl")}
    return sorted(name for name in names if not _installed(name))


def _installed(name: str) -> bool:
    """Whether a package is here; what PyTorch is made of counts as here."""
    try:
        return bool(version(name))
    except PackageNotFoundError:
        return name in ("torch", "triton") or name.startswith("nvidia-")


def install(folder: Path, wheels: Path | None, say: Callable[[str], object] = print) -> None:
    """Put what is missing where this Python finds it: wheels into the folder, else from the index.

    Packages that are in neither place are named: the parts that need them will fail, the others will not.
    """
    if wheels is not None and not wheels.is_dir():
        raise ValueError(f"no folder of wheels {wheels}: name the one that holds the .whl files")
    sys.path.append(str(folder))  # what an earlier call has put there is not missing
    names = missing() if wheels is None else missing_wheels(wheels)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if wheels is None and names:
        kept = folder.with_suffix(".txt")
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(f"torch=={version('torch')}\n")
        _run_pip([*pip, "--constraint", str(kept), *names])
    elif names:
        found = ["--no-deps", "--no-index", "--find-links", str(wheels), "--upgrade", "--target", str(folder)]
        _run_pip([*pip, *found, *names])
    invalidate_caches()
    if lacking := missing():
        say(f"not here, and not in {wheels}: {', '.join(lacking)}; parts that need them will fail")
    paths = [str(ROOT), str(folder), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))


def _run_pip(command: list[str]) -> None:
    if subprocess.run(command).returncode:
        raise ValueError(
            "pip could not install what is missing (its words are above): WHEELS=FOLDER takes packages from "
            "a folder of wheels for this Python, and a virtual environment takes them from the index"
        )


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
        ended = run(parts(gpu, out), out, deadline)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on", file=sys.stderr)
        return 130
    left = [name for name, state in ended.items() if not state.startswith("done")]
    if not left:
        return 0
    print(
        f"{len(left)} of {len(ended)} parts are left: {', '.join(left)}; the same command goes on with them"
    )
    return 1 if any(state.startswith("failed") for state in ended.values()) else 3


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
