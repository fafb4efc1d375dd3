import hashlib
import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from diffusion_lessons import zoo
from diffusion_lessons.data import load_dataset
from diffusion_lessons.generate import generate
from diffusion_lessons.makers import build, cards
from diffusion_lessons.makers.augment import blurred, move, spoil
from diffusion_lessons.makers.classifiers import ClassifierRecipe, accuracy, normalise_features
from diffusion_lessons.metrics import evaluate, features_and_classes, frechet_between
from diffusion_lessons.networks.classifier import Classifier, ClassifierConfig

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
    assert about["rebuild"] == f"python -m diffusion_lessons.makers.build {name}"
    assert name in build.BUILDERS
    assert {"title", "data", "recipe", "metrics", "hardware", "versions", "licence"} <= about.keys()
    classifier = zoo.load(name)
    assert not classifier.training
    assert all(p.dtype == torch.float32 for p in classifier.parameters())
    reference, data = classifier.reference, about["data"]
    assert {split: r.statistics.n for split, r in reference.items()} == {
        split: data[split]["n"] for split in ("train", "test")
    }
    # features vary by 1 on average; both splits are the same kind of pictures
    assert reference["train"].statistics.covariance.diagonal().mean() == pytest.approx(1, abs=0.01)
    assert frechet_between(reference["train"].statistics, reference["test"].statistics) < 0.5


def test_mnist_is_recognised_as_the_card_says() -> None:
    assert zoo.card("mnist-classifier")["metrics"]["test_accuracy"] >= 0.99


def test_the_bundled_diffusion_model_draws_digits_that_are_recognised() -> None:
    about, file = zoo.card("mnist-unet"), zoo.FOLDER / "mnist-unet.safetensors"
    assert file.stat().st_size == about["bytes"] <= 4_000_000
    assert about["metrics"]["accuracy"][0] >= 0.97
    labels = torch.arange(80) % 10
    pictures = generate(zoo.load("mnist-unet"), labels, steps=15, guidance=2.0, seed=1, device="cpu")
    found = evaluate(pictures, labels, "mnist")
    assert found["accuracy"]["value"] >= 0.95  # of 80 samples a few may be odd


def test_digits_test_split_again() -> None:
    """Accuracy, data and reference are those of the card."""
    test, classifier = load_dataset("digits", "test"), zoo.load("digits-classifier")
    about = zoo.card("digits-classifier")
    assert cards.provenance(test) == about["data"]["test"]
    assert accuracy(classifier, test) == pytest.approx(about["metrics"]["test_accuracy"], abs=0.003)
    features, _ = features_and_classes(classifier, test.images)
    stored = classifier.reference["test"]
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


def test_diffusion_models_come_as_checkpoints(tmp_path: Path) -> None:
    from diffusion_lessons import DiscreteVP, V, cosine_betas
    from diffusion_lessons.checkpoint import Checkpoint, save_checkpoint
    from diffusion_lessons.networks import UNet, UNetConfig

    network = UNet(UNetConfig(base_channels=8, channel_mults=(1,), attention_levels=()))
    model = Checkpoint(network, DiscreteVP(cosine_betas(10)), V, (), (1, 8, 8))
    save_checkpoint(tmp_path / "tiny.safetensors", model, torch.float16)
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


# Building --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_short_build_makes_what_can_be_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = ClassifierRecipe("digits", epochs=2)
    monkeypatch.setitem(build.BUILDERS, "digits-classifier", partial(build.build_classifier, recipe))
    random_state = torch.random.get_rng_state()
    assert build.main(["digits-classifier", "--out", str(tmp_path)]) == 0
    assert torch.equal(torch.random.get_rng_state(), random_state)
    about, classifier = zoo.card("digits-classifier", tmp_path), zoo.load("digits-classifier", tmp_path)
    test = load_dataset("digits", "test")
    assert accuracy(classifier, test) == pytest.approx(about["metrics"]["test_accuracy"], abs=1e-4)
    assert about["metrics"]["test_accuracy"] > 0.3
    assert [entry["n"] for entry in about["metrics"]["floor_of_real_train_pictures"]] == [100, 500, 1000]
    assert about["recipe"]["epochs"] == 2
    assert "test accuracy 0." in capsys.readouterr().out


def test_unknown_builders_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert build.main(["mnist-clasifier"]) == 2
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


def test_moving_pictures(generator: torch.Generator) -> None:
    x = torch.full((50, 1, 16, 16), -1.0)
    x[:, :, 5:11, 5:11] = 1
    torch.testing.assert_close(move(x, generator, 0, 0, 0), x)
    moved = move(x, generator)
    assert moved.min() >= -1
    assert moved.max() <= 1
    columns = torch.arange(16.0).expand(16, 16) - 7.5
    weights = (moved + 1) / (moved + 1).sum((2, 3), keepdim=True)
    centres = (weights * columns).sum((1, 2, 3))
    assert 0.8 < centres.abs().max() < 1.5  # a 16th of the side is one pixel
    assert centres.unique().numel() > 40


def test_pictures_turn_by_at_most_the_angle(generator: torch.Generator) -> None:
    bar = torch.full((200, 1, 32, 32), -1.0)
    bar[:, :, 14:18, 4:28] = 1
    weights = (move(bar, generator, degrees=10, zoom=0, shift=0) + 1).squeeze(1)  # (B, H, W)
    across, down = torch.meshgrid(torch.arange(32.0) - 15.5, torch.arange(32.0) - 15.5, indexing="xy")
    mixed, wide, high = ((weights * m).sum((1, 2)) for m in (across * down, across**2, down**2))
    angles = torch.rad2deg(0.5 * torch.atan2(2 * mixed, wide - high))
    assert 9 < angles.max() < 10.5
    assert -10.5 < angles.min() < -9


def test_spoilt_pictures_say_by_how_much(generator: torch.Generator) -> None:
    x = torch.zeros(2000, 1, 8, 8)
    x[:, :, 2:6, 2:6] = 0.5
    seen, amounts = spoil(x, generator)
    noise, blur = amounts.T
    clean = (noise == 0) & (blur == 0)
    assert clean.float().mean() == pytest.approx(0.5, abs=0.04)
    assert (blur > 0).float().mean() == pytest.approx(0.25, abs=0.04)
    assert torch.equal(seen[clean], x[clean])
    only_noise = (noise > 0.2) & (blur == 0)
    measured = (seen - x)[only_noise].std((1, 2, 3))
    torch.testing.assert_close(measured, 0.5 * noise[only_noise], rtol=0.35, atol=0.03)


def test_blur_keeps_the_light_and_the_channels_apart() -> None:
    x = torch.full((1, 2, 7, 7), -1.0)
    x[0, 1, 3, 3] = 1
    smooth = blurred(x)
    assert (smooth[0, 0] == -1).all()
    assert smooth[0, 1, 3, 3] == pytest.approx(2 / 4 - 1)
    assert (smooth + 1).sum() == pytest.approx(2)
