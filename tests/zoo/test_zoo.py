"""The shelf: bundled weights and their cards, loaded only where every byte is right."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from diffusion_lessons import zoo
from diffusion_lessons.checkpoint import Checkpoint, save_checkpoint
from diffusion_lessons.data import load_dataset
from diffusion_lessons.generate import generate
from diffusion_lessons.makers import build, cards
from diffusion_lessons.makers.classifiers import accuracy
from diffusion_lessons.metrics import evaluate, features_and_classes, frechet_between
from tests.tiny_checkpoint import tiny

CLASSIFIERS = ("digits-classifier", "mnist-classifier")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder with one zoo model, to be damaged."""
    for suffix in (".json", ".safetensors"):
        shutil.copy(zoo.FOLDER / f"digits-classifier{suffix}", tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_bundled_classifier_and_its_card(name: str) -> None:
    assert name in zoo.names()
    about, file = zoo.card(name), zoo.FOLDER / f"{name}.safetensors"
    assert file.stat().st_size == about["bytes"] < 1_000_000
    assert about["kind"] == "classifier"
    assert about["rebuild"] == f"python -m diffusion_lessons.makers {name}"
    assert name in build.BUILDERS
    assert {"title", "data", "recipe", "metrics", "hardware", "versions", "licence"} <= about.keys()
    classifier = zoo.load(name)
    assert not classifier.training
    assert all(p.dtype == torch.float32 for p in classifier.parameters())
    yardstick, data = zoo.yardstick(name.removesuffix("-classifier")), about["data"]
    x = torch.rand(2, 1, *[classifier.config.image_size] * 2) * 2 - 1
    assert torch.equal(yardstick.classifier(x), classifier(x))
    reference = yardstick.references
    assert {split: r.statistics.n for split, r in reference.items()} == {
        split: data[split]["n"] for split in ("train", "test")
    }
    # features vary by 1 on average; both splits are the same kind of pictures
    assert reference["train"].statistics.covariance.diagonal().mean() == pytest.approx(1, abs=0.01)
    assert frechet_between(reference["train"].statistics, reference["test"].statistics) < 0.5


def test_the_bundled_diffusion_model_draws_digits_that_are_recognised() -> None:
    about, file = zoo.card("mnist-unet"), zoo.FOLDER / "mnist-unet.safetensors"
    assert file.stat().st_size == about["bytes"] <= 4_000_000
    assert about["metrics"]["accuracy"][0] >= 0.97
    labels = torch.arange(80) % 10
    pictures = generate(zoo.load("mnist-unet"), labels, steps=15, guidance=2.0, seed=1, device="cpu")
    found = evaluate(pictures, labels, zoo.yardstick("mnist"))
    assert found["accuracy"]["value"] >= 0.95  # of 80 samples a few may be odd


def test_digits_test_split_again() -> None:
    """Accuracy, data and reference are those of the card."""
    test, yardstick = load_dataset("digits", "test"), zoo.yardstick("digits")
    classifier, about = yardstick.classifier, zoo.card("digits-classifier")
    assert cards.provenance(test) == about["data"]["test"]
    found = accuracy(classifier, test)
    assert found >= 0.99
    assert found == pytest.approx(about["metrics"]["test_accuracy"], abs=0.003)
    features, _ = features_and_classes(classifier, test.images)
    stored = yardstick.references["test"]
    torch.testing.assert_close(features.double().mean(0), stored.statistics.mean, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(features.double().T.cov(), stored.statistics.covariance, atol=1e-2, rtol=1e-2)
    nearest = torch.cdist(stored.sample, features).min(1).values
    assert nearest.max() < 0.02  # the stored sample is of these pictures, to half precision


@pytest.mark.slow
def test_mnist_test_split_again(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFUSION_LESSONS_DATA", str(shared_data))
    test, about = load_dataset("mnist", "test"), zoo.card("mnist-classifier")
    assert cards.provenance(test) == about["data"]["test"]
    found = accuracy(zoo.load("mnist-classifier"), test)
    assert found >= 0.99
    assert found == pytest.approx(about["metrics"]["test_accuracy"], abs=5e-4)


def test_a_changed_or_truncated_file_is_refused(copy: Path) -> None:
    file = copy / "digits-classifier.safetensors"
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[-1] ^= 1
    for damaged in (bytes(flipped), whole[:1000], b""):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"is damaged.*rebuild it with `python -m") as error:
            zoo.load("digits-classifier", copy)
        assert "\n" not in str(error.value)
    file.unlink()
    with pytest.raises(ValueError, match=r"cannot read .*digits-classifier.safetensors .*restore"):
        zoo.load("digits-classifier", copy)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"kind": "classifier"', '{"kind": ["a"]}'])
def test_a_damaged_card_is_refused(copy: Path, text: str) -> None:
    (copy / "digits-classifier.json").write_text(text)
    with pytest.raises(ValueError, match=r"digits-classifier.json is damaged: restore"):
        zoo.load("digits-classifier", copy)


def test_a_foreign_file_with_the_right_hash_is_refused(copy: Path) -> None:
    from safetensors.torch import save

    foreign = save({"x": torch.zeros(3)})
    (copy / "digits-classifier.safetensors").write_bytes(foreign)
    about = zoo.card("digits-classifier", copy) | {"sha256": hashlib.sha256(foreign).hexdigest()}
    (copy / "digits-classifier.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match="none that diffusion-lessons wrote"):
        zoo.load("digits-classifier", copy)


def test_unknown_names_get_the_nearest_right_one() -> None:
    with pytest.raises(ValueError, match="did you mean 'mnist-classifier'"):
        zoo.load("mnist-clasifier")
    with pytest.raises(ValueError, match="unknown zoo model"):
        zoo.card("../x")
    with pytest.raises(ValueError, match=r"unknown yardstick 'minst'.*did you mean 'mnist'"):
        zoo.yardstick("minst")
    with pytest.raises(ValueError, match=r"unknown yardstick 'mnist-noisy': expected one of digits, mnist"):
        zoo.yardstick("mnist-noisy")


def test_models_open_by_file_by_folder_and_by_name(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "model.safetensors", tiny())
    for name in (tmp_path, tmp_path / "model.safetensors"):
        assert zoo.open_model(str(name)).shape == (1, 8, 8)
    assert zoo.open_model("mnist-unet").shape == (1, 32, 32)
    for name in ("mnist-classifier", "nothing"):
        with pytest.raises(ValueError, match=rf"no checkpoint '{name}': expected .* \(mnist-unet, "):
            zoo.open_model(name)
    with pytest.raises(ValueError, match="cannot read the checkpoint"):
        zoo.open_model(str(tmp_path / "none.safetensors"))


def test_the_shelf_knows_nothing_of_the_factory() -> None:
    code = """import sys
from diffusion_lessons import zoo
for name in zoo.names():
    zoo.load(name)
zoo.yardstick("digits")
rooms = ("diffusion_lessons.makers", "diffusion_lessons.training")
found = [name for name in sys.modules if name.startswith(rooms)]
assert not found, found
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_diffusion_models_come_as_checkpoints(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "tiny.safetensors", tiny(), torch.float16)
    cards.write_card("tiny", tmp_path, {"kind": "diffusion", "title": "a small one"})
    loaded = zoo.load("tiny", tmp_path)
    assert isinstance(loaded, Checkpoint)
    assert loaded.shape == (1, 8, 8)
    assert zoo.names(tmp_path) == ["tiny"]


def test_the_zoo_is_cheap_to_import() -> None:
    """Names and cards need nothing of the project but the errors."""
    code = """import sys, diffusion_lessons
known = set(sys.modules)
from diffusion_lessons import zoo
zoo.card(zoo.names()[0])
more = set(sys.modules) - known - {"diffusion_lessons.zoo", "diffusion_lessons.support.errors"}
assert not more, more
"""
    subprocess.run([sys.executable, "-c", code], check=True)
