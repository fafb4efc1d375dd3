"""How classifiers are trained, stored, measured and described."""

from functools import partial
from pathlib import Path

import pytest
import torch

from diffusion_lessons import StraightPath, zoo
from diffusion_lessons.checkpoint import CheckpointError
from diffusion_lessons.data import Dataset, load_dataset
from diffusion_lessons.guidance import NetworkClassifier
from diffusion_lessons.makers import build, measuring
from diffusion_lessons.makers.cards import provenance
from diffusion_lessons.makers.classifiers import (
    ClassifierRecipe,
    accuracy,
    normalise_features,
    save_noisy_classifier,
    train_classifier,
)
from diffusion_lessons.metrics import features_and_classes
from diffusion_lessons.networks import Classifier, ClassifierConfig
from diffusion_lessons.zoo.files import load_noisy_classifier

NOISY = "mnist-noisy-classifier"


def trained(recipe: ClassifierRecipe, train: Dataset) -> NetworkClassifier:
    return NetworkClassifier(train_classifier(recipe, train), recipe.build_path())


@pytest.mark.slow
def test_a_short_build_makes_what_can_be_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = ClassifierRecipe("digits", epochs=2)
    monkeypatch.setitem(build.BUILDERS, "digits-classifier", partial(measuring.build_classifier, recipe))
    random_state = torch.random.get_rng_state()
    build.main(["digits-classifier", "--out", str(tmp_path)])
    assert torch.equal(torch.random.get_rng_state(), random_state)
    about, classifier = zoo.card("digits-classifier", tmp_path), zoo.load("digits-classifier", tmp_path)
    test = load_dataset("digits", "test")
    assert accuracy(classifier, test) == pytest.approx(about["metrics"]["test_accuracy"], abs=1e-4)
    assert about["metrics"]["test_accuracy"] > 0.3
    assert [entry["n"] for entry in about["metrics"]["floor_of_real_train_pictures"]] == [100, 500, 1000]
    assert about["recipe"]["epochs"] == 2
    assert "test accuracy 0." in capsys.readouterr().out


def test_unknown_builders_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        build.main(["digits-classifier", "mnist-clasifier"])
    assert stop.value.code == 2
    assert "did you mean 'mnist-classifier'" in capsys.readouterr().err


def test_normalising_keeps_the_logits() -> None:
    train = load_dataset("digits", "train")
    torch.manual_seed(0)
    classifier = Classifier(ClassifierConfig())
    with torch.no_grad():
        classifier.to_features.weight *= 7
    x, _ = train.batch(torch.arange(5))
    before = classifier(x)
    normalise_features(classifier, train)
    torch.testing.assert_close(classifier(x), before, atol=1e-4, rtol=1e-3)
    features, _ = features_and_classes(classifier, train.images)
    assert features.var(0).mean() == pytest.approx(1, abs=1e-4)


def test_a_stored_classifier_is_the_same(tmp_path: Path) -> None:
    recipe = ClassifierRecipe("digits", epochs=1, path="cosine")
    random_state = torch.random.get_rng_state()
    classifier = trained(recipe, load_dataset("digits", "train"))
    assert torch.equal(torch.random.get_rng_state(), random_state)
    again = trained(recipe, load_dataset("digits", "train"))
    save_noisy_classifier(tmp_path / "x.safetensors", classifier)
    loaded = load_noisy_classifier(tmp_path / "x.safetensors")
    x, level = torch.randn(3, 1, 16, 16), classifier.path(300.0)
    for other in (again, loaded):
        assert torch.equal(other(x, level), classifier(x, level))


def test_foreign_files_and_paths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds a model, not a noisy-classifier"):
        load_noisy_classifier(zoo.FOLDER / "mnist-unet.safetensors")
    with pytest.raises(ValueError, match="discrete path, got 'straight'"):
        ClassifierRecipe("digits", 1, path="straight").build_path()
    straight = NetworkClassifier(zoo.load(NOISY).network, StraightPath())
    with pytest.raises(ValueError, match="discrete path, got StraightPath"):
        save_noisy_classifier(tmp_path / "x.safetensors", straight)


@pytest.mark.slow
def test_a_short_build_of_a_noisy_classifier(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = ClassifierRecipe("digits", epochs=3, path="cosine", batch=64, lr=2e-3)
    monkeypatch.setitem(build.BUILDERS, NOISY, partial(measuring.build_classifier, recipe))
    build.main([NOISY, "--out", str(tmp_path)])
    about, classifier = zoo.card(NOISY, tmp_path), zoo.load(NOISY, tmp_path)
    test = load_dataset("digits", "test")
    assert about["recipe"]["epochs"] == 3
    assert about["data"]["test"] == provenance(test)
    assert measuring.accuracies(classifier, test, recipe.seed) == about["metrics"]["over_levels"]
    assert about["metrics"]["over_levels"][0]["test_accuracy"] > 0.6
    assert "at t = 100" in capsys.readouterr().out


@pytest.mark.gpu
def test_a_classifier_trains_on_a_gpu_and_comes_back() -> None:
    classifier = train_classifier(ClassifierRecipe("digits", epochs=10), load_dataset("digits"), "cuda")
    assert all(weight.device.type == "cpu" for weight in classifier.parameters())
    assert accuracy(classifier, load_dataset("digits", "test")) > 0.8
