import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from diffusion_lessons import zoo
from diffusion_lessons.data import Dataset, load_dataset, to_float
from diffusion_lessons.metrics import evaluate, features_and_classes
from diffusion_lessons.networks.classifier import Classifier, ClassifierConfig

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
    return evaluate(*real, features="digits")


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
    result = evaluate(noise, torch.arange(500) % 10, "digits")
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
    noisy = evaluate(x + 0.3 * torch.randn(x.shape, generator=generator), labels, "digits")
    blurred = evaluate(torch.nn.functional.avg_pool2d(x, 3, 1, 1), labels, "digits")
    for damaged in (noisy, blurred):
        assert value(damaged, "accuracy") > 0.97
        assert value(damaged, "frechet") > 2 * value(measured, "frechet")
        assert value(damaged, "precision") < value(measured, "precision")


def test_one_class_alone_has_precision_without_recall() -> None:
    train = load_dataset("digits", "train")
    ones = train.images[train.labels == 1]
    result = evaluate(ones, features="digits")
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
    for same in (
        evaluate(to_float(x), labels, "digits"),
        evaluate(x[:, 0].numpy(), labels.numpy(), "digits"),
    ):
        for key in FIGURES:
            assert same[key] == pytest.approx(measured[key], abs=1e-5)


def test_blind_to_order(real: tuple[Tensor, Tensor], measured: dict[str, Any]) -> None:
    order = torch.randperm(500, generator=torch.Generator().manual_seed(1))
    shuffled = evaluate(real[0][order], real[1][order], "digits")
    for key in FIGURES:
        assert value(shuffled, key) == pytest.approx(value(measured, key), abs=1e-4)


def test_reference_can_be_the_train_split(real: tuple[Tensor, Tensor], measured: dict[str, Any]) -> None:
    result = evaluate(*real, features="digits", reference="train")
    assert result["reference"] == {"split": "train", "n": 1442, "sample": 1442}
    assert value(result, "frechet") < value(measured, "frechet")


def test_error_of_the_distance_is_its_spread_over_draws() -> None:
    """Where the labels are chosen, drawing them too would make it several times too large."""
    train, classifier = load_dataset("digits", "train"), zoo.load("digits-classifier")
    by_class = [(train.labels == c).nonzero()[:, 0] for c in range(10)]
    generator = torch.Generator().manual_seed(0)
    distances, errors = [], []
    for _ in range(8):
        index = torch.cat([c[torch.randint(len(c), (20,), generator=generator)] for c in by_class])
        noisy = to_float(train.images[index]) + 0.4 * torch.randn(200, 1, 16, 16, generator=generator)
        result = evaluate(noisy, train.labels[index], classifier)
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
        evaluate(samples, features="digits")


def test_bad_labels_are_refused(real: tuple[Tensor, Tensor]) -> None:
    x, labels = real
    for bad, message in [
        (labels[:-1], r"shape \(500,\).*\(499,\)"),
        (labels.float(), "whole numbers"),
        (labels + 1, "0 to 9, got 10"),
        (labels - 1, "got -1"),
    ]:
        with pytest.raises(ValueError, match=message):
            evaluate(x, bad, "digits")


def test_unknown_names_get_the_nearest_right_one(real: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(ValueError, match=r"unknown features 'minst'.*did you mean 'mnist'"):
        evaluate(real[0], features="minst")
    with pytest.raises(ValueError, match=r"unknown reference split 'tset'.*did you mean 'test'"):
        evaluate(real[0], features="digits", reference="tset")
    with pytest.raises(ValueError, match="no reference"):
        evaluate(real[0], features=Classifier(ClassifierConfig()))
    with pytest.raises(ValueError, match="name or a Classifier, got int"):
        evaluate(real[0], features=3)  # type: ignore[arg-type]


@pytest.mark.slow
def test_real_mnist(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFUSION_LESSONS_DATA", str(shared_data))
    result = evaluate(*balanced(load_dataset("mnist", "train"), 1000), features="mnist")
    assert result["reference"] == {"split": "test", "n": 10_000, "sample": 2000}
    assert value(result, "frechet") < 1
    assert abs(value(result, "kernel")) < 0.02
    assert min(value(result, key) for key in ("precision", "recall")) > 0.8
    assert value(result, "accuracy") > 0.99
