"""`diffusion-lessons lab`: copies of the lessons that nothing overwrites, opened in JupyterLab."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import diffusion_lessons
from diffusion_lessons.course.lessons import PLAYGROUND
from diffusion_lessons.support.files import expanded

START = "00_start_here.ipynb"
RECORD = ".copied.json"  # of what was copied: name -> SHA-256
CONFIG = ".jupyter"  # JupyterLab's settings for this folder alone
SECONDS_TO_END = 10  # for JupyterLab, when it is told to
SITE = Path(diffusion_lessons.__file__).resolve().parents[1] / "out" / "site"  # of a repository
NO_NEWS = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}


def lab(folder: Path | str = "work", open_browser: bool = True, port: int | None = None) -> int:
    """Copy the lessons into a folder and open JupyterLab there; returns its exit status.

    Args:
        folder: what you work in; nothing in it is ever overwritten.
        open_browser: False prints the address only.
        port: default the first free one from 8888 on.

    Raises:
        ValueError: JupyterLab is not installed, the folder cannot be written, or the port is taken.
    """
    if find_spec("jupyterlab") is None:
        raise ValueError("JupyterLab is not installed: run `pip install 'diffusion-lessons[lab]'`")
    if port is not None and not is_free(port):
        raise ValueError(f"port {port} is taken: choose another, or leave it out and a free one is found")
    folder = Path(expanded(folder)).resolve()
    for line in copy_lessons(lessons_folder(), folder):
        print(line)
    register_kernel()
    print(f"Your lessons are in {folder}. JupyterLab runs until you press Ctrl+C twice.", flush=True)
    return run(command(folder, open_browser, port), env=environment(folder), cwd=folder)


def lessons_folder() -> Path:
    """Where the lessons lie: in the repository, or where the wheel put them.

    Raises:
        ValueError: they are in neither place.
    """
    repository = Path(diffusion_lessons.__file__).resolve().parents[1] / "notebooks"
    if (repository / START).exists():
        return repository
    with suppress(metadata.PackageNotFoundError):
        for file in metadata.files("diffusion-lessons") or []:
            if file.name == START:
                return Path(str(file.locate())).resolve().parent
    raise ValueError(
        "the lessons are not installed with this package: run `diffusion-lessons lab` from a copy of the "
        "repository, which has them in notebooks/"
    )


# Copies --------------------------------------------------------------------------------------------


def copy_lessons(lessons: Path, folder: Path) -> list[str]:
    """Copy what is not there yet, and say in one line each what a student should know.

    A copy that was never saved since is renewed; one that was is left as it is, and a newer version
    of the lesson is put beside it as NN_name.new.ipynb. A copy that was deleted comes back new.

    Raises:
        ValueError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        copied = _read_record(folder)
        said = [line for file in sorted(lessons.glob("*.ipynb")) for line in _copy(file, folder, copied)]
        (folder / ".gitignore").write_text("*\n", encoding="utf-8")
        settings = folder / CONFIG / "labconfig"
        settings.mkdir(parents=True, exist_ok=True)
        (settings / "page_config.json").write_text(json.dumps(NO_NEWS) + "\n", encoding="utf-8")
        (folder / RECORD).write_text(json.dumps(copied, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValueError(f"cannot write into {folder}: {reason}; choose another folder") from error
    return said


def _copy(file: Path, folder: Path, copied: dict[str, str]) -> list[str]:
    new, name = file.read_bytes(), file.name
    if copied.get(f"seen/{name}") == _hash(new) and (folder / name).exists():
        return []  # this version was offered before
    copied[f"seen/{name}"] = _hash(new)
    said, target = [], folder / name
    if not _untouched(target, copied):
        if target.read_bytes() == new:
            return []
        target = folder / name.replace(".ipynb", ".new.ipynb")
        news = f"{name} has a newer version"
        if not _untouched(target, copied):
            return [f"{news}, but {target.name} holds work of yours: rename it to get the new one"]
        said = [f"{news}: it is beside yours as {target.name}; yours stays as it is"]
    target.write_bytes(new)
    copied[target.name] = _hash(new)
    return said


def _untouched(file: Path, copied: dict[str, str]) -> bool:
    """Is there no such file, or exactly what was copied there?"""
    return not file.exists() or copied.get(file.name) == _hash(file.read_bytes())


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _read_record(folder: Path) -> dict[str, str]:
    """What was copied before; nothing where the record is missing or damaged, so that all is left alone."""
    with suppress(OSError, ValueError, AttributeError):
        found = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return {str(name): str(digest) for name, digest in found.items()}
    return {}


# JupyterLab ----------------------------------------------------------------------------------------


def command(folder: Path, open_browser: bool = True, port: int | None = None) -> list[str]:
    """The command that opens JupyterLab at the start page."""
    options = [f"--ServerApp.root_dir={folder}", f"--LabApp.default_url=/lab/tree/{START}"]
    options += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", *site_options()]
    if not open_browser:
        options.append("--no-browser")
    if port is not None:
        options += [f"--port={port}", "--ServerApp.port_retries=0"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options.append("--allow-root")
    return [sys.executable, "-m", "jupyterlab", *options]


def site_options(site: Path = SITE) -> list[str]:
    """Serve the site that `make site` made, where there is one: its playground then draws in the lessons."""
    return [f"--ServerApp.extra_static_paths={site}"] if (site / PLAYGROUND).exists() else []


def environment(folder: Path) -> dict[str, str]:
    """This environment's kernel and programs come before others, and nothing asks about news."""
    settings = [str(folder / CONFIG), *filter(None, [os.environ.get("JUPYTER_CONFIG_PATH")])]
    programs = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]  # `!diffusion-lessons`
    paths = {"PATH": os.pathsep.join(programs), "JUPYTER_CONFIG_PATH": os.pathsep.join(settings)}
    return {**os.environ, "JUPYTER_PREFER_ENV_PATH": "1", **paths}


def run(command: list[str], **options: Any) -> int:
    """Run a program to its end, and give its exit status; what ends this process ends it too.

    Ctrl+C in a terminal reaches the program itself, which may ask back; all other signals only this process.
    """

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.signal(number, end) for number in numbers}
    child = subprocess.Popen(command, **options)
    try:
        while True:
            try:
                return child.wait()
            except KeyboardInterrupt:
                if sys.stdin is None or not sys.stdin.isatty():
                    return 130
    finally:
        child.terminate()  # JupyterLab then ends its kernels; nothing happens where it has ended
        try:
            child.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            child.kill()
        for number, handler in before.items():
            signal.signal(number, handler)


def register_kernel() -> None:
    """See to it that the kernel `python3`, which the lessons name, is this environment's Python."""
    own = Path(sys.prefix) / "share" / "jupyter" / "kernels" / "python3" / "kernel.json"
    if own.exists() or find_spec("ipykernel") is None:
        return
    from ipykernel.kernelspec import install

    with suppress(OSError):  # a read-only environment: JupyterLab falls back to the Python it runs on
        install(prefix=sys.prefix, kernel_name="python3")


def is_free(port: int) -> bool:
    """Does nothing listen on a local port?"""
    with socket.socket() as probe:
        if os.name == "posix":  # elsewhere this option would let two servers share a port
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return True
    return False
