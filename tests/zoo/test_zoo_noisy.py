"""The bundled classifier of noisy pictures."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from diffusion_lessons import add_noise, zoo
from diffusion_lessons.data import load_dataset
from diffusion_lessons.generate import generate
from diffusion_lessons.guidance import NetworkClassifier
from diffusion_lessons.makers import measuring
from diffusion_lessons.makers.cards import provenance

NAME = "mnist-noisy-classifier"


def test_the_bundled_one_and_its_card() -> None:
    about, file = zoo.card(NAME), zoo.FOLDER / f"{NAME}.safetensors"
    assert file.stat().st_size == about["bytes"] <= 1_000_000
    assert about["kind"] == "noisy-classifier"
    assert about["rebuild"] == f"python -m diffusion_lessons.makers {NAME}"
    assert {"title", "data", "recipe", "metrics", "hardware", "versions", "licence"} <= about.keys()
    assert about["data"]["train"] == zoo.card("mnist-unet")["data"]["train"]
    rows = about["metrics"]["over_levels"]
    assert [row["t"] for row in rows] == list(measuring.TIMES)
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


@pytest.mark.slow
def test_mnist_test_split_again(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFUSION_LESSONS_DATA", str(shared_data))
    test, about, classifier = load_dataset("mnist", "test"), zoo.card(NAME), zoo.load(NAME)
    assert provenance(test) == about["data"]["test"]
    assert about["metrics"]["n"] == len(test)
    some = replace(test, images=test.images[:2000], labels=test.labels[:2000])
    for row in about["metrics"]["over_levels"][:6:5]:
        correct = measuring.noisy_accuracy(classifier, some, classifier.path(float(row["t"])))
        assert correct / 2000 == pytest.approx(row["test_accuracy"], abs=0.03)
