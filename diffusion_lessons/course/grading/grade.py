"""`diffusion-lessons grade`: a class's folder in, rows and points out."""

import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue

from diffusion_lessons.course import bank
from diffusion_lessons.course.grading.intake.identify import Submission, identify
from diffusion_lessons.course.grading.intake.submissions import find
from diffusion_lessons.course.grading.marking import mark
from diffusion_lessons.course.grading.results.points import Points
from diffusion_lessons.course.grading.results.rows import Marked, Row
from diffusion_lessons.course.grading.results.store import Store
from diffusion_lessons.course.grading.sandbox.protection import Protection
from diffusion_lessons.course.grading.sandbox.watch import Limits
from diffusion_lessons.course.grading.sandbox.workers import Worker
from diffusion_lessons.support.errors import unknown


@dataclass(frozen=True)
class Graded:
    """All of it: what the reports are written from."""

    submissions: tuple[Submission, ...]
    points: Points
    seed: int
    protection: Protection | None

    @property
    def marked(self) -> list[Marked]:
        return [each.marked for each in self.submissions]


def grade(
    places: Iterable[Path],
    out: Path,
    jobs: int = 2,
    points: Points | None = None,
    limits: Limits | None = None,
    seed: int = 0,
    lesson: str | None = None,
    again: Collection[str] = (),
    tell: Callable[[str], None] = lambda line: None,
    bar: bool = False,
) -> Graded:
    """Mark all submissions in some folders, archives or files.

    Args:
        places: what was handed in.
        out: the report's folder: rows that are kept there from before are not made again.
        jobs: submissions at a time.
        again: "timeouts", students or parts of paths: mark those anew.
        tell: gets lines for the instructor.
        bar: show a progress bar.

    Raises:
        ValueError: a place, lesson or number that does not exist.
        OSError: submissions can not be run here.
    """
    limits, points = limits or Limits(), points or Points()
    if jobs < 1:
        raise ValueError(f"--jobs is at least 1, got {jobs}")
    if lesson is not None and lesson not in bank.lessons():
        raise unknown("lesson with exercises", lesson, bank.lessons())
    submissions = identify(find(places, out), lesson)
    store = Store(out, seed, limits)
    run = _Run(submissions, store, limits, seed, set(again), jobs)
    protection = run.all(tell, bar)
    done = [replace(each, marked=marked) for each, marked in zip(submissions, run.marked, strict=True)]
    return Graded(tuple(_counted(done, points)), points, seed, protection)


class _Run:
    """The submissions that are to be run, over some servers."""

    def __init__(
        self,
        submissions: list[Submission],
        store: Store,
        limits: Limits,
        seed: int,
        again: set[str],
        jobs: int,
    ) -> None:
        self.submissions, self.store, self.limits, self.seed = submissions, store, limits, seed
        self.marked = [each.marked for each in submissions]
        self.waiting: list[int] = []
        for i, each in enumerate(submissions):
            if each.marked.problem:
                continue
            kept = store.rows(each.digest, each.marked.lesson)
            if kept is None or _is_wanted(each.marked, kept, again):
                self.waiting.append(i)
            else:
                self.marked[i] = replace(each.marked, rows=kept)
        self.jobs = min(jobs, max(len(self.waiting), 1))
        self.stop = threading.Event()

    def all(self, tell: Callable[[str], None], bar: bool) -> Protection | None:
        from tqdm import tqdm

        if len(self.waiting) < len(self.submissions):
            all, new = len(self.submissions), len(self.waiting)
            tell(f"{all} files, {new} to run: the others are done or are no notebooks")
        if not self.waiting:
            return None
        workers: SimpleQueue[Worker] = SimpleQueue()
        made = [Worker(self.limits) for _ in range(self.jobs)]
        pool = ThreadPoolExecutor(self.jobs)
        try:
            protection = made[0].protection()
            for line in protection.lines():
                tell(line)
            for worker in made:
                workers.put(worker)
            with tqdm(total=len(self.waiting), desc="marking", unit="notebook", disable=not bar) as shown:
                for _ in pool.map(lambda i: self.one(i, workers), self.waiting):
                    shown.update()
        finally:
            self.stop.set()
            for worker in made:
                worker.close()
            pool.shutdown(cancel_futures=True)
        return protection

    def one(self, i: int, workers: "SimpleQueue[Worker]") -> None:
        """Mark one; whatever becomes of it, the others go on."""
        if self.stop.is_set():
            return
        each = self.submissions[i]
        worker = workers.get()
        try:
            assert each.notebook is not None
            rows = mark(each.notebook, each.marked.lesson, worker, self.seed)
            if not self.stop.is_set():
                self.store.keep(each.digest, each.marked.lesson, rows)
                self.marked[i] = replace(each.marked, rows=rows)
        except Exception as error:
            problem = f"The grader could not mark this notebook ({type(error).__name__}: {error})."
            self.marked[i] = replace(each.marked, problem=problem[:500])
        finally:
            workers.put(worker)


def _is_wanted(marked: Marked, rows: Sequence[Row], again: set[str]) -> bool:
    if "timeouts" in again and any(row.limited for row in rows):
        return True
    return any(word and (word == marked.student or word in marked.path) for word in again)


def _counted(done: list[Submission], points: Points) -> list[Submission]:
    """Of several attempts of a student at a lesson the best counts, the first of equals."""
    ruled = [
        replace(each, marked=replace(each.marked, rows=tuple(map(points.ruled, each.marked.rows))))
        for each in done
    ]
    groups: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for i, each in enumerate(ruled):
        if each.marked.rows:
            groups[each.marked.student, each.marked.lesson].append(i)
    for members in groups.values():
        best = max(members, key=lambda i: (sum(map(points.of, ruled[i].marked.rows)), -i))
        for i in members:
            if i != best:
                note = f"Another attempt counts: {ruled[best].marked.path}."
                ruled[i] = replace(ruled[i], marked=replace(ruled[i].marked.with_note(note), counts=False))
    return ruled
