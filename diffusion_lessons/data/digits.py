"""scikit-learn's handwritten digits: 1,797 real pictures that come with it, so that nothing is downloaded."""

import torch
from torch.nn import functional as F

from diffusion_lessons.data.dataset import Dataset, check_asked, resize

TEST_EVERY = 5


def digits(split: str = "train", size: int | None = None) -> Dataset:
    """Handwritten digits of 8x8 with 17 shades of grey (Alpaydin and Kaynak 1998), upsampled.

    Of each digit every fifth picture is for testing: 1,442 to train and 355 to test, the same everywhere.
    `size` is 16 by default, bicubic, in which strokes look like strokes; 8 is the original.
    """
    test, size = check_asked(split, size, default=16)
    from sklearn.datasets import load_digits

    values, labels = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
    labels = labels.long()  # (N,); 32 bits wide on Windows
    images = (values * (255 / 16)).round().to(torch.uint8).reshape(-1, 1, 8, 8)  # from (N, 64) of 0..16
    rank = F.one_hot(labels).cumsum(0).gather(1, labels[:, None])[:, 0]  # 1 for the first of its class
    chosen = (rank % TEST_EVERY == 0) == test
    note = f"{int((~chosen).sum())} more are for {'training' if test else 'testing'}"
    return Dataset("digits", resize(images[chosen], size), labels[chosen], tuple("0123456789"), note=note)
