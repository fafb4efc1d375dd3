"""What the build refuses: all rules, one file for each kind.

A rule yields the line, its own name and what is wrong. How a lesson is written, and which tag or line
satisfies which rule, is told in docs/authoring.md. The start page (lesson 00) has no anatomy and no lower
limits; all other rules hold for it too.
"""

import nbformat

from diffusion_lessons.course.authoring.render import Context
from diffusion_lessons.course.authoring.rules import anatomy, exercises, later, leaks, limits, pages, spelling
from diffusion_lessons.course.authoring.source import Lesson, Problem, answers


def source_problems(lesson: Lesson, context: Context) -> list[Problem]:
    """All that is wrong with a source, before a notebook is made of it; SyntaxError where it is no Python."""
    problems = lesson.problems(spelling.marker_problems(lesson))
    if problems:
        return problems  # what is solution and what is not cannot be told
    found, bank = answers(lesson), context.bank(lesson.number)
    problems = lesson.problems(
        spelling.header_problems(lesson, context),
        spelling.placeholder_problems(lesson, context),
        spelling.setup_problems(lesson, context),
        limits.cell_problems(lesson),
        later.later_problems(lesson, context.built),
        exercises.exercise_problems(lesson, found, bank),
    )
    if lesson.number != "00":
        problems += lesson.problems(
            anatomy.section_problems(lesson),
            anatomy.objective_problems(lesson, found),
            anatomy.idea_problems(lesson),
            exercises.kind_problems(found, bank),
            anatomy.content_problems(lesson),
            limits.budget_problems(lesson),
        )
    if not problems:  # the bank is asked about what is well formed
        problems = lesson.problems(exercises.agreement_problems(lesson, found, bank))
    return problems


def student_problems(lesson: Lesson, student: nbformat.NotebookNode, context: Context) -> list[Problem]:
    """All that is wrong with the student's notebook."""
    return lesson.problems(
        leaks.stub_problems(lesson, student),
        leaks.leak_problems(lesson, student),
        pages.link_problems(lesson, student, context.root),
        pages.alt_problems(lesson, student),
        limits.size_problems(lesson, student),
    )


def solved_problems(lesson: Lesson, solved: nbformat.NotebookNode) -> list[Problem]:
    """All that is wrong with the solved, executed notebook."""
    return lesson.problems(
        pages.output_problems(lesson, solved),
        limits.size_problems(lesson, solved),
        anatomy.uncertainty_problems(lesson, solved),
    )


def time_problems(lesson: Lesson, context: Context) -> list[Problem]:
    """What is wrong with the run time that the lesson states."""
    return lesson.problems(limits.time_problems(lesson, context))
