"""The command line, called in this process as a user calls it."""

import json
from typing import Any

import pytest

from diffusion_lessons.__main__ import main


def run(*args: object) -> None:
    main([str(arg) for arg in args])


def last_json(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


def refused(capsys: pytest.CaptureFixture[str], *args: object) -> str:
    """All that a command says before it exits with 2; never a traceback."""
    with pytest.raises(SystemExit) as stop:
        run(*args)
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


def error_line(capsys: pytest.CaptureFixture[str], *args: object) -> str:
    """The one error among it."""
    (said,) = (line for line in refused(capsys, *args).splitlines() if line.startswith("error: "))
    return said
