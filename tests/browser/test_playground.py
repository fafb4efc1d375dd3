"""The playground in a real browser: it walks as the package does, on the same noise, and its tabs draw."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from diffusion_lessons import zoo
from diffusion_lessons.checkpoint import Checkpoint
from diffusion_lessons.course.lessons import PLAYGROUND
from diffusion_lessons.data.captions import captions
from diffusion_lessons.data.scenes import draw
from diffusion_lessons.generate import walk
from diffusion_lessons.metrics.captions_met import captions_met
from diffusion_lessons.painting import Begun, Canvas
from tests.browser.browser_harness import PATIENCE, screenshot, served

pytestmark = pytest.mark.slow
STEPS = 5
CAPTION = "a small red circle left of a large blue square"
ODD = [  # 20 texts
    "", " ", "A RED\tCircle\n", "don't, won't; I'LL", "1234 ½ Ⅻ", "ein großer Kreis über dem Café",
    "e\u0301 = é", "красный круг", "红色的圆", "🔴🟦 👩\u200d👩\u200d👧", "İstanbul ΟΔΟΣ ΐ",
    "<|endoftext|> in the middle", "a" * 100, "a circle " * 20, "…—“quoted”",
    "\u00a0\u2003\u3000between\u0085spaces", "tail\u00ad\u200b\ufeff", "_under_score_ x+y=z !!??",
    "a\u0301\u0345b", "ſtreet ﬁre ǅ",
]  # fmt: skip
# Keeps where the slider stood each time that a picture was finished.
WATCHED = """(panel) => {
    window.drawn = [];
    const where = panel.querySelector("[data-do=where]");
    const seen = new MutationObserver(() => drawn.push(where.innerText));
    seen.observe(panel, { attributeFilter: ["data-drawn"] });
}"""
ASK = """async (wish) => {
    const worker = new Worker("_static/playground/worker.mjs", { type: "module" });
    const points = [];
    return new Promise((resolve, reject) => {
        worker.onerror = (event) => reject(new Error(event.message));
        worker.onmessage = ({ data }) => {
            if (data.error) reject(new Error(data.error));
            else if (data.done) resolve(points);
            else if (data.x) points.push(["x", "x0", "eps", "picture"].map((name) => [...data[name]]));
        };
        worker.postMessage({ id: 1, wishes: [wish] });
    });
}"""


@pytest.fixture(scope="module")
def address(playing: Path) -> Iterator[str]:
    with served(playing) as at:
        yield f"{at}/{PLAYGROUND}"


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A fresh page in which nothing may go wrong."""
    opened, wrong = browser.new_page(), []
    opened.set_default_timeout(PATIENCE)
    opened.on("console", lambda said: said.type == "error" and wrong.append(said.text))
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    yield opened
    opened.close()
    assert wrong == []


# The same numbers ----------------------------------------------------------------------------------


def noises(model: Checkpoint) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(1, *model.shape, generator=generator) for _ in range(STEPS + 1)]


def wish(name: str, sampler: str, guidance: float, noise: list[Tensor], **more: Any) -> dict[str, Any]:
    start, *of_steps = [each.flatten().tolist() for each in noise]
    common = {"model": name, "sampler": sampler, "steps": STEPS, "guidance": guidance}
    return {**common, "noise": start, "stepNoise": of_steps, **more}


def compare(ours: list[tuple[Tensor, ...]], theirs: list[list[list[float]]]) -> None:
    """Every x, x̂₀, ε̂ and picture: within 1e-4 of the largest number, at least of 1."""
    assert len(ours) == len(theirs) == STEPS + 1
    for mine, drawn in zip(ours, theirs, strict=True):
        for expected, got in zip(mine, drawn, strict=True):
            scale = expected.abs().max().clamp(min=1)
            assert (expected.flatten() - torch.tensor(got)).abs().max() < 1e-4 * scale


@pytest.mark.parametrize(
    ("name", "sampler", "guidance"),
    [
        ("mnist-unet", "ddim", 2.0),
        ("mnist-unet", "ddpm", 1.0),
        ("mnist-unet", "heun", 3.5),
        ("mnist-unet", "dpmpp-2m", 0.0),
        ("scenes-text", "ddim", 2.0),
        ("scenes-text", "dpmpp-2m", 4.0),
    ],
)
def test_the_page_walks_as_the_package_does(
    name: str, sampler: str, guidance: float, address: str, page: Any
) -> None:
    model = zoo.load(name)
    noise = noises(model)
    prompted = model.tokenizer is not None
    condition = model.prompts([CAPTION]) if prompted else torch.tensor([7])
    of_steps = (lambda number: noise[number + 1]) if sampler == "ddpm" else None
    points = walk(
        model, condition, noise[0], sampler, STEPS, guidance, precision="float32", generator=of_steps
    )
    page.goto(address)
    told = {"prompt": CAPTION} if prompted else {"label": 7}
    drawn = page.evaluate(ASK, wish(name, sampler, guidance, noise, **told))
    compare(
        [
            (x, estimate.x0, estimate.eps, model.pictures(estimate.x0 if float(level.sigma) else x))
            for level, x, estimate in points
        ],
        drawn,
    )


def test_a_hole_is_filled_as_the_package_fills_it(address: str, page: Any) -> None:
    model = zoo.load("scenes-inpaint")
    noise = noises(model)
    picture = draw(5, torch.arange(1)).render().float() / 127.5 - 1
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 10:41, 5:30] = 1
    canvas = Canvas(picture, mask=mask)
    points = walk(
        model, model.prompts([CAPTION]), noise[0], "ddim", STEPS, 2.0, begun=Begun(canvas, model),
        precision="float32",
    )  # fmt: skip
    told = {"prompt": CAPTION, "picture": picture.flatten().tolist(), "mask": mask.flatten().tolist()}
    page.goto(address)
    drawn = page.evaluate(ASK, wish("scenes-inpaint", "ddim", 2.0, noise, **told))
    finished = [
        (
            x,
            estimate.x0,
            estimate.eps,
            canvas.finished(model.pictures(estimate.x0 if float(level.sigma) else x)),
        )
        for level, x, estimate in points
    ]
    compare(finished, drawn)


def test_captions_are_the_tokens_that_the_package_makes_of_them(address: str, page: Any) -> None:
    tokenizer = zoo.load("scenes-text").tokenizer
    assert tokenizer is not None
    index = torch.arange(90)
    texts = captions(draw(0, index), 0, index, "free") + captions(draw(1, index), 1, index, "plain")
    texts += ODD
    described = tokenizer.to_json()
    page.goto(address)
    theirs = page.evaluate(
        """async ([described, texts]) => {
            const { tokenizer } = await import("/_static/playground/tokenizer.mjs");
            return texts.map((text) => tokenizer(described)(text));
        }""",
        [described, texts],
    )
    with pytest.warns(UserWarning, match="were cut"):
        ours = tokenizer(texts)["tokens"].tolist()
    assert len(texts) == 200
    assert [text for text, a, b in zip(texts, ours, theirs, strict=True) if a != b["ids"]] == []
    assert [b["cut"] for b in theirs] == [len(tokenizer.encode(text)) > tokenizer.context for text in texts]


# The page ------------------------------------------------------------------------------------------


def opened(page: Any, address: str, tab: str, drawn: int = 1) -> Any:
    """The panel of a tab, once it has drawn so often."""
    page.goto(address)
    if tab != "digits":
        page.locator(f"#tab-{tab}").click()
    return waited(page, tab, drawn)


def waited(page: Any, tab: str, drawn: int) -> Any:
    page.locator(f"#{tab}[data-drawn='{drawn}']").wait_for()
    return page.locator(f"#{tab}")


def seen(canvas: Any) -> np.ndarray:
    """What a canvas shows: (H, W, 3)."""
    data = base64.b64decode(canvas.evaluate("(canvas) => canvas.toDataURL()").split(",")[1])
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_a_digit_is_drawn_scrubbed_and_drawn_by_the_students(address: str, page: Any) -> None:
    panel = opened(page, address, "digits", 1)
    canvas = panel.locator("canvas[data-do=picture]")
    assert page.locator("[role=status]").inner_text().startswith("Drawn in ")
    last = seen(canvas)
    panel.locator("[data-do=at]").fill("0")
    assert (seen(canvas) != last).any()
    assert panel.locator("[data-do=where]").inner_text() == "step 0 of 10, t = 1000"
    panel.get_by_label("its students beside it").check()
    for model, its_last in (("1-step", 0), ("2-steps", 0), ("4-steps", 0)):
        panel.locator(f"canvas[data-model=mnist-unet-{model}][data-at='{its_last}']").wait_for()
    assert len({seen(each).tobytes() for each in panel.locator("canvas[data-model]").all()}) == 3
    panel.evaluate(WATCHED)
    panel.locator("[data-do=guidance]").fill("8")
    panel.locator("[data-do=steps]").fill("11")  # the newest wish counts: 50 steps
    page.wait_for_function("drawn.at(-1)?.startsWith('step 50 of 50')")
    assert (seen(canvas) != last).any()
    before = seen(canvas)
    drawn = int(panel.get_attribute("data-drawn"))
    panel.get_by_role("button", name="Other noise").click()
    waited(page, "digits", drawn + 1)
    assert (seen(canvas) != before).any()
    screenshot(page, "playground_digits")


def test_a_caption_that_is_typed_is_drawn(address: str, page: Any) -> None:
    panel = opened(page, address, "caption", 1)
    said = "a large green triangle right of a small orange cross"
    panel.get_by_label("Caption", exact=True).fill(said)
    panel.get_by_label("Caption", exact=True).press("Enter")
    waited(page, "caption", 2)
    picture = torch.from_numpy(seen(panel.locator("canvas[data-do=picture]")).copy()).permute(2, 0, 1)
    assert captions_met(picture[None], [said])["everything"][0] == 1
    panel.get_by_label("Caption", exact=True).fill("a red circle " * 12)
    panel.get_by_role("button", name="Draw").click()
    waited(page, "caption", 3)
    assert "longer than 24 tokens" in page.locator("[role=status]").inner_text()
    screenshot(page, "playground_caption")


def test_a_hole_is_painted_by_keys_and_what_is_kept_stays(address: str, page: Any) -> None:
    panel = opened(page, address, "hole", 1)
    drawing = panel.locator(".dl-draw canvas")
    panel.get_by_role("button", name="Clear").click()
    known = seen(drawing)[::6, ::6]
    panel.get_by_role("button", name="Fill").click()
    assert page.locator("[role=status]").inner_text() == "The hole is empty: paint on the picture first."
    drawing.focus()
    for key in (" ", "ArrowRight", " ", "Enter"):
        page.keyboard.press(key)
    waited(page, "hole", 2)
    filled = seen(panel.locator("canvas[data-do=picture]"))
    changed = (filled != known).any(-1)
    assert changed.any()
    assert not changed[:20].any() and not changed[:, :20].any()
    screenshot(page, "playground_hole")


def test_a_mouse_paints_a_hole_that_other_noise_fills_too(address: str, page: Any) -> None:
    panel = opened(page, address, "hole", 1)
    panel.get_by_role("button", name="Clear").click()
    box = panel.locator(".dl-draw canvas").bounding_box()
    page.mouse.move(box["x"] + 50, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 120, box["y"] + 90, steps=4)
    page.mouse.up()
    panel.get_by_role("button", name="Other noise").click()
    waited(page, "hole", 2)
    assert "Drawn in" in page.locator("[role=status]").inner_text()


def test_tabs_go_by_arrow_keys_and_a_model_is_fetched_when_its_tab_opens(address: str, page: Any) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    opened(page, address, "digits")
    assert not any("scenes" in url for url in asked)
    page.locator("#tab-digits").press("ArrowRight")
    assert page.evaluate("document.activeElement.id") == "tab-caption"
    assert not page.locator("#digits").is_visible()
    waited(page, "caption", 1)
    assert any("scenes-text/decoder.onnx" in url for url in asked)
    assert sum("wasm" in url.rpartition("/")[2] and url.endswith(".wasm") for url in asked) == 1


@pytest.mark.parametrize("lacking", ["WebAssembly", "server"])
def test_where_it_cannot_run_the_page_says_why(lacking: str, address: str, playing: Path, page: Any) -> None:
    if lacking == "WebAssembly":
        page.add_init_script("delete window.WebAssembly")
    page.goto(address if lacking == "WebAssembly" else (playing / PLAYGROUND).as_uri())
    said = page.locator("[role=status]")
    page.wait_for_function("!document.querySelector('[role=status]').innerText.includes('JavaScript')")
    assert ("no WebAssembly" if lacking == "WebAssembly" else "python -m http.server") in said.inner_text()
    assert not page.locator("[role=tablist]").is_visible()


def test_a_model_that_is_missing_is_said(address: str, browser: Any) -> None:
    page = browser.new_page()
    page.route("**/scenes-text/text.onnx", lambda route: route.fulfill(status=404, body=""))
    try:
        page.goto(address)
        page.locator("#tab-caption").click()
        page.locator("[role=status]", has_text="scenes-text/text.onnx is missing (404)").wait_for(
            timeout=PATIENCE
        )
    finally:
        page.close()
