"""The card in an ONNX file: what the graph is and what it belongs to, as JSON in the file's metadata.

It is the last entry of the file, so that a file that was cut short has none, and it carries a SHA-256 over
all that stands before it and over itself. Reading it takes no package but the one that runs the graph.
"""

import hashlib
import json
from typing import Any

KEY = "diffusion_lessons"  # of the metadata
FORMAT = 1


def sealed(graph: bytes, card: dict[str, Any]) -> bytes:
    """The file of a graph, a serialized ONNX model without metadata, with its card behind it."""
    return graph + _entry(json.dumps({"sha256": _digest(graph, card), "card": card}, sort_keys=True))


def unsealed(data: bytes, entry: str) -> dict[str, Any]:
    """The card of a file, from its bytes and the metadata under `KEY`; damage is a ValueError."""
    graph = data.removesuffix(_entry(entry))
    contents = json.loads(entry)
    card = contents["card"] if isinstance(contents, dict) and "card" in contents else {}
    if len(graph) == len(data) or contents["sha256"] != _digest(graph, card):
        raise ValueError("its contents do not match its checksum")
    if card["format"] != FORMAT:
        raise ValueError(f"it has format {card['format']}, this version reads {FORMAT}")
    return dict(card)


def graph_digest(graph: bytes) -> str:
    """What the card of a model of several parts calls each of them."""
    return hashlib.sha256(graph).hexdigest()


def _digest(graph: bytes, card: dict[str, Any]) -> str:
    return hashlib.sha256(graph + json.dumps(card, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _entry(text: str) -> bytes:
    """A metadata entry in protobuf's wire format: field 14 of ModelProto, with a key (1) and a value (2)."""
    return _field(14, _field(1, KEY.encode()) + _field(2, text.encode()))


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(n: int) -> bytes:
    low, rest = n & 127, n >> 7
    return bytes([low | 128]) + _varint(rest) if rest else bytes([low])
