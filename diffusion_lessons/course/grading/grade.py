"""`diffusion-lessons grade`: a class's folder in, rows and points out."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import SimpleQueue
from threading import Event

from tqdm import tqdm

from diffusion_lessons.course import bank
from diffusion_lessons.course.grading.intake.files import find
from diffusion_lessons.course.grading.intake.identify import Submission, identify
from diffusion_lessons.course.grading.marking import mark
from diffusion_lessons.course.grading.marks.points import Points
from diffusion_lessons.course.grading.marks.store import Store
from diffusion_lessons.course.grading.sandbox import Limits, Protection, Worker
from diffusion_lessons.support.errors import unknown


@dataclass(frozen=True)
class Graded:
    """All of it: what the reports are written from."""

    submissions: tuple[Submission, ...]
    points: Points
    seed: int
    protection: Protection | None

    def by_student(self) -> list[Submission]:
        """The submissions in the order of students, lessons and paths."""
        return sorted(self.submissions, key=lambda each: (each.student.casefold(), each.lesson, each.path))


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
    run = _Run(identify(find(places, out), lesson), Store(out, seed, limits), limits, seed)
    waiting = run.waiting(set(again))
    if len(waiting) < len(run.submissions):
        tell(f"{len(run.submissions)} files, {len(waiting)} to run: the others are done or are no notebooks")
    protection = run.all(waiting, jobs, tell, bar) if waiting else None
    return Graded(tuple(_counted(run.submissions, points)), points, seed, protection)


@dataclass
class _Run:
    """Submissions on their way from identified to marked."""

    submissions: list[Submission]
    store: Store
    limits: Limits
    seed: int
    stop: Event = field(default_factory=Event)

    def waiting(self, again: set[str]) -> list[int]:
        """Which have to be run; the others get the rows that are kept."""
        waiting = []
        for i, each in enumerate(self.submissions):
            if each.problem:
                continue
            kept = replace(each, rows=self.store.rows(each.digest, each.lesson) or ())
            if not kept.rows or _is_wanted(kept, again):
                waiting.append(i)
            else:
                self.submissions[i] = kept
        return waiting

    def all(self, waiting: list[int], jobs: int, tell: Callable[[str], None], bar: bool) -> Protection:
        """Mark those that wait, over some servers."""
        made = [Worker(self.limits) for _ in range(min(jobs, len(waiting)))]
        workers: SimpleQueue[Worker] = SimpleQueue()
        pool = ThreadPoolExecutor(len(made))
        try:
            protection = made[0].protection()
            for line in protection.lines():
                tell(line)
            for worker in made:
                workers.put(worker)
            with tqdm(total=len(waiting), desc="marking", unit="notebook", disable=not bar) as shown:
                for _ in pool.map(lambda i: self.one(i, workers), waiting):
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
            rows = mark(each.notebook, each.lesson, worker, self.seed)
            if not self.stop.is_set():
                self.store.keep(each.digest, each.lesson, rows)
                self.submissions[i] = replace(each, rows=rows)
        except Exception as error:
            problem = f"The grader could not mark this notebook ({type(error).__name__}: {error})."
            self.submissions[i] = replace(each, problem=problem[:500])
        finally:
            workers.put(worker)


def _is_wanted(each: Submission, again: set[str]) -> bool:
    if "timeouts" in again and any(row.limited for row in each.rows):
        return True
    return any(word and (word == each.student or word in each.path) for word in again)


def _counted(submissions: Iterable[Submission], points: Points) -> list[Submission]:
    """Of several attempts of a student at a lesson the best counts, the first of equals."""
    ruled = [replace(each, rows=tuple(map(points.ruled, each.rows))) for each in submissions]
    attempts: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for i, each in enumerate(ruled):
        if each.rows:
            attempts[each.student, each.lesson].append(i)
    for places in attempts.values():
        best = max(places, key=lambda i: points.score(*ruled[i].rows).points)
        note = f"Another attempt counts: {ruled[best].path}."
        for i in places:
            if i != best:
                ruled[i] = replace(ruled[i], notes=(*ruled[i].notes, note), counts=False)
    return ruled
