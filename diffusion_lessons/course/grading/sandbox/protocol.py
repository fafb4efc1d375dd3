"""What grader and submission send each other: framed bytes, never a pickle.

The submission's last message may be forged by the submission itself. So it is bounded when it is read, its
archive may hold no more than it is long, and what does not read as outputs is a failed case and no crash.
"""

import io
import json
import struct
import zipfile
from dataclasses import dataclass, replace
from typing import Any

from diffusion_lessons.course.exercises.outputs import Failure, Frame, Outputs, Ran
from diffusion_lessons.course.exercises.values import MAX_DEPTH, MAX_ITEMS, Array, Fields, Plain

MAX_MESSAGE = 32 * 2**20  # bytes that a submission may send back
MAX_JSON = 4 * 2**20  # bytes of that which may be words: Python needs twenty times as many to hold some
MAX_ARRAYS = 10_000
MAX_NUMBERS = 2**21  # in all arrays of one case; those beyond keep their shapes alone, to be judged quickly
MAX_WORDS = 2_000  # characters of any text in it
MAX_CASES = 100
RECORD = "record.npy"  # the words among the arrays of `Outputs`
_LENGTHS = struct.Struct("!QQ")


class Unreadable(ValueError):
    """A message that nobody who keeps to the protocol has sent."""


class TooLarge(Unreadable):
    """A message that somebody may have meant, and that costs too much to read."""


@dataclass(frozen=True)
class Message:
    """Words as JSON, and a file's bytes."""

    words: dict[str, Any]
    content: bytes = b""

    def packed(self) -> bytes:
        words = json.dumps(self.words).encode()
        return _LENGTHS.pack(len(words), len(self.content)) + words + self.content


def unpack(data: bytes, most: int = MAX_JSON) -> Message:
    """The one message in some bytes, with `most` bytes of words; Unreadable where it is none."""
    try:
        words, content = _LENGTHS.unpack_from(data)
        if words + content != len(data) - _LENGTHS.size:
            raise Unreadable(f"{len(data)} bytes")
        if words > most:
            raise TooLarge(f"{words} bytes of words")
        end = _LENGTHS.size + words
        message = Message(json.loads(data[_LENGTHS.size : end]), data[end:])
    except Unreadable:
        raise
    except (ValueError, struct.error, RecursionError) as error:
        raise Unreadable(f"no message: {type(error).__name__}") from None
    if not isinstance(message.words, dict):
        raise Unreadable("no words")
    return message


def read_outputs(content: bytes) -> Outputs:
    """The outputs in a message, with nothing longer or deeper than an answer may give; else Unreadable."""
    try:
        if content.count(b"PK\x01\x02") > MAX_ARRAYS:  # one for each entry
            raise TooLarge("too many arrays")
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
        plain = all(each.compress_type == zipfile.ZIP_STORED for each in entries)
        if not plain or sum(each.file_size for each in entries) > len(content):
            raise Unreadable("an archive that would grow")
        if any(each.file_size > MAX_JSON for each in entries if each.filename == RECORD):
            raise TooLarge("too long a record")
        outputs = Outputs.load(io.BytesIO(content))
        cases = tuple(map(_bounded, outputs.cases[:MAX_CASES]))
        return replace(outputs, name=outputs.name[:100], cases=cases)
    except Unreadable:
        raise
    except Exception as error:  # whatever zip or numpy raise on what somebody made up
        raise Unreadable(f"no outputs: {type(error).__name__}") from None


def _bounded(ran: Ran) -> Ran:
    left = [MAX_ITEMS, MAX_NUMBERS]
    for value in (ran.value, ran.gradients):
        _count(value, left, 0)
    failure = ran.failure
    if failure is not None:
        frames = tuple(Frame(f.line, f.text[:300], f.function[:100]) for f in failure.frames[:4])
        words = (failure.kind[:100], failure.type[:100], failure.message[:MAX_WORDS])
        failure = Failure(*words, frames=frames)  # if it still ran, it has been ended since
    printed = ran.printed[: 2 * MAX_WORDS]
    return replace(ran, failure=failure, printed=printed, mutated=tuple(n[:100] for n in ran.mutated[:20]))


def _count(value: Plain, left: list[int], depth: int) -> None:
    left[0] -= 1
    if left[0] < 0 or depth > MAX_DEPTH + 1:
        raise Unreadable("a value without end")
    if isinstance(value, Array) and value.data is not None:
        left[1] -= value.data.size
        if left[1] < 0:
            object.__setattr__(value, "data", None)
    if isinstance(value, Fields):
        value = value.fields
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    for each in inside:
        _count(each, left, depth + 1)
