"""scikit-learn's handwritten digits: 1,797 real pictures that come with it, so that nothing is downloaded."""

import numpy as np
import torch

from diffusion_lessons.data.dataset import Dataset, check_size, check_split

TEST_EVERY = 5


def digits(split: str = "train", size: int | None = None) -> Dataset:
    """Handwritten digits of 8x8 with 17 shades of grey (Alpaydin and Kaynak 1998), upsampled.

    Of each digit every fifth picture is for testing: 1,442 to train and 355 to test, the same everywhere.

    Args:
        split: "train" or "test".
        size: 16 by default, bicubic, in which strokes look like strokes; 8 is the original.

    Raises:
        ValueError: for another split or size.
    """
    size = check_size(size, default=16)
    test = check_split(split) == "test"
    from sklearn.datasets import load_digits

    from diffusion_lessons.data.pictures import resize

    values, labels = load_digits(return_X_y=True)  # (N, 64) of 0..16, (N,)
    images = torch.from_numpy(np.rint(values * (255 / 16)).astype(np.uint8)).reshape(-1, 1, 8, 8)
    chosen = torch.from_numpy((_rank_in_class(labels) % TEST_EVERY == TEST_EVERY - 1) == test)
    labels = torch.from_numpy(labels.astype(np.int64))
    return Dataset("digits", resize(images[chosen], size), labels[chosen], tuple("0123456789"))


def _rank_in_class(labels: np.ndarray) -> np.ndarray:
    """How many earlier pictures have the same label, for each."""
    rank = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        members = labels == label
        rank[members] = np.arange(members.sum())
    return rank
