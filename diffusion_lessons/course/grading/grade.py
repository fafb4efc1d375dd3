"""`diffusion-lessons grade`: a class's folder in, rows and points out."""

from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import SimpleQueue
from threading import Event

from tqdm import tqdm

from diffusion_lessons.course import bank
from diffusion_lessons.course.grading import counting
from diffusion_lessons.course.grading import roster as who
from diffusion_lessons.course.grading.intake.files import find
from diffusion_lessons.course.grading.intake.identify import TEACHERS, Merge, Submission, identify, merges
from diffusion_lessons.course.grading.intake.student import Student
from diffusion_lessons.course.grading.marking import mark
from diffusion_lessons.course.grading.marks.overrides import Override
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
    count: str = "best"  # which of several attempts counts
    merges: tuple[Merge, ...] = ()
    roster: tuple[Student, ...] = ()  # in its order; nobody where none was given

    def by_student(self) -> list[Submission]:
        """The submissions in the order of students, lessons and paths."""
        return sorted(
            self.submissions,
            key=lambda each: (each.student.name.casefold(), each.student.key, each.lesson, each.path),
        )

    def students(self) -> list[Student]:
        """Everybody: the roster in its order, then who is not on it, or all by name."""
        there = {each.student.key: each.student for each in self.by_student() if each.student.key}
        listed = [there.pop(student.key, student) for student in self.roster]
        return [*listed, *there.values()]

    def strangers(self) -> list[Student]:
        """Who handed in and is not on the roster; nobody where none was given."""
        return self.students()[len(self.roster) :] if self.roster else []

    def missing(self) -> list[Student]:
        """Who is on the roster and has handed in nothing."""
        there = {each.student.key for each in self.submissions if each.found is not counting.NOWHERE}
        return [student for student in self.roster if student.key not in there]


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
    count: str = "best",
    roster: who.Roster | None = None,
    overrides: Iterable[Override] = (),
) -> Graded:
    """Mark all submissions in some folders, archives or files.

    Args:
        out: the report's folder: rows that are kept there from before are not made again.
        jobs: submissions at a time.
        again: "timeouts", students or parts of paths: mark those anew.
        tell: gets lines for the instructor.
        bar: show a progress bar.
        count: which of several attempts counts, "best" or "last".
        roster: the class; default whoever handed in.
        overrides: marks and comments that the instructor gave by hand.

    Raises:
        ValueError: a place, lesson, rule, student or number that does not exist, or nothing was handed in.
        OSError: submissions can not be run here.
    """
    limits, points = limits or Limits(), points or Points()
    if jobs < 1:
        raise ValueError(f"--jobs is at least 1, got {jobs}")
    if count not in counting.RULES:
        raise unknown("rule --count", count, counting.RULES)
    if lesson is not None and lesson not in bank.lessons():
        raise unknown("lesson with exercises", lesson, bank.lessons())
    places = list(places)
    submissions = identify(find(places, out), lesson)
    if all(each.problem == TEACHERS for each in submissions):
        where = ", ".join(map(str, places))
        raise ValueError(f"nothing was handed in: no notebook in {where}; the report is left as it was")
    everybody = list(dict.fromkeys(each.student for each in submissions if each.student.key))
    on_it = who.matched(roster, everybody) if roster else {}
    submissions = [replace(each, student=on_it.get(each.student, each.student)) for each in submissions]
    several = tuple(
        replace(each, why="One student on the roster.") if each.student in on_it.values() else each
        for each in merges(submissions)
    )
    if roster:
        submissions += counting.absent(roster, submissions)
    by_hand = counting.resolved(overrides, roster or who.found(everybody))
    run = _Run(submissions, Store(out, seed, limits), limits, seed)
    waiting = run.waiting(set(again))
    files = sum(each.found is not counting.NOWHERE for each in submissions)
    if len(waiting) < files:
        tell(f"{files} files, {len(waiting)} to run: the others are done or are no notebooks")
    protection = run.all(waiting, jobs, tell, bar) if waiting else None
    done = counting.overridden(counting.counted(run.submissions, points, count), by_hand)
    return Graded(
        tuple(counting.compared(done)),
        points,
        seed,
        protection,
        count,
        several,
        tuple(roster.students) if roster else (),
    )


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
            total = sum(not each.problem for each in self.submissions)
            done = total - len(waiting)
            with tqdm(total=total, initial=done, desc="marking", unit="notebook", disable=not bar) as shown:
                for each in as_completed([pool.submit(self.one, i, workers) for i in waiting]):
                    each.result()
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
    return any(word and (word in (each.student.name, each.student.id) or word in each.path) for word in again)
