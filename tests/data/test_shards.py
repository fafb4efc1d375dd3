"""Pictures with captions in tars: read by place, in an order of their own, damaged ones named and skipped."""

import json
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffusion_lessons.data import DataError
from diffusion_lessons.data.index_shards import main as write_indexes
from diffusion_lessons.data.shard_files import ROOM, addresses
from diffusion_lessons.data.shard_index import BESIDE, Index, indexed
from diffusion_lessons.data.shards import WINDOW, Shards
from diffusion_lessons.support.console import OwnWarning
from diffusion_lessons.training.batches import Batches
from tests.data.local_mirror import Mirror
from tests.tiny_shards import coloured, write_shard, write_shards

Members = dict[str, bytes]


@pytest.fixture(autouse=True)
def data_folder(data_dir: Path) -> Path:
    return data_dir


def shade(index: int) -> int:
    """The red of the picture of a row of `write_shards`."""
    return index * 4


def rows_of(shards: Shards, *rows: int) -> list[int]:
    """Which rows these are, told by their colour."""
    images, _ = shards.rows(torch.tensor(rows))
    return [round(float(each) / 4) for each in images[:, 0].float().mean((1, 2))]


def quiet(open: Callable[[], Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return open()


# Which shards ---------------------------------------------------------------------------------------


def test_braces_and_stars_name_shards_in_order(tmp_path: Path) -> None:
    assert addresses("a-{08..11}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]
    assert addresses("{a,b}-{0..1}.tar::c.tar") == ["a-0.tar", "a-1.tar", "b-0.tar", "b-1.tar", "c.tar"]
    assert addresses("http://host/{00..01}.tar?key=1") == [
        "http://host/00.tar?key=1",
        "http://host/01.tar?key=1",
    ]
    for name in ("2.tar", "10.tar", "1.txt"):
        (tmp_path / name).touch()
    assert addresses(f"{tmp_path}/*.tar") == [f"{tmp_path}/10.tar", f"{tmp_path}/2.tar"]


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("", "names no shards"),
        ("nowhere/*.tar", "names no shards"),
        ("a-{5..3}.tar", "names no shards"),
        ("a-{0..3.tar", "cannot be read"),
        ("a-{0..x}.tar", r"\{0..x\} in a-.* two whole numbers"),
        ("s3://bucket/{0..3}.tar", "s3://bucket/0.tar is nothing that is fetched here"),
        ("a-{000000000..999999999}.tar", "more than 1,000,000"),
        ("http://host/*.tar", "cannot be searched"),
    ],
)
def test_patterns_that_name_nothing_are_refused(pattern: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        addresses(pattern)


# What lies in one -----------------------------------------------------------------------------------


def test_rows_are_read_by_their_place_with_captions_of_either_kind(tmp_path: Path) -> None:
    write_shard(
        tmp_path / "a.tar",
        {
            "x.jpg": coloured(0),
            "x.json": json.dumps({"caption": "from  json"}).encode(),
            "deep/y.txt": b"\xef\xbb\xbffrom text\n",
            "deep/y.PNG": coloured(3),
            "deep/y.json": b"{}",
            "y.webp": coloured(6, "WEBP"),
            "y.json": json.dumps({"text": "other"}).encode(),
        },
    )
    shards = quiet(lambda: Shards.open(str(tmp_path / "a.tar"), 8))
    assert shards.length == 3
    assert shards.shape == (3, 8, 8)
    assert sorted(shards.captions(9)) == ["from json", "from text", "other"]
    assert rows_of(shards, 1, 0, 2) == [3, 0, 6]
    images, told = shards.rows(torch.tensor([0]))
    assert (images.dtype, told) == (torch.uint8, {})


def cut(file: Path, share: float) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])


def flip(file: Path, name: str) -> None:
    """Break the header of a member."""
    data = bytearray(file.read_bytes())
    with tarfile.open(file) as tar:
        data[tar.getmember(name).offset + 150] ^= 0xFF
    file.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("harm", "words", "rows"),
    [
        (lambda file: cut(file, 0.5), "cut short", range(1, 10)),
        (lambda file: cut(file, 0.0), "no uncompressed tar", range(1)),
        (lambda file: flip(file, "000006.png"), "damaged within: 6 rows", range(6, 7)),
        (lambda file: flip(file, "000000.png"), "no uncompressed tar", range(1)),
        (lambda file: file.write_bytes(b"no tar at all" * 1000), "no uncompressed tar", range(1)),
        (lambda file: write_shard(file, {"a.png": coloured(0)}), "1 pictures without a caption", range(1)),
        (lambda file: write_shard(file, {"a.txt": b"words"}), "1 captions without a picture", range(1)),
        (lambda file: write_shard(file, {"a.md": b"words"}), "no pictures with captions", range(1)),
        (lambda file: file.unlink(), "No such file", range(1)),
    ],
)
def test_a_damaged_shard_is_named_and_what_is_whole_of_it_is_read(
    tmp_path: Path, harm: Callable[[Path], Any], words: str, rows: range
) -> None:
    write_shards(tmp_path, shards=2, each=10)
    pattern = str(tmp_path / "{000..001}.tar")
    harm(tmp_path / "000.tar")
    with pytest.warns(UserWarning, match=words) as said:
        shards = Shards.open(pattern, 8)
    (warning,) = said
    assert "shard 000.tar" in str(warning.message)
    assert ("it is skipped" in str(warning.message)) == (shards.length == 10)
    assert shards.length - 10 in rows
    assert rows_of(shards, *range(shards.length)) == [*range(shards.length - 10), *range(10, 20)]
    if (tmp_path / "000.tar").exists():
        (tmp_path / "001.tar").unlink()
        if shards.length == 10:
            with pytest.raises(DataError, match="no shard of"), pytest.warns(match="it is skipped"):
                Shards.open(pattern, 8)


def test_pictures_that_do_not_decode_are_named_once_and_the_next_stands_in_their_place(
    tmp_path: Path,
) -> None:
    members: Members = {}
    for row in range(6):
        members |= {f"{row}.png": coloured(row), f"{row}.txt": b"words"}
    members |= {"2.png": b"no picture", "3.png": coloured(3)[:45], "5.json": b"", "5.txt": b"\xff\xfe\xff"}
    write_shard(tmp_path / "a.tar", members)
    shards = quiet(lambda: Shards.open(str(tmp_path / "a.tar"), 8))
    with pytest.warns(OwnWarning) as said:
        assert rows_of(shards, 2, 3, 4, 5, 2) == [4, 4, 4, 0, 4]
    told = sorted(str(each.message) for each in said)
    assert [each[:5] for each in told] == ["2.png", "3.png", "5.png"]
    assert all("in shard a.tar cannot be read" in each for each in told)
    assert "(no picture)" in told[0] and not any("object at" in each for each in told)
    assert quiet(lambda: rows_of(shards, 5, 3, 1)) == [0, 4, 1]
    other = Shards.open(str(tmp_path / "a.tar"), 8)  # another process, which begins elsewhere, sees the same
    with pytest.warns(OwnWarning):
        assert rows_of(other, 3) == [4]


def test_pictures_none_of_which_decodes_are_an_error(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", {"a.png": b"x", "a.txt": b"words"})
    with pytest.raises(DataError, match=r"no picture of .* can be read; the first: a.png in shard a.tar"):
        Shards.open(str(tmp_path / "a.tar"), 8).rows(torch.tensor([0]))


def test_a_shard_that_changes_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    write_shards(tmp_path, shards=1, each=4)
    shards = Shards.open(str(tmp_path / "000.tar"), 8)
    write_shards(tmp_path, shards=1, each=50)
    with pytest.raises(DataError, match="has changed"):
        shards.rows(torch.tensor([0]))
    (tmp_path / "000.tar").unlink()
    with pytest.raises(DataError, match="is gone"):
        shards.rows(torch.tensor([0]))


# In which order -------------------------------------------------------------------------------------


def test_an_epoch_has_every_row_once_and_passes_few_shards_at_a_time(tmp_path: Path) -> None:
    write_shards(tmp_path, shards=10, each=6)
    shards = Shards.open(str(tmp_path / "*.tar"), 8)
    batches = Batches(shards, batch=6, seed=0)
    epochs = [shards.order(0, epoch) for epoch in range(2)]
    assert not torch.equal(*epochs)
    assert not torch.equal(epochs[0], shards.order(1, 0))
    for order in epochs:
        assert order.sort().values.tolist() == list(range(60))
        for window in order.split(6 * WINDOW):
            assert len((window // 6).unique()) <= WINDOW
            assert not torch.equal(window, window.sort().values)
    seen = torch.cat([batches(step)[0][:, 0, 0, 0] for step in range(10)])
    assert torch.equal(((seen + 1) * 127.5 / 4).round().long(), epochs[0])


def test_two_processes_see_the_rows_of_one(tmp_path: Path) -> None:
    write_shards(tmp_path, shards=3, each=5)
    told: Any = lambda texts: {"tokens": torch.tensor([int(text.split()[-1]) for text in texts])}  # noqa: E731
    shards = Shards.open(str(tmp_path / "*.tar"), 8)
    shards = type(shards)(shards.name, shards.shards, shards.indexes, 8, told)
    alone = Batches(shards, 4, seed=0)
    both = [Batches(shards, 4, seed=0, rank=rank, world=2) for rank in range(2)]
    for step in (0, 3, 100):
        x0, condition = alone(step)
        parts = [each(step) for each in both]
        assert torch.equal(x0, torch.cat([x for x, _ in parts]))
        assert torch.equal(condition["tokens"], torch.cat([c["tokens"] for _, c in parts]))
        assert torch.equal(condition["tokens"], ((x0[:, 0, 0, 0] + 1) * 127.5 / 4).round().long())


# From afar ------------------------------------------------------------------------------------------


def served(mirror: Mirror, folder: Path) -> str:
    for file in folder.iterdir():
        data = file.read_bytes()
        mirror.answers[f"/{file.name}"] = (data, len(data))
    return f"{mirror.url}/"


def gets(mirror: Mirror) -> list[str]:
    return [each.split("/", 1)[1] for each in mirror.asked if each.startswith("GET")]


def test_remote_shards_are_fetched_once_and_the_oldest_are_forgotten(
    tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_shards(tmp_path / "made", shards=9, each=3)
    base = served(mirror, tmp_path / "made")
    pattern = f"{base}{{000..009}}.tar"  # one more than there are
    with pytest.warns(UserWarning, match=r"shard 009.tar: cannot fetch .*HTTP 404.*; it is skipped") as said:
        shards = Shards.open(pattern, 8)
    assert len(said) == 1
    assert rows_of(shards, *range(27)) == list(range(27))
    assert gets(mirror).count("000.tar") == 1
    monkeypatch.setenv(ROOM, "0")  # room for those that are kept in any case
    kept = [
        index for index in range(9) if list((tmp_path / "data" / "shards").glob(f"*-00{index}.tar.shard"))
    ]
    assert kept == list(range(9))
    for file in (tmp_path / "data" / "shards").glob("*-000.tar.shard"):
        file.unlink()
    assert rows_of(shards, 0) == [0]
    assert len(list((tmp_path / "data" / "shards").glob("*.shard"))) == 6
    assert rows_of(shards, *range(27)) == list(range(27))  # fetched again where they were forgotten
    local = Shards.open(str(tmp_path / "made" / "*.tar"), 8)
    assert local.fingerprint() == shards.fingerprint()  # a run may go on where its data have moved


def test_an_index_beside_a_shard_saves_the_fetch(tmp_path: Path, mirror: Mirror) -> None:
    write_shards(tmp_path / "made", shards=2, each=3)
    write_indexes(str(tmp_path / "made" / "*.tar"))
    (tmp_path / "made" / f"001.tar{BESIDE}").write_text(
        '{"size": 5, "rows": [[9, 9, 9, 9, 0]], "faults": []}'
    )
    base = served(mirror, tmp_path / "made")
    shards = Shards.open(f"{base}{{000..001}}.tar", 8)
    assert gets(mirror) == [f"000.tar{BESIDE}", f"001.tar{BESIDE}", "001.tar"]  # one of them lies
    assert rows_of(shards, 0, 5) == [0, 5]


def test_a_server_that_goes_away_is_an_error_that_names_the_shard(tmp_path: Path, mirror: Mirror) -> None:
    write_shards(tmp_path / "made", shards=1, each=3)
    write_indexes(str(tmp_path / "made" / "*.tar"))
    base = served(mirror, tmp_path / "made")
    shards = Shards.open(f"{base}000.tar", 8)
    mirror.answers.clear()
    with pytest.raises(DataError, match=r"cannot fetch .*000.tar \(HTTP 404\)"):
        shards.rows(torch.tensor([0]))
    assert not list((tmp_path / "data" / "shards").glob("*.partial"))


@pytest.mark.parametrize(
    "text", [b"", b"[]", b'{"size": -1}', b'{"size": 9, "rows": [[1, 2]], "faults": []}', b'{"size": 1e999}']
)
def test_bytes_that_are_no_index_are_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"index|outside"):
        Index.load(text)


def test_an_index_is_what_was_saved(tmp_path: Path) -> None:
    write_shards(tmp_path, shards=1, each=3)
    index = indexed(tmp_path / "000.tar")
    index.save(tmp_path / "index")
    again = Index.load((tmp_path / "index").read_bytes())
    assert np.array_equal(index.rows, again.rows)
    assert (index.size, index.faults) == (again.size, again.faults)
