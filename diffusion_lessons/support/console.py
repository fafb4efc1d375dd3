"""How every command begins and ends: shared options, the last words, errors in one line."""

import json as json_module
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from tyro.conf import arg

Json = Annotated[bool, arg(help="end with one line of JSON on standard output")]
Device = Annotated[str | None, arg(help="cpu, cuda, mps; a GPU where there is one if left out")]


def report(json: bool, facts: dict[str, Any], words: str, files: Sequence[Path]) -> None:
    """The end of a command: words and paths for people, or one line for programs."""
    if json:
        print(json_module.dumps(facts))
        return
    print(words)
    for file in files:
        print(f"  {file}")


def guarded(command: Callable[[], object]) -> None:
    """Run a command; what a user can mend becomes one line and exit code 2, a warning one line too."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
            command()
            return
    except (MemoryError, torch.OutOfMemoryError):
        words, code = "error: out of memory: try a smaller batch, size or n, or --device cpu", 2
    except (ValueError, OSError) as error:
        words, code = f"error: {' '.join(str(error).split())}", 2
    except KeyboardInterrupt as stop:
        words, code = f"\n{stop or 'stopped'}", 130
    print(words, file=sys.stderr)
    sys.exit(code)
