"""Text on its way into a file, whatever a submission put into it."""

import re
from pathlib import Path

from diffusion_lessons.support.files import atomic_write

# Halves of characters, which no coding can hold, and control characters, which no reader expects.
UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


def put(file: Path, text: str) -> None:
    """Write a text in UTF-8, whole or not at all; what cannot be written in it becomes a replacement mark."""
    with atomic_write(file) as partial:
        partial.write_bytes(UNWRITABLE.sub("\ufffd", text).encode("utf-8"))
