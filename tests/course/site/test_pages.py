"""Links between the pages, the reference's list of modules, addresses, and what a build refuses."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from diffusion_lessons.course.lessons import repository_address, site_address
from diffusion_lessons.course.site import api, build, vendor
from diffusion_lessons.course.site.pages import linked

ROOT = Path(__file__).resolve().parents[3]
THERE = {3: "03_reverse_process"}


def test_a_lesson_that_is_named_is_linked_where_it_has_a_page_and_nowhere_else() -> None:
    link = '<a href="lessons/03_reverse_process.html">Lesson 3</a>'
    assert (
        linked("<p>Lesson 3 shows it, lesson 13 will.</p>", THERE)
        == f"<p>{link} shows it, lesson 13 will.</p>"
    )
    assert linked('<div aria-label="Lesson 3">x</div>', THERE) == '<div aria-label="Lesson 3">x</div>'
    assert linked("lessons 3 and 4, lesson 300", THERE) == "lessons 3 and 4, lesson 300"


def test_the_reference_has_every_public_module_of_the_system_once() -> None:
    rooms = api.rooms(ROOT)
    modules = [module for all in rooms.values() for module in all]
    home = ROOT / "diffusion_lessons"
    expected = {
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for file in home.rglob("*.py")
        if not {"course", "cli.py", "__main__.py"} & set(file.relative_to(home).parts)
        and not any(part.startswith("_") and part != "__init__.py" for part in file.relative_to(home).parts)
    }
    assert len(modules) == len(set(modules))
    assert set(modules) == expected - {"diffusion_lessons"}
    assert all(api.first_line(ROOT, module) for module in modules)


def test_no_address_is_set_and_one_that_is_set_is_found(tmp_path: Path) -> None:
    assert (repository_address(ROOT), site_address(ROOT)) == ("", "")
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "x"\n[project.urls]\nRepository = "https://a.example"\nDocumentation = "https://b.example"\n'
    )
    assert (repository_address(tmp_path), site_address(tmp_path)) == (
        "https://a.example",
        "https://b.example",
    )
    assert build._settings(ROOT) == {}
    assert build._settings(tmp_path) == {"html_baseurl": "https://b.example/"}


def test_what_a_link_to_a_page_shows_needs_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    described = runpy.run_path(str(ROOT / "docs" / "site" / "conf.py"))["_described"]
    made = {}
    for address in ("", "https://b.example/"):
        context = {"title": "A &amp; <code>b</code>"}
        app = SimpleNamespace(config=SimpleNamespace(html_baseurl=address))
        described(app, "lessons/x", "page.html", context, None)
        made[address] = context["metatags"]
    assert made[""].count("<meta") == made[""].count('name="description"') == 1
    assert '<meta property="og:title" content="A &amp; b">' in made["https://b.example/"]
    assert '<meta property="og:url" content="https://b.example/lessons/x.html">' in made["https://b.example/"]


def test_a_folder_with_something_else_in_it_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    monkeypatch.setattr("sys.argv", ["build", "--root", str(ROOT), "--out", str(tmp_path / "mine")])
    assert build.main() == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and "something else than a site" in said and "Traceback" not in said
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years"


def test_npm_that_fails_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vendor, "_npm", lambda: ["python3", "-c", "import sys; sys.exit('no way out')"])
    with pytest.raises(ValueError, match=r"npm could not fetch katex@1\.2: no way out; the first build"):
        vendor.npm_package("katex@1.2", tmp_path)


def test_the_cheat_sheet_has_no_pdf_where_there_is_no_browser(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "BROWSERS", ("no-such-browser",))
    assert build.print_pdf(tmp_path / "page.html", tmp_path / "page.pdf") is False


def test_the_workflows_run_what_the_project_runs() -> None:
    folder = ROOT / ".github" / "workflows"
    said = {file.stem: yaml.safe_load(file.read_text(encoding="utf-8")) for file in folder.glob("*.yml")}
    commands: dict[str, list[str]] = {}
    for name, each in said.items():
        commands[name] = [step.get("run", "") for job in each["jobs"].values() for step in job["steps"]]
    assert ".ci/run" in commands["ci"]
    assert any(command.startswith("make site") for command in commands["site"])
    assert said["site"]["jobs"]["build"]["if"] == "vars.PUBLISH_SITE == 'yes'", (
        "harmless where nobody asked for it"
    )
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
