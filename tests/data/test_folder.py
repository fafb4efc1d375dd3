import os
import shutil
import struct
import threading
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion_lessons.data import DataError, load_dataset


def put(path: Path, colour: tuple[int, int, int] | int = (10, 20, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L" if isinstance(colour, int) else "RGB", (12, 10), colour).save(path)


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Twelve cats and ten dogs, each of a colour of its own."""
    for i in range(12):
        put(tmp_path / f"pets/cat/{i:02}.png", (i, 0, 200))
    for i in range(10):
        put(tmp_path / f"pets/dog/{i:02}.png", (i, 100, 0))
    return tmp_path / "pets"


def colours(images: torch.Tensor) -> list[list[int]]:
    assert (images == images[..., :1, :1]).all()
    return images[..., 0, 0].tolist()


def load(path: Path, split: str = "train", size: int | None = 8):  # type: ignore[no-untyped-def]
    return load_dataset(f"folder:{path}", split, size)


def test_pictures_labels_and_classes(pets: Path) -> None:
    train, test = load(pets), load(pets, "test")
    assert train.name == "folder:pets"
    assert train.classes == test.classes == ("cat", "dog")
    cats = [[i, 0, 200] for i in range(12) if i != 9]
    dogs = [[i, 100, 0] for i in range(9)]
    assert colours(train.images) == cats + dogs
    assert train.labels.tolist() == [0] * 11 + [1] * 9
    assert colours(test.images) == [[9, 0, 200], [9, 100, 0]]
    assert test.labels.tolist() == [0, 1]


def test_default_size_is_32(pets: Path) -> None:
    assert load(pets, size=None).shape == (3, 32, 32)


@pytest.mark.parametrize("top", ["", "pets/", "a/b/"])
def test_a_zip_is_the_same_as_its_folder(pets: Path, tmp_path: Path, top: str) -> None:
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as out:
        for path in pets.rglob("*.png"):
            out.write(path, top + path.relative_to(pets).as_posix())
            out.writestr(f"__MACOSX/{top}{path.relative_to(pets).as_posix()}", b"resource fork")
    zipped, plain = load(tmp_path / "pets.zip"), load(pets)
    assert torch.equal(zipped.images, plain.images)
    assert torch.equal(zipped.labels, plain.labels)
    assert zipped.classes == plain.classes


def test_more_pictures_than_one_thread_takes_stay_in_order(tmp_path: Path) -> None:
    for i in range(200):
        put(tmp_path / f"a/{i:03}.png", i)
    images = load(tmp_path).images
    assert images[:, 0, 0, 0].tolist() == [i for i in range(200) if i % 10 != 9]


def test_what_cannot_be_read_is_counted_named_and_skipped(pets: Path) -> None:
    (pets / "cat/00.png").write_bytes((pets / "cat/00.png").read_bytes()[:50])
    (pets / "cat/notes.txt").write_text("not a picture")
    (pets / "dog/empty.png").touch()
    (pets / "readme.md").touch()
    (pets / "cat/.hidden").touch()
    with pytest.warns(UserWarning, match=r"4 of 25 files skipped: ") as caught:
        data = load(pets)
    assert len(caught) == 1
    message = str(caught[0].message)
    assert "readme.md (in no class folder)" in message
    assert "cat/notes.txt (not a picture)" in message
    assert message.endswith(", ...")
    assert [0, 0, 200] not in colours(data.images)
    assert data.labels.bincount().tolist() == [10, 9]


def test_a_bad_file_moves_no_other_between_the_splits(pets: Path) -> None:
    before = colours(load(pets, "test").images)
    (pets / "cat/03.png").write_bytes(b"broken")
    with pytest.warns(UserWarning, match="1 of 22"):
        assert colours(load(pets, "test").images) == before


def test_grey_pictures_have_one_channel(tmp_path: Path) -> None:
    for i in range(10):
        put(tmp_path / f"a/{i}.png", 100 + i)
    put(tmp_path / "a/4.png", (7, 7, 7))  # grey as well, though saved in colour
    assert load(tmp_path).shape == (1, 8, 8)
    assert load(tmp_path, "test").images.unique().tolist() == [109]


def test_one_colour_picture_makes_both_splits_colour(tmp_path: Path) -> None:
    for i in range(10):
        put(tmp_path / f"a/{i}.png", 100 + i)
    put(tmp_path / "a/4.png", (7, 7, 8))
    assert load(tmp_path).shape == (3, 8, 8)
    assert load(tmp_path, "test").shape == (3, 8, 8)


def test_ready_made_splits(tmp_path: Path) -> None:
    put(tmp_path / "train/cat/1.png", (1, 0, 0))
    put(tmp_path / "train/dog/1.png", (2, 0, 0))
    put(tmp_path / "test/dog/1.png", (3, 0, 0))
    assert colours(load(tmp_path).images) == [[1, 0, 0], [2, 0, 0]]
    test = load(tmp_path, "test")
    assert colours(test.images) == [[3, 0, 0]]
    assert test.labels.tolist() == [1]
    assert test.classes == ("cat", "dog")


def test_one_class(tmp_path: Path) -> None:
    put(tmp_path / "cat/1.png")
    data = load(tmp_path)
    assert data.classes == ("cat",)
    assert data.labels.tolist() == [0]


def test_a_folder_without_pictures_is_no_class(pets: Path) -> None:
    (pets / "empty").mkdir()
    (pets / "annotations").mkdir()
    (pets / "annotations/1.xml").write_text("<x/>")
    with pytest.warns(UserWarning, match=r"annotations/1\.xml"):
        assert load(pets).classes == ("cat", "dog")


def test_names_in_any_script(tmp_path: Path) -> None:
    put(tmp_path / "猫/ñandú é.png")
    put(tmp_path / "собака/1.png")
    assert load(tmp_path).classes == ("собака", "猫")
    with zipfile.ZipFile(tmp_path / "tiere.zip", "w") as out:
        out.write(tmp_path / "猫/ñandú é.png", "猫/ñandú é.png")
    assert load(tmp_path / "tiere.zip").classes == ("猫",)


@pytest.mark.parametrize("split", ["train", "test"])
def test_nothing_to_read_is_an_error(tmp_path: Path, split: str) -> None:
    with pytest.raises(DataError, match=r"has no pictures: give a folder .* one subfolder for each class"):
        load(tmp_path, split)
    put(tmp_path / "1.png")
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat/1.png").write_bytes(b"broken")
    with pytest.warns(UserWarning, match="2 of 2"), pytest.raises(DataError, match=f"no pictures to {split}"):
        load(tmp_path, split)


def test_too_few_pictures_to_test(tmp_path: Path) -> None:
    put(tmp_path / "cat/1.png")
    with pytest.raises(DataError, match="no pictures to test"):
        load(tmp_path, "test")


@pytest.mark.parametrize("name", ["nowhere", "nowhere/pets.zip"])
def test_a_path_that_is_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="there is no folder or zip at"):
        load(tmp_path / name)


@pytest.mark.filterwarnings("ignore:Image size")
@pytest.mark.parametrize("side", [9000, 14000])  # more than ours, and more than Pillow's limit
def test_a_pixel_bomb_is_skipped_and_named(pets: Path, side: int) -> None:
    Image.new("1", (side, side)).save(pets / "dog/bomb.png")
    with pytest.warns(UserWarning, match=rf"1 of 23 files skipped: dog/bomb\.png \(.*{side}|exceeds limit"):
        data = load(pets)
    assert data.labels.bincount().tolist() == [11, 9]


# Without labels, in the dark, and behind links --------------------------------------------------------


@pytest.mark.parametrize("top", ["", "all/"])
def test_a_flat_folder_has_no_labels(tmp_path: Path, top: str) -> None:
    for i in range(20):
        put(tmp_path / f"{i:02}.png", 10 * i)
    (tmp_path / "notes.txt").write_text("not a picture")
    with pytest.warns(UserWarning, match=r"1 of 21 files skipped: notes\.txt \(not a picture\)"):
        train, test = load(tmp_path), load(tmp_path, "test")
    assert (train.labels, train.classes) == (None, ())
    assert colours(train.images) == [[10 * i] for i in range(20) if i % 10 != 9]
    assert colours(test.images) == [[90], [190]]
    assert train.words() == (
        f"folder:{tmp_path.name}: 18 pictures of 1x8x8; no classes, so no labels; "
        "2 more are for testing (every 10th); 1 of 21 files skipped"
    )


def test_splits_beside_other_folders(tmp_path: Path) -> None:
    for i in range(6):
        put(tmp_path / f"train/{'cat' if i < 4 else 'dog'}/{i}.png", 10 * i)
    put(tmp_path / "test/dog/1.png", 200)
    put(tmp_path / "samples/1.png", 250)
    with pytest.warns(UserWarning, match=r"1 of 8 files skipped: samples/1\.png \(beside train/ and test/\)"):
        train, test = load(tmp_path), load(tmp_path, "test")
    assert train.classes == test.classes == ("cat", "dog")
    assert (train.labels.tolist(), test.labels.tolist()) == ([0, 0, 0, 0, 1, 1], [1])
    assert "2 (cat, dog); 1 more are for testing (those in test/); 1 of 8 files skipped" in train.words()


def test_test_pictures_that_would_be_trained_on_are_told(tmp_path: Path) -> None:
    for name in ("train", "test", "bus"):
        put(tmp_path / f"{name}/1.png")
    with pytest.warns(UserWarning, match=r"test/, train/: taken for no split"):
        assert load(tmp_path).classes == ("bus", "test", "train")


@pytest.mark.parametrize("of", ["files", "folders"])
def test_where_all_pictures_are_links_out_they_are_the_reason(tmp_path: Path, of: str) -> None:
    put(tmp_path / "store/cat/1.png")
    (tmp_path / "data/cat").mkdir(parents=True)
    try:
        if of == "files":
            (tmp_path / "data/cat/1.png").symlink_to(tmp_path / "store/cat/1.png")
        else:
            (tmp_path / "data/dog").symlink_to(tmp_path / "store/cat")
    except OSError:
        pytest.skip("links can't be made here")
    with pytest.raises(DataError, match=r"a link out of the folder.*copy what they lead to"):
        load(tmp_path / "data")


def deep(file: Path, brightest: int, colour: bool = False) -> None:
    """A 16-bit picture whose largest value is this."""
    file.parent.mkdir(parents=True, exist_ok=True)
    values = np.linspace(0, brightest, 256).astype(np.uint16).reshape(16, 16)
    if not colour:
        Image.fromarray(values).save(file)
        return
    rows = np.repeat(values[..., None], 3, -1).astype(">u2").tobytes()
    lines = b"".join(b"\0" + rows[i * 96 : i * 96 + 96] for i in range(16))
    header = struct.pack(">IIBBBBB", 16, 16, 16, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    made = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(made))


@pytest.mark.parametrize(
    ("name", "colour", "brightest", "bits"),
    [
        ("1.png", False, 3990, 12),
        ("1.tif", False, 4095, 12),
        ("1.png", False, 1000, 10),
        ("1.png", True, 4095, 12),
        ("1.png", False, 16000, 14),
    ],
)
def test_scans_of_fewer_bits_are_told(
    tmp_path: Path, name: str, colour: bool, brightest: int, bits: int
) -> None:
    for label in ("lung", "skull"):
        deep(tmp_path / label / name, brightest, colour)
    with pytest.warns(
        UserWarning, match=f"in 2 16-bit pictures .*scans of {bits} bits, .*by {2 ** (16 - bits)}"
    ):
        load(tmp_path)


@pytest.mark.parametrize("brightest", [0, 65535, 40000])
def test_bright_or_empty_pictures_of_16_bits_are_fine(tmp_path: Path, brightest: int) -> None:
    deep(tmp_path / "a/1.png", 3000)
    deep(tmp_path / "a/2.png", 65535)
    deep(tmp_path / "b/1.png", brightest)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(tmp_path)


@pytest.mark.parametrize("name", ["猫", "é"])
def test_a_zip_that_does_not_say_that_its_names_are_utf8(tmp_path: Path, name: str) -> None:
    put(tmp_path / f"{name}/1.png")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as out:
        out.write(tmp_path / f"{name}/1.png", f"{name}/1.png")
    data = (tmp_path / "a.zip").read_bytes()
    for at in (6 + data.index(b"PK\x03\x04"), 8 + data.index(b"PK\x01\x02")):
        flags = int.from_bytes(data[at : at + 2], "little") & ~0x800
        data = data[:at] + flags.to_bytes(2, "little") + data[at + 2 :]
    (tmp_path / "a.zip").write_bytes(data)
    assert load(tmp_path / "a.zip").classes == (name,)


@pytest.mark.parametrize("path", ["~nosuchuser/pets", "~nosuchuser/"])
def test_a_home_that_is_not_there(path: str) -> None:
    with pytest.raises(ValueError, match=r"nobody here is called ~nosuchuser"):
        load_dataset(f"folder:{path}")


def test_links_lead_nowhere_else(pets: Path, tmp_path: Path) -> None:
    put(tmp_path / "secret/1.png", (250, 250, 0))
    try:
        (pets / "cat/outside.png").symlink_to(tmp_path / "secret/1.png")
    except OSError:
        pytest.skip("links can't be made here")
    (pets / "secret").symlink_to(tmp_path / "secret")
    (pets / "loop").symlink_to(pets)
    (pets / "dog/nowhere.png").symlink_to(pets / "gone.png")
    (pets / "dog/itself.png").symlink_to(pets / "dog/itself.png")
    (pets / "dog/zz.png").symlink_to(pets / "cat/00.png")
    with pytest.warns(UserWarning, match="5 of 28 files skipped") as caught:
        data = load(pets)
    message = str(caught[0].message)
    assert "secret (a link out of the folder)" in message
    assert "loop (a link to a folder)" in message
    assert data.classes == ("cat", "dog")
    assert colours(data.images)[-1] == [0, 0, 200]
    assert [250, 250, 0] not in colours(data.images)


def _run(thread: threading.Thread) -> None:
    thread.start()
    thread.join(20)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_not_waited_for(pets: Path) -> None:
    os.mkfifo(pets / "cat/pipe.png")
    thread = threading.Thread(target=load, args=(pets,), daemon=True)
    with pytest.warns(UserWarning, match=r"cat/pipe\.png \(not a file\)"):
        _run(thread)
    assert not thread.is_alive()


def test_a_folder_that_cannot_be_opened_is_reported(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.warns(UserWarning, match=r"dog \(Permission denied\)"):
        assert load(pets).classes == ("cat",)


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
def test_a_name_that_is_no_text(pets: Path) -> None:
    try:
        shutil.copytree(pets / "dog", pets / os.fsdecode(b"bad\xff\x1b[31m"))
    except OSError:
        pytest.skip("this file system has no such names")
    data = load(pets)
    assert data.classes == ("bad??[31m", "cat", "dog")
    " ".join(data.classes).encode()


def test_the_folder_may_itself_be_a_link(pets: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(pets)
    assert torch.equal(load(tmp_path / "link").images, load(pets).images)


def test_real_cifar10_from_a_zip(shared_data: Path, tmp_path: Path) -> None:
    real = zipfile.ZipFile(shared_data / "cifar10/cifar10-train.zip")
    with real, zipfile.ZipFile(tmp_path / "cifar10.zip", "w") as out:
        for name in real.namelist()[::25]:  # 200 of each class
            out.writestr(f"cifar10-train/{name}", real.read(name))
        with real.open("cat/0025.jpg") as file:
            second_cat = np.asarray(Image.open(file))
    data = load(tmp_path / "cifar10.zip", size=32)
    assert data.images.shape == (1800, 3, 32, 32)
    assert data.labels.bincount().tolist() == [180] * 10
    assert data.classes[3] == "cat"
    mean = data.images.float().mean((0, 2, 3)) / 255
    assert mean.tolist() == pytest.approx([0.4914, 0.4822, 0.4465], abs=0.02)
    assert np.array_equal(data.images[3 * 180 + 1].permute(1, 2, 0), second_cat)
