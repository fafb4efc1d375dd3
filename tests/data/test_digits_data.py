import numpy as np
import torch
from sklearn.datasets import load_digits

from diffusion_lessons.data import load_dataset
from diffusion_lessons.data.digits import digits


def test_original_pictures_are_scikit_learns_own() -> None:
    values, labels = load_digits(return_X_y=True)
    train, test = digits("train", 8), digits("test", 8)
    assert len(train) + len(test) == len(values) == 1797
    ours = torch.cat([train.images, test.images]).flatten(1).float() * (16 / 255)
    theirs = values[np.lexsort(values.T)]
    assert np.array_equal(ours.numpy().round()[np.lexsort(ours.numpy().round().T)], theirs)
    assert torch.cat([train.labels, test.labels]).bincount().tolist() == np.bincount(labels).tolist()


def test_split_is_stratified_and_fixed() -> None:
    train, test = digits("train", 8), digits("test", 8)
    assert (len(train), len(test)) == (1442, 355)
    assert test.labels.bincount().tolist() == [35, 36, 35, 36, 36, 36, 36, 35, 34, 36]
    fourth_zero, fifth_zero = np.flatnonzero(load_digits().target == 0)[3:5]
    first = torch.from_numpy(np.rint(load_digits().images[fifth_zero] * (255 / 16)).astype(np.uint8))
    assert torch.equal(test.images[test.labels == 0][0, 0], first)
    assert fourth_zero < fifth_zero


def test_default_is_16_pixels_and_the_whole_range() -> None:
    data = load_dataset("digits")
    assert data.shape == (1, 16, 16)
    assert data.classes == tuple("0123456789")
    assert data.images.min() == 0
    assert data.images.max() == 255
    small = digits("train", 8).images.float()
    blocks = torch.nn.functional.avg_pool2d(data.images.float(), 2)
    assert (blocks - small).abs().mean() < 12  # the same pictures, neither shifted nor turned
    assert (blocks.flip(3) - small).abs().mean() > 30
