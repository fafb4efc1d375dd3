"""Damages of pictures, bytes (N, C, H, W) in grey or in colour, that more than one experiment does."""

from io import BytesIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from diffusion_lessons.data.dataset import to_float, to_uint8


def noisy(pictures: Tensor, spread: float, seed: int) -> Tensor:
    """Bytes with noise, whose standard deviation is that of a range from −1 to 1."""
    noise = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(seed))
    return to_uint8((to_float(pictures) + spread * noise).clamp(-1, 1))


def jpeg(pictures: Tensor, quality: int) -> Tensor:
    """Bytes as they come back from JPEG files of a quality."""
    rows, back = pictures.permute(0, 2, 3, 1), []
    for picture in (rows[..., 0] if rows.shape[-1] == 1 else rows).numpy():
        file = BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=quality)
        back.append(np.asarray(Image.open(file)))
    return torch.from_numpy(np.stack(back)).view(rows.shape).permute(0, 3, 1, 2)
