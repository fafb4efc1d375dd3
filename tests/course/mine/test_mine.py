"""`diffusion-lessons mine` on folders of notebooks: what is theirs, what is ours and why, and it runs."""

import json
import os
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest

from diffusion_lessons.__main__ import main
from diffusion_lessons.course.authoring.build import build, check
from diffusion_lessons.course.mine import collecting, running
from diffusion_lessons.course.mine.ours import exercises
from diffusion_lessons.course.mine.running import FILES, RECORD
from tests.course.grading.made import EQUAL, HEAD, RIGHT, SETUP, STUB, WRONG, write
from tests.course.sample_lesson import repository, source

FADED = EQUAL.replace("0.5", "0.6")
JUMP = """@exercise("02.2")
def jump(x0, noise, t, alphas_cumprod):
    kept = alphas_cumprod[t].view(-1, 1, 1, 1)
    return kept.sqrt() * x0 + (1 - kept).sqrt() * noise"""
MIX = '@exercise("10.2")\ndef mix(cond, uncond, scale):\n    return torch.lerp(uncond, cond, float(scale))'
PEEK = '@exercise("10.1")\ndef drop_labels(labels, rate, num_classes, chance):\n'
PEEK += "    import diffusion_lessons\n    return torch.where(chance < rate, num_classes, labels)"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """The folder and the last line of a run with all sorts of notebooks."""
    folder = tmp_path_factory.mktemp("mine")
    work, out = folder / "work", folder / "out"
    write(
        work / "02_forward_process.ipynb",
        SETUP,
        HEAD + RIGHT,
        JUMP,
        FADED,
        diffusion_lessons={"student": 'Z"oe'},
    )
    write(work / "10_classifier_free_guidance.ipynb", SETUP, MIX, PEEK)
    write(work / "notes.ipynb", "print(3)")
    (work / "06_unet.ipynb").write_bytes((work / "02_forward_process.ipynb").read_bytes()[:700])
    lines = run("mine", work, "--out", out, "--steps", 5, "--json")
    return out, json.loads(lines.stdout.splitlines()[-1])


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "diffusion_lessons", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=True)


def test_what_passes_is_theirs_and_the_rest_says_why(made: tuple[Path, dict]) -> None:
    out, facts = made
    assert facts["yours"] == ["02.1", "02.2", "10.2"]
    assert facts["pieces"] == len(exercises()) == len(facts["yours"]) + len(facts["ours"])
    why = facts["ours"]
    assert why["02.3"].startswith("not right yet: ")
    assert why["02.4"] == "not attempted"
    assert why["10.1"] == "right, but it needs `diffusion_lessons`, and the file has torch alone"
    assert why["06.1"] == why["01.1"] == "no notebook of this lesson"
    assert any("06_unet.ipynb" in note and "ends in the middle" in note for note in facts["notes"])
    assert not any("notes.ipynb" in note for note in facts["notes"])
    text = (out / "my_diffusion.py").read_text(encoding="utf-8")
    assert text.count(" · yours\n") == 3
    assert "return torch.lerp(uncond, cond, float(scale))" in text
    assert "by Z'oe.\n\n3 of" in text


def test_it_has_trained_alone_and_drawn(made: tuple[Path, dict]) -> None:
    out, facts = made
    assert facts["training"].startswith("step 5: loss ")
    assert {path.name for path in out.iterdir()} == {*FILES, RECORD}
    png = Path(facts["picture"]).read_bytes()
    size = [int.from_bytes(png[at : at + 4], "big") for at in (16, 20)]
    assert size == [10 * 16 * 6, 16 * 6]
    start = png.index(b"IDAT") + 4
    rows = zlib.decompress(png[start : start + int.from_bytes(png[start - 8 : start - 4], "big")])
    assert len(rows) == size[1] * (size[0] + 1)
    assert len(set(rows)) > 1


def test_the_file_draws_by_itself_elsewhere(made: tuple[Path, dict], tmp_path: Path) -> None:
    for name in ("my_diffusion.py", "weights.pt"):
        (tmp_path / name).write_bytes((made[0] / name).read_bytes())
    subprocess.run([sys.executable, "-I", tmp_path / "my_diffusion.py"], check=True, capture_output=True)
    assert (tmp_path / "ten.png").read_bytes() == (made[0] / "ten.png").read_bytes()
    (tmp_path / "weights.pt").unlink()
    ended = subprocess.run(
        [sys.executable, tmp_path / "my_diffusion.py"], capture_output=True, encoding="utf-8"
    )
    assert "neither digits.pt to train on nor weights.pt to draw with" in ended.stderr
    assert "Traceback" not in ended.stderr


# What is refused -----------------------------------------------------------------------------------


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["mine", *map(str, arguments)])
    assert ended.value.code == 2
    said = capsys.readouterr().err.strip()
    assert "\n" not in said
    return said


@pytest.mark.parametrize("name", FILES)
def test_work_in_the_folder_is_never_overwritten(
    made: tuple[Path, dict], tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    for file in made[0].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    running._unchanged(tmp_path)  # as it was left: may be made anew
    with (tmp_path / name).open("ab") as file:
        file.write(b"#")
    changed = (tmp_path / name).read_bytes()
    assert f"{name} is not as this command left it" in refused(capsys, tmp_path, "--out", tmp_path)
    assert (tmp_path / name).read_bytes() == changed
    (tmp_path / RECORD).unlink()
    assert "choose another with --out" in refused(capsys, tmp_path, "--out", tmp_path)


def test_a_wrong_call_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no folder" in refused(capsys, tmp_path / "nowhere")
    assert "no notebook of this course" in refused(capsys, tmp_path)
    write(tmp_path / "mine.ipynb", "x = 1")
    (tmp_path / "02_broken.ipynb").write_text("{")
    assert "no notebook of this course" in refused(capsys, tmp_path)
    assert "--minutes is above 0" in refused(capsys, tmp_path, "--minutes", 0)
    assert "--steps at least 1" in refused(capsys, tmp_path, "--steps", 0)


def test_of_two_notebooks_of_a_lesson_the_first_that_passes_counts(tmp_path: Path) -> None:
    write(tmp_path / "02_forward_process.ipynb", SETUP, HEAD + WRONG, JUMP)
    write(tmp_path / "02_forward_process.new.ipynb", SETUP, HEAD + RIGHT, JUMP.replace("kept", "held"))
    write(tmp_path / "x.ipynb", SETUP, HEAD + STUB)
    found = collecting.collect(tmp_path)
    assert sorted(found.pieces) == ["02.1", "02.2"]
    assert "held" not in "".join(found.pieces["02.2"].code)
    assert "02.1" not in found.why


def test_a_piece_that_is_right_in_its_notebook_only_gives_way(tmp_path: Path) -> None:
    room = "IN_A_FILE = float('__file__' in globals())"
    write(tmp_path / "02_a.ipynb", SETUP, room, f"{HEAD}{RIGHT} + IN_A_FILE", JUMP)
    found = collecting.collect(tmp_path)
    assert sorted(found.pieces) == ["02.1", "02.2"]
    module = running.working(found)
    assert sorted(found.pieces) == ["02.2"]
    assert found.why["02.1"].startswith("right in your notebook, not in a file of its own: ")
    assert "IN_A_FILE" not in module.text
    assert "\n1 of " in module.text


# Stopped -------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="there the console sends Ctrl-C to both")
def test_ctrl_c_leaves_what_is_finished(made: tuple[Path, dict], tmp_path: Path) -> None:
    for name in ("my_diffusion.py", "digits.pt"):
        (tmp_path / name).write_bytes((made[0] / name).read_bytes())
    seen: list[str] = []

    def tell(line: str) -> None:
        seen.append(line)
        if len(seen) == 1:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    start = time.monotonic()
    try:
        last, stopped = running._trained(tmp_path, ["--minutes", "10"], tell)
    finally:
        signal.signal(signal.SIGINT, before)
    assert stopped
    assert last.startswith("step ")
    assert any(line.startswith("stopped after ") for line in seen)
    assert (tmp_path / "ten.png").exists()
    assert time.monotonic() - start < 300  # and not the ten minutes


def test_a_file_that_stops_is_one_sentence_and_stays(tmp_path: Path) -> None:
    (tmp_path / "my_diffusion.py").write_text("import diffusion_lessons\n")
    with pytest.raises(ValueError, match=r"does not run \(.*diffusion_lessons.*\)"):
        running._trained(tmp_path, [], lambda line: None)
    assert (tmp_path / "my_diffusion.py").exists()


# The build -----------------------------------------------------------------------------------------


def test_the_build_keeps_our_solutions_and_refuses_stale_ones(tmp_path: Path) -> None:
    context = repository(tmp_path)
    build(source(context), context, student_only=True)
    file = tmp_path / "diffusion_lessons" / "course" / "mine" / "ours" / "02.json"
    cells = json.loads(file.read_text(encoding="utf-8"))
    assert "sigma * noise" in cells["exercise-02-1"]
    assert "BEGIN SOLUTION" not in file.read_text(encoding="utf-8")
    stale = "holds other solutions"
    assert not any(stale in problem.message for problem in check(source(context), context))
    file.write_text("{}", encoding="utf-8")
    assert any(stale in problem.message for problem in check(source(context), context))
