"""The start page's check: is all there, and how fast is this machine beside the one that was timed?"""

import platform
import shutil
import time
from pathlib import Path
from typing import NamedTuple

import torch
from torch.nn import functional as F

from diffusion_lessons.course.student.setup import lacking
from diffusion_lessons.support.machine import choose_device, keep_freed_memory, versions

FREE_GB = 1.0  # of disk, for downloaded data and what lessons store


class Finding(NamedTuple):
    """One line of the check: what was looked at, what was found, and what to do where it is not fine."""

    what: str
    found: str
    problem: str = ""

    def __str__(self) -> str:
        return f"{self.what:<12}{self.found}" + (f"\n{'':<12}→ {self.problem}" if self.problem else "")


def check_environment(reference: float | None = None) -> None:
    """Print what this environment has, how fast it is, and a plain verdict; takes a few seconds.

    Args:
        reference: images a second on the machine of the stated run times; None where not measured.
    """
    device = choose_device()
    findings = [
        Finding("Python", platform.python_version()),
        packages(),
        Finding("Computes on", processor(device)),
        disk(Path.cwd()),
        speed(images_per_second(device), reference),
    ]
    print(*findings, "", sep="\n")
    fine = not any(each.problem for each in findings)
    print("Ready: all lessons will run here." if fine else "Not ready yet: see the arrows above.")


def packages() -> Finding:
    """torch, numpy and what the notebooks need."""
    lacks = [each for group in lacking() for each in group]
    here = versions("anywidget")
    found = ", ".join(f"{name} {here.get(name, 'missing')}" for name in ("torch", "numpy", "anywidget"))
    command = "run `pip install 'diffusion-lessons[lab]'` and restart the kernel"
    return Finding("Packages", found, f"missing or too old: {', '.join(lacks)}; {command}" if lacks else "")


def processor(device: torch.device) -> str:
    """What the lessons will compute on."""
    if device.type == "cuda":
        return torch.cuda.get_device_name()
    threads = torch.get_num_threads()
    return "Apple's GPU" if device.type == "mps" else f"the CPU, {threads} thread{'s' if threads > 1 else ''}"


def disk(folder: Path) -> Finding:
    """Room where the notebooks lie."""
    free = shutil.disk_usage(folder).free / 1e9
    return Finding("Disk", f"{free:.0f} GB free", "" if free > FREE_GB else f"free at least {FREE_GB:g} GB")


def speed(here: float, reference: float | None) -> Finding:
    """This machine beside the one on which the stated run times were measured."""
    found = f"{here:.0f} images/s in training"
    if reference:
        factor = reference / here
        times = "expect about the same" if 0.8 <= factor <= 1.25 else f"multiply them by about {factor:.2g}"
        found += f"; stated run times were measured at {reference:.0f}: here, {times}"
    return Finding("Speed", found)


def images_per_second(device: torch.device | None = None, seconds: float = 3.0) -> float:
    """Images a second in training a small U-Net at 16×16, the work that most lessons wait for.

    Args:
        device: default the best one.
        seconds: to measure for, after a short warm-up.
    """
    from diffusion_lessons.networks import UNet, UNetConfig

    device, batch = device or choose_device(), 64
    keep_freed_memory()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = UNet(UNetConfig()).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(network.parameters())
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, 1, 16, 16, generator=generator).to(device)  # (B, C, H, W)
    time_ = torch.rand(batch, generator=generator).to(device) * 999

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = F.mse_loss(network(x, time_), x)
        loss.backward()
        optimizer.step()
        return loss.item()  # waits for the device

    for _ in range(3):
        step()
    start, steps = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        step()
        steps += 1
    return steps * batch / (time.perf_counter() - start)
