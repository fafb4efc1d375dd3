import gzip
import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from diffusion_lessons.data import DataError, cifar, load_dataset
from tests.data.local_mirror import Mirror

PER_FILE = 3


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Three records in each file, in the place of 10,000."""
    random = np.random.default_rng(0)
    made = {}
    for name in cifar.SHA256:
        records = random.integers(0, 256, (PER_FILE, cifar.RECORD), dtype=np.uint8)
        records[:, 0] %= 10
        made[name] = records.tobytes()
    monkeypatch.setattr(cifar, "PER_FILE", PER_FILE)
    monkeypatch.setattr(
        cifar, "SHA256", {name: hashlib.sha256(data).hexdigest() for name, data in made.items()}
    )
    return made


def tar(files: dict[str, bytes], mode: str = "w:gz") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in {"batches.meta.txt": b"airplane\n", **files}.items():
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def put(data_dir: Path, data: bytes) -> Path:
    path = data_dir / cifar.FILE
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("mode", ["w:gz", "w", "w:bz2"])
def test_pictures_have_their_colours_and_labels(files: dict[str, bytes], data_dir: Path, mode: str) -> None:
    put(data_dir, tar(dict(reversed(files.items())), mode))
    train, test = load_dataset("cifar10", "train"), load_dataset("cifar10", "test")
    assert (len(train), len(test)) == (5 * PER_FILE, PER_FILE)
    second = files["data_batch_2.bin"]
    assert train.labels[PER_FILE] == second[0]
    assert train.images[PER_FILE, 0, 0, :4].tolist() == list(second[1:5])  # red, the first row
    assert train.images[PER_FILE, 0, 1, 0] == second[1 + 32]
    assert train.images[PER_FILE, 2, 31, 31] == second[cifar.RECORD - 1]  # blue, the last pixel
    assert test.labels.tolist() == list(files["test_batch.bin"][:: cifar.RECORD])
    assert test.classes[6] == "frog"
    assert load_dataset("cifar10", "test", 16).shape == (3, 16, 16)


def test_downloaded(
    files: dict[str, bytes], mirror: Mirror, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = mirror.serve("kriz/cifar-10-binary.tar.gz", tar(files))
    monkeypatch.setattr(cifar, "MIRRORS", (f"{mirror.url}/gone/", url))
    assert len(load_dataset("cifar10", "test")) == PER_FILE
    assert [path.name for path in (data_dir / "cifar10").iterdir()] == ["cifar-10-binary.tar.gz"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda files: tar(files)[:-2000], "unpacked"),
        (lambda files: tar(files | {"test_batch.bin": bytes(PER_FILE * cifar.RECORD)}), "SHA-256"),
        (lambda files: tar(files | {"test_batch.bin": b"short"}), "lacks test_batch.bin"),
        (lambda files: b"<html>not found</html>" * 100, "unpacked"),
        (lambda files: b"", "unpacked"),
        (lambda files: gzip.compress(b"no tar" * 1000), "unpacked"),
    ],
)
def test_damaged_archives_are_named_and_kept(
    files: dict[str, bytes], data_dir: Path, damage: Callable[[dict[str, bytes]], bytes], message: str
) -> None:
    bad = damage(files)
    path = put(data_dir, bad)
    with pytest.raises(DataError, match=f"is damaged .*{message}.*delete it"):
        load_dataset("cifar10")
    assert path.read_bytes() == bad


def test_members_that_lead_elsewhere_are_not_followed(files: dict[str, bytes], data_dir: Path) -> None:
    secret = data_dir.parent / "secret.bin"
    secret.write_bytes(files["test_batch.bin"])
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        link = tarfile.TarInfo("cifar-10-batches-bin/test_batch.bin")
        link.type, link.linkname, link.size = tarfile.SYMTYPE, str(secret), PER_FILE * cifar.RECORD
        archive.addfile(link)
        for name, data in files.items():
            info = tarfile.TarInfo(f"../../../{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    put(data_dir, stream.getvalue())
    assert len(load_dataset("cifar10", "test")) == PER_FILE
    assert sorted(path.name for path in data_dir.parent.iterdir()) == ["data", "secret.bin"]


def test_an_archive_without_end_is_given_up(
    files: dict[str, bytes], data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cifar, "MAX_BYTES", 10_000)
    put(data_dir, tar({"zeros": bytes(100_000), **files}))
    with pytest.raises(DataError, match="lacks"):
        load_dataset("cifar10")


def test_the_published_hashes_are_six_different_ones() -> None:
    assert len(set(cifar.SHA256.values())) == 6
    assert all(len(bytes.fromhex(value)) == 32 for value in cifar.SHA256.values())
    assert cifar.RECORD == 3073
