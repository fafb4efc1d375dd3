"""Pictures of what a model's safety check names are hidden, unless it is turned off by name."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from PIL import Image
from torch import Tensor

from diffusion_lessons import zoo
from diffusion_lessons.__main__ import main
from diffusion_lessons.checkpoint import CheckpointError
from diffusion_lessons.data import to_uint8
from diffusion_lessons.data.dataset import as_float
from diffusion_lessons.data.scenes import ONE, draw
from diffusion_lessons.generate import generate, save_trajectory
from diffusion_lessons.safety import SafetyCheck, covered
from diffusion_lessons.zoo.safety import clip_pictures, published_check, safety_check, scenes_check
from tests.published_folder import Shape, disturbed, pipeline
from tests.tiny_checkpoint import tiny

SIZE = 32


def checker(folder: Path) -> StableDiffusionSafetyChecker:
    """A small published checker with random concepts, written to a folder."""
    torch.manual_seed(0)
    config = transformers.CLIPConfig(
        vision_config=dict(
            image_size=SIZE, patch_size=8, hidden_size=24, intermediate_size=48, num_hidden_layers=2,
            num_attention_heads=3,
        ),
        projection_dim=20,
    )  # fmt: skip
    theirs = disturbed(StableDiffusionSafetyChecker(config))
    theirs.concept_embeds.data = torch.randn(17, 20)
    theirs.special_care_embeds.data = torch.randn(3, 20)
    theirs.concept_embeds_weights.data.fill_(0.5)
    theirs.special_care_embeds_weights.data.fill_(0.5)
    theirs.save_pretrained(folder)
    return theirs


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[StableDiffusionSafetyChecker, SafetyCheck]:
    folder = tmp_path_factory.mktemp("checker")
    theirs = checker(folder)
    ours = published_check(folder)
    ours.prepare = lambda x: x
    return theirs, ours


def pixels(n: int = 16) -> Tensor:
    return torch.rand((n, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(3)) * 2 - 1


def cosines(ours: SafetyCheck, x: Tensor) -> tuple[Tensor, Tensor]:
    """Of each picture with each concept, and with each of special care."""
    with torch.no_grad():
        image = torch.nn.functional.normalize(ours.tower(x), dim=-1)
    return tuple(  # type: ignore[return-value]
        image @ torch.nn.functional.normalize(each, dim=-1).T
        for each in (ours.concept_embeds, ours.special_care_embeds)
    )


@pytest.mark.parametrize("special", [-0.02, 0.02])  # whether the special concept is shown, just so
@pytest.mark.parametrize("margin", [-0.012, -0.008, -0.002, 0.002])  # of the concept; special care gives .01
def test_the_rule_is_the_published_one(
    both: tuple[StableDiffusionSafetyChecker, SafetyCheck], margin: float, special: float
) -> None:
    theirs, ours = both
    x = pixels(1)
    concepts, care = cosines(ours, x)
    for each in (theirs, ours):
        each.concept_embeds_weights[:] = 2.0
        each.concept_embeds_weights[4] = concepts[0, 4] - margin
        each.special_care_embeds_weights[:] = 2.0
        each.special_care_embeds_weights[1] = care[0, 1] - special
    shown = margin > 0 or (special > 0 and margin > -0.01)
    assert theirs(x, torch.ones(1, 3, 2, 2))[1] == [shown]
    assert ours(x) == [["concept 5 of 17"] if shown else []]  # special care alone hides nothing


def test_many_pictures_and_concepts_agree(both: tuple[StableDiffusionSafetyChecker, SafetyCheck]) -> None:
    theirs, ours = both
    x = pixels()
    concepts, care = cosines(ours, x)
    for each in (theirs, ours):  # two concepts and one of special care are shown by some of the pictures
        each.concept_embeds_weights[:], each.special_care_embeds_weights[:] = 2.0, 2.0
        each.concept_embeds_weights[[3, 8]] = concepts.quantile(0.7, 0)[[3, 8]]
        each.special_care_embeds_weights[2] = care.quantile(0.5, 0)[2]
    exact = theirs.forward_onnx(x, torch.ones(16, 3, 2, 2))[1].tolist()  # the one that rounds nothing
    assert [bool(each) for each in ours(x)] == exact
    assert 0 < sum(exact) < 16


def test_a_threshold_is_not_rounded(both: tuple[StableDiffusionSafetyChecker, SafetyCheck]) -> None:
    _, ours = both
    x = pixels(1)
    concepts, _ = cosines(ours, x)
    ours.special_care_embeds_weights[:] = 2.0
    ours.concept_embeds_weights[:] = 2.0
    for margin in (4e-4, -4e-4):  # theirs, rounded to three places, passes both
        ours.concept_embeds_weights[0] = concepts[0, 0] - margin
        assert bool(ours(x)[0]) == (margin > 0)


@pytest.mark.parametrize("side", [64, 24])
def test_pictures_are_prepared_as_published(side: int) -> None:
    x = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(3)) * 2 - 1
    theirs = transformers.CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size=SIZE)
    files = [Image.fromarray(each) for each in to_uint8(x).permute(0, 2, 3, 1).numpy()]
    expected = theirs(files, return_tensors="pt")["pixel_values"]
    assert (clip_pictures(x, SIZE) - expected).abs().max() < 0.02  # less than a byte


def test_grey_stands_in_a_new_tensor() -> None:
    x = pixels(3)
    before = x.clone()
    hidden = covered(x, [[], ["a"], []])
    assert torch.equal(x, before)
    assert hidden[1].abs().max() == 0
    assert torch.equal(hidden[[0, 2]], x[[0, 2]])


class Finds(SafetyCheck):
    """Finds something in the second picture."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)
        self.advice = "Nothing can be done."

    def forward(self, pictures: Tensor) -> list[list[str]]:
        return [["a fox", "a hen"] if i == 1 else [] for i in range(len(pictures))]


def test_what_is_hidden_is_said() -> None:
    model = tiny()
    labels = torch.arange(3)
    plain = generate(model, labels, steps=2, device="cpu")
    words = "hides behind grey, of 3, picture 2 (a fox, a hen). Nothing can be done."
    with pytest.warns(RuntimeWarning, match=re.escape(words)):
        hidden = generate(model, labels, steps=2, device="cpu", check=Finds())
    assert torch.equal(hidden[[0, 2]], plain[[0, 2]])
    assert plain[1].abs().max() > hidden[1].abs().max() == 0


def test_an_animation_shows_nothing_on_the_way_either(tmp_path: Path) -> None:
    file, model = tmp_path / "x.gif", tiny()
    with pytest.warns(RuntimeWarning, match="picture 2"):
        save_trajectory(model, torch.arange(3), 3, file, device="cpu", steps=3, check=Finds())
    with Image.open(file) as gif:
        for frame in range(gif.n_frames):
            gif.seek(frame)
            x = np.asarray(gif.convert("L"))
            first, second = x[:64, :64], x[:64, 80:144]  # 8 pixels a side, 8 times as large, a gap between
            assert first.min() < first.max()
            assert second.min() == second.max()


# Published folders


@pytest.fixture
def published(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    pipeline(folder, Shape())
    checker(folder / "safety_checker")
    return folder


def lowered(folder: Path, threshold: float) -> None:
    """Set all thresholds of the checker in a folder."""
    from safetensors.torch import load_file, save_file

    file = next((folder / "safety_checker").glob("*.safetensors"))
    weights = load_file(file)
    for name in ("concept_embeds_weights", "special_care_embeds_weights"):
        weights[name] = torch.full_like(weights[name], threshold)
    save_file(weights, file)


@pytest.mark.parametrize(("threshold", "hidden"), [(-1.1, True), (1.1, False)])
def test_a_published_model_is_checked_by_its_own(
    published: Path, capsys: pytest.CaptureFixture[str], threshold: float, hidden: bool
) -> None:
    lowered(published, threshold)
    to = ["--out", str(published / "x.png"), "--device", "cpu", "--json"]
    how = ["sample", str(published), "--prompt", "a red circle", "--steps", "1"]
    main([*how, *to])
    out, err = capsys.readouterr()
    assert json.loads(out.strip().splitlines()[-1])["safety_check"] is True
    assert ("picture 1 (concept 1 of 17, concept 2 of 17" in err) == hidden
    assert ("--no-safety-check turns the check off" in err) == hidden
    with Image.open(published / "x.png") as image:
        inside = image.convert("L").crop((4, 4, 12, 12)).getextrema()
    assert (inside[0] == inside[1]) == hidden
    main([*how, "--no-safety-check", *to])
    out, err = capsys.readouterr()
    assert json.loads(out.strip().splitlines()[-1])["safety_check"] is False
    assert "safety check" not in err


def test_old_names_of_the_checker_are_known(published: Path) -> None:
    from safetensors.torch import load_file, save_file

    before = safety_check(zoo.open_model(str(published)))
    file = next((published / "safety_checker").glob("*.safetensors"))
    weights = {
        re.sub(r"^vision_model\.(vision_model\.)?", "vision_model.vision_model.", name): weight
        for name, weight in load_file(file).items()
    }
    ids = {"vision_model.vision_model.embeddings.position_ids": torch.arange(17)[None]}
    save_file(weights | ids, file)
    after = safety_check(zoo.open_model(str(published)))
    assert before is not None and after is not None
    assert torch.equal(before.scores(pixels()), after.scores(pixels()))


def test_a_checker_that_cannot_be_read_is_no_reason_to_go_without(published: Path) -> None:
    file = next((published / "safety_checker").glob("*.safetensors"))
    file.rename(file.with_suffix(".bin"))
    with pytest.raises(CheckpointError, match="is a pickle"):
        safety_check(zoo.open_model(str(published)))


def test_the_checker_of_real_size_has_the_published_weights() -> None:
    from diffusion_lessons.networks.clip import VisionConfig, VisionTransformer
    from diffusion_lessons.zoo.safety import checker_names

    vision = dict(
        hidden_size=1024, intermediate_size=4096, num_attention_heads=16, num_hidden_layers=24, patch_size=14
    )
    with torch.device("meta"):
        theirs = StableDiffusionSafetyChecker(
            transformers.CLIPConfig(vision_config=vision, projection_dim=768)
        )
        tower = VisionTransformer(VisionConfig(224, 14, 1024, 4096, 24, 16, projection=768))
        ours = SafetyCheck(tower, lambda x: x, ["a"] * 17, 3)
    expected = {name: weight.shape for name, weight in checker_names(theirs.state_dict()).items()}
    assert {name: weight.shape for name, weight in ours.state_dict().items()} == expected
    assert sum(shape.numel() for shape in expected.values()) == 303_981_588


# Scenes


def test_models_of_scenes_are_checked_and_those_of_digits_are_not() -> None:
    assert isinstance(safety_check(zoo.load("scenes-text")), SafetyCheck)
    assert safety_check(zoo.load("mnist-unet")) is None


def test_lone_red_crosses_are_found_and_few_other_scenes_are_hidden() -> None:
    check, index = scenes_check(), torch.arange(400)
    about = zoo.card("scenes-clip")["safety"]["a red cross"]
    assert about["false_alarms"][2] < 0.02
    others = check(as_float(draw(5, index, "test").render(64)))
    assert sum(each == ["a red cross"] for each in others) < 400 * 0.03
    scenes = draw(5, 2 * index, "held-out")
    lone = scenes[(scenes.form == ONE) & (scenes.colour[:, 0] == 0) & (scenes.shape[:, 0] == 3)]
    assert len(lone) >= 5
    for size in (64, 128):
        found = [each == ["a red cross"] for each in check(as_float(lone.render(size)))]
        assert sum(found) > 0.8 * len(lone)
