import io
import stat
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from diffusion_lessons.data import DataError, load_dataset
from diffusion_lessons.support import zips
from diffusion_lessons.support.zips import UnreadableZip, open_zip, zip_files


def picture() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (4, 4), "#102030").save(stream, "PNG")
    return stream.getvalue()


def made(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as out:
        for name, data in files.items():
            out.writestr(zipfile.ZipInfo(name), data, method)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pets.zip"


@pytest.mark.parametrize(
    "name",
    [
        "../evil.png",
        "cat/../../evil.png",
        "/etc/evil.png",
        "C:/evil.png",
        "c:evil.png",
        "cat\\..\\..\\evil.png",
        "..",
    ],
)
def test_a_zip_that_unpacks_outside_is_refused(path: Path, name: str) -> None:
    made(path, {"cat/1.png": picture(), name: picture()})
    with pytest.raises(DataError, match=r"refused: .* would unpack outside"):
        load_dataset(f"folder:{path}")


def test_a_link_is_refused(path: Path) -> None:
    link = zipfile.ZipInfo("cat/2.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("cat/1.png", picture())
        out.writestr(link, "/etc/passwd")
    with pytest.raises(DataError, match=r"'cat/2\.png' is a link"):
        load_dataset(f"folder:{path}")


def test_a_password_is_refused(path: Path) -> None:
    made(path, {"cat/1.png": picture()}, zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1  # the flag for it, in the central directory
    path.write_bytes(data)
    with pytest.raises(DataError, match="has a password"):
        load_dataset(f"folder:{path}")


def test_a_bomb_is_refused_by_its_ratio(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zips, "HARMLESS_BYTES", 1_000_000)
    made(path, {"cat/1.png": bytes(2_000_000), "cat/2.png": bytes(2_000_000)})
    with pytest.raises(DataError, match=r"it unpacks to 4,000,000 bytes, [0-9,]+ times its size"):
        load_dataset(f"folder:{path}")


def test_harmless_files_may_be_well_compressed(path: Path) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (600, 600), "#102030").save(stream, "BMP")
    made(path, {"cat/1.bmp": stream.getvalue()})
    assert len(load_dataset(f"folder:{path}")) == 1


@pytest.mark.parametrize(
    ("limit", "value", "message"),
    [
        ("MAX_FILES", 2, "3 files are more than 2"),
        ("MAX_BYTES", 50, r"it unpacks to [0-9]+ bytes, more than 50"),
        ("MAX_FILE_BYTES", 10, r"'cat/1\.png' unpacks to [0-9]+ bytes"),
    ],
)
def test_limits(path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, message: str) -> None:
    monkeypatch.setattr(zips, limit, value)
    made(path, {f"cat/{i}.png": picture() for i in range(1, 4)})
    with pytest.raises(DataError, match=message):
        load_dataset(f"folder:{path}")


def test_a_file_that_lies_about_its_size_is_read_no_further(path: Path) -> None:
    made(path, {"cat/1.png": picture(), "cat/2.png": bytes(5_000_000)})
    data = path.read_bytes().replace((5_000_000).to_bytes(4, "little"), (100).to_bytes(4, "little"))
    path.write_bytes(data)
    with open_zip(path) as opened, pytest.raises(UnreadableZip, match="CRC"):
        zip_files(opened)["cat/2.png"]()
    with pytest.warns(UserWarning, match=r"1 of 2 files skipped: cat/2\.png \(Bad CRC"):
        assert len(load_dataset(f"folder:{path}")) == 1


def test_a_damaged_member_is_reported_and_the_others_read(path: Path) -> None:
    made(path, {"cat/1.png": picture(), "cat/2.png": picture()}, zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[data.rindex(b"IDAT") + 6] ^= 255
    path.write_bytes(data)
    with pytest.warns(UserWarning, match=r"1 of 2 files skipped: cat/2\.png"):
        assert len(load_dataset(f"folder:{path}")) == 1


@pytest.mark.parametrize("data", [b"", b"no zip", b"PK\3\4" + bytes(50)])
def test_what_is_no_zip_is_refused(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"pets\.zip is neither a folder nor a readable zip"):
        load_dataset(f"folder:{path}")


def test_a_truncated_zip_is_refused(path: Path) -> None:
    made(path, {f"cat/{i}.png": picture() for i in range(20)})
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match="readable zip"):
        load_dataset(f"folder:{path}")


def test_windows_names_and_folders_are_understood(path: Path) -> None:
    made(path, {"pets/": b"", "pets/cat/": b"", "pets\\cat\\1.png": picture(), "pets/dog/1.png": picture()})
    with open_zip(path) as opened:
        assert sorted(zip_files(opened)) == ["pets/cat/1.png", "pets/dog/1.png"]
    assert load_dataset(f"folder:{path}").classes == ("cat", "dog")


def test_nothing_is_written(path: Path) -> None:
    made(path, {"cat/1.png": picture()})
    load_dataset(f"folder:{path}")
    assert list(path.parent.iterdir()) == [path]
