"""`lab`: copies that nothing overwrites, lessons found where they were installed, one line on trouble."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from diffusion_lessons.course.student import lab as labs
from diffusion_lessons.course.student.lab import copy_lessons, is_free, lab, lessons_folder, register_kernel

NAME = "02_forward_process.ipynb"
NEW = "02_forward_process.new.ipynb"


@pytest.fixture
def lessons(tmp_path):
    folder = tmp_path / "lessons"
    folder.mkdir()
    (folder / NAME).write_text("version 1")
    (folder / labs.START).write_text("start")
    return folder


@pytest.fixture
def work(tmp_path):
    return tmp_path / "work"


def test_lessons_are_copied_once_and_hidden_from_git(lessons, work):
    assert copy_lessons(lessons, work) == []
    assert (work / NAME).read_text() == "version 1"
    assert (work / ".gitignore").read_text() == "*\n"
    (work / NAME).write_text("version 1 and my work")
    assert copy_lessons(lessons, work) == []
    assert (work / NAME).read_text() == "version 1 and my work"


def test_a_newer_version_is_put_beside_work(lessons, work):
    copy_lessons(lessons, work)
    (work / NAME).write_text("my work")
    (lessons / NAME).write_text("version 2")
    said = copy_lessons(lessons, work)
    assert said == [f"{NAME} has a newer version: it is beside yours as {NEW}; yours stays as it is"]
    assert (work / NAME).read_text() == "my work"
    assert (work / NEW).read_text() == "version 2"
    (work / NEW).unlink()
    assert copy_lessons(lessons, work) == []  # said once
    assert not (work / NEW).exists()


def test_a_copy_that_was_never_saved_is_renewed(lessons, work):
    copy_lessons(lessons, work)
    (lessons / NAME).write_text("version 2")
    assert copy_lessons(lessons, work) == []
    assert (work / NAME).read_text() == "version 2"
    assert not (work / NEW).exists()


def test_work_on_the_newer_version_is_not_overwritten_either(lessons, work):
    copy_lessons(lessons, work)
    (work / NAME).write_text("my work")
    (lessons / NAME).write_text("version 2")
    copy_lessons(lessons, work)
    (work / NEW).write_text("more work")
    (lessons / NAME).write_text("version 3")
    assert "rename it" in copy_lessons(lessons, work)[0]
    assert (work / NEW).read_text() == "more work"
    assert (work / NAME).read_text() == "my work"


def test_a_deleted_copy_comes_back_new(lessons, work):
    copy_lessons(lessons, work)
    (work / NAME).write_text("my work")
    (work / NAME).unlink()
    copy_lessons(lessons, work)
    assert (work / NAME).read_text() == "version 1"


@pytest.mark.parametrize("record", [None, "broken {", "[1]"])
def test_with_no_record_everything_is_taken_for_work(lessons, work, record):
    copy_lessons(lessons, work)
    (work / labs.RECORD).unlink()
    if record is not None:
        (work / labs.RECORD).write_text(record)
    (lessons / NAME).write_text("version 2")
    copy_lessons(lessons, work)
    assert (work / NAME).read_text() == "version 1"
    assert (work / NEW).read_text() == "version 2"


# Where the lessons are -----------------------------------------------------------------------------


def test_the_repository_comes_first():
    assert lessons_folder() == Path(labs.diffusion_lessons.__file__).resolve().parents[1] / "notebooks"


def test_a_wheel_brings_its_lessons(tmp_path, monkeypatch):
    installed = tmp_path / "share" / "diffusion-lessons" / "notebooks"
    installed.mkdir(parents=True)
    (installed / labs.START).write_text("start")

    class File:
        name = labs.START

        def locate(self):
            return installed / labs.START

    monkeypatch.setattr(
        labs.diffusion_lessons, "__file__", str(tmp_path / "site-packages" / "x" / "__init__.py")
    )
    monkeypatch.setattr(labs.metadata, "files", lambda name: [File()])
    assert lessons_folder() == installed
    monkeypatch.setattr(labs.metadata, "files", lambda name: None)
    with pytest.raises(ValueError, match="not installed with this package"):
        lessons_folder()


# JupyterLab ----------------------------------------------------------------------------------------


@pytest.fixture
def calls(lessons, monkeypatch):
    """Starts no JupyterLab; returns what would have been started."""
    made = []
    monkeypatch.setattr(labs, "lessons_folder", lambda: lessons)
    monkeypatch.setattr(labs, "run", lambda command, **options: made.append((command, options)) or 0)
    return made


def test_it_opens_the_start_page_with_this_python(calls, work, capsys):
    assert lab(work, open_browser=False) == 0
    [(command, options)] = calls
    assert command[:3] == [sys.executable, "-m", "jupyterlab"]
    assert "--LabApp.default_url=/lab/tree/00_start_here.ipynb" in command
    assert f"--ServerApp.root_dir={work}" in command
    assert "--no-browser" in command
    assert options["env"]["JUPYTER_PREFER_ENV_PATH"] == "1"
    assert str(work) in capsys.readouterr().out
    assert (work / NAME).exists()


def test_a_port_that_is_taken(calls, work):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert not is_free(port)
        with pytest.raises(ValueError, match=f"port {port} is taken"):
            lab(work, port=port)
    assert is_free(port)
    lab(work, port=port)
    assert f"--port={port}" in calls[0][0]
    assert "--ServerApp.port_retries=0" in calls[0][0]


def test_no_jupyterlab(calls, work, monkeypatch):
    monkeypatch.setattr(labs, "find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match=r"JupyterLab is not installed: run `pip install 'diffusion-lessons\[lab\]'`"
    ):
        lab(work)
    assert not work.exists()


def test_a_folder_that_cannot_be_written(calls, lessons, tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(
        ValueError, match=r"cannot write into .*file/work: Not a directory; choose another folder"
    ):
        lab(file / "work")
    assert calls == []


# As root, one without root's right to write everywhere.
BOUND = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"]


@pytest.mark.skipif(os.name != "posix", reason="a folder's mode is for POSIX systems")
def test_a_read_only_folder(work):
    """The command itself, in a process of its own."""
    bound = BOUND if os.geteuid() == 0 else []
    if bound and not shutil.which(bound[0]):
        pytest.skip("root may write everywhere, and setpriv is not here to take that from it")
    work.mkdir(mode=0o555)
    command = [*bound, sys.executable, "-m", "diffusion_lessons", "lab", str(work), "--no-browser"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ran.stderr == f"error: cannot write into {work}: Permission denied; choose another folder\n"
    assert (ran.returncode, list(work.iterdir())) == (2, [])


def test_the_kernel_of_the_lessons_is_this_python(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    register_kernel()
    found = json.loads((tmp_path / "share" / "jupyter" / "kernels" / "python3" / "kernel.json").read_text())
    assert found["argv"][0] == sys.executable
    before = (tmp_path / "share").stat().st_mtime_ns
    register_kernel()
    assert (tmp_path / "share").stat().st_mtime_ns == before


HOST = """
import sys
from pathlib import Path
from diffusion_lessons.course.student import lab
lab.SECONDS_TO_END = 2
child = f"import os, signal, time; {sys.argv[2]}; open({sys.argv[1]!r}, 'w').write(str(os.getpid()))"
child += "; time.sleep(300)"
sys.exit(lab.run([sys.executable, "-c", child]))
"""


@pytest.mark.skipif(os.name != "posix", reason="signals are for POSIX systems")
@pytest.mark.parametrize(
    ("number", "stubborn", "status"),
    [
        (signal.SIGTERM, False, 128 + signal.SIGTERM),
        (signal.SIGHUP, False, 128 + signal.SIGHUP),
        (signal.SIGINT, False, 130),
        (signal.SIGTERM, True, 128 + signal.SIGTERM),
    ],
)
def test_what_ends_the_command_ends_jupyterlab(tmp_path, number, stubborn, status):
    """With a child that only sleeps, or that will not hear of SIGTERM either."""
    told = tmp_path / "child"
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN)" if stubborn else "pass"
    host = subprocess.Popen([sys.executable, "-c", HOST, str(told), deaf], stdin=subprocess.DEVNULL)
    until(lambda: told.exists() and told.read_text())
    child = int(told.read_text())
    host.send_signal(number)
    assert host.wait(60) == status
    until(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)


def test_the_exit_status_is_jupyterlabs():
    before = signal.getsignal(signal.SIGTERM)
    assert labs.run([sys.executable, "-c", "raise SystemExit(7)"]) == 7
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_site_is_served_where_it_was_made_with_a_playground(tmp_path, monkeypatch):
    assert labs.site_options(tmp_path) == []
    (tmp_path / "playground-frame.html").touch()
    assert labs.site_options(tmp_path) == [f"--ServerApp.extra_static_paths={tmp_path}"]
    monkeypatch.setattr(labs, "site_options", lambda: ["--served"])
    assert "--served" in labs.command(tmp_path)


def until(holds):
    """Wait until it does, two minutes at most: a busy machine takes long to import PyTorch."""
    end = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_jupyterlab_starts_and_serves_the_start_page(lessons, work):
    """The real thing, without a browser."""
    import urllib.request

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    copy_lessons(lessons, work)
    command = [*labs.command(work, open_browser=False, port=port), "--IdentityProvider.token=t"]
    server = subprocess.Popen(command, env=labs.environment(work), stderr=subprocess.PIPE, text=True)
    try:
        address = f"http://127.0.0.1:{port}/api/contents/00_start_here.ipynb?token=t&content=0"
        for _ in range(360):
            try:
                with urllib.request.urlopen(address, timeout=5) as answer:
                    assert json.loads(answer.read())["name"] == "00_start_here.ipynb"
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/?token=t", timeout=20) as answer:
                    assert answer.url.split("?")[0].endswith("/lab/tree/00_start_here.ipynb")
                    assert "apputils-extension:announcements" in answer.read().decode()
                break
            except OSError:
                assert server.poll() is None, server.stderr.read()
                time.sleep(0.5)
        else:
            pytest.fail("JupyterLab did not answer within three minutes")
    finally:
        server.terminate()
        server.wait(60)
