import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from diffusion_lessons import zoo
from diffusion_lessons.data import Dataset, load_dataset, to_float
from diffusion_lessons.metrics import Yardstick, evaluate, features_and_classes
from diffusion_lessons.metrics.evaluate import TOLERANCE

DIGITS = zoo.yardstick("digits")
FIGURES = ("frechet", "kernel", "precision", "recall", "accuracy")


def balanced(dataset: Dataset, n: int) -> tuple[Tensor, Tensor]:
    """The first n pictures, as many of each class."""
    per_class = n // len(dataset.classes)
    index = torch.cat([(dataset.labels == c).nonzero()[:per_class, 0] for c in range(len(dataset.classes))])
    return dataset.images[index], dataset.labels[index]


@pytest.fixture(scope="module")
def real() -> tuple[Tensor, Tensor]:
    return balanced(load_dataset("digits", "train"), 500)


@pytest.fixture(scope="module")
def measured(real: tuple[Tensor, Tensor]) -> dict[str, Any]:
    return evaluate(*real, DIGITS)


def value(result: dict[str, Any], key: str) -> float:
    return float(result[key]["value"])


def test_real_pictures_are_nearly_perfect(measured: dict[str, Any]) -> None:
    assert value(measured, "frechet") < 1
    assert abs(value(measured, "kernel")) < 0.1
    assert value(measured, "precision") > 0.85
    assert value(measured, "recall") > 0.75
    assert value(measured, "accuracy") == 1


def test_noise_is_terrible(generator: torch.Generator) -> None:
    noise = torch.randn(500, 1, 16, 16, generator=generator).clamp(-1, 1)
    result = evaluate(noise, torch.arange(500) % 10, DIGITS)
    assert value(result, "frechet") > 15
    assert value(result, "kernel") > 0.5
    assert value(result, "precision") < 0.1
    assert value(result, "recall") < 0.05
    assert value(result, "accuracy") < 0.25


def test_damage_counts_before_the_class_is_lost(
    real: tuple[Tensor, Tensor], measured: dict[str, Any], generator: torch.Generator
) -> None:
    """Left-over noise and blur, the faults of bad sampling, leave the class plain to see."""
    x, labels = to_float(real[0]), real[1]
    noisy = x + 0.3 * torch.randn(x.shape, generator=generator)
    noisy = evaluate(noisy.clamp(-1, 1), labels, DIGITS)
    blurred = evaluate(torch.nn.functional.avg_pool2d(x, 3, 1, 1), labels, DIGITS)
    for damaged in (noisy, blurred):
        assert value(damaged, "accuracy") > 0.97
        assert value(damaged, "frechet") > 2 * value(measured, "frechet")
        assert value(damaged, "precision") < value(measured, "precision")


def test_one_class_alone_has_precision_without_recall() -> None:
    train = load_dataset("digits", "train")
    ones = train.images[train.labels == 1]
    result = evaluate(ones, yardstick=DIGITS)
    assert value(result, "precision") > 0.8
    assert value(result, "recall") < 0.25
    assert result["accuracy"] is None


def test_every_figure_has_its_uncertainty_and_n(measured: dict[str, Any]) -> None:
    assert measured["n"] == 500
    assert measured["features"] == "digits"
    assert measured["reference"] == {"split": "test", "n": 355, "sample": 355}
    for key in FIGURES:
        assert set(measured[key]) == {"value", "uncertainty"}
        assert 0 < measured[key]["uncertainty"] < 1
    assert json.loads(json.dumps(measured, allow_nan=False)) == measured


def test_bytes_floats_and_arrays_are_the_same_pictures(
    real: tuple[Tensor, Tensor], measured: dict[str, Any]
) -> None:
    x, labels = real
    for same in (evaluate(to_float(x), labels, DIGITS), evaluate(x[:, 0].numpy(), labels.numpy(), DIGITS)):
        for key in FIGURES:
            assert same[key] == pytest.approx(measured[key], abs=1e-5)


def test_blind_to_order(real: tuple[Tensor, Tensor], measured: dict[str, Any]) -> None:
    order = torch.randperm(500, generator=torch.Generator().manual_seed(1))
    shuffled = evaluate(real[0][order], real[1][order], DIGITS)
    for key in FIGURES:
        assert value(shuffled, key) == pytest.approx(value(measured, key), abs=1e-4)


def test_reference_can_be_the_train_split(real: tuple[Tensor, Tensor], measured: dict[str, Any]) -> None:
    result = evaluate(*real, DIGITS, reference="train")
    assert result["reference"] == {"split": "train", "n": 1442, "sample": 1442}
    assert value(result, "frechet") < value(measured, "frechet")


def test_error_of_the_distance_is_its_spread_over_draws() -> None:
    """Where the labels are chosen, drawing them too would make it several times too large."""
    train = load_dataset("digits", "train")
    by_class = [(train.labels == c).nonzero()[:, 0] for c in range(10)]
    generator = torch.Generator().manual_seed(0)
    distances, errors = [], []
    for _ in range(8):
        index = torch.cat([c[torch.randint(len(c), (20,), generator=generator)] for c in by_class])
        noisy = to_float(train.images[index]) + 0.4 * torch.randn(200, 1, 16, 16, generator=generator)
        result = evaluate(noisy.clamp(-1, 1), train.labels[index], DIGITS)
        distances.append(value(result, "frechet"))
        errors.append(result["frechet"]["uncertainty"])
    spread, error = torch.tensor(distances).std(), torch.tensor(errors).mean()
    assert 0.4 < error / spread < 2.5


def test_features_do_not_depend_on_the_batch(real: tuple[Tensor, Tensor]) -> None:
    classifier = zoo.load("digits-classifier")
    features, classes = features_and_classes(classifier, real[0][:7])
    logits = classifier(to_float(real[0][:7]))
    torch.testing.assert_close(features, classifier.features(to_float(real[0][:7])))
    assert torch.equal(classes, logits.argmax(1))


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (torch.zeros(65, 1, 16, 16, dtype=torch.uint8), "n = 65 is too few.*at least 66"),
        (torch.zeros(0, 1, 16, 16, dtype=torch.uint8), "n = 0 is too few"),
        (torch.zeros(100, 1, 28, 28, dtype=torch.uint8), r"shape \(1, 16, 16\), got.*\(100, 1, 28, 28\)"),
        (torch.zeros(100, 3, 16, 16, dtype=torch.uint8), r"got.*\(100, 3, 16, 16\)"),
        (torch.zeros(100, 16, dtype=torch.uint8), r"got.*\(100, 16\)"),
        (torch.full((100, 1, 16, 16), float("nan")), "NaN"),
        (torch.rand(100, 1, 16, 16) * 255 - 1, "pass uint8 for 0 to 255"),
        (torch.rand(100, 1, 16, 16), r"2·x − 1 for 0 to 1"),
        (torch.zeros(100, 1, 16, 16, dtype=torch.int64), "uint8 or floats.*int64"),
    ],
)
def test_bad_samples_are_refused(samples: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(samples, yardstick=DIGITS)


def test_bad_labels_are_refused(real: tuple[Tensor, Tensor]) -> None:
    x, labels = real
    for bad, message in [
        (labels[:-1], r"shape \(500,\).*\(499,\)"),
        (labels.float(), "whole numbers"),
        (labels + 1, "0 to 9, got 10"),
        (labels - 1, "got -1"),
    ]:
        with pytest.raises(ValueError, match=message):
            evaluate(x, bad, DIGITS)


def test_only_a_yardstick_with_that_split_measures(real: tuple[Tensor, Tensor]) -> None:
    for other in ("digits", None, DIGITS.classifier):
        with pytest.raises(ValueError, match=r"measured by a Yardstick, got \w+: hand over zoo\.yardstick"):
            evaluate(real[0], yardstick=other)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"unknown reference split 'tset'.*did you mean 'test'"):
        evaluate(real[0], yardstick=DIGITS, reference="tset")
    with pytest.raises(ValueError, match="unknown reference split 'test'"):
        evaluate(real[0], yardstick=Yardstick(DIGITS.classifier, {}))


def test_floats_a_little_outside_count_as_clamped_and_others_are_refused(real: tuple[Tensor, Tensor]) -> None:
    x, labels = to_float(real[0]), real[1]
    outside = x.clone()
    outside[x == 1] += TOLERANCE
    outside[x == -1] -= TOLERANCE
    assert evaluate(outside, labels, DIGITS) == evaluate(x, labels, DIGITS)
    for side in (1, -1):
        with pytest.raises(ValueError, match=r"at most 0\.5 beyond, got .* or clamp them"):
            evaluate((x + side * (TOLERANCE + 0.01)), labels, DIGITS)


def test_a_yardstick_of_ones_own(
    tmp_path: Path, real: tuple[Tensor, Tensor], measured: dict[str, Any]
) -> None:
    """The same measurement from pictures, from the file and from the shelf."""
    splits = {split: load_dataset("digits", split) for split in ("train", "test")}
    mine = Yardstick.of(zoo.load("digits-classifier"), splits, name="mine")
    mine.save(tmp_path / "mine.safetensors")
    stored = Yardstick.load(tmp_path / "mine.safetensors")
    result, again = evaluate(*real, mine), evaluate(*real, stored)
    assert (result["features"], again["features"]) == ("mine", "custom")
    assert not stored.classifier.training
    for key in FIGURES:
        assert again[key] == pytest.approx(result[key], abs=2e-3)
        assert value(result, key) == pytest.approx(value(measured, key), abs=0.05)


@pytest.mark.slow
def test_real_mnist(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFUSION_LESSONS_DATA", str(shared_data))
    result = evaluate(*balanced(load_dataset("mnist", "train"), 1000), yardstick=zoo.yardstick("mnist"))
    assert result["reference"] == {"split": "test", "n": 10_000, "sample": 2000}
    assert value(result, "frechet") < 1
    assert abs(value(result, "kernel")) < 0.02
    assert min(value(result, key) for key in ("precision", "recall")) > 0.8
    assert value(result, "accuracy") > 0.99
