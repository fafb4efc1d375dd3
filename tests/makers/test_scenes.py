"""The models of scenes are made one from the other, and each card says what was measured."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from diffusion_lessons import zoo
from diffusion_lessons.data.captions import WRONGS
from diffusion_lessons.data.scenes import PAIR
from diffusion_lessons.filming import KINDS
from diffusion_lessons.makers.scenes import clip, inpaint, text, vae, video
from diffusion_lessons.metrics.captions_met import Met
from diffusion_lessons.training.text_to_video import WINDOW
from diffusion_lessons.zoo.safety import CONCEPTS, scenes_check

ROWS = 16
SHORT: Any = {"steps": 2, "batch": 4, "warmup": 0, "precision": "float32", "compile": "off"}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all five, each stage trained for two steps."""
    folder = tmp_path_factory.mktemp("shelf")
    few: Any = {"n": ROWS, "evaluated": 12}
    small: Any = {**SHORT, "base_channels": 16, "head_dim": 16}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # where the runs go
        for module in (clip, text):
            patch.setattr(module, "WIDTH", 32)
        vae.build_vae("scenes-vae", folder, replace(vae.PLAN, **SHORT), **few)
        towers = [replace(each, plan=replace(each.plan, **SHORT), rows=ROWS) for each in clip.STAGES[:2]]
        clip.build_clip("scenes-clip", folder, towers, evaluated=12)
        told = [replace(each, plan=replace(each.plan, **small), rows=ROWS) for each in text.STAGES[:2]]
        text.build_text("scenes-text", folder, told, evaluated=12)
        inpaint.build_inpaint("scenes-inpaint", folder, replace(inpaint.RECIPE, **small), **few)
        patch.setattr(video, "PROBED", 2)
        moving = replace(video.RECIPE, **small)
        video.build_video("scenes-video", folder, moving, **few | {"evaluated": 2})
    return folder


def test_the_shelf_holds_all_five(shelf: Path) -> None:
    kinds = {name: zoo.card(name, shelf)["kind"] for name in zoo.names(shelf)}
    assert kinds == {
        "scenes-clip": "towers",
        "scenes-inpaint": "diffusion",
        "scenes-text": "diffusion",
        "scenes-vae": "autoencoder",
        "scenes-video": "diffusion",
    }
    for name in kinds:
        zoo.load(name, shelf)


def test_a_card_tells_the_recipe_the_run_and_what_it_was_made_of(shelf: Path) -> None:
    for name in zoo.names(shelf):
        card = zoo.card(name, shelf)
        recipes = card["recipe"].get("stages", [card["recipe"]])
        assert card["training"]["steps"] == sum(each["steps"] for each in recipes) == 2 * len(recipes)
        assert card["training"]["images"] == 8 * len(recipes)
        assert card["parameters"] > 0
    vae, text = zoo.card("scenes-vae", shelf), zoo.card("scenes-text", shelf)
    assert text["recipe"]["made_of"] == {"scenes-vae": vae["sha256"]}
    for name in ("scenes-inpaint", "scenes-video"):
        assert zoo.card(name, shelf)["recipe"]["made_of"] == {"scenes-text": text["sha256"]}


def test_text_to_image_is_measured_by_what_of_its_captions_is_met(shelf: Path) -> None:
    card = zoo.card("scenes-text", shelf)
    for split in ("test", "held-out"):
        told = dict(card["metrics"][split])
        assert told.pop("n") == 12
        assert set(told) == {*Met.__dataclass_fields__, "everything"}
        assert all(low <= share <= high for share, low, high in told.values())
    figures = {f"{what} at {t}" for what in WRONGS for t in (700, 950)}
    assert [set(row) for row in card["wrong_captions"]] == [{"stage", "step"} | figures] * 2
    assert [row["stage"] for row in card["wrong_captions"]] == [1, 2]
    first, pairs = card["recipe"]["stages"]
    assert card["data"]["rows"] == first["rows"] + pairs["rows"] == 2 * ROWS
    assert (first["style"], first["form"], pairs["style"], pairs["form"]) == ("both", None, "plain", PAIR)


def test_towers_are_measured_by_what_they_tell_from_a_wrong_caption(shelf: Path) -> None:
    told = zoo.card("scenes-clip", shelf)["metrics"]["held-out"]
    assert set(told) == {"n", "caption_found"} | {f"{what}_told" for what in WRONGS}


def test_the_safety_check_of_scenes_has_its_rates_beside_its_thresholds(shelf: Path) -> None:
    about = zoo.card("scenes-clip", shelf)["safety"]
    assert set(about) == set(CONCEPTS)
    check = scenes_check(shelf)
    for each in about.values():
        assert check.concept_embeds_weights.tolist() == pytest.approx(each["thresholds"])
        (share, low, high, n), found = each["false_alarms"], each["found"]
        assert 0 <= low <= share <= high <= 1
        assert n + found[-1] == 2 * (8 * 12 // 2)


def test_inpainting_starts_as_text_to_image_that_sees_nothing_new(shelf: Path) -> None:
    text, inpaint = zoo.load("scenes-text", shelf).network, zoo.load("scenes-inpaint", shelf).network
    assert inpaint.config.unet.in_channels == text.config.unet.in_channels + 5
    new = inpaint.state_dict()["unet.conv_in.weight"][:, 4:]
    assert new.abs().max() < 0.01  # two steps away from zero
    assert torch.equal(
        inpaint.text.state_dict()["text_model.embeddings.token_embedding.weight"],
        text.text.state_dict()["text_model.embeddings.token_embedding.weight"],
    )


def test_video_is_text_to_image_with_layers_over_time_and_measured_beside_what_needs_none(
    shelf: Path,
) -> None:
    text, made = zoo.load("scenes-text", shelf).network, zoo.load("scenes-video", shelf)
    weights = made.network.state_dict()
    assert all(torch.equal(weights[name], weight) for name, weight in text.state_dict().items())
    assert made.shape[0] == WINDOW
    told = zoo.card("scenes-video", shelf)["metrics"]
    assert {*told} == {"sampling", *KINDS}
    assert told["rendered"]["everything"][0] == 1 and told["one frame held"]["motion"][0] == 0
    assert all(told[kind]["n"] == 2 for kind in KINDS)


class Asked(Exception):
    """Ends a build where it asks for what it is made of."""


@pytest.mark.parametrize(
    ("build", "name", "part"),
    [
        (text.build_text, "scenes-text", "scenes-vae"),
        (inpaint.build_inpaint, "scenes-inpaint", "scenes-text"),
        (video.build_video, "scenes-video", "scenes-text"),
    ],
)
def test_what_a_folder_lacks_comes_from_the_bundled_shelf(
    build: Any, name: str, part: str, shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `make gpu` builds into an empty folder."""

    def load(asked: str, folder: Path = zoo.FOLDER) -> None:
        raise Asked(asked, zoo.checked(asked, folder).parent)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(zoo, "load", load)
    for folder, where in ((tmp_path / "new", zoo.FOLDER), (shelf, shelf)):
        with pytest.raises(Asked) as asked:
            build(name, folder)
        assert asked.value.args == (part, where)
