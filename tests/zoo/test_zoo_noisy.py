"""The classifier of noisy pictures: what is bundled, and how it is trained, stored and measured."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from diffusion_lessons import StraightPath, add_noise, zoo
from diffusion_lessons.checkpoint import CheckpointError
from diffusion_lessons.data import load_dataset
from diffusion_lessons.generate import generate
from diffusion_lessons.guidance import NetworkClassifier
from diffusion_lessons.makers import build, noisy
from diffusion_lessons.makers.cards import provenance
from diffusion_lessons.metrics import evaluate

NAME = "mnist-noisy-classifier"


def test_the_bundled_one_and_its_card() -> None:
    about, file = zoo.card(NAME), zoo.FOLDER / f"{NAME}.safetensors"
    assert file.stat().st_size == about["bytes"] <= 1_000_000
    assert about["kind"] == "noisy-classifier"
    assert about["rebuild"] == f"python -m diffusion_lessons.makers.build {NAME}"
    assert {"title", "data", "recipe", "metrics", "hardware", "versions", "licence"} <= about.keys()
    assert about["data"]["train"] == zoo.card("mnist-unet")["data"]["train"]
    rows = about["metrics"]["over_levels"]
    assert [row["t"] for row in rows] == list(noisy.MEASURED)
    for row in rows:
        low, high = row["test_accuracy_95"]
        assert low <= row["test_accuracy"] <= high
    assert rows[0]["test_accuracy"] > 0.98
    assert 0.05 < rows[-1]["test_accuracy"] < 0.15  # of noise alone nobody can tell the class


def test_it_knows_the_path_of_the_diffusion_model_that_it_guides() -> None:
    classifier, model = zoo.load(NAME), zoo.load("mnist-unet")
    assert isinstance(classifier, NetworkClassifier)
    torch.testing.assert_close(classifier.path.betas, model.path.betas)
    assert not classifier.network.training
    assert all(p.dtype == torch.float32 and not p.requires_grad for p in classifier.network.parameters())


def test_it_names_what_the_bundled_model_draws_clean_and_noisy() -> None:
    classifier, labels = zoo.load(NAME), torch.arange(40) % 10
    pictures = generate(zoo.load("mnist-unet"), labels, steps=15, guidance=2.0, seed=3, device="cpu")
    noise = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(0))
    for t, least in ((1, 0.9), (400, 0.85), (600, 0.7)):
        level = classifier.path(float(t))
        found = classifier(add_noise(pictures, noise, level), level).argmax(1)
        assert float((found == labels).float().mean()) >= least


def test_it_is_not_offered_as_features() -> None:
    with pytest.raises(ValueError, match=r"unknown features 'mnist-noisy': expected one of digits, mnist"):
        evaluate(torch.zeros(100, 1, 32, 32), features="mnist-noisy")


def test_a_stored_classifier_is_the_same(tmp_path: Path) -> None:
    recipe = noisy.NoisyRecipe("digits", epochs=1)
    random_state = torch.random.get_rng_state()
    classifier = noisy.train_noisy_classifier(recipe, load_dataset("digits", "train"))
    assert torch.equal(torch.random.get_rng_state(), random_state)
    again = noisy.train_noisy_classifier(recipe, load_dataset("digits", "train"))
    noisy.save_noisy_classifier(tmp_path / "x.safetensors", classifier)
    loaded = noisy.load_noisy_classifier(tmp_path / "x.safetensors")
    x, level = torch.randn(3, 1, 16, 16), classifier.path(300.0)
    for other in (again, loaded):
        assert torch.equal(other(x, level), classifier(x, level))


def test_foreign_files_and_paths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds a model, not a noisy-classifier"):
        noisy.load_noisy_classifier(zoo.FOLDER / "mnist-unet.safetensors")
    with pytest.raises(ValueError, match="discrete path, got 'straight'"):
        noisy.NoisyRecipe("digits", 1, path="straight").build_path()
    straight = NetworkClassifier(zoo.load(NAME).network, StraightPath())
    with pytest.raises(ValueError, match="discrete path, got StraightPath"):
        noisy.save_noisy_classifier(tmp_path / "x.safetensors", straight)


@pytest.mark.slow
def test_a_short_build_makes_what_can_be_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = noisy.NoisyRecipe("digits", epochs=3)
    monkeypatch.setitem(build.BUILDERS, NAME, partial(noisy.build_noisy_classifier, recipe))
    assert build.main([NAME, "--out", str(tmp_path)]) == 0
    about, classifier = zoo.card(NAME, tmp_path), zoo.load(NAME, tmp_path)
    test = load_dataset("digits", "test")
    assert about["recipe"]["epochs"] == 3
    assert about["data"]["test"] == provenance(test)
    assert noisy.accuracies(classifier, test, recipe.seed) == about["metrics"]["over_levels"]
    assert about["metrics"]["over_levels"][0]["test_accuracy"] > 0.6
    assert "at t = 100" in capsys.readouterr().out


@pytest.mark.slow
def test_mnist_test_split_again(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFUSION_LESSONS_DATA", str(shared_data))
    test, about, classifier = load_dataset("mnist", "test"), zoo.card(NAME), zoo.load(NAME)
    assert provenance(test) == about["data"]["test"]
    assert about["metrics"]["n"] == len(test)
    some = replace(test, images=test.images[:2000], labels=test.labels[:2000])
    for row in about["metrics"]["over_levels"][:6:5]:
        correct = noisy.noisy_accuracy(classifier, some, classifier.path(float(row["t"])))
        assert correct / 2000 == pytest.approx(row["test_accuracy"], abs=0.03)
