"""Whose each file of a class is: from the paths of the whole class, then from what the notebooks say."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from diffusion_lessons.course.grading.intake import names
from diffusion_lessons.course.grading.intake.found import NOTEBOOK
from diffusion_lessons.course.grading.intake.levels import Names, Way, are_sections, common_folders, holders
from diffusion_lessons.course.grading.intake.names import Part, norm

NAMELESS = "Nothing in its path or in the notebook says whose it is."
Known = tuple[PurePosixPath, str, str]  # path, lesson, name in the notebook; "" where there is none


@dataclass(frozen=True)
class Student:
    """One of a class."""

    key: str  # what tells students of a class apart
    name: str  # as it is shown
    id: str = ""  # the learning platform's, "" where none is known
    section: str = ""  # of the class, "" where it has none


NOBODY = Student("", "no student")  # whose a README of the teacher's is: a row, and no student to count


@dataclass
class Whose:
    """What is known of one file's student."""

    path: PurePosixPath
    lesson: str
    stated: str  # the name in the notebook
    parts: list[Part]
    name: str = ""  # on the path; "" where it says none
    at: int = -1  # the part that says it; -1 is the file
    platform: str = ""
    id: str = ""
    late: bool = False
    around: Names = ()  # the folders that hold several students, and this one, in one spelling
    holder: str = ""  # the last of them
    section: str = ""
    student: Student = NOBODY
    notes: list[str] = field(default_factory=list)

    @property
    def place(self) -> PurePosixPath:
        """The folder, or the file, that tells whose it is."""
        return PurePosixPath(*self.path.parts[: self.at + 1]) if self.at >= 0 else self.path

    @property
    def is_teachers(self) -> bool:
        """By its name; in a student's folder it is the student's nevertheless."""
        return bool(names.TEACHERS.fullmatch(self.path.name))

    def indices(self, kind: str) -> list[int]:
        """The parts of one kind, above a platform's."""
        end = self.at if self.platform else len(self.parts)
        return [i for i, each in enumerate(self.parts[:end]) if each.kind == kind]


def students(files: Sequence[Known]) -> list[Whose]:
    """Whose each file is.

    A learning platform's pattern counts first, then the level of the path that tells students apart. A name
    in a notebook is shown where it is nobody else's, and counts where the path says none.
    """
    class_ = _parted(files)
    _platforms(class_)
    for kind in ("name", "section"):
        _levels(class_, kind)
    for stated in (True, False):
        _sections(class_, stated)
    taken = Counter((norm(each.name or each.stated), each.lesson) for each in class_)
    for each in class_:
        if not each.name and taken[norm(each.stated), each.lesson] == 1:
            each.name = each.stated
    namesakes: defaultdict[str, list[Whose]] = defaultdict(list)
    for each in class_:
        namesakes[norm(each.name)].append(each)
    for name, them in namesakes.items():
        _told_apart(name, them)
    _shown(class_)
    return class_


def _parted(files: Sequence[Known]) -> list[Whose]:
    handed_in = tuple(sorted({lesson for _, lesson, _ in files if lesson}))
    days = len({part.casefold() for path, *_ in files for part in path.parts[:-1]} & names.DAYS) > 1
    made = []
    for path, lesson, stated in files:
        numbers = (lesson,) if lesson else handed_in
        parts = [names.part(raw, path.name == raw, numbers, days) for raw in path.parts]
        late = any(part.late for part in parts)
        made.append(Whose(path, lesson, stated, parts, late=late))
    shared = len(common_folders([path for path, *_ in files]))
    below = {
        tuple(norm(part.text) for part in each.parts[shared:] if part.kind != "words")
        for each in made
        if NOTEBOOK.search(each.path.name)
    }
    if len(below) > 1 and all(below):  # then folders around everything are nobody's
        for each in made:
            each.parts[:shared] = [replace(part, kind="words") for part in each.parts[:shared]]
    return made


def _platforms(class_: Sequence[Whose]) -> None:
    """Take what learning platforms wrote.

    Canvas's pattern is only a name and numbers. So it counts among files that lie together under several
    names and ids, or where no folder could be a student's.
    """
    found = []
    near: defaultdict[PurePosixPath, set[tuple[str, str]]] = defaultdict(set)
    common = len(common_folders([each.path for each in class_]))
    for each in class_:
        matches = ((i, names.platform(raw)) for i, raw in enumerate(each.path.parts))
        i, said = next(((i, said) for i, said in matches if said), (0, None))
        if said and not (said["platform"] == "Canvas" and said["id"] == each.lesson):
            found.append((each, i, said))
            near[each.path.parent].add((said["name"], said["id"]))
    for each, i, said in found:
        several = all(len({*column}) > 1 for column in zip(*near[each.path.parent], strict=True))
        alone = len(each.path.parent.parts) > common and any(k < i for k in each.indices("name"))
        if said["platform"] == "Canvas" and alone and not several:
            continue
        each.platform, each.id, each.at = said["platform"], said["id"], i
        each.late = each.late or bool(said["late"])
        group, dash, name = said["name"].partition("-")
        if dash and names.SECTIONS & {*group.casefold().split()}:  # Moodle's, of group submissions
            each.section, each.name = group, name
        else:
            each.name = said["name"].strip() or each.id


def _levels(class_: Sequence[Whose], kind: str) -> None:
    """Find the level of the paths that tells students apart, among parts of one kind."""
    ways = []
    for each in class_:
        indices = each.indices(kind)
        told = [norm(each.parts[i].text) for i in indices]
        by_file = indices[-1:] == [len(each.parts) - 1]
        if each.platform:
            told.append(f"{each.id} {each.name}")
        if told and (each.platform or not each.name):
            ways.append((each, Way(tuple(told), by_file, each.lesson), indices))
    sure = [way for each, way, _ in ways if NOTEBOOK.search(each.path.name)]
    holding = holders(sure or [way for _, way, _ in ways])
    for each, way, indices in ways:
        depth = 0
        while len(way.names) > depth + 1 and way.names[: depth + 1] in holding:
            depth += 1
        if depth and not each.around:
            each.around, each.holder = way.names[:depth], each.parts[indices[depth - 1]].text
        if not each.platform and not (each.is_teachers and (kind == "section" or way.names in holding)):
            each.at, each.name = indices[depth], each.parts[indices[depth]].text


def _sections(class_: Sequence[Whose], stated: bool) -> None:
    """Take the section from a folder that says so, or else holds students, if these tell people apart."""
    around = []
    inside: defaultdict[str, defaultdict[Names, list[str]]] = defaultdict(lambda: defaultdict(list))
    for each in class_:
        above = [each.parts[i].text for i in each.indices("section") if i < each.at]
        folders = tuple(map(norm, above)) if stated else each.around
        if folders and each.name and not each.section:
            inside[norm(each.name)][folders].append(each.lesson)
            around.append((each, above[0] if stated else each.holder))
    different = {folders for by_folder in inside.values() for folders in by_folder}
    if len(different) > 1 and are_sections(inside, stated):
        for each, section in around:
            each.section = section


def _told_apart(name: str, namesakes: Sequence[Whose]) -> None:
    """Say which of these are one student: by id and section, as far as these are known."""
    ids: defaultdict[tuple[str, str], list[Whose]] = defaultdict(list)
    for each in namesakes:
        if each.id:
            ids[each.platform, each.id].append(each)
    one = next(iter(ids)) if len(ids) == 1 or (ids and _comparable(list(ids.values()))) else None
    sections = sorted({each.section for each in namesakes if each.section})
    made: dict[str, Student] = {}
    for each in namesakes:
        section = each.section or (sections[0] if len(sections) == 1 else "")
        platform, id = (each.platform, each.id) if each.id else ("", "")
        if one and (id or len(sections) < 2):
            platform, id = one
        key = f"{platform} {id} {name}" if id else f"{name}/{section}" if section else name
        student = Student(key, each.name, id, section)
        if not name:
            stem = names.without_ending(each.path.name)
            original = names.DUPLICATE.sub("", stem)
            student = Student(f"/{each.path.parent}/{original}", original)
        each.student = made.setdefault(student.key, student)
        if each.is_teachers and each.place == each.path:
            each.student = NOBODY
        elif not name:
            each.notes.append(NAMELESS)


def _comparable(ids: list[list[Whose]]) -> bool:
    """May several ids be of one person? Moodle gives new ones for each task, and every platform its own.

    So these are, unless two of them lie in one folder or are of one lesson, or a platform hides the names.
    """
    folders = [each for mine in ids for each in {each.path.parts[: each.at] for each in mine}]
    lessons = [each for mine in ids for each in {each.lesson for each in mine}]
    platforms = [mine[0].platform for mine in ids if mine[0].platform != "Moodle"]
    hidden = ids[0][0].name.casefold() in names.HIDDEN
    return not hidden and all(len({*each}) == len(each) for each in (folders, lessons, platforms))


def _shown(class_: Sequence[Whose]) -> None:
    """Show the name in the notebooks where all of a student's say the same, and nobody else is called so."""
    stated: defaultdict[str, set[str]] = defaultdict(set)  # by student
    claims: defaultdict[str, set[str]] = defaultdict(set)  # students by stated name
    known: defaultdict[str, set[str]] = defaultdict(set)  # students by name
    for each in class_:
        known[norm(each.student.name)].add(each.student.key)
        if each.stated:
            stated[each.student.key].add(each.stated)
            claims[norm(each.stated)].add(each.student.key)
    count = Counter(norm(each.stated) for each in class_)
    shown: dict[str, Student] = {}
    for each in class_:
        said, key = norm(each.stated), each.student.key
        if len(claims[said]) > 1:
            claim = f"{count[said]} notebooks say that they are by {each.stated}"
            each.notes.append(f"{claim}: named by its path.")
        elif said and known[said] - {key}:
            claim = f"The notebook says that it is by {each.stated}, who is another student"
            each.notes.append(f"{claim}: named by its path.")
        elif said and len(stated[key]) == 1 and not each.platform:
            shown[key] = replace(each.student, name=each.stated)
    for each in class_:
        each.student = shown.get(each.student.key, each.student)
