"""MNIST and Fashion-MNIST: 70,000 grey pictures of 28x28, ten classes, in the IDX format.

An IDX file is a header, of 16 bytes for pictures and 8 for labels, and then the bytes themselves. Each file's
content is known by its SHA-256, so that its header needs no reading.
"""

import gzip
import zlib
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import pad

from diffusion_lessons.data.dataset import Dataset, check_asked, resize
from diffusion_lessons.data.downloads import DamagedError, check_sha256, load_cached

Names = tuple[str, ...]

# SHA-256 of the decompressed files: how somebody packed them doesn't matter.
MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
FASHION_MNIST_SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
FASHION_MNIST_MIRRORS = (
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
)
CLOTHES: Names = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat")
CLOTHES += ("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
MAX_BYTES = 1 << 26


def mnist(split: str = "train", size: int | None = None) -> Dataset:
    """Handwritten digits, 60,000 to train and 10,000 to test (LeCun, Cortes and Burges 1998).

    `size` is 32 by default, the original 28x28 in a black frame; 28 is the original; any other size is the
    framed picture, resized.
    """
    return _load("mnist", tuple("0123456789"), MNIST_SHA256, MNIST_MIRRORS, split, size)


def fashion_mnist(split: str = "train", size: int | None = None) -> Dataset:
    """Pictures of clothes (Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747); all else is as for `mnist`."""
    return _load("fashion_mnist", CLOTHES, FASHION_MNIST_SHA256, FASHION_MNIST_MIRRORS, split, size)


def _load(
    name: str, classes: Names, sha256: dict[str, str], mirrors: Names, split: str, size: int | None
) -> Dataset:
    test, size = check_asked(split, size, default=32)

    def array(kind: str, header: int) -> Tensor:
        file = f"{'t10k' if test else 'train'}-{kind}-ubyte"
        data = load_cached(f"{name}/{file}.gz", mirrors, partial(_read, sha256=sha256[file]))
        return torch.frombuffer(bytearray(data), dtype=torch.uint8, offset=header)

    images = array("images-idx3", header=16).view(-1, 1, 28, 28)
    labels = array("labels-idx1", header=8).long()  # (N,)
    if size != 28:
        images = resize(pad(images, (2, 2, 2, 2)), size)  # framed: (N, 1, 32, 32)
    note = "60000 more are for training" if test else "10000 more are for testing"
    return Dataset(name, images, labels, classes, note=note)


def _read(path: Path, sha256: str) -> bytes:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            data = file.read(MAX_BYTES)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DamagedError(f"it can't be unpacked: {error}") from error
    return check_sha256(data, sha256)
