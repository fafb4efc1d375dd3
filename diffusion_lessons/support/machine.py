"""The machine: which device to use, and what a figure was measured on, for cards and result files."""

import ctypes
import os
import platform
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch


def choose_device(name: torch.device | str | None = None) -> torch.device:
    """The device of that name; None is a GPU where there is one (CUDA, then Apple's), else the CPU.

    A name that is no device, or one that this machine lacks, is a ValueError.
    """
    apple = torch.backends.mps.is_available()
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if apple else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        there = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        there += ["mps"] * apple
        raise ValueError(f"no device {str(name)!r} here: expected one of {', '.join(there)}") from error
    return device


def has_bf16(device: torch.device) -> bool:
    """Whether bf16 is really faster: native on a CUDA GPU, instructions for it on a CPU; never emulated."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return device.type == "cpu" and any(capabilities.get(name) for name in ("amx_bf16", "avx512_bf16"))


def fastest_layout(device: torch.device | str) -> torch.memory_format:
    """The memory layout of pictures and of the weights of convolutions that computes fastest on a device.

    Channels-last, but on a CPU with bf16: there it takes back much of what bf16 gains in narrow networks.
    """
    device = torch.device(device)
    return torch.contiguous_format if device.type == "cpu" and has_bf16(device) else torch.channels_last


def keep_freed_memory() -> None:
    """Have this process keep the memory that tensors free, on Linux: the next ones come without page faults.

    glibc hands every large block back to the system and asks for it again, in training on a CPU for each
    activation of each step.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # a C library without mallopt
            mallopt = ctypes.CDLL("libc.so.6").mallopt
            mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
            mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


def hardware(device: torch.device | str = "cpu") -> dict[str, Any]:
    """The processor, its cores, the system, and the GPU where the work ran on one."""
    facts: dict[str, Any] = {"processor": processor(), "cores": cores(), "system": platform.system()}
    if torch.device(device).type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
    elif torch.device(device).type == "mps":
        facts["gpu"] = "Apple GPU"
    return facts


def processor() -> str:
    """The processor's name, as its maker writes it where the system tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions(*packages: str) -> dict[str, str]:
    """Versions of Python, torch, this package and others that are installed."""
    found = {"python": platform.python_version()}
    for package in ("diffusion-lessons", "torch", "numpy", *packages):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
