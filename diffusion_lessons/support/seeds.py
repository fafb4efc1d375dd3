"""Random numbers that are a function of a key alone: no stream depends on what was drawn before."""

import hashlib

import torch


def seed_of(*key: object) -> int:
    """A seed that is a function of the key alone, different for different keys."""
    text = "/".join(map(str, key)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def seeded(device: torch.device | str, *key: object) -> torch.Generator:
    """A generator whose stream is a function of the key alone."""
    return torch.Generator(device).manual_seed(seed_of(*key))
