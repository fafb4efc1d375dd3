import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from diffusion_lessons.data import DataError, load_dataset, mnist
from diffusion_lessons.data.dataset import resize
from tests.data.local_mirror import Mirror


def idx(array: np.ndarray) -> bytes:
    return (
        struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()
    )


IMAGES = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
LABELS = np.array([9, 0, 3, 3, 7], np.uint8)
FILES = {"t10k-images-idx3-ubyte": idx(IMAGES), "t10k-labels-idx1-ubyte": idx(LABELS)}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Five pictures in the place of the 10,000 that test Fashion-MNIST."""
    for name, data in FILES.items():
        monkeypatch.setitem(mnist.FASHION_MNIST_SHA256, name, hashlib.sha256(data).hexdigest())
    return dict(FILES)


def put(folder: Path, name: str, data: bytes) -> Path:
    path = folder / "fashion_mnist" / f"{name}.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_downloaded_whatever_the_compression(
    small: dict[str, bytes], mirror: Mirror, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = {name: gzip.compress(data, level) for level, (name, data) in enumerate(small.items(), 1)}
    urls = [mirror.serve(f"fashion/{name}.gz", data) for name, data in packed.items()]
    monkeypatch.setattr(mnist, "FASHION_MNIST_MIRRORS", (urls[0],))
    data = load_dataset("fashion_mnist", "test", 28)
    assert torch.equal(data.images, torch.from_numpy(IMAGES).unsqueeze(1))
    assert data.labels.tolist() == LABELS.tolist()
    assert data.classes[9] == "Ankle boot"
    assert {path.name for path in (data_dir / "fashion_mnist").iterdir()} == {f"{name}.gz" for name in packed}


def test_the_frame_is_black_and_the_middle_untouched(small: dict[str, bytes], data_dir: Path) -> None:
    for name, data in small.items():
        put(data_dir, name, gzip.compress(data))
    framed = load_dataset("fashion_mnist", "test").images
    assert framed.shape == (5, 1, 32, 32)
    assert torch.equal(framed[:, 0, 2:30, 2:30], torch.from_numpy(IMAGES))
    assert int(framed.long().sum()) == int(IMAGES.astype(np.int64).sum())
    half = load_dataset("fashion_mnist", "test", 16).images
    assert torch.equal(half, resize(framed, 16))


def test_files_that_a_server_unpacked_are_fine_too(small: dict[str, bytes], data_dir: Path) -> None:
    for name, data in small.items():
        put(data_dir, name, data)
    assert len(load_dataset("fashion_mnist", "test")) == 5


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: gzip.compress(data)[:-200], id="cut off"),
        pytest.param(lambda data: gzip.compress(data[:-1] + b"!"), id="another picture"),
        pytest.param(lambda data: gzip.compress(data) + b"tail", id="longer"),
        pytest.param(lambda data: b"<html>not found</html>", id="a web page"),
        pytest.param(lambda data: b"", id="empty"),
        pytest.param(lambda data: b"\x1f\x8b" + bytes(50), id="no gzip"),
    ],
)
def test_damaged_files_are_named_and_kept(small: dict[str, bytes], data_dir: Path, damage) -> None:  # type: ignore[no-untyped-def]
    put(data_dir, "t10k-labels-idx1-ubyte", gzip.compress(small["t10k-labels-idx1-ubyte"]))
    bad = damage(small["t10k-images-idx3-ubyte"])
    path = put(data_dir, "t10k-images-idx3-ubyte", bad)
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte\.gz is damaged .*delete it"):
        load_dataset("fashion_mnist", "test")
    assert path.read_bytes() == bad


def test_the_published_hashes_are_eight_different_ones() -> None:
    hashes = [*mnist.MNIST_SHA256.values(), *mnist.FASHION_MNIST_SHA256.values()]
    assert len(set(hashes)) == 8
    assert all(len(bytes.fromhex(value)) == 32 for value in hashes)


@pytest.fixture
def real(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFUSION_LESSONS_DATA", str(shared_data))
    monkeypatch.setattr(mnist, "MNIST_MIRRORS", ())


@pytest.mark.usefixtures("real")
def test_real_mnist() -> None:
    train, test = load_dataset("mnist", "train", 28), load_dataset("mnist", "test")
    assert train.images.shape == (60_000, 1, 28, 28)
    assert test.images.shape == (10_000, 1, 32, 32)
    assert train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert test.labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert train.images.float().mean() / 255 == pytest.approx(0.1307, abs=1e-4)
    assert train.images.float().std() / 255 == pytest.approx(0.3081, abs=1e-4)
