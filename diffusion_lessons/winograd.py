"""The gradient of a 3×3 convolution's weights with a quarter of the multiplications.

Winograd's minimal filtering makes the 4×4 outputs y of a 6×6 window d and a 3×3 filter g with 36
multiplications instead of 144: y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A (Lavin and Gray 2015, F(4×4, 3×3)).
That is linear in g, so the gradient of g is Gᵀ[(Bᵀ d B) ⊙ (A y′ Aᵀ)]G, summed over the windows, where
y′ is the gradient of y. Only this is used: on a CPU with AVX2 the direct way of computing it reaches
half to two thirds of the speed of the convolution itself, which needs no help.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

B_T = torch.tensor(
    [
        [4.0, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
G_T = torch.tensor([[6.0, -4, -4, 1, 1, 0], [0, -4, 4, 2, -2, 0], [0, -4, -4, 4, 4, 24]]).double() / 24
A = torch.tensor([[1.0, 0, 0, 0], [1, 1, 1, 1], [1, -1, 1, -1], [1, 2, 4, 8], [1, -2, 4, -8], [0, 0, 0, 1]])

WIDE = 64  # channels, in and out: below, the direct way is as fast
AT_A_TIME = 8192  # windows × channels: about what the caches of a core hold


class WinogradGradients(TorchFunctionMode):
    """Inside this context, wide 3×3 convolutions find the gradient of their weights Winograd's way."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.conv2d and not kwargs and _fits(*args):
            return _Convolution.apply(*args[:3])
        return func(*args, **(kwargs or {}))


def pays(network: nn.Module, device: torch.device) -> bool:
    """Whether a network trains faster in this context: measured on a CPU with AVX2 and no AVX-512."""
    slow = device.type == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX2"
    return slow and any(isinstance(m, nn.Conv2d) and _wide(m.weight) for m in network.modules())


def parameter_gradients(x: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of the weights (O, C, 3, 3) and biases (O,) of a convolution with stride 1 and padding 1.

    Args:
        x: (B, C, H, W), its input; height and width are multiples of 4.
        grad: (B, O, H, W), the gradient of its output.
    """
    (batch, c, height, width), o = x.shape, grad.shape[1]
    rows, columns = height // 4, width // 4
    images = min(batch, max(1, AT_A_TIME // (rows * columns * max(c, o))))
    padded = x.new_zeros(images, height + 2, width + 2, c)
    weight, bias = x.new_zeros(36, c, o), x.new_zeros(o)
    x, grad = x.permute(0, 2, 3, 1), grad.permute(0, 2, 3, 1)  # (B, H, W, C), as channels-last memory lies
    for xs, grads in zip(x.split(images), grad.split(images), strict=True):
        inside = padded[: len(xs)]
        inside[:, 1:-1, 1:-1] = xs
        windows = inside.unfold(1, 6, 4).unfold(2, 6, 4)  # (b, rows, columns, C, 6, 6)
        d = _transformed(B_T, windows.permute(4, 5, 0, 1, 2, 3))  # (6, 6, b·rows·columns·C)
        tiles = grads.reshape(-1, rows, 4, columns, 4, o)
        y = _transformed(A, tiles.permute(2, 4, 0, 1, 3, 5))  # (6, 6, b·rows·columns·O)
        weight.baddbmm_(d.view(36, -1, c).transpose(1, 2), y.view(36, -1, o))
        bias += y[1, 1].view(-1, o).sum(0)  # row 1 of A is all ones: this entry is the sum of the tile
    return _transformed(G_T, weight.view(6, 6, c, o)).view(3, 3, c, o).permute(3, 2, 0, 1), bias


def _transformed(m: Tensor, squares: Tensor) -> Tensor:
    """m s mᵀ for each square s: (k, k, …) -> (r, r, N), with m (r, k)."""
    r, k = m.shape
    columns = squares.reshape(k, k, -1).transpose(0, 1)
    rows = torch.bmm(m.to(squares).expand(k, r, k), columns).transpose(0, 1)  # (r, k, N)
    return torch.bmm(m.to(squares).expand(r, r, k), rows)


class _Convolution(torch.autograd.Function):
    """The convolution itself, with another backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, bias, padding=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None]:
        x, weight = ctx.saved_tensors
        grad_x = F.conv_transpose2d(grad, weight, padding=1) if ctx.needs_input_grad[0] else None
        grad_weight, grad_bias = parameter_gradients(x, grad)
        return grad_x, grad_weight, grad_bias if ctx.needs_input_grad[2] else None


def _fits(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> bool:
    plain = (stride, padding, dilation, groups) == ((1, 1), (1, 1), (1, 1), 1)
    return plain and _wide(weight) and x.shape[-2] % 4 == 0 and x.shape[-1] % 4 == 0


def _wide(weight: Tensor) -> bool:
    return weight.shape[2:] == (3, 3) and min(weight.shape[:2]) >= WIDE
