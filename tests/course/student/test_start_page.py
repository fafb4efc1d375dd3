"""The start page's check says plainly what is missing, and how to read the stated run times."""

import pytest
import torch

from diffusion_lessons.course.authoring.render import Context, lesson_map, reference_speed
from diffusion_lessons.course.lessons import LESSONS
from diffusion_lessons.course.student import start
from diffusion_lessons.course.student.setup import Lacking
from diffusion_lessons.course.student.start import check_environment, images_per_second, speed


def test_a_complete_environment_is_ready(capsys, monkeypatch):
    monkeypatch.setattr(start, "images_per_second", lambda device: 300.0)
    check_environment(600)
    lines = capsys.readouterr().out.strip().split("\n")
    assert lines[-1] == "Ready: all lessons will run here."
    assert any(f"torch {torch.__version__}" in line for line in lines)
    assert any("multiply them by about 2" in line for line in lines)


def test_what_is_missing_is_named_with_what_to_do(capsys, monkeypatch):
    monkeypatch.setattr(start, "images_per_second", lambda device: 300.0)
    monkeypatch.setattr(start, "lacking", lambda: Lacking(["anywidget>=0.9.13"], []))
    monkeypatch.setattr(start, "FREE_GB", 1e9)
    check_environment()
    said = capsys.readouterr().out
    assert "missing or too old: anywidget>=0.9.13; run `pip install 'diffusion-lessons[lab]'`" in said
    assert "→ free at least" in said
    assert "Not ready yet" in said


@pytest.mark.parametrize(
    ("here", "words"), [(500.0, "expect about the same"), (250.0, "by about 2"), (5000.0, "by about 0.1")]
)
def test_the_factor_for_stated_times(here, words):
    assert words in speed(here, 500.0).found
    assert "stated" not in speed(here, None).found


def test_the_speed_is_measured_and_leaves_random_numbers_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    assert 1 < images_per_second(torch.device("cpu"), seconds=0.2) < 1e6
    assert torch.equal(torch.rand(2), expected)


def test_the_reference_is_the_median_of_what_was_measured(tmp_path):
    timings = {str(i): {"images_per_second": value} for i, value in enumerate((100, 560, 540))}
    assert reference_speed(Context(tmp_path, timings=timings)) == 540
    assert reference_speed(Context(tmp_path)) is None


def test_the_map_links_what_exists_and_names_the_rest(tmp_path):
    lines = lesson_map(Context(tmp_path, stems=("02_forward_process",))).split("\n")
    assert len(lines) == len(LESSONS) - 1
    assert lines[1] == "- [02 The forward process](02_forward_process.ipynb)"
    assert lines[0] == "- 01 What is a diffusion model? (to come)"
