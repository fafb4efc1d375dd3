"""Files are written whole or not at all."""

import errno
import os
from pathlib import Path

import pytest

from diffusion_lessons.support.files import atomic_write, writable


def test_a_file_appears_only_when_its_block_ends(tmp_path: Path) -> None:
    file = tmp_path / "new" / "notes.txt"
    with atomic_write(file) as partial:
        partial.write_text("whole")
        assert not file.exists()
    assert file.read_text() == "whole"
    assert os.listdir(file.parent) == ["notes.txt"]


def test_a_block_that_fails_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("old")
    with pytest.raises(RuntimeError, match="half way"), atomic_write(file) as partial:
        partial.write_text("ne")
        raise RuntimeError("half way")
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["notes.txt"]


def test_a_full_disk_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("old")
    with (
        pytest.raises(ValueError, match=r"cannot write .*notes\.txt: No space left on device; free"),
        atomic_write(file),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert file.read_text() == "old"


def test_a_folder_that_cannot_be_written_is_found_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file, not a folder")
    with pytest.raises(ValueError, match=r"cannot write into the folder .*taken"):
        writable(tmp_path / "taken")
    assert writable(tmp_path / "fresh" / "folder").is_dir()
    assert os.listdir(tmp_path / "fresh" / "folder") == []
