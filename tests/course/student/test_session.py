"""What a lesson calls: `@exercise`, `hint`, `progress`, and how their answers look."""

import json
import os
import re
import subprocess
import sys
import textwrap
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diffusion_lessons.course import bank, exercise, hint, progress
from diffusion_lessons.course.exercises.check import check
from diffusion_lessons.course.exercises.exercise import ABOUT, Case, Exercise, Misconception
from diffusion_lessons.course.exercises.verdict import Verdict
from diffusion_lessons.course.student import cards as report
from diffusion_lessons.course.student import progress as progresses
from diffusion_lessons.course.student import session
from diffusion_lessons.course.student.progress import Progress, default_file
from diffusion_lessons.course.widgets.page import Card


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Progress:
    """Each test has a record of its own."""
    monkeypatch.setattr(session, "_touched", set())
    monkeypatch.setattr(progresses, "_session", Progress(tmp_path / "progress.json"))
    return progresses.kept()


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """What was printed, on one line: where the text was broken is beside the point."""
    return " ".join(capsys.readouterr().out.split())


X, NOISE, BETA = torch.ones(2, 1, 4, 4), torch.zeros(2, 1, 4, 4), torch.tensor(0.36)


# Never stuck ----------------------------------------------------------------------------------------


def test_an_unwritten_exercise_leaves_ours_in_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    @exercise("02.1")
    def one_step(x: Tensor, noise: Tensor, beta: Tensor) -> Tensor:
        """What the student reads."""
        raise NotImplementedError

    assert torch.allclose(one_step(X, NOISE, beta=BETA), 0.8 * X)
    assert (one_step.__name__, one_step.__doc__) == ("one_step", "What the student reads.")
    text = said(capsys)
    assert "○ Exercise 02.1 · One step of the chain: not attempted yet" in text
    assert "Using ours until yours passes" in text
    assert 'hint("02.1")' in text


def test_a_right_answer_is_what_the_lesson_runs_on(capsys: pytest.CaptureFixture[str]) -> None:
    def one_step(x: Tensor, noise: Tensor, beta: Tensor) -> Tensor:
        return (1 - beta).sqrt() * x + beta.sqrt() * noise

    assert exercise("02.1")(one_step) is one_step
    assert "✓ Exercise 02.1 · One step of the chain: passed" in said(capsys)


def test_a_wrong_answer_is_explained_and_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    """First that and where it differs and what kind of slip it is; the whole sentence the next time."""

    def one_step(x: Tensor, noise: Tensor, beta: Tensor) -> Tensor:
        return (1 - beta).sqrt() * x + beta * noise

    used = exercise("02.1")(one_step)
    text = said(capsys)
    assert re.search(
        r"not right yet \d+ of \d+ numbers differ, most at index \[1, 0, \d, \d\]: expected", text
    )
    assert f"It looks like a slip in {ABOUT['root']}." in text
    assert "First case that differs: two pictures, a small step x float32 (2, 1, 8, " in text
    assert "The next attempt says more." in text
    assert "You multiplied the noise by β" not in text
    assert "Your result is 0.9" not in text
    assert torch.allclose(used(X, X, BETA), 1.4 * X)
    exercise("02.1")(one_step)
    text = said(capsys)
    assert "not right yet You multiplied the noise by β." in text
    assert re.search(r"Your result is 0\.99\d*·x \+ 0\.0\d+·noise, expected is", text)
    assert "says more" not in text


def test_in_a_page_the_whole_sentence_and_each_hint_are_a_click_away() -> None:
    the = bank.get("02.1")
    verdict = check(the, lambda x, noise, beta: (1 - beta).sqrt() * x + beta * noise)
    page = Page(report.verdict_card(the, verdict, first=True).html)
    assert page.tags.count("details") == 4
    assert {"script", "button", "input"}.isdisjoint(page.tags)  # it works without a kernel
    assert page.text.index("Say more") < page.text.index("You multiplied the noise by β.")
    places = [page.text.index(f"Hint {n} of 3 {hint[:8]}") for n, hint in enumerate(the.hints, 1)]
    assert places == sorted(places)
    html = report.verdict_card(the, verdict, first=True).html
    assert html.count("</details></details></details></div>") == 1  # one hint opens after the other


def test_hints_that_were_taken_stay_visible(capsys: pytest.CaptureFixture[str], kept: Progress) -> None:
    the = bank.get("02.1")
    hint("02.1"), hint("02.1"), said(capsys)
    exercise("02.1")(lambda x, noise, beta: x)
    text = said(capsys)
    assert "Hint 1 of 3: " in text
    assert "Hint 2 of 3: " in text
    assert "Hint 3 of 3" not in text
    verdict = check(the, lambda x, noise, beta: x)
    page = Page(report.verdict_card(the, verdict, hints=2).html)
    assert page.tags.count("details") == 1
    assert kept["02.1"]["hints"] == 2  # what is opened in the page is not counted
    exercise("02.1")(the.reference)
    assert "Hint" not in said(capsys)


def test_decorated_twice_it_is_still_the_students_code_that_is_checked(
    capsys: pytest.CaptureFixture[str],
) -> None:
    @exercise("02.1")
    @exercise("02.1")
    def one_step(x: Tensor, noise: Tensor, beta: Tensor) -> Tensor:
        return x

    text = said(capsys)
    assert text.count("not right yet") == 2
    assert "two @exercise lines" in text


def test_an_answer_that_calls_itself_does_not_find_ours() -> None:
    cell = """
        @exercise("02.1")
        def one_step(x, noise, beta):
            return one_step(x, noise, beta)
    """
    names: dict[str, Any] = {"exercise": exercise, "__name__": "cell"}
    for _ in range(2):  # the second time, the name holds ours
        exec(textwrap.dedent(cell), names)
        assert progresses.kept()["02.1"]["status"] == "wrong"
    assert torch.allclose(names["one_step"](X, NOISE, BETA), 0.8 * X)


def test_under_another_name_it_is_told_and_later_cells_find_theirs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cell = """
        @exercise("02.1")
        def my_step(x, noise, beta):
            return (1 - beta) ** 0.5 * x + beta ** 0.5 * noise
    """
    names: dict[str, Any] = {"exercise": exercise, "__name__": "cell"}
    exec(textwrap.dedent(cell), names)
    assert "called `my_step`: call it `one_step`, the name that later cells use" in said(capsys)
    assert torch.allclose(names["one_step"](X, NOISE, BETA), 0.8 * X)


def test_a_class_is_replaced_by_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    class Twice(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * x

    theirs = bank.get("02.1")
    ours = replace(
        theirs,
        name="Twice",
        reference=Twice,
        call=lambda module, x: module()(x),
        cases=[Case("ones", lambda g: {"x": torch.ones(3)})],
        misconceptions=[],
    )
    monkeypatch.setattr(bank, "get", lambda id: ours)
    module = exercise("02.1")(type("Twice", (nn.Module,), {"forward": lambda self, x: x}))
    assert issubclass(module, Twice)
    assert module()(torch.ones(1)).item() == 2


@pytest.mark.parametrize("id", ["02.9", "2.1", "02.10"])
def test_an_unknown_exercise_gets_the_nearest(id: str) -> None:
    with pytest.raises(ValueError, match=rf"unknown exercise '{id}'.*did you mean '02\.\d'"):
        exercise(id)
    with pytest.raises(ValueError, match="unknown exercise"):
        hint(id)


def test_without_an_id_it_says_how() -> None:
    with pytest.raises(ValueError, match=r'as in @exercise\("02\.1"\)'):

        @exercise  # type: ignore[arg-type]
        def one_step() -> None: ...


def test_all_exercises_of_a_lesson_in_plain_python(tmp_path: Path) -> None:
    """A script in a terminal that knows no ✓, with neither IPython nor a widget library installed."""
    script = tmp_path / "lesson.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys
            sys.modules.update(dict.fromkeys(("IPython", "ipywidgets", "anywidget", "ipykernel")))
            from diffusion_lessons.course import exercise, hint, progress

            @exercise("02.1")
            def one_step(x, noise, beta):
                print("here")
                return x.nothing

            hint("02.1")
            progress()
            """
        )
    )
    environment = dict(os.environ, PYTHONIOENCODING="ascii", OMP_NUM_THREADS="1")
    environment.pop("DIFFUSION_LESSONS_PROGRESS", None)
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "line 9, in one_step:  return x.nothing" in done.stdout
    assert "| here" in done.stdout
    assert "hint 1 of 3" in done.stdout
    assert re.search(r"02\.1 .* wrong +1 +1 of 3", done.stdout)
    assert json.loads((tmp_path / "progress.json").read_text())["exercises"]["02.1"]["checks"] == 1


def test_names_survive_an_import_of_the_module_of_the_same_name() -> None:
    code = """
        import diffusion_lessons.course.student.quiz, diffusion_lessons.course.exercises.exercise
        from diffusion_lessons import course
        assert callable(course.quiz) and callable(course.exercise)
        for name in course.__all__:
            getattr(course, name)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


# Hints and progress ---------------------------------------------------------------------------------


def test_each_call_gives_the_next_hint(capsys: pytest.CaptureFixture[str], kept: Progress) -> None:
    for number, part in (
        (1, "turns the picture down"),
        (2, "N(√(1 − β)"),
        (3, "One line:"),
        (3, "One line:"),
    ):
        hint("02.1")
        text = said(capsys)
        assert f"hint {number} of 3" in text
        assert part in text
        assert ("gives the next" in text) == (number < 3)
    assert kept["02.1"]["hints"] == 3


def test_progress_counts_and_is_kept_over_a_restart(
    capsys: pytest.CaptureFixture[str], kept: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    exercise("02.1")(bank.get("02.1").reference)
    exercise("02.3")(lambda alphas_cumprod: 3)
    hint("02.2")
    monkeypatch.setattr(progresses, "_session", Progress(kept.file))  # a new kernel
    monkeypatch.setattr(session, "_touched", set())
    capsys.readouterr()
    progress()
    text = said(capsys)
    assert re.search(r"1 of \d+ exercises passed", text)
    assert f"lesson 02: 1 of {len(bank.exercises('02'))}" in text
    assert "02.1 One step of the chain ✓ passed 1" in text
    assert "02.2 Jump to any time ○ not attempted 1 of 3" in text
    assert "02.3 Where signal and noise are equal ✗ wrong 1" in text
    assert "00.1" not in text  # nothing was done in that lesson
    progress("02")
    assert f"lesson 02: 1 of {len(bank.exercises('02'))}" in said(capsys)
    with pytest.raises(ValueError, match="unknown lesson"):
        progress("2")


def test_running_the_lesson_again_takes_nothing_back(kept: Progress) -> None:
    exercise("02.1")(bank.get("02.1").reference)

    @exercise("02.1")
    def one_step(x: Tensor, noise: Tensor, beta: Tensor) -> Tensor:
        raise NotImplementedError

    assert kept["02.1"] == {"status": "passed", "checks": 1, "hints": 0}


def test_two_notebooks_keep_each_others_progress(tmp_path: Path) -> None:
    one, two = Progress(tmp_path / "both.json"), Progress(tmp_path / "both.json")
    one.update("02.1", status="passed")
    two.update("03.1", status="wrong")
    one.update("02.2", hints=1)
    after = Progress(tmp_path / "both.json")
    assert [after[id]["status"] for id in ("02.1", "03.1")] == ["passed", "wrong"]
    assert after["02.2"]["hints"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["both.json"]  # nothing temporary is left


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"exercises": 3}', b'{"exercises": {"02.1": []}}', b"\xff\xfe"]
)
def test_a_damaged_record_is_set_aside_with_one_line(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "progress.json"
    file.write_bytes(content)
    monkeypatch.setattr(progresses, "_session", Progress(file))
    progress()
    text = said(capsys)
    assert "progress.json was damaged: it is now progress.damaged.json, and progress starts anew." in text
    assert (tmp_path / "progress.damaged.json").read_bytes() == content
    exercise("02.1")(bank.get("02.1").reference)
    assert "damaged" not in said(capsys)  # said once
    assert Progress(file)["02.1"]["status"] == "passed"


def test_where_nothing_can_be_written_one_line_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(
        progresses, "_session", Progress(tmp_path / "file" / "progress.json")
    )  # no folder: as root, too
    exercise("02.1")(bank.get("02.1").reference)
    text = said(capsys)
    assert "Progress can not be written to" in text
    assert "Set DIFFUSION_LESSONS_PROGRESS to a file that can be written." in text
    hint("02.1")
    assert "can not be written" not in said(capsys)
    progress()
    assert "02.1 One step of the chain ✓ passed 1 1 of 3" in said(capsys)  # kept in memory


def test_a_failed_write_leaves_the_old_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = Progress(tmp_path / "progress.json")
    record.update("02.1", status="passed")

    def full(source: str, target: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    record.update("02.2", status="passed")
    assert "No space left on device" in " ".join(record.news())
    assert record["02.2"]["status"] == "passed"
    assert [file.name for file in tmp_path.iterdir()] == ["progress.json"]
    assert Progress(tmp_path / "progress.json")["02.1"]["status"] == "passed"


def test_a_file_that_another_process_reads_is_written_a_moment_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Windows a file that is open cannot be replaced."""
    record, refused, replace_ = Progress(tmp_path / "progress.json"), [1, 2], os.replace

    def busy(source: str, target: str) -> None:
        if refused:
            refused.pop()
            raise PermissionError(13, "Permission denied")
        replace_(source, target)

    monkeypatch.setattr(os, "replace", busy)
    record.update("02.1", status="passed")
    assert record.news() == []
    assert Progress(tmp_path / "progress.json")["02.1"]["status"] == "passed"


def test_where_progress_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DIFFUSION_LESSONS_PROGRESS", raising=False)
    assert default_file() == tmp_path / "progress.json"
    monkeypatch.setenv("DIFFUSION_LESSONS_PROGRESS", str(tmp_path / "other.json"))
    assert default_file() == tmp_path / "other.json"
    monkeypatch.setenv("DIFFUSION_LESSONS_PROGRESS", "off")
    assert default_file() is None


# How it looks ---------------------------------------------------------------------------------------


class Page(HTMLParser):
    """The words, the images and the balance of a piece of HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "img":
            self.images.append(dict(attributes))
        else:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.images.append(dict(attributes))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def card(answer: Any, id: str = "02.1") -> Card:
    the = bank.get(id)
    return report.verdict_card(the, check(the, answer), ["A note with `code`."])


def test_a_wrong_answer_as_html() -> None:
    shown = card(lambda x, noise, beta: (1 - beta).sqrt() * x + beta * noise)
    page = Page(shown._repr_html_())
    assert "✗ Exercise 02.1 · One step of the chain: not right yet" in page.text
    assert "You multiplied the noise by β." in page.text
    assert "yours float32 (2, 1, 8, " in page.text
    assert str(page.images[0]["alt"]).startswith("Your result as a picture; black is")
    assert len(page.images) == 3
    assert all(str(image["src"]).startswith("data:image/png;base64,") for image in page.images)
    assert len(shown.html) < 10_000
    assert repr(shown) == shown.text


def test_nothing_that_a_student_writes_becomes_markup() -> None:
    def one_step(x: Tensor, noise: Tensor, beta: Tensor) -> Tensor:
        print("<script>alert(1)</script> & more")
        raise ValueError("<img src=x onerror=alert(2)> `odd")

    page = Page(card(one_step).html)
    assert {"script", "img"}.isdisjoint(page.tags)
    assert "<script>alert(1)</script> & more" in page.text
    assert "<img src=x onerror=alert(2)> `odd" in page.text
    assert 'raise ValueError("<img src=x' in page.text


@pytest.mark.parametrize(("status", "sign"), [("passed", "✓"), ("not attempted", "○"), ("wrong", "✗")])
def test_each_status_is_told_by_sign_and_word_and_takes_the_pages_colours(status: str, sign: str) -> None:
    shown = report.verdict_card(bank.get("02.1"), Verdict("02.1", status, "any", "Message."))
    assert sign in Page(shown.html).text
    assert "background" not in shown.html  # dark pages stay dark
    assert re.findall(r"(?<![-\w])color:", shown.html) == []
    assert shown.text.startswith(f"{sign} Exercise 02.1")


def test_the_text_fits_a_terminal() -> None:
    shown = card(lambda x, noise, beta: x)
    assert all(len(line) <= report.WIDTH for line in shown.text.splitlines())


def test_in_a_notebook_it_is_displayed_and_elsewhere_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    import IPython
    import IPython.display

    displayed: list[Any] = []
    monkeypatch.setattr(IPython, "get_ipython", lambda: object())
    monkeypatch.setattr(IPython.display, "display", displayed.append)
    hint("02.1")
    assert displayed[0]._repr_html_().startswith("<div")


def test_a_debug_exercise_starts_as_not_attempted(capsys: pytest.CaptureFixture[str]) -> None:
    @exercise("02.4")
    def run_chain(x0: Tensor, noises: Tensor, betas: Tensor) -> Tensor:
        x = x0
        for beta, noise in zip(betas, noises, strict=True):
            x = (1 - beta).sqrt() * x + beta * noise
        return x

    assert "not attempted yet The planted bug is still there" in said(capsys)
    noises = torch.zeros(2, *X.shape)
    assert torch.allclose(run_chain(X, noises, torch.tensor([0.36, 0.36])), 0.64 * X)


def test_a_gpu_that_takes_nothing_does_not_spoil_the_check(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if args == ("cuda",):
            raise RuntimeError("CUDA error: out of memory")
        return to(self, *args, **kwargs)

    to = torch.Tensor.to
    monkeypatch.setattr(torch.Tensor, "to", broken)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    exercise("02.1")(bank.get("02.1").alternatives[0])
    assert ": passed" in said(capsys)


@pytest.mark.gpu
def test_on_a_gpu_an_answer_must_work_there_too(capsys: pytest.CaptureFixture[str]) -> None:
    @exercise("02.1")
    def one_step(x: Tensor, noise: Tensor, beta: Tensor) -> Tensor:
        kept = torch.zeros(x.shape)
        kept += (1 - beta.cpu()).sqrt() * x.cpu()
        return kept + (beta.sqrt() * noise).cpu()

    text = said(capsys)
    assert "On the CPU your function is right; on the GPU, where this lesson runs, it is not." in text
    assert one_step(X.cuda(), NOISE.cuda(), BETA.cuda()).is_cuda
    for exercise_ in bank.exercises("02"):
        assert exercise(exercise_.id)(exercise_.reference) is exercise_.reference
        assert exercise(exercise_.id)(exercise_.alternatives[0])
    assert said(capsys).count(": passed") == 2 * len(bank.exercises("02"))


def sentence_exercise() -> Exercise:
    """An exercise is data: it can be made anywhere."""
    return replace(bank.get("02.1"), misconceptions=[Misconception("none", lambda **k: None, "x" * 40)])


def test_an_exercise_of_ones_own_can_be_checked_without_the_bank() -> None:
    assert check(sentence_exercise(), bank.get("02.1").reference).passed
