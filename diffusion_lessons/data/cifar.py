"""CIFAR-10: 60,000 colour pictures of 32x32, ten classes, in the authors' binary format."""

import tarfile
import zlib
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from diffusion_lessons.data.dataset import Dataset, check_asked, resize
from diffusion_lessons.data.downloads import DamagedError, check_sha256, load_cached

FILE = "cifar10/cifar-10-binary.tar.gz"
# SHA-256 of each file in the archive: how somebody packed them doesn't matter. The authors' own archive has
# c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd.
SHA256 = {
    "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}
MIRRORS = (  # the authors' own server comes last: it is slow
    "https://mindspore-website.obs.cn-north-4.myhuaweicloud.com/notebook/datasets/",
    "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/",
    "https://www.cs.toronto.edu/~kriz/",
)
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
RECORD = 1 + 3 * 32 * 32  # a label, then the red, green and blue planes, row by row
PER_FILE = 10_000
MAX_BYTES = 1 << 28


def cifar10(split: str = "train", size: int | None = None) -> Dataset:
    """Small photographs, 50,000 to train and 10,000 to test (Krizhevsky 2009); 32x32, or else resized.

    The binary archive is read, never the one of Python pickles, which could run code.
    """
    test, size = check_asked(split, size, default=32)
    files = load_cached(FILE, MIRRORS, _read)
    chosen = [files[name] for name in sorted(files) if name.startswith("test" if test else "data")]
    records = torch.from_numpy(np.concatenate(chosen))  # (N, RECORD)
    labels, images = records[:, 0].long(), records[:, 1:].reshape(-1, 3, 32, 32)
    note = "50000 more are for training" if test else "10000 more are for testing"
    return Dataset("cifar10", resize(images, size), labels, CLASSES, note=note)


def _read(path: Path) -> dict[str, np.ndarray]:
    """Each file of the archive as records, uint8 of shape (10000, RECORD), without unpacking it to disk."""
    files: dict[str, np.ndarray] = {}
    try:
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                name = PurePosixPath(member.name).name
                if name in SHA256 and member.isfile() and member.size == PER_FILE * RECORD:
                    stream = archive.extractfile(member)
                    data = check_sha256(stream.read() if stream else b"", SHA256[name])
                    files[name] = np.frombuffer(data, np.uint8).reshape(PER_FILE, RECORD)
                if len(files) == len(SHA256) or member.offset_data + member.size > MAX_BYTES:
                    break
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DamagedError(f"it can't be unpacked: {error}") from error
    missing = sorted(SHA256.keys() - files.keys())
    if missing:
        raise DamagedError(f"it lacks {', '.join(missing)}")
    return files
