"""Random numbers that are a function of a key alone: no stream depends on what was drawn before."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch

LARGEST = 2**63 - 1  # of a signed 64-bit number, what generators of every device and JSON readers take


def seed_of(*key: object) -> int:
    """A seed that is a function of the key alone, different for different keys."""
    text = "/".join(map(str, key)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def seeded(device: torch.device | str, *key: object) -> torch.Generator:
    """A generator whose stream is a function of the key alone."""
    return torch.Generator(device).manual_seed(seed_of(*key))


@contextmanager
def layers_seeded(seed: int) -> Iterator[None]:
    """New layers draw their weights from the global generator: for a while it is one of this seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def checked_seed(seed: int) -> int:
    """The seed that somebody chose; one outside of 0..2**63 − 1 is a ValueError."""
    if not 0 <= seed <= LARGEST:
        raise ValueError(f"a seed is a whole number from 0 to 2^63 - 1 = {LARGEST} (63 bits), got {seed}")
    return seed
