"""The pretend GPU refuses what CUDA refuses, and nothing else."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.pretend_gpu import pretend_gpu


@pytest.fixture(autouse=True)
def gpu() -> Iterator[None]:
    with pretend_gpu():
        yield


def here(*shape: int) -> Tensor:
    return torch.ones(shape)


def there(*shape: int) -> Tensor:
    return torch.ones(shape, device="cuda")


CUDA_TAKES: dict[str, Callable[[], Any]] = {  # and the result is on the GPU
    "a factory": lambda: torch.zeros(3, device="cuda"),
    "to": lambda: here(3).to("cuda"),
    "to with a dtype": lambda: here(3).to("cuda", torch.float64),
    "to of another tensor": lambda: here(3).to(there(1)),
    "cuda": lambda: here(3).cuda(),
    "a single number of the CPU": lambda: there(3) * torch.tensor(2.0),
    "a single number before it": lambda: torch.tensor(2.0) - there(3),
    "a number": lambda: 1 - there(3),
    "an index of the CPU": lambda: there(3)[torch.tensor([0, 2])],
    "a mask of the CPU": lambda: there(3)[torch.tensor([True, False, True])],
    "like": lambda: torch.zeros_like(there(3)),
    "new": lambda: there(3).new_zeros(2),
    "a view": lambda: there(2, 2).T[0].view(1, 2),
    "parts": lambda: there(4).chunk(2)[1],
    "named parts": lambda: there(4).sort().values,
    "its entries": lambda: next(iter(there(4))),
    "stack": lambda: torch.stack([there(2), there(2)]),
    "copy from the CPU": lambda: there(3).copy_(here(3)),
    "view_as": lambda: there(4).view_as(here(2, 2)),
    "detach": lambda: there(2).requires_grad_().detach(),
    "a generator of the GPU": lambda: torch.randn(3, device="cuda", generator=torch.Generator("cuda")),
    "in place": lambda: there(3).add_(1),
    "a gradient": lambda: torch.autograd.grad((x := there(3).requires_grad_()).sum(), x)[0],
    "a parameter": lambda: nn.Linear(2, 2, device="cuda").weight,
    "a network that was moved": lambda: nn.Linear(2, 2).to("cuda")(there(1, 2)),
    "a network that was moved by name": lambda: nn.Linear(2, 2).to(device=torch.device("cuda")).weight,
    "a deep copy": lambda: copy.deepcopy(nn.Linear(2, 2).to("cuda")).weight,
    "as_tensor": lambda: torch.as_tensor(there(3)),
}
STAYS: dict[str, Callable[[], Any]] = {  # on the CPU
    "cpu": lambda: there(3).cpu(),
    "to": lambda: there(3).to("cpu"),
    "like, elsewhere": lambda: torch.zeros_like(there(3), device="cpu"),
    "copied into": lambda: here(3).copy_(there(3)),
    "a list of numbers": lambda: torch.tensor([there(), there()]),
    "a row by a number": lambda: here(3)[torch.tensor(1, device="cuda")],
    "what was moved": lambda: (x := here(3), x.to("cuda"))[0],
    "the gradient of what was moved": lambda: torch.autograd.grad(
        (x := here(3).requires_grad_()).to("cuda").sum(), x
    )[0],
}
DEVICES = "Expected all tensors to be on the same device"
CUDA_REFUSES: dict[str, tuple[str, Callable[[], Any]]] = {
    "a sum": (DEVICES, lambda: there(3) + here(3)),
    "a sum, one entry": (DEVICES, lambda: there(3) + here(1)),
    "a product of matrices": (DEVICES, lambda: there(2, 2) @ here(2, 2)),
    "cat": (DEVICES, lambda: torch.cat([there(2), here(2)])),
    "stack of numbers": (DEVICES, lambda: torch.stack([there(), here()])),
    "where": (DEVICES, lambda: torch.where(here(3) > 0, there(3), 0.0)),
    "a loss": (DEVICES, lambda: nn.functional.mse_loss(there(3), here(3))),
    "equal": (DEVICES, lambda: torch.equal(there(3), here(3))),
    "a network elsewhere": (DEVICES, lambda: nn.Linear(2, 2)(there(1, 2))),
    "an embedding": (DEVICES, lambda: nn.Embedding(2, 2).to("cuda")(torch.tensor([1]))),
    "in place, from the GPU": (DEVICES, lambda: here().add_(there())),
    "entries set from the CPU": (DEVICES, lambda: there(3).__setitem__(torch.tensor([0, 1]), here(2))),
    "an index of the GPU": ("indices should be", lambda: here(3)[torch.tensor([0], device="cuda")]),
    "a generator of the CPU": (
        "Expected a 'cuda' device type for generator but found 'cpu'",
        lambda: torch.randn(3, device="cuda", generator=torch.Generator()),
    ),
    "a generator of the GPU": (
        "Expected a 'cpu' device type for generator but found 'cuda'",
        lambda: torch.randn(3, generator=torch.Generator("cuda")),
    ),
    "draws in place": ("Expected a 'cuda'", lambda: there(3).normal_(generator=torch.Generator())),
    "numpy": ("can't convert cuda:0 device type tensor to numpy", lambda: there(3).numpy()),
    "an array": ("can't convert cuda:0 device type tensor to numpy", lambda: np.asarray(there(3))),
}


@pytest.mark.parametrize("name", CUDA_TAKES)
def test_what_cuda_takes(name: str) -> None:
    x = CUDA_TAKES[name]()
    assert str(x.device) == "cuda:0"
    assert x.is_cuda
    assert not x.cpu().is_cuda


@pytest.mark.parametrize("name", STAYS)
def test_what_is_on_the_cpu(name: str) -> None:
    x = STAYS[name]()
    assert x.device.type == "cpu"
    x.detach().numpy()


@pytest.mark.parametrize("name", CUDA_REFUSES)
def test_what_cuda_refuses(name: str) -> None:
    message, act = CUDA_REFUSES[name]
    with pytest.raises((RuntimeError, TypeError), match=message):
        act()


def test_numbers_come_off_it() -> None:
    x = there(2)
    assert float(x[0]) == x[0].item() == 1
    assert x.tolist() == [1, 1]


def test_a_slice_is_set_from_either_place() -> None:
    x, y = there(3), here(3)
    x[:2], y[:2] = 2 * here(2), 3 * there(2)
    assert (x.is_cuda, x.tolist()) == (True, [2, 2, 1])
    assert (y.is_cuda, y.tolist()) == (False, [3, 3, 1])


@pytest.mark.parametrize("fused", [False, True])
def test_a_network_is_trained_there(fused: bool) -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.SiLU(), nn.Conv2d(4, 1, 3)).to("cuda")
    optimizer, before = torch.optim.AdamW(network.parameters(), fused=fused), copy.deepcopy(network)
    network(torch.randn(2, 1, 6, 6, device="cuda")).square().mean().backward()
    optimizer.step()
    for now, then in zip(network.parameters(), before.parameters(), strict=True):
        assert now.is_cuda
        assert now.grad is not None
        assert now.grad.is_cuda
        assert not torch.equal(now, then)


def test_a_gradient_comes_back_to_the_cpu() -> None:
    x = here(3).requires_grad_()
    (x.to("cuda") * there(3)).sum().backward()
    assert x.grad is not None
    assert x.grad.device.type == "cpu"
