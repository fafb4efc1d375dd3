"""Ours and other projects, side by side in one run: `make bench`, or `python -m tests.benchmarks.run NAME…`.

Prints a table and writes a JSON file with hardware and versions, row by row: what was measured before a stop
is kept. Where a figure is below its bar, the table says so and shows where the time goes.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from diffusion_lessons.support.console import guarded
from diffusion_lessons.support.errors import unknown
from diffusion_lessons.support.files import atomic_write, writable
from diffusion_lessons.support.machine import choose_device, hardware, versions
from diffusion_lessons.training.speed import SpeedMode
from tests.published_folder import pipeline

from . import peers, quality
from .apart import Apart
from .exported import BARS, cannot_run, eager, export, exported
from .loops import ours_as_shipped, same_for_both, theirs_as_shipped
from .prompting import SHAPES, export_prompting, our_prompting, real_size, their_prompting
from .sampling import our_sampling, their_sampling
from .sizes import SIZES, parity
from .timing import Comparison, Side, Timing, Work, side_by_side

RESULTS = Path(__file__).parent / "results"
BATCH = {"small": 64, "medium": 16, "large": 128}
MEMORY_STEPS, MEMORY_RUNS = 6, 3
REAL_SIZE_GB = 6.0  # of memory, at most: what a machine of 8 GB has to spare
Row = dict[str, Any]


class Bench:
    """What all benchmarks share.

    Args:
        device: of both sides.
        seconds: of training for each side of time-to-quality.
        timing: windows of the others.
        sizes: of networks, names of `SIZES`.
    """

    def __init__(self, device: torch.device, seconds: float, timing: Timing, sizes: list[str]) -> None:
        self.device, self.seconds, self.timing, self.sizes = device, seconds, timing, sizes

    def quality(self) -> Iterator[Row]:
        folder = writable(Path("out/bench"))
        facts = quality.time_to_quality(self.seconds, self.device, folder)
        yield row("time to quality: classes recognised", facts["accuracy"], 0.97, facts)
        yield row("time to quality: their Fréchet distance over ours", facts["frechet_ratio"], 30.0)

    def training(self) -> Iterator[Row]:
        for name in self.sizes:
            size, batch = SIZES[name], BATCH[name]
            costs = parity(size)
            facts = {"batch": batch, "ours": vars(costs[0]), "theirs": vars(costs[1])}
            with (
                self.apart(ours_as_shipped, size, batch) as ours,
                self.apart(theirs_as_shipped, size, batch) as theirs,
            ):
                title = f"training {size.title}, as shipped ({ours.mode} against theirs)"
                yield self.compare(title, ours, theirs, 1.3, facts)
            for mode in self.modes():
                a, b = (
                    same_for_both(network, batch, self.device, mode)
                    for network in (size.ours(), size.unet_2d_model())
                )
                yield self.compare(f"training {size.title}, {mode} for both", a, b, 1.05, facts)
        if self.device.type != "cuda" or "large" in self.sizes:
            yield self.lucidrains()

    def modes(self) -> list[SpeedMode]:
        """What both are given: compiled too where that is what one would use."""
        if self.device.type == "cuda":
            return [SpeedMode("bf16"), SpeedMode("bf16", compile=True)]
        return [SpeedMode("float32")]

    def lucidrains(self) -> Row:
        network, why = peers.lucidrains_unet()
        if network is None or self.device.type != "cuda":
            return skipped("training against denoising-diffusion-pytorch", why or "its size needs a GPU")
        mode = SpeedMode("bf16")
        a = same_for_both(SIZES["large"].ours(), BATCH["large"], self.device, mode)
        b = same_for_both(network, BATCH["large"], self.device, mode)
        title = "training 36 M against denoising-diffusion-pytorch, eager bf16 for both"
        return self.compare(title, a, b, 1.05)

    def sampling(self) -> Iterator[Row]:
        for name in self.sizes:
            size = SIZES[name]
            with self.apart(our_sampling, size) as ours, self.apart(their_sampling, size) as theirs:
                title = f"sampling {size.title}, DDIM in 25 steps"
                yield self.compare(title, ours, theirs, 1.5, {"images": ours.images})

    def prompting(self) -> Iterator[Row]:
        why = cannot_run(self.device)
        for name in self.sizes:
            if name not in SHAPES:
                continue
            with TemporaryDirectory() as place:
                folder, shape = Path(place) / "model", SHAPES[name]
                pipeline(folder, shape)
                words = f"{shape.pixels} px, {shape.widths[0]} to {shape.widths[-1]} wide"
                onnx = folder if why else export_prompting(folder, Path(place) / "onnx")
                for model, precision, how in (
                    (folder, "float32", "float32 for both"),
                    (folder, "auto", "as shipped"),
                    (onnx, "float32", "exported"),
                ):
                    title = f"prompt to picture, {words}, DDIM in 25 guided steps, {how}"
                    if how == "exported" and why:
                        yield skipped(title, why)
                        continue
                    with (
                        self.apart(our_prompting, model, precision) as ours,
                        self.apart(their_prompting, folder) as theirs,
                    ):
                        yield self.compare(title, ours, theirs, 1.3)
                title = f"peak memory of prompt to picture, {words}, float32, ours over theirs"
                ours, theirs = partial(our_prompting, folder, "float32"), partial(their_prompting, folder)
                yield self.peaks(title, ours, theirs, steps=2)

    def onnx(self) -> Iterator[Row]:
        if why := cannot_run(self.device):
            yield skipped("ONNX Runtime over PyTorch", why)
            return
        with TemporaryDirectory() as place:
            file = export(Path(place) / "model.onnx")
            for images, bar in BARS.items():
                with self.apart(exported, file, images) as ours, self.apart(eager, images) as theirs:
                    title = f"ONNX Runtime over PyTorch, DDIM in 25 steps, one thread, batch {images}"
                    yield self.compare(title, ours, theirs, bar)

    def real_size(self) -> Iterator[Row]:
        with self.apart(real_size) as process:
            seconds = process.seconds(1, self.timing)
            gigabytes = process.peak(self.device) / 1e9
        title = "one guided step of Stable Diffusion 1, real size in bf16, 512 px: peak memory in GB"
        yield row(title, gigabytes, REAL_SIZE_GB, {"seconds": seconds}, most=True)

    def memory(self) -> Iterator[Row]:
        for name in self.sizes:
            title = f"peak memory of training {SIZES[name].title}, ours over theirs"
            given = SIZES[name], BATCH[name]
            found = self.peaks(title, ours_as_shipped, theirs_as_shipped, *given, steps=MEMORY_STEPS)
            found["facts"]["batch"] = BATCH[name]
            yield found

    def peaks(
        self, title: str, ours: Callable[..., Work], theirs: Callable[..., Work], *given: Any, steps: int
    ) -> Row:
        """A row from the peaks of processes that do so many steps each."""
        peaks: dict[str, list[float]] = {"ours": [], "theirs": []}
        for _ in range(MEMORY_RUNS):  # what a process holds on a CPU varies by a few per cent
            for side, make in (("ours", ours), ("theirs", theirs)):
                with self.apart(make, *given) as process:
                    process.seconds(steps, self.timing)
                    peaks[side].append(process.peak(self.device) / 1e6)
        ratio = statistics.median(peaks["ours"]) / statistics.median(peaks["theirs"])
        return row(title, ratio, 1.0, {"megabytes": peaks}, most=True)

    def apart(self, make: Callable[..., Work], *given: Any) -> Apart:
        """What `make` makes on the device, in a process of its own."""
        return Apart(partial(make, *given, self.device))

    def compare(self, title: str, ours: Side, theirs: Side, bar: float, facts: Row | None = None) -> Row:
        """A row from windows that alternate; with a profile of both where it is below the bar."""
        found: Comparison = side_by_side(ours, theirs, self.timing)
        facts = {**(facts or {}), "images_per_second": {"ours": found.ours, "theirs": found.theirs}}
        facts["ratios"] = found.ratios
        if found.ratio < bar:
            facts["profile"] = {"ours": ours.profile(), "theirs": theirs.profile()}
        return row(title, found.ratio, bar, facts)


def row(title: str, figure: float, bar: float, facts: Row | None = None, most: bool = False) -> Row:
    """A figure, its bar and whether it is reached; `most` where the bar is an upper one."""
    reached = figure <= bar if most else figure >= bar
    return {
        "title": title,
        "figure": figure,
        "bar": bar,
        "reached": reached,
        "upper": most,
        "facts": facts or {},
    }


def skipped(title: str, why: str) -> Row:
    return {"title": title, "skipped": why}


def table(rows: list[Row]) -> str:
    """A line for each row; below a figure that falls short, where the time goes."""
    lines = []
    for r in rows:
        if "skipped" in r:
            lines.append(f"{r['title']:<88} skipped: {r['skipped']}")
            continue
        verdict = "" if r["reached"] else "   BELOW the bar" if not r["upper"] else "   ABOVE the bar"
        spread = r["facts"].get("ratios")
        span = f" ({min(spread):.2f} to {max(spread):.2f})" if spread else ""
        sign = "≤" if r["upper"] else "≥"
        lines.append(f"{r['title']:<88} {r['figure']:8.3f}{span}  {sign} {r['bar']:g}{verdict}")
        for side, profile_lines in r["facts"].get("profile", {}).items():
            lines += [f"    {side}: {line}" for line in profile_lines[:5]]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.run", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all if left out")
    parser.add_argument(
        "--out", type=Path, help="JSON file; tests/benchmarks/results/DEVICE.json if left out"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="of training for time to quality")
    parser.add_argument("--windows", type=int, default=5)
    parser.add_argument("--window-seconds", type=float, default=4.0)
    parser.add_argument(
        "--cpu-time", action="store_true", help="count what a process computed: on a machine that others use"
    )
    parser.add_argument("--sizes", nargs="+", choices=SIZES, help="small and medium; on a GPU large too")
    parser.add_argument("--device")
    given = parser.parse_args()
    guarded(lambda: bench(given))


def bench(given: argparse.Namespace) -> None:
    """Run the benchmarks that were asked for; other results in the file stay, and those of other sizes."""
    device = choose_device(given.device)
    for name in given.names:
        if name not in NAMES:
            raise unknown("benchmark", name, NAMES)
    sizes = given.sizes or ["small", "medium", "large"][: 3 if device.type == "cuda" else 2]
    timing = Timing(device, given.windows, given.window_seconds, given.cpu_time)
    shared = Bench(device, given.seconds, timing, sizes)
    file = given.out or RESULTS / f"{device.type}.json"
    writable(file.parent)
    result: Row = json.loads(file.read_text()) if file.exists() else {}
    for name in given.names or NAMES:
        facts = {
            "hardware": hardware(device),
            "threads": torch.get_num_threads(),
            "clock": "computed" if given.cpu_time else "passed",
            "versions": versions("diffusers", "transformers", "onnxruntime", "onnxruntime-gpu"),
        }
        before, rows = result.get(name, {}), []
        for found in NAMES[name](shared):
            print(table([found]), flush=True)
            rows.append(found)
            result[name] = facts | {"rows": merged(before, facts, rows)}
            with atomic_write(file) as partial:
                partial.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"  {file}")


def merged(before: Row, facts: Row, rows: list[Row]) -> list[Row]:
    """These rows, and before them those of the result before that they do not replace: if it was made alike.

    Such are of other sizes, or of a run that was stopped. What a title says in brackets does not count.
    """
    now = {titled(row) for row in rows}
    same = facts.items() <= before.items()
    return [*(row for row in before.get("rows", []) if same and titled(row) not in now), *rows]


def titled(row: Row) -> str:
    return row["title"].partition(" (")[0]


NAMES: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "training": Bench.training,
    "sampling": Bench.sampling,
    "prompting": Bench.prompting,
    "memory": Bench.memory,
    "real-size": Bench.real_size,
    "onnx": Bench.onnx,
    "quality": Bench.quality,
}

if __name__ == "__main__":
    main()
