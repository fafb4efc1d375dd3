"""The machine: devices by name, hardware and versions as plain values."""

import json

import pytest
import torch

from diffusion_lessons.support.machine import choose_device, cores, hardware, processor, versions


def test_devices_are_found_by_name() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    if not torch.cuda.is_available() and not torch.backends.mps.is_available():
        assert choose_device() == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "", "meta:x"])
def test_a_device_that_is_not_here_is_said(name: str) -> None:
    with pytest.raises(ValueError, match=f"no device '{name}' here: expected one of cpu"):
        choose_device(name)


@pytest.mark.gpu
def test_a_gpu_is_preferred_and_named() -> None:
    assert choose_device().type == "cuda"
    assert hardware("cuda")["gpu"] == torch.cuda.get_device_name()


def test_facts_are_plain_values() -> None:
    facts = {**hardware(), **versions("no-such-package")}
    assert json.loads(json.dumps(facts)) == facts
    assert processor()
    assert cores() >= 1
    assert facts["torch"].startswith(torch.__version__.split("+")[0])
    assert "no-such-package" not in facts
