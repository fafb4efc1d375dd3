"""The command line: train · sample · evaluate · experiment · zoo · lab · check · release · grade.

Every command says what is wrong in one line; no traceback reaches the user. Exit codes: 0 done, 1 a notebook
that does not pass its check, 2 bad input, 130 stopped by Ctrl-C. With --json the last line on standard
output is one JSON object; progress goes to standard error.
"""

from collections.abc import Sequence

import tyro

from diffusion_lessons import cli
from diffusion_lessons.course import commands as course
from diffusion_lessons.support.console import guarded
from diffusion_lessons.support.machine import keep_freed_memory

COMMANDS = {**cli.COMMANDS, **course.COMMANDS}


def main(args: Sequence[str] | None = None) -> None:
    """Run one command."""
    keep_freed_memory()
    title = (__doc__ or "").split("\n\n")[0]
    guarded(
        lambda: tyro.extras.subcommand_cli_from_dict(
            COMMANDS, prog="diffusion-lessons", description=title, args=args
        )
    )


if __name__ == "__main__":
    main()
