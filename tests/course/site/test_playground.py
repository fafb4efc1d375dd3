"""What the playground's page is given, and a site without it."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion_lessons import zoo
from diffusion_lessons.course.site import build, pages, playground, vendor
from diffusion_lessons.data.captions import read

ROOT = Path(__file__).resolve().parents[3]


def test_the_settings_are_the_models_own_levels() -> None:
    model = zoo.load("mnist-unet")
    told = playground.settings(model)
    assert list(told["levels"]) == list(playground.STEPS)
    assert {n: len(levels) for n, levels in told["levels"].items()} == {n: n + 1 for n in playground.STEPS}
    for row, level in zip(told["levels"][10], model.path.levels(10), strict=True):
        assert (row["alpha"], row["sigma"]) == (float(level.alpha), float(level.sigma))
        x0, eps = torch.randn(2, 3, 3, dtype=torch.float64)
        assert torch.allclose(row["p"] * x0 + row["q"] * eps, model.target.of(x0, eps, level))
    assert (told["none"], told["tokenizer"], told["scale"]) == (10, None, None)


def test_a_student_is_asked_for_its_own_steps_alone() -> None:
    told = playground.settings(zoo.load("mnist-unet-2-steps"))
    assert (list(told["levels"]), told["steps"], told["guidance"]) == ([2], 2, 1.0)


def test_a_picture_to_paint_in_differs_from_its_wish_in_the_object_that_the_hole_hides() -> None:
    for scene in playground.scenes():
        shown, wished = read(scene["caption"]), read(scene["wish"])
        assert shown.objects[0] == wished.objects[0] and shown.relation == wished.relation
        assert shown.objects[1] != wished.objects[1]
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(scene["png"]))).convert("RGB"))
        left, top, right, bottom = scene["hole"]
        ground = pixels[0, 0] if (left, top) != (0, 0) else pixels[-1, -1]
        hidden = pixels.copy()
        hidden[top:bottom, left:right] = ground
        assert (pixels != hidden).any() and (hidden != ground).any()


def test_without_the_network_the_site_has_no_playground_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vendor, "_npm", lambda: ["python3", "-c", "import sys; sys.exit('no way out')"])
    folder = tmp_path / "site" / "_static" / "playground"
    folder.mkdir(parents=True)
    play, lacking = build._playground(tmp_path, folder)
    assert play is None and not folder.exists()
    assert lacking == [
        "the playground is left out: npm could not fetch onnxruntime-web@1.30.0: no way out; "
        "the first build of the site needs the network"
    ]
    for name in ("lessons", "guides"):
        (tmp_path / name).mkdir()
    pages.write_pages(pages.read_all(ROOT), tmp_path, pdf=False, play=play)
    assert not (tmp_path / "playground.md").exists()
    assert "playground" not in (tmp_path / "index.md").read_text(encoding="utf-8").lower()
