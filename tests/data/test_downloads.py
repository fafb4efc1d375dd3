import os
import re
import socket
import threading
import time
from pathlib import Path

import pooch
import pytest

from diffusion_lessons.data import downloads as cache
from diffusion_lessons.data.downloads import DamagedError, DataError, data_folder, load_cached
from tests.data.local_mirror import Mirror

RIGHT = b"right" * 40_000


def read(path: Path) -> bytes:
    data = path.read_bytes()
    if data != RIGHT:
        raise DamagedError("wrong bytes")
    return data


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_missing_file_is_downloaded_once(mirror: Mirror, data_dir: Path) -> None:
    url = mirror.serve("pub/file.gz", RIGHT)
    assert load_cached("set/file.gz", [url], read) == RIGHT
    assert names(data_dir / "set") == ["file.gz"]
    assert load_cached("set/file.gz", [url], read) == RIGHT
    assert mirror.gets() == 1


@pytest.mark.skipif(os.name != "posix", reason="files have no such modes")
def test_all_who_share_the_folder_can_read_a_download(mirror: Mirror, data_dir: Path) -> None:
    load_cached("set/file.gz", [mirror.serve("pub/file.gz", RIGHT)], read)
    assert (data_dir / "set/file.gz").stat().st_mode & 0o777 == 0o644


def test_progress_is_shown(mirror: Mirror, data_dir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_cached("set/file.gz", [mirror.serve("pub/file.gz", RIGHT)], read)
    shown = capfd.readouterr().err
    assert "file.gz" in shown
    assert "100%" in shown
    assert "known_hash" not in shown  # which is pooch's advice to who wrote the program


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(None, id="missing"),
        pytest.param((b"wrong", None), id="other bytes"),
        pytest.param((RIGHT[:1000], len(RIGHT)), id="cut off"),
        pytest.param((b"", None), id="empty"),
    ],
)
def test_the_next_mirror_is_tried(
    mirror: Mirror, data_dir: Path, first: tuple[bytes, int | None] | None
) -> None:
    bad = mirror.serve("bad/file.gz", *first) if first else f"{mirror.url}/bad/"
    assert load_cached("set/file.gz", [bad, mirror.serve("good/file.gz", RIGHT)], read) == RIGHT
    assert (data_dir / "set/file.gz").read_bytes() == RIGHT
    assert names(data_dir / "set") == ["file.gz"]


def test_where_no_mirror_has_it_the_error_says_all_and_nothing_is_left(
    mirror: Mirror, data_dir: Path
) -> None:
    mirrors = [f"{mirror.url}/none/", mirror.serve("bad/file.gz", b"wrong")]
    with pytest.raises(DataError) as caught:
        load_cached("set/file.gz", mirrors, read)
    message = str(caught.value)
    assert "\n" not in message
    assert "file.gz" in message
    assert "127.0.0.1: HTTP 404; 127.0.0.1: wrong bytes" in message
    assert str(data_dir / "set") in message
    assert "DIFFUSION_LESSONS_DATA" in message
    assert names(data_dir / "set") == []


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_offline_is_one_error_within_seconds(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    mirrors = [f"http://127.0.0.1:{free_port()}/a/", f"http://127.0.0.1:{free_port()}/b/"]
    start = time.monotonic()
    with pytest.raises(DataError, match=re.escape("cannot download file.gz (127.0.0.1: no connection; ")):
        load_cached("set/file.gz", mirrors, read)
    assert time.monotonic() - start < 5


def test_mirrors_that_never_answer_cost_one_wait_and_not_one_each(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(cache, "SECONDS_TO_ANSWER", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        mirrors = [f"http://127.0.0.1:{server.getsockname()[1]}/{i}/" for i in range(6)]
        start = time.monotonic()
        with pytest.raises(DataError, match=r"cannot download.*: no answer; .*: no answer"):
            load_cached("set/file.gz", mirrors, read)
        assert time.monotonic() - start < 4


def test_a_mirror_with_many_dead_addresses_is_given_up(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "SECONDS_TO_ANSWER", 0.2)
    never = threading.Event()  # each address has its own timeout, and a host may have sixteen
    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", lambda *_, **__: never.wait(20))
    start = time.monotonic()
    with pytest.raises(DataError, match="no answer"):
        load_cached("set/file.gz", [f"http://host{i}.invalid/" for i in range(10)], read)
    assert time.monotonic() - start < 1.5
    never.set()


def test_a_silent_mirror_does_not_hold_up_the_one_before_it(
    mirror: Mirror, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "SECONDS_TO_ANSWER", 20.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        silent = f"http://127.0.0.1:{server.getsockname()[1]}/"
        start = time.monotonic()
        assert load_cached("set/file.gz", [mirror.serve("pub/file.gz", RIGHT), silent], read) == RIGHT
        assert time.monotonic() - start < 10


def test_a_damaged_file_is_kept_and_named(mirror: Mirror, data_dir: Path) -> None:
    url = mirror.serve("pub/file.gz", RIGHT)
    path = data_dir / "set/file.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(RIGHT[:-1])
    with pytest.raises(DataError) as caught:
        load_cached("set/file.gz", [url], read)
    assert str(caught.value) == f"{path} is damaged (wrong bytes): delete it, and it is downloaded anew"
    assert path.read_bytes() == RIGHT[:-1]
    assert mirror.asked == []


def test_a_folder_that_cannot_be_written_is_named(mirror: Mirror, tmp_path: Path, data_dir: Path) -> None:
    data_dir.write_text("a file where the folder should be")
    with pytest.raises(DataError, match=r"cannot write to .*set .*DIFFUSION_LESSONS_DATA"):
        load_cached("set/file.gz", [mirror.serve("pub/file.gz", RIGHT)], read)
    assert mirror.gets() == 0


def test_a_file_that_cannot_be_read_is_named(data_dir: Path) -> None:
    (data_dir / "set/file.gz").mkdir(parents=True)
    with pytest.raises(DataError, match=r"cannot read .*file\.gz"):
        load_cached("set/file.gz", [], read)


def test_an_interrupted_download_leaves_nothing(mirror: Mirror, data_dir: Path) -> None:
    def interrupted(path: Path) -> bytes:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_cached("set/file.gz", [mirror.serve("pub/file.gz", RIGHT)], interrupted)
    assert names(data_dir / "set") == []


def test_many_at_once_do_not_spoil_the_folder(mirror: Mirror, data_dir: Path) -> None:
    url = mirror.serve("pub/file.gz", RIGHT)
    start = threading.Barrier(6)
    results = []

    def load() -> None:
        start.wait()
        results.append(load_cached("set/file.gz", [url], read))

    threads = [threading.Thread(target=load) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [RIGHT] * 6
    assert names(data_dir / "set") == ["file.gz"]


def test_the_variable_moves_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFUSION_LESSONS_DATA", "~/pictures")
    assert data_folder() == Path.home() / "pictures"
    monkeypatch.setenv("DIFFUSION_LESSONS_DATA", "")
    assert "diffusion-lessons" in str(data_folder())
