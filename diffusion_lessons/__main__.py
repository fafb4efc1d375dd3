"""The command line: train, sample, evaluate, experiment, zoo, export, lab, check, mine, release, grade.

Every command says what is wrong in one line; no traceback reaches the user, unless the environment variable
DIFFUSION_LESSONS_TRACEBACK asks for it. Exit codes: 0 done, 1 a notebook that does not pass its check, 2 bad
input, 3 a fault of ours, 130 stopped by Ctrl-C, 141 nobody reads the output. With --json the last line on
standard output is one JSON object; progress goes to standard error.
"""

import re
import sys
from collections.abc import Sequence

import tyro

from diffusion_lessons import cli
from diffusion_lessons.course import commands as course
from diffusion_lessons.support.console import guarded
from diffusion_lessons.support.files import expanded
from diffusion_lessons.support.machine import keep_freed_memory

COMMANDS = {**cli.COMMANDS, **course.COMMANDS}
HOME = re.compile(r"(--[\w-]+=)?(~.*)", re.DOTALL)


def main(args: Sequence[str] | None = None) -> None:
    """Run one command."""
    keep_freed_memory()
    guarded(lambda: run(sys.argv[1:] if args is None else args))


def run(args: Sequence[str]) -> None:
    """Run one command, errors as they are; "~" is the home folder, also where no shell has said so."""
    found = [HOME.fullmatch(arg) for arg in args]
    args = [(at[1] or "") + expanded(at[2]) if at else arg for at, arg in zip(found, args, strict=True)]
    title = (__doc__ or "").split("\n\n")[0]
    commands = COMMANDS | {"train": cli.train_on(args)}
    tyro.extras.subcommand_cli_from_dict(commands, prog="diffusion-lessons", description=title, args=args)


if __name__ == "__main__":
    main()
