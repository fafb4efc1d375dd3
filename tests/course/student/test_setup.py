"""The setup cell: installs what is missing, replaces nothing, and is the same in every lesson."""

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from importlib import metadata
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from diffusion_lessons.course.authoring.render import setup_cell
from diffusion_lessons.course.student import setup as colab
from diffusion_lessons.course.student.setup import Lacking, install, installed, lacking, setup
from diffusion_lessons.support.machine import choose_device

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def pip(monkeypatch):
    """Installs nothing; returns (arguments, constraints) of each call, and answers with `pip.result`."""
    calls = SimpleNamespace(made=[], result=SimpleNamespace(returncode=0, stdout="", stderr=""))

    def run(command, **options):
        held = Path(command[command.index("-c") + 1]).read_text().split("\n")
        calls.made.append((command, held))
        return calls.result

    monkeypatch.setattr(colab.subprocess, "run", run)
    return calls


def test_here_nothing_is_missing_and_nothing_is_installed(pip, capsys):
    assert lacking() == Lacking([], [])
    device, generator = setup("02")
    assert pip.made == []
    assert device == choose_device()
    assert capsys.readouterr().out == f"Lesson 02 is ready, on the {device.type.upper()}.\n"
    assert generator.device.type == "cpu"


def test_the_seed_fixes_the_generator_and_the_first_weights(pip):
    def draws(seed):
        _, generator = setup("02", seed)
        return torch.randn(3, generator=generator), torch.nn.Linear(2, 2).weight.detach().clone()

    for a, b in zip(draws(7), draws(7), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(draws(7)[0], draws(8)[0])


def without(monkeypatch, *names, **versions):
    """Some packages seem to be missing, others have other versions."""
    real = metadata.version

    def version(name):
        if name in names:
            raise metadata.PackageNotFoundError(name)
        return versions.get(name) or real(name)

    monkeypatch.setattr(colab.metadata, "version", version)


def test_what_is_missing_is_installed_under_the_versions_that_are_there(pip, monkeypatch):
    without(monkeypatch, "pooch", "anywidget")
    install(lacking())
    [(command, held)] = pip.made
    assert command[-2:] == ["pooch>=1.8", "anywidget>=0.9.13"]
    assert f"torch=={metadata.distribution('torch').version}" in held
    assert any(line.startswith("numpy==") for line in held)
    assert "--upgrade" not in command


def test_extras_are_not_asked_for(monkeypatch, pip):
    without(monkeypatch, "jupyterlab", "diffusers", "nbclient")
    assert lacking() == Lacking([], [])


def test_what_is_too_old_is_named_and_not_replaced(pip, monkeypatch):
    without(monkeypatch, torch="2.1.0+cu118")
    with pytest.raises(
        RuntimeError, match=r"too old here: torch 2\.1\.0\+cu118 \(needed: >=2\.4\).*not replaced"
    ):
        install(lacking())
    assert pip.made == []


def test_a_newer_torch_and_an_older_widget_library_are_fine(pip, monkeypatch):
    without(monkeypatch, torch="2.99.0+cu130", ipywidgets="7.7.1")
    assert lacking() == Lacking([], [])


def test_no_network_is_one_clear_line(pip):
    pip.result = SimpleNamespace(returncode=1, stdout="", stderr="noise\nERROR: No matching distribution\n")
    with pytest.raises(
        RuntimeError, match=r"could not install pooch: ERROR: No matching distribution\. Is there a net"
    ):
        install(Lacking(["pooch"], []))


def test_in_colab_widgets_are_enabled_and_keeping_work_is_explained(pip, monkeypatch, capsys):
    enabled = []
    google, module = ModuleType("google"), ModuleType("google.colab")
    module.output = SimpleNamespace(enable_custom_widget_manager=lambda: enabled.append(True))
    google.colab = module
    monkeypatch.setitem(sys.modules, "google", google)
    monkeypatch.setitem(sys.modules, "google.colab", module)
    setup("02")
    assert enabled == [True]
    assert "Save a copy in Drive" in capsys.readouterr().out


@pytest.mark.parametrize("address", ["", "https://github.com/someone/lessons"])
def test_the_cell_is_short_and_installs_no_dependencies(address):
    cell = setup_cell("02", address)
    compile(cell, "setup", "exec")
    assert sum(bool(line.strip()) for line in cell.split("\n")) <= 6
    assert '"--no-deps"' in cell
    assert ("git+https" in cell) == bool(address)


def test_constraints_hold_every_installed_package():
    held = installed()
    assert len(held) == len({line.split("==")[0].lower() for line in held})
    assert all(line.count("==") == 1 for line in held)
    assert len(held) > 50


# A clean environment -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The package as a wheel, built from a copy."""
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns("__pycache__", "*.ipynb_checkpoints")
    for name in ("diffusion_lessons", "notebooks"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder) if (ROOT / name).exists() else (folder / name).write_text("")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        "dist",
        ".",
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return next((folder / "dist").glob("*.whl"))


def test_the_wheel_holds_lessons_widgets_and_bank(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert any(name.endswith("share/diffusion-lessons/notebooks/00_start_here.ipynb") for name in names)
    assert "diffusion_lessons/course/bank/lesson_00.py" in names
    for file in (ROOT / "diffusion_lessons" / "course" / "widgets").iterdir():
        if file.suffix in (".js", ".css", ".py"):
            assert f"diffusion_lessons/course/widgets/{file.name}" in names


OTHER_NUMPY, OTHER_TORCH = "2.3.5", "2.9.0+cu126"
MISSING = ("pooch", "anywidget", "psygnal", "safetensors", "tyro")
OWN = ("numpy", "torch-", "pip", "setuptools", "_distutils", "distutils-", "__pycache__", "__editable__")


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """An environment like Colab's: another numpy, a torch that calls itself another one, things missing.

    The other packages are links to those here, so that nothing but numpy is downloaded.
    """
    if os.name == "nt":
        pytest.skip("needs links between folders")
    folder = tmp_path_factory.mktemp("colab") / "env"
    venv.create(folder, with_pip=True)
    site = next((folder / "lib").glob("python*/site-packages"))
    here = Path(torch.__file__).parents[1]
    for entry in here.iterdir():
        if not entry.name.lower().startswith((*MISSING, *OWN, "diffusion_lessons")):
            (site / entry.name).symlink_to(entry)
    info = site / f"torch-{OTHER_TORCH}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {OTHER_TORCH}\n")
    (info / "RECORD").write_text("")
    python = folder / "bin" / "python"
    command = [python, "-m", "pip", "install", "--quiet", "--no-deps", f"numpy=={OTHER_NUMPY}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"numpy {OTHER_NUMPY} cannot be had here: {done.stderr.strip()[-200:]}")
    return python


PROBE = """
from importlib import metadata
from importlib.util import find_spec
print({name: metadata.version(name) for name in ("torch", "numpy")}, bool(find_spec("anywidget")))
"""


@pytest.mark.slow
def test_an_environment_with_its_own_torch_and_numpy(wheel, foreign, tmp_path):
    shutil.copy(wheel, tmp_path)

    def run(code):
        environment = {**os.environ, "DIFFUSION_LESSONS_PROGRESS": str(tmp_path / "p.json"), "PYTHONPATH": ""}
        done = subprocess.run(
            [foreign, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    before = run(PROBE)
    assert before == f"{{'torch': '{OTHER_TORCH}', 'numpy': '{OTHER_NUMPY}'}} False\n"
    assert run(setup_cell("00", "")) == "Lesson 00 is ready, on the CPU.\n"
    assert run(PROBE) == before.replace("False", "True")
    assert run(setup_cell("00", "")) == "Lesson 00 is ready, on the CPU.\n"
    assert str(foreign.parents[1]) in run("import diffusion_lessons; print(diffusion_lessons.__file__)")
    probe = "from diffusion_lessons.course import exercise\n@exercise('00.1')\ndef to_unit(x): return x / 2"
    sentence = "halved the range but did not move it"
    assert sentence not in run(probe)  # the first attempt says where, the second why
    assert sentence in run(probe)
    lessons = run(
        "from diffusion_lessons.course.student.lab import lessons_folder; print(lessons_folder())"
    ).strip()
    assert (Path(lessons) / "00_start_here.ipynb").exists()
    assert str(foreign.parents[1]) in lessons
