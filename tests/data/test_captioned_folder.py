"""Captions beside pictures, in both conventions, with all that goes wrong in them."""

import json
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffusion_lessons.data import DataError
from diffusion_lessons.data.captioned_folder import captioned_folder, tokenizer_of

WORDS = {"a": "a red fox", "b": "two owls, asleep", "c": "a fox and an owl"}


def picture(file: Path, shade: int = 0) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((9, 9, 3), shade, np.uint8)).save(file)


def pictures(folder: Path, names: str = "abc") -> None:
    for i, name in enumerate(names):
        picture(folder / f"{name}.png", 40 * i)


def captions_of(folder: Path) -> list[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, texts = captioned_folder(folder, size=8)
    assert len(found) == len(texts)
    assert found.labels is None
    assert found.classes == ()
    return texts


def texts_beside(folder: Path) -> None:
    for name, words in WORDS.items():
        (folder / f"{name}.txt").write_text(f"  {words}\n")


def jsonl(folder: Path) -> None:
    rows = [json.dumps({"file_name": f"{name}.png", "text": words, "w": 9}) for name, words in WORDS.items()]
    (folder / "metadata.jsonl").write_text("\n".join(rows[::-1]) + "\n\n")


def table(folder: Path) -> None:
    rows = [f'{name}.png,"{words}"' for name, words in WORDS.items()]
    (folder / "metadata.csv").write_text("\ufefffile_name,text\n" + "\n".join(rows), encoding="utf-8")


@pytest.mark.parametrize("write", [texts_beside, jsonl, table])
def test_each_convention_is_read(tmp_path: Path, write: object) -> None:
    pictures(tmp_path)
    write(tmp_path)  # type: ignore[operator]
    assert captions_of(tmp_path) == list(WORDS.values())


def test_a_table_tells_of_pictures_below_its_own_folder(tmp_path: Path) -> None:
    for place in ("foxes", "owls"):
        pictures(tmp_path / place, "a")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "owls/a.png", "text": "an owl"}\n')
    (tmp_path / "foxes" / "metadata.jsonl").write_text('{"file_name": "./a.png", "text": "a fox"}\n')
    assert captions_of(tmp_path) == ["a fox", "an owl"]


def test_a_zip_is_read_where_it_lies(tmp_path: Path) -> None:
    pictures(tmp_path / "in")
    texts_beside(tmp_path / "in")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for file in (tmp_path / "in").iterdir():
            archive.write(file, file.name)
    assert captions_of(tmp_path / "all.zip") == list(WORDS.values())


def test_missing_and_empty_captions_are_counted_and_named(tmp_path: Path) -> None:
    pictures(tmp_path, "abcd")
    (tmp_path / "a.txt").write_text("a fox")
    (tmp_path / "b.txt").write_text(" \n")
    with pytest.warns(UserWarning, match="pictures have") as caught:
        found, texts = captioned_folder(tmp_path, size=8)
    assert texts == ["a fox", "", "", ""]
    said = [str(each.message) for each in caught]
    assert any(
        "2 of 4 pictures have no caption (c.png, d.png): they are learnt without words" in s for s in said
    )
    assert any("1 of 4 pictures have an empty caption (b.png)" in s for s in said)
    assert "3 without a caption" in found.words()


def test_captions_of_files_that_are_not_there_are_counted_and_named(tmp_path: Path) -> None:
    pictures(tmp_path)
    jsonl(tmp_path)
    file = tmp_path / "metadata.jsonl"
    file.write_text(file.read_text() + '{"file_name": "fox.png", "text": "a fox"}')
    with pytest.warns(UserWarning, match=r"captions of files that are not there: 1 \(fox\.png\)"):
        _, texts = captioned_folder(tmp_path, size=8)
    assert texts == list(WORDS.values())


def test_a_caption_may_hold_what_other_systems_end_a_line_with(tmp_path: Path) -> None:
    pictures(tmp_path, "a")
    row = {"file_name": "a.png", "text": "a red fox,\u2028asleep\x85here"}
    (tmp_path / "metadata.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\r\n", encoding="utf-8")
    assert captions_of(tmp_path) == ["a red fox, asleep here"]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("metadata.jsonl", "{", "row 1: no JSON"),
        ("metadata.jsonl", '{"text": "a"}', "row 1: it names no picture as file_name"),
        ("metadata.jsonl", '{"file_name": "a.png", "text": 7}', "row 1: its text is 7, and no caption"),
        ("metadata.jsonl", "[1]", "row 1: it names no picture"),
        ("metadata.csv", "file_name,caption\na.png,x", "has no column 'text'"),
        ("metadata.csv", "", "has no column 'file_name'"),
        ("a.txt", "", "has pictures but no captions"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, name: str, text: str, words: str) -> None:
    pictures(tmp_path, "a")
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=words):
        captioned_folder(tmp_path, size=8)


def test_bytes_that_are_no_text_are_said(tmp_path: Path) -> None:
    pictures(tmp_path, "a")
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"a\.txt is no UTF-8 text"):
        captioned_folder(tmp_path, size=8)


def test_captions_become_tokens_of_a_tokenizer_of_their_own() -> None:
    texts = list(WORDS.values())
    tokenizer = tokenizer_of([*texts, ""])
    said = tokenizer(texts)
    assert said["tokens"].shape == (3, tokenizer.context)
    assert [tokenizer.decode(row) for row in said["tokens"].tolist()] == [
        "a red fox", "two owls , asleep", "a fox and an owl"
    ]  # fmt: skip
    assert tokenizer_of(["word " * 200]).context == 77
