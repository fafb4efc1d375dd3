"""What an answer depends on: the imports, definitions and constants that it uses, and theirs.

Found from the code. What code cannot show (a name that `exec` makes, a notebook that loads another)
ends in a NameError; for that case there is `before`, all that stands above the answer.
"""

import builtins
from collections.abc import Iterable

from diffusion_lessons.course.grading.code.statements import Place, Statement
from diffusion_lessons.course.grading.code.training import training

GIVEN = frozenset(dir(builtins)) | {"display", "get_ipython", "__name__", "__file__"}


class Slicer:
    """Slices of one notebook's statements."""

    def __init__(self, statements: list[Statement]) -> None:
        self.statements = statements
        self.trains = training(statements)
        self.binders: dict[str, list[Statement]] = {}
        for each in statements:
            for name in each.binds if each not in self.trains else ():
                self.binders.setdefault(name, []).append(each)

    def pieces(self, answer: Statement, rivals: Iterable[Statement] = ()) -> list[Place]:
        """The places of what an answer depends on, in the notebook's order, without the answer.

        Args:
            rivals: other answers to the same exercise.
        """
        excluded = {answer, *rivals}
        found: set[Statement] = set()
        waiting = set(answer.needs)
        known: set[str] = set()
        while waiting - known:
            name = (waiting - known).pop()
            known.add(name)
            new = [each for each in self._binders(name, answer) if each not in excluded | found]
            found.update(new)
            waiting.update(need for each in new for need in each.needs)
        missing = known - GIVEN - {name for each in found for name in each.binds}
        if missing:
            found.update(each for each in self.statements if each.imports_all)
        return sorted(each.place for each in found)

    def _binders(self, name: str, answer: Statement) -> list[Statement]:
        binders = self.binders.get(name, [])
        above = [each for each in binders if each.place < answer.place]
        plain = not any(each.is_import or each.is_definition for each in binders)
        changes = [
            each
            for each in self.statements
            if each.place < answer.place
            and each not in self.trains
            and (name in each.touches or (plain and binders and name == each.calls_on))
        ]
        return (above or binders) + changes

    def before(self, answer: Statement, rivals: Iterable[Statement] = ()) -> list[Place]:
        """All that stands above an answer, but what trains."""
        excluded = {answer, *rivals} | self.trains
        return [each.place for each in self.statements if each.place < answer.place and each not in excluded]
