"""Scrubbers, strips, figures and controls: what they hold, what they show, what they say in words."""

import io
import json
import re
from typing import Any

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
import torch
from PIL import Image

from diffusion_lessons import DiscreteVP, Estimate, StraightPath, cosine_betas, linear_betas, trajectory
from diffusion_lessons.course.widgets import (
    Histogram,
    Picture,
    Points,
    Scrubber,
    describe,
    explore_schedules,
    figure,
    house_style,
    live,
    picture,
    plain_lines,
    scrub,
    strip,
)
from diffusion_lessons.course.widgets.page import error_box
from diffusion_lessons.course.widgets.scrubber import renewed
from tests.exported_page import freeze, to_html

PATH = DiscreteVP(linear_betas())
ALT = "Ten greys from black to white."


def greys(n: int = 10, side: int = 4) -> torch.Tensor:
    return torch.linspace(-1, 1, n)[:, None, None, None].expand(n, 1, side, side)


def saved(shown: Any) -> dict[str, Any]:
    """The model that the page holds."""
    found = re.search(r"saved = (\{.*\});\n", shown._repr_html_())
    assert found
    return json.loads(found[1])


# Captions ------------------------------------------------------------------------------------------


def test_captions_tell_t_signal_and_snr() -> None:
    levels = [PATH(1000.0), PATH(250.0), PATH(0.0)]
    assert describe(levels) == [
        "t = 1000 · ᾱ_t = 4.0e−05 · SNR = 4.04e−05 (−43.9 dB)",
        f"t = 250 · ᾱ_t = {PATH.alphas_cumprod[250]:.4f} · SNR = 1.1 (+0.4 dB)",
        "t = 0 · ᾱ_t = 1.0000 · SNR = ∞",
    ]


def test_captions_off_the_variance_preserving_path_tell_alpha_and_sigma() -> None:
    assert describe([StraightPath()(t) for t in (1.0, 0.25, 0.0)]) == [
        "t = 1 · α = 0.000 · σ = 1.000 · SNR = 0",
        "t = 0.25 · α = 0.750 · σ = 0.250 · SNR = 9 (+9.5 dB)",
        "t = 0 · α = 1.000 · σ = 0.000 · SNR = ∞",
    ]


def test_captions_need_one_time_each() -> None:
    with pytest.raises(ValueError, match=r"times of shape \(2,\)"):
        describe([PATH(torch.tensor([1.0, 2.0]))])


# Scrubbers -----------------------------------------------------------------------------------------


def test_scrubber_thins_out_evenly_and_says_so() -> None:
    made = scrub(greys(101), [f"t = {i}" for i in range(101)])
    spec = saved(made)["spec"]
    assert spec["frames"] == len(spec["captions"]) == 50
    assert (spec["captions"][0], spec["captions"][-1]) == ("t = 0", "t = 100")
    assert spec["note"] == "50 of 101 frames, evenly spaced."
    assert saved(scrub(greys()))["spec"]["note"] == ""


def test_scrubber_holds_strip_words_and_frames_and_fetches_nothing() -> None:
    made = scrub(greys(), alt=ALT)
    html = made._repr_html_()
    assert f'<img alt="{ALT}"' in html
    assert "http" not in html
    assert " src=" not in html.replace(' src="data:', "")
    assert html == scrub(greys(), alt=ALT)._repr_html_()  # the same bytes every time
    assert repr(made) == f"Scrubber: {ALT} (10 frames)"


def test_frames_on_two_axes_have_a_slider_for_each_and_a_strip_of_rows() -> None:
    clips = greys(6, side=8)  # two times of three frames each
    made = scrub(clips, axes={"t": [900, 0], "frame": range(3)}, start=3)
    spec = saved(made)["spec"]
    assert spec["axes"] == [{"name": "t", "length": 2}, {"name": "frame", "length": 3}]
    assert spec["captions"][0] == "t = 900 · frame = 0" and spec["captions"][5] == "t = 0 · frame = 2"
    assert spec["start"] == 3 and spec["note"] == ""
    one, two = (Image.open(io.BytesIO(each.strip.png)).size for each in (scrub(clips[:3]), made))
    assert two[1] > 1.7 * one[1]  # a row for each time
    assert saved(scrub(clips))["spec"]["axes"] == [{"name": "frame", "length": 6}]
    both = scrub({"a": clips, "b": clips}, axes={"t": [900, 0], "frame": range(3)})
    assert Image.open(io.BytesIO(both.strip.png)).size[1] > 1.8 * two[1]


def test_words_are_made_from_names_and_captions_where_left_out() -> None:
    assert (
        scrub({"x": greys(2), "y": greys(2)}, ["t = 9", "t = 0"]).alt
        == "Strip of frames of x, y from t = 9 to t = 0."
    )


def test_captions_cannot_close_the_script() -> None:
    assert "</script><b>" not in scrub(greys(1), ["</script><b>"])._repr_html_()
    assert saved(scrub(greys(1), ["</script><b>"]))["spec"]["captions"] == ["</script><b>"]


def test_a_saved_scrubber_gets_the_script_of_today() -> None:
    page = f"<p>before</p>{scrub(greys(), alt=ALT)._repr_html_()}<p>behind</p>"
    older = re.sub(r"<style>.*?</style>", "<style>.old {}</style>", page, flags=re.DOTALL)
    older = re.sub(r'module">\n.*?\nconst key', 'module">\nold();\nconst key', older, flags=re.DOTALL)
    older = re.sub(r"\};\n.*?</script>", "};\nold();</script>", older, flags=re.DOTALL)
    older = older.replace(', "axes": [{"name": "frame", "length": 10}]', "")  # pages had one slider then
    assert len(older) < len(page) - 5000 and older.count("old") == 3
    assert renewed(older) == renewed(page) == page
    assert renewed(two := f"{page}<b></b>{page}") == two
    assert renewed("<div>another page</div>") == "<div>another page</div>"


def test_trajectory_becomes_three_panels_of_tiled_samples() -> None:
    g = torch.Generator().manual_seed(0)
    x0, noise = torch.rand(5, 1, 8, 6, generator=g), torch.randn(5, 1, 8, 6, generator=g)

    def exact(x: torch.Tensor, level: Any, condition: Any = None) -> Estimate:
        return Estimate.from_x0(x0, x, level)

    points = list(trajectory(exact, noise, PATH.levels(6)))
    made = scrub(iter(points), samples=4, extra={"values": lambda x: Histogram(x, bins=5)})
    assert list(made.panels) == ["x", "x̂₀", "ε̂ (−3 to 3)", "values"]
    assert made.panels["x"].pixels.shape == (7, 16, 12, 1)  # type: ignore[union-attr]  # 2 × 2 samples
    third = ((points[-1][1][2, 0] + 1) * 127.5).clamp(0, 255).round()  # stands below on the left
    assert (made.panels["x"].pixels[-1, 8:, :6, 0] == third.numpy()).all()  # type: ignore[union-attr]
    assert made.captions == describe(PATH.levels(6))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: scrub(greys(), ["one"]), "got 1 captions for 10 frames"),
        (lambda: scrub(greys(2), ["one", PATH(3.0)]), "got a mixture"),
        (lambda: scrub(greys(), frames=51), "1 to 50 frames, got frames=51"),
        (lambda: scrub(greys(), start=10), "one of its 10 frames, got start=10"),
        (lambda: scrub(greys(), alt="short"), "a picture needs alt text"),
        (lambda: scrub({}), "no panels were given"),
        (lambda: scrub(greys(), axes={"t": [1, 2], "frame": range(4)}), "2 t × 4 frame do not fit 10 frames"),
        (lambda: scrub(greys(), axes={}), "axes of no length do not fit"),
        (lambda: scrub(greys(), axes={"t": []}), "0 t do not fit 10 frames"),
        (lambda: scrub(greys(60), axes={"t": range(6), "frame": range(10)}), "60 frames, and at most 50 fit"),
        (lambda: scrub(iter(())), "was its generator used up before"),
        (lambda: scrub(iter(()), captions=["a"]), "leave `captions` out"),
    ],
)
def test_scrubber_refuses_what_it_cannot_show(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_widget_takes_new_frames_from_the_kernel() -> None:
    pytest.importorskip("anywidget")
    widget = scrub(greys(), alt=ALT).widget()
    assert widget.spec["frames"] == 10
    scrub(greys(3), alt=ALT).show_in(widget)
    assert widget.spec["frames"] == 3
    assert Image.open(io.BytesIO(widget.sprite)).size == (4, 12)
    assert repr(widget) == "scrubber widget"


# Strips and figures --------------------------------------------------------------------------------


def test_strip_shows_the_first_and_the_last_frame() -> None:
    shown = strip(greys(10, side=32), ALT, columns=3)
    pixels = np.asarray(Image.open(io.BytesIO(shown.png)))
    middle = pixels[pixels.shape[0] // 2]
    assert pixels.shape == (69, 3 * 68)
    assert (middle[10], middle[68 + 10], middle[2 * 68 + 10]) == (0, 113, 255)  # frames 0, 4 and 9 of 10
    assert repr(shown) == f"Picture: {ALT}"


def test_strip_of_panels_has_a_row_for_each() -> None:
    cloud = Points(torch.zeros(10, 4, 2), behind=torch.ones(3, 2))
    one, three = (
        Image.open(io.BytesIO(strip(panels, ALT, [f"t = {i}" for i in range(10)]).png)).height
        for panels in ({"x": greys()}, {"x": greys(), "h": Histogram(greys()), "p": cloud})
    )
    assert (one, three) == (18 + 68, 18 + 3 * 68)


def test_pictures_need_words() -> None:
    for alt in (None, "", "a plot"):
        with pytest.raises(ValueError, match="alt text that says what it shows"):
            strip(greys(), alt)  # type: ignore[arg-type]


def test_figure_becomes_one_picture_with_words_and_is_closed() -> None:
    def draw() -> Picture:
        fig, ax = plt.subplots()
        ax.plot([0, 1])
        return picture(fig, 'A line that "rises" & rises.', caption="**Fig.** 1")

    before = plt.get_fignums()
    shown = draw()
    assert plt.get_fignums() == before
    html = shown._repr_html_()
    assert html.count("<img") == 1
    assert 'alt="A line that &quot;rises&quot; &amp; rises."' in html
    assert "<figcaption><strong>Fig.</strong> 1</figcaption>" in html
    assert shown.png == draw().png
    assert b"matplotlib" not in shown.png.lower()


def test_figure_shows_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    fig, _ = plt.subplots()
    figure(fig, "An empty pair of axes.")
    assert capsys.readouterr().out == "Picture: An empty pair of axes.\n"


def test_figure_refuses_axes() -> None:
    fig, ax = plt.subplots()
    with pytest.raises(ValueError, match="pass `fig`, not `ax`"):
        picture(ax, "An empty pair of axes.")  # type: ignore[arg-type]
    plt.close(fig)


def test_house_style_tells_lines_apart_without_colour() -> None:
    with plt.rc_context(house_style()):
        fig, ax = plt.subplots()
        markers = [ax.plot([0, 1])[0].get_marker() for _ in range(5)]
        plt.close(fig)
    assert len(set(markers)) == 5
    with plain_lines():
        fig, ax = plt.subplots()
        lines = [ax.plot([0, 1])[0] for _ in range(4)]
        plt.close(fig)
    assert len({line.get_linestyle() for line in lines}) == 4
    assert {line.get_marker() for line in lines} == {"None"}


# Controls ------------------------------------------------------------------------------------------


class Draw:
    """Counts its calls; fails at 3."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, str]] = []

    def __call__(self, power: int, shape: str) -> Picture:
        self.calls.append((power, shape))
        if power == 3:
            raise ZeroDivisionError("three")
        return strip(greys(power + 1), f"{shape} with {power} greys.")


def controls(shown: Any) -> list[Any]:
    return list(shown.widget().children)


def test_each_setting_is_drawn_once() -> None:
    pytest.importorskip("ipywidgets")
    draw = Draw()
    shown = live(draw, power=[1, 2], shape=["even", "odd"])
    power, _, status, failure, view = controls(shown)
    for label in ("2", "1", "2"):
        power.value = label
    assert draw.calls.count((2, "even")) == draw.calls.count((1, "even")) == 1
    assert "even with 2 greys." in view.value
    assert "ready (" in status.value
    assert failure.value == ""


def test_a_slider_is_told_its_name_and_its_values() -> None:
    pytest.importorskip("anywidget")
    width, steps, *_ = controls(
        live(lambda **at: strip(greys(2), str(at)), base_width=[64, 128], steps=[1, 25])
    )
    assert (width.name, width.values, width.value) == ("base width", ["64", "128"], "64")
    assert (steps.name, steps.values, steps.value) == ("steps", ["1", "25"], "1")


def test_one_text_alone_is_a_box_to_type_in() -> None:
    pytest.importorskip("ipywidgets")
    draw = Draw()
    shown = live(draw, shape="even", power=[1, 2])
    shape, power, _, failure, view = controls(shown)
    assert shape.value == "even"
    shape.value = "typed"
    assert "typed with 1 greys." in view.value
    power.value = "2"
    assert "typed with 2 greys." in view.value
    assert failure.value == ""
    assert "change: shape (any text), power (1, 2)." in shown._repr_html_()


def test_errors_stand_in_the_page_and_go_away() -> None:
    pytest.importorskip("ipywidgets")
    power, _, status, failure, view = controls(live(Draw(), power=[1, 2, 3], shape=["even"]))
    power.value = "3"
    assert "ZeroDivisionError: three" in failure.value
    assert 'role="alert"' in failure.value
    assert "setting before" in status.value
    assert "even with 1 greys." in view.value
    power.value = "2"
    assert failure.value == ""
    assert "even with 2 greys." in view.value


def test_slow_drawings_are_all_made_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffusion_lessons.course.widgets.controls.SLOW", 0.0)
    draw = Draw()
    live(draw, power=[1, 2, 4], shape=["even", "odd"])
    assert len(draw.calls) == 6


def test_too_slow_drawings_are_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ipywidgets")
    monkeypatch.setattr("diffusion_lessons.course.widgets.controls.SLOW", 0.0)
    monkeypatch.setattr("diffusion_lessons.course.widgets.controls.PATIENCE", 0.0)
    draw = Draw()
    shown = live(draw, power=[1, 2, 4], shape=["even", "odd"])
    assert len(draw.calls) == 2
    assert "each new setting takes about" in controls(shown)[2].value


def test_live_without_ipywidgets_is_its_first_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    bundle = live(Draw(), power=[1, 2], shape=["even"])._repr_mimebundle_()
    assert sorted(bundle) == ["text/html", "text/plain"]
    assert "even with 1 greys." in bundle["text/html"]
    assert "change: power (1, 2), shape (even)." in bundle["text/html"]
    assert bundle["text/plain"] == "Live(power, shape): Picture: even with 1 greys."


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: live(Draw()), "2 to 2000 settings together, got 1"),
        (lambda: live(Draw(), power=list(range(201)), shape=list("abcdefghij")), "got 2010"),
        (lambda: live(Draw(), power=[1, 1], shape=["a"]), "told apart"),
        (lambda: live(Draw(), start={"pover": 1}, power=[1, 2], shape=["a"]), "did you mean 'power'"),
        (lambda: live(Draw(), start={"power": 7}, power=[1, 2], shape=["a"]), "unknown value of power 7"),
        (lambda: live(lambda power: 7, power=[1, 2]), "a Figure, Picture, Card or Scrubber, got int"),
        (lambda: live(lambda power: plt.figure(), power=[1, 2]), "a picture needs alt text"),
    ],
)
def test_live_refuses_what_it_cannot_show(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
    plt.close("all")


def test_schedule_explorer_says_what_it_draws() -> None:
    g = torch.Generator().manual_seed(0)
    x0, noise = torch.rand(4, 1, 8, 8, generator=g), torch.randn(4, 1, 8, 8, generator=g)
    paths = {"linear": PATH, "cosine": DiscreteVP(cosine_betas())}
    shown = explore_schedules(x0, paths, noise, fractions=[0.5, 1.0])
    drawn = shown.result({"schedule": "linear", "t_over_T": "1"})
    assert isinstance(drawn, Picture)
    assert drawn.alt.startswith(
        "Signal and log-SNR over time for linear, cosine, and four pictures noised at t = 1000"
    )
    assert len(drawn.png) < 60_000


def test_error_box_names_the_line() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        Draw()(3, "even")
    box = error_box(caught.value, "It")
    assert re.search(r"<code>ZeroDivisionError: three</code> \(line \d+ of __call__\)", box)


# Pages ---------------------------------------------------------------------------------------------

VIEW = "application/vnd.jupyter.widget-view+json"


def executed() -> Any:
    shown: Scrubber = scrub(greys(), alt=ALT)
    data = {"text/html": shown._repr_html_(), VIEW: {"model_id": "1"}, "text/plain": repr(shown)}
    output = nbformat.v4.new_output("display_data", data=data)
    lone = nbformat.v4.new_output("display_data", data={VIEW: {"model_id": "2"}, "text/plain": "lone"})
    cell = nbformat.v4.new_code_cell("scrub(…)", outputs=[output, lone])
    return nbformat.v4.new_notebook(cells=[cell], metadata={"widgets": {"state": {}}})


def test_freeze_keeps_the_html_and_drops_the_view_beside_it() -> None:
    notebook = executed()
    frozen = freeze(notebook)
    first, lone = frozen.cells[0].outputs
    assert sorted(first.data) == ["text/html", "text/plain"]
    assert VIEW in lone.data  # nothing else would be left of it
    assert "widgets" not in frozen.metadata
    assert VIEW in notebook.cells[0].outputs[0].data


def test_page_holds_the_scrubber() -> None:
    pytest.importorskip("nbconvert")
    page = to_html(executed())
    assert 'data-dl-scrub="' in page
    assert f'alt="{ALT}"' in page
