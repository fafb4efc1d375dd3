"""What goes through the pipes between grader, server and submission: framed bytes, never a pickle.

The submission's last message may be forged by the submission itself. So it is bounded when it is read, its
archive may hold no more than it is long, and what does not read as outputs is a failed case and no crash.
"""

import io
import json
import struct
import zipfile
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from diffusion_lessons.course.exercises.outputs import Failure, Frame, Outputs, Ran
from diffusion_lessons.course.exercises.values import MAX_DEPTH, MAX_ITEMS, Fields, Plain

MAX_MESSAGE = 64 * 2**20  # bytes that a submission may send back
MAX_WORDS = 2_000  # characters of any text in it
MAX_CASES = 100
_LENGTHS = struct.Struct("!QQ")


class Unreadable(ValueError):
    """A message that nobody who keeps to the protocol has sent."""


@dataclass(frozen=True)
class Message:
    """Words as JSON, and a file's bytes."""

    words: dict[str, Any]
    content: bytes = b""

    def packed(self) -> bytes:
        words = json.dumps(self.words).encode()
        return _LENGTHS.pack(len(words), len(self.content)) + words + self.content


def read(stream: BinaryIO) -> Message | None:
    """The next message of a server or of the grader, None at the end; Unreadable where that is within one."""
    head = stream.read(_LENGTHS.size)
    if not head:
        return None
    lengths = _LENGTHS.unpack(_whole(head, _LENGTHS.size))
    words, content = (_whole(stream.read(length), length) for length in lengths)
    return Message(json.loads(words), content)


def _whole(data: bytes, length: int) -> bytes:
    if len(data) != length:
        raise Unreadable("the message was cut off")
    return data


def unpack(data: bytes) -> Message:
    """The one message that a submission left behind; Unreadable where it is none."""
    stream = io.BytesIO(data)
    try:
        message = read(stream)
        if message is None or not isinstance(message.words, dict) or stream.read(1):
            raise Unreadable(f"{len(data)} bytes")
        return message
    except (ValueError, OverflowError, struct.error, RecursionError) as error:
        raise Unreadable(f"no message: {type(error).__name__}") from None


def read_outputs(content: bytes) -> Outputs:
    """The outputs in a message, with nothing longer or deeper than an answer may give; else Unreadable."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
        plain = all(each.compress_type == zipfile.ZIP_STORED for each in entries)
        if not plain or sum(each.file_size for each in entries) > len(content):
            raise Unreadable("an archive that would grow")
        outputs = Outputs.load(io.BytesIO(content))
        cases = tuple(map(_bounded, outputs.cases[:MAX_CASES]))
        return replace(outputs, name=outputs.name[:100], cases=cases)
    except Unreadable:
        raise
    except Exception as error:  # whatever zip or numpy raise on what somebody made up
        raise Unreadable(f"no outputs: {type(error).__name__}") from None


def _bounded(ran: Ran) -> Ran:
    _count(ran.value, [MAX_ITEMS], 0)
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
    if isinstance(value, Fields):
        value = value.fields
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    for each in inside:
        _count(each, left, depth + 1)
