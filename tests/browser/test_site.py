"""The site, built once: its links and sizes, and every page in a real browser with no network."""

import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from diffusion_lessons.course.lessons import LESSONS, PLAYGROUND
from diffusion_lessons.course.site import build, playground, vendor
from diffusion_lessons.course.site.reading import studies
from tests.browser.browser_harness import PATIENCE, pixels, screenshot, serious, served

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
LESSON = "lessons/02_forward_process.html"
LIGHT = [
    "index",
    "interview",
    "quiz",
    "cheatsheet",
    "flashcards",
    "lessons/index",
    "lessons/02_forward_process",
]
LIGHT += ["playground", "api/samplers", "guides/authoring", "search", "cheatsheet-print"]
WIDE = "main pre, main .pst-scrollable-table-container"
SETTLED = f"""
    [...document.querySelectorAll("{WIDE}")].every((e) => e.scrollWidth <= e.clientWidth || e.tabIndex === 0)
"""  # the theme lets wide code be scrolled by keyboard a third of a second after the last change of the page
STILL = "document.getAnimations().every((each) => each.playState !== 'running')"
WIDTH = """
    Math.max(...["html", ".bd-main", ".bd-content", ".bd-article-container"].map(
        (part) => document.querySelector(part)?.scrollWidth ?? 0))
"""  # what holds the text may scroll by itself, and then the whole page stays narrow
ALONE = ("cheatsheet-print.html", PLAYGROUND)  # pages that Sphinx has not made
TABS = ("digits", "caption", "hole")
DARK = ["index", "interview", "quiz", "lessons/16_text_conditioning", "guides/instructors"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; where npm cannot fetch what it needs from the network, these tests are skipped."""
    pytest.importorskip("myst_nb", reason="the site's tests need Sphinx: pip install -e '.[site]'")
    try:
        for package in (vendor.KATEX, playground.RUNTIME):
            vendor.npm_package(package, ROOT / "out" / "npm")
    except ValueError as error:
        pytest.skip(str(error))
    out = tmp_path_factory.mktemp("built") / "site"
    assert build.build(ROOT, out) == []
    return out


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """The site on a server of this machine."""
    with served(site) as at:
        yield at


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A fresh page that lists what goes wrong in it as `page.wrong`."""
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    opened.set_default_timeout(PATIENCE)
    opened.wrong = []
    opened.on("console", lambda said: said.type == "error" and opened.wrong.append(said.text))
    opened.on("pageerror", lambda error: opened.wrong.append(str(error)))
    opened.on("requestfailed", lambda request: _not_loaded(opened, request))
    yield opened
    opened.close()


def _not_loaded(page: Any, request: Any) -> None:
    """List a request that failed; one that the page gave up because it was left is no fault."""
    if request.failure != "net::ERR_ABORTED":
        page.wrong.append(f"not loaded: {request.url}: {request.failure}")


class _Page(HTMLParser):
    """The names and the addresses of a page, and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attributes}
        self.ids |= {found[name] for name in ("id", "name") if found.get(name)}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif tag == "link" and found.get("rel") not in ("canonical", "prev", "next"):
            self.loads.append(found["href"])
        elif found.get("src"):
            self.loads.append(found["src"])


# The files -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def read(site: Path) -> dict[Path, _Page]:
    return {
        file.resolve(): _Page(file.read_text(encoding="utf-8"))
        for file in site.rglob("*.html")
        if "_static" not in file.parts
    }


def test_every_link_leads_somewhere_and_nothing_comes_from_the_network(
    site: Path, read: dict[Path, _Page]
) -> None:
    lost = []
    for file, parsed in read.items():
        for link in parsed.links + parsed.loads:
            parts = urlsplit(link)
            if parts.scheme:
                assert link in parsed.links or parts.scheme == "data", f"{file.name} loads {link[:80]}"
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            target = target / "index.html" if target.is_dir() else target
            known = read[target].ids | {"", "top"} if target in read else {parts.fragment}
            if not target.exists() or unquote(parts.fragment) not in known:
                lost.append(f"{file.relative_to(site.resolve())}: {link}")
    assert lost == []
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//", style.read_text(encoding="utf-8")), style.name


def test_every_page_is_small_and_says_no_address_that_is_not_set(site: Path, read: dict[Path, _Page]) -> None:
    assert {entry.stem for entry in LESSONS if (ROOT / "solutions" / f"{entry.stem}.ipynb").exists()} == {
        file.stem for file in (site / "lessons").glob("[0-9]*.html")
    }
    for file in read:
        text = file.read_text(encoding="utf-8")
        assert file.stat().st_size < 2_000_000, file.name
        assert "og:url" not in text and 'rel="canonical"' not in text, file.name
        assert text.count('name="description"') == (file.name not in ALONE), file.name
    assert (site / "cards.apkg").stat().st_size > 10_000
    assert (site / "cards.csv").read_text(encoding="utf-8").count("lesson02") > 10


def test_the_cheat_sheet_is_one_printed_page(site: Path) -> None:
    pdf = site / "cheatsheet.pdf"
    if not any(map(shutil.which, build.BROWSERS)):
        pytest.skip("no chromium here to print the cheat sheet with")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf.read_bytes())) == 1


# In a browser --------------------------------------------------------------------------------------


def test_no_formula_of_the_cheat_sheet_is_cut_off(address: str, page: Any) -> None:
    page.set_viewport_size({"width": 1062, "height": 740})  # what a sheet of A4 has within its margins
    page.emulate_media(media="print")
    page.goto(f"{address}/cheatsheet-print.html")
    formulas = page.locator(".dl-formula")
    assert formulas.count() > 15
    wide = formulas.evaluate_all(
        "all => all.filter(e => e.scrollWidth > e.clientWidth).map(e => e.innerText)"
    )
    assert wide == []
    screenshot(page, "site_cheatsheet_printed")


def test_every_page_opens_without_an_error_and_fits_a_telephone(
    site: Path, address: str, page: Any, read: dict[Path, _Page]
) -> None:
    page.set_viewport_size({"width": 375, "height": 800})
    wrong = []
    for file in read:
        name = str(file.relative_to(site.resolve()))
        page.goto(f"{address}/{name}")
        if name in ("playground.html", PLAYGROUND):  # a model that is only half loaded would be an error
            page.locator("#digits[data-drawn]").wait_for(timeout=PATIENCE)
        wrong += [f"{name}: {text}" for text in page.wrong]
        if (width := page.evaluate(WIDTH)) > 375:
            wrong.append(f"{name}: {width} pixels wide")
        if errors := page.locator(".katex-error").count():
            wrong.append(f"{name}: {errors} formulas that KaTeX cannot read")
        page.wrong.clear()
    assert wrong == []


@pytest.mark.parametrize(("width", "scheme", "names"), [(1280, "light", LIGHT), (375, "dark", DARK)])
def test_axe_finds_nothing_serious(
    width: int, scheme: str, names: list[str], address: str, browser: Any, axe: str
) -> None:
    opened = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    try:
        for name in names:
            opened.goto(f"{address}/{name}.html")
            opened.evaluate(
                "document.querySelectorAll('main details').forEach((each) => { each.open = true; })"
            )
            opened.wait_for_function(SETTLED)
            opened.wait_for_function(STILL)  # what is unfolded fades in, and pale text has little contrast
            assert serious(opened, axe, "html") == [], name
            screenshot(opened, f"site_{name.replace('/', '_')}_{width}_{scheme}")
    finally:
        opened.close()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (375, "dark")])
def test_every_tab_of_the_playground_draws_fits_and_has_nothing_serious(
    width: int, scheme: str, address: str, browser: Any, axe: str
) -> None:
    opened = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    opened.set_default_timeout(PATIENCE)
    try:
        opened.goto(f"{address}/playground.html")
        for tab in TABS:
            opened.locator(f"#tab-{tab}").click()
            opened.locator(f"#{tab}[data-drawn]").wait_for()
            assert opened.evaluate("document.querySelector('main').scrollWidth") <= width, tab
            assert serious(opened, axe, "html") == [], tab
            screenshot(opened, f"site_playground_{tab}_{width}_{scheme}")
    finally:
        opened.close()


def test_from_a_folder_the_playground_says_that_it_needs_a_server(site: Path, page: Any) -> None:
    page.goto((site / "playground.html").as_uri())
    said = page.locator("[data-dl-playground] [role=status]")
    page.wait_for_function("document.querySelector('[data-dl-playground]').innerText.includes('http.server')")
    assert said.inner_text().startswith("The playground needs a server")
    assert page.wrong == []


def test_from_a_folder_maths_sliders_and_folds_work(site: Path, page: Any) -> None:
    page.goto((site / LESSON).as_uri())
    scrubber = page.locator(".dl-scrub[data-ready=true]").first
    before = pixels(scrubber.locator("canvas").first)
    scrubber.locator("input").fill("10")
    page.wait_for_function("(root) => root.dataset.frame === '10'", arg=scrubber.element_handle())
    assert pixels(scrubber.locator("canvas").first) != before
    assert page.locator(".katex").count() > 20
    solution = page.locator("details.hide", has_text="Show our solution").first
    assert not solution.locator("pre").first.is_visible()
    solution.locator("summary").click()
    assert solution.locator("pre").first.is_visible()
    page.locator(".dl-quiz summary").first.click()
    assert page.locator(".dl-quiz details[open]").count() == 1
    assert page.wrong == []


def test_from_a_folder_the_search_finds_a_lesson(site: Path, page: Any) -> None:
    page.goto(f"{(site / 'search.html').as_uri()}?q=posterior")
    page.locator("#search-results a", has_text="03 · The reverse process").first.wait_for()
    assert "lessons/" in page.locator("#search-results li a").first.get_attribute("href")
    assert page.wrong == []


def test_dark_and_light_are_a_click_apart(address: str, page: Any) -> None:
    page.goto(f"{address}/index.html")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.locator(".theme-switch-button").first.click()
    page.locator("[data-mode=dark]:visible, [data-mode-value=dark]:visible").first.click()
    assert page.evaluate(ground) != light
    page.goto(f"{address}/quiz.html")
    assert page.locator("html").get_attribute("data-theme") == "dark"


def test_quiz_me_asks_one_question_at_a_time_until_all_are_known(address: str, page: Any) -> None:
    page.goto(f"{address}/interview.html")
    asked = [study for study in studies(ROOT) if study.interview]
    shown = page.locator(".dl-ask:visible")
    assert shown.count() == len(asked)
    page.get_by_label("Difficulty").select_option("1")
    easy = sum(study.difficulty == 1 for study in asked)
    assert shown.count() == easy > 1
    page.get_by_role("button", name="Quiz me").click()
    answers = []
    for turn in range(easy + 1):
        assert shown.count() == 1
        assert page.locator(".dl-answer[open]:visible").count() == 0
        assert not page.get_by_role("button", name="I knew it").is_visible()
        page.get_by_role("button", name="Show the answer").click()
        answers.append(shown.locator(".dl-answer > div").first.inner_text())
        page.get_by_role("button", name="Ask me again" if turn == 0 else "I knew it").click()
    assert len(set(answers)) == easy and answers[0] == answers[-1]
    assert page.get_by_role("status").first.inner_text() == f"All {easy} known, after {easy + 1} questions."
    assert shown.count() == easy
    assert page.wrong == []


def test_on_a_telephone_buttons_stay_in_sight_and_the_lessons_fit(address: str, page: Any) -> None:
    page.set_viewport_size({"width": 375, "height": 667})
    page.goto(f"{address}/interview.html")
    page.get_by_role("button", name="Quiz me").click()
    page.get_by_role("button", name="Show the answer").click()
    knew = page.get_by_role("button", name="I knew it").bounding_box()
    assert 0 < knew["y"] < 667 - knew["height"]
    page.goto(f"{address}/lessons/index.html")
    room = page.locator("div:has(> .dl-lessons)")
    assert room.evaluate("e => e.scrollWidth <= e.clientWidth")
    assert page.wrong == []


def test_on_paper_every_answer_is_open_and_no_line_of_code_is_cut(address: str, page: Any) -> None:
    page.emulate_media(media="print")
    page.goto(f"{address}/interview.html")
    assert not page.locator("[data-dl-interview]").is_visible()
    assert page.locator("details.dl-follow > div").first.is_visible()
    page.goto(f"{address}/{LESSON}")
    cut = "all => all.filter(e => e.checkVisibility() && e.scrollWidth > e.clientWidth).length"
    assert page.locator("main pre").evaluate_all(cut) == 0


def test_answers_can_be_hidden_and_follow_ups_unfold(address: str, page: Any) -> None:
    page.goto(f"{address}/interview.html#q03")
    first = page.locator(".dl-ask").first
    assert first.locator(".dl-answer[open]").count() == 1
    page.get_by_role("button", name="Hide the answers").click()
    assert page.locator(".dl-answer[open]").count() == 0
    first.locator(".dl-follow summary").first.click()
    assert first.locator(".dl-follow[open] > div").first.inner_text()
    assert page.locator(".dl-ask img:not([alt]), .dl-ask img[alt='']").count() == 0
    assert page.wrong == []


def test_the_quiz_counts_the_first_choice_alone(address: str, page: Any) -> None:
    page.goto(f"{address}/quiz.html")
    total = sum(len(study.questions) for study in studies(ROOT))
    said = page.locator("[data-dl-score] [role=status]")
    assert said.inner_text() == f"0 right of 0 answered, {total} questions."
    single = page.locator(".dl-question:not(:has(.dl-right ~ .dl-right))")
    single.nth(0).locator(".dl-right summary").click()
    single.nth(1).locator(".dl-wrong summary").first.click()
    single.nth(1).locator(".dl-right summary").click()
    page.wait_for_function("document.querySelectorAll('[data-result]').length === 2")
    assert said.inner_text() == f"1 right of 2 answered, {total} questions."
    page.get_by_role("button", name="Only what I missed").click()
    assert page.locator(".dl-question:visible").count() == 1
    page.get_by_role("button", name="Start again").click()
    assert said.inner_text() == f"0 right of 0 answered, {total} questions."
    page.get_by_label("Topic").select_option("02")
    assert page.locator(".dl-question:visible").count() == len(studies(ROOT)[1].questions)
    assert page.wrong == []
