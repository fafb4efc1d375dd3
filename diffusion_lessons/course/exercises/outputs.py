"""What running an answer gave: plain data that a file or a pipe can carry to whoever judges it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from diffusion_lessons.course.exercises.values import Plain, from_json, to_json

FORMAT = 3


class Frame(NamedTuple):
    """One line of the student's own code: line `line` of the function or cell, and its text."""

    line: int
    text: str
    function: str


@dataclass(frozen=True)
class Failure:
    """Why a case gave no value; type and message are those of the exception."""

    kind: str  # "untouched", "not implemented", "signature", "exception", "timeout" or "not callable"
    type: str = ""
    message: str = ""
    frames: tuple[Frame, ...] = ()  # of the student's own code, outermost first
    running: bool = False  # (timeout) it could not be stopped


@dataclass(frozen=True)
class Ran:
    """What one case gave: a value, or a failure."""

    case: str
    value: Plain = None
    failure: Failure | None = None
    mutated: tuple[str, ...] = ()  # what the call changed: see `watching`
    repeats: bool | None = None  # the same inputs gave the same result a second time; None if not tried
    printed: str = ""  # the first of what the answer printed
    seconds: float = 0.0
    gradients: Plain = (
        None  # (exercises that train something) by input, None where none reaches it; or an error
    )
    calls: tuple[dict[str, Plain], ...] = ()  # the arguments of each call; never stored


@dataclass(frozen=True)
class Outputs:
    """All that a judge needs to know of an answer. No expected value is among it."""

    exercise: str  # id
    seed: int  # of the cases
    name: str = ""  # the answer's own
    cases: tuple[Ran, ...] = ()  # in order; those after a timeout were not run and are missing
    device: str = "cpu"  # where the inputs were
    unread: tuple[str, ...] = ()  # arguments that stand nowhere in the answer: see `unread`

    def __getitem__(self, case: str) -> Ran | None:
        return next((ran for ran in self.cases if ran.case == case), None)

    def save(self, file: str | Path | BinaryIO) -> None:
        """Write to a .npz file that holds numbers and JSON, and no pickle."""
        arrays: list[np.ndarray] = []
        record = vars(self) | {"format": FORMAT, "cases": [_stored(ran, arrays) for ran in self.cases]}
        text = np.frombuffer(json.dumps(record).encode(), np.uint8)
        packed = {"record": text} | {f"a{i}": array for i, array in enumerate(arrays)}
        np.savez(file, **packed)

    @classmethod
    def load(cls, file: str | Path | BinaryIO) -> "Outputs":
        """Read what `save` wrote; ValueError where the file is not one, is damaged or of another format."""
        try:
            with np.load(file, allow_pickle=False) as stored:
                record = json.loads(stored["record"].tobytes().decode())
                arrays = [stored[f"a{i}"] for i in range(len(stored.files) - 1)]
            if record["format"] != FORMAT:
                raise ValueError(f"format {record['format']!r}, expected {FORMAT}")
            exercise, name, device = (str(record[key]) for key in ("exercise", "name", "device"))
            cases = tuple(_case(each, arrays) for each in record["cases"])
            unread = tuple(map(str, record.get("unread", ())))
            return cls(exercise, int(record["seed"]), name, cases, device, unread)
        except FileNotFoundError:
            raise
        except Exception as error:  # whatever a damaged or forged file makes numpy, zip or JSON raise
            raise ValueError(f"not a file of outputs: {type(error).__name__}: {error}") from None


def _stored(ran: Ran, arrays: list[np.ndarray]) -> dict[str, Any]:
    failure = None if ran.failure is None else asdict(ran.failure)
    data = {name: to_json(getattr(ran, name), arrays) for name in ("value", "gradients")}
    return vars(ran) | data | {"failure": failure, "calls": []}


def _case(stored: dict[str, Any], arrays: list[np.ndarray]) -> Ran:
    """A case as it was stored; whatever wrote the file, each field has its own type."""
    repeats = stored["repeats"]
    return Ran(
        case=str(stored["case"]),
        value=from_json(stored["value"], arrays),
        failure=None if stored["failure"] is None else _failure(stored["failure"]),
        mutated=tuple(map(str, stored["mutated"])),
        repeats=None if repeats is None else bool(repeats),
        printed=str(stored["printed"]),
        seconds=float(stored["seconds"]),
        gradients=from_json(stored["gradients"], arrays),
    )


def _failure(stored: dict[str, Any]) -> Failure:
    frames = tuple(Frame(int(line), str(text), str(name)) for line, text, name in stored["frames"])
    kind, name, message = (str(stored[key]) for key in ("kind", "type", "message"))
    return Failure(kind, name, message, frames, bool(stored["running"]))
