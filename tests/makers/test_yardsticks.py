"""A yardstick for data without a bundled one: trained once, kept, and refused where it could not measure."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from diffusion_lessons import zoo
from diffusion_lessons.data import Dataset
from diffusion_lessons.makers import yardsticks
from diffusion_lessons.makers.yardsticks import make_yardstick, yardstick_for, yardstick_from
from diffusion_lessons.metrics import Yardstick, evaluate


def blocks(split: str = "train", n: int = 120, classes: int = 3, channels: int = 1) -> Dataset:
    """Pictures of 8×8 whose class is the place of a bright block."""
    generator = torch.Generator().manual_seed(len(split))
    images = torch.randint(0, 90, (n, channels, 8, 8), generator=generator, dtype=torch.uint8)
    labels = torch.arange(n) % classes
    for image, label in zip(images, labels.tolist(), strict=True):
        image[:, 2 * label : 2 * label + 3] += 150
    return Dataset("blocks", images, labels, tuple("abc"[:classes]))


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Dataset]:
    """A data set "blocks", and a data folder of its own."""
    splits = {"train": blocks(), "test": blocks("test", 90)}
    monkeypatch.setenv("DIFFUSION_LESSONS_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(yardsticks, "load_dataset", lambda name, split, size: splits[split])
    monkeypatch.setattr(yardsticks, "STEPS", 40)
    return splits


def kept(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "data" / "yardsticks").glob("*"))


def test_a_yardstick_is_trained_once_and_kept(
    data: dict[str, Dataset], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_yardstick("folder:x/blocks")
    out, err = capsys.readouterr()
    assert not out  # the last line of --json stands alone
    assert "training a classifier" in err
    assert "recognises 100.0% of 90 test pictures of folder:x/blocks" in err
    (file,) = kept(tmp_path)
    before = file.read_bytes()
    again = make_yardstick("folder:y/blocks")  # the same pictures somewhere else
    said = capsys.readouterr().err
    assert "training a classifier" not in said
    assert "recognises 100.0%" in said
    assert file.read_bytes() == before

    assert (made.name, again.name) == ("folder:x/blocks", "folder:y/blocks")
    assert {split: r.statistics.n for split, r in made.references.items()} == {"train": 120, "test": 90}
    real, noise = data["train"], torch.randint(0, 256, (100, 1, 8, 8), dtype=torch.uint8)
    good, bad = evaluate(real.images, real.labels, made), evaluate(noise, None, again)
    assert good["accuracy"]["value"] > 0.95
    assert good["frechet"]["value"] < bad["frechet"]["value"] / 3


def test_a_damaged_one_is_made_anew_and_other_pictures_have_their_own(
    data: dict[str, Dataset], tmp_path: Path
) -> None:
    make_yardstick("blocks")
    (file,) = kept(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(whole[:500])
    make_yardstick("blocks")
    assert file.read_bytes() == whole
    data["test"] = blocks("another", 90)
    make_yardstick("blocks")
    assert len(kept(tmp_path)) == 2


def test_a_folder_that_cannot_be_written_costs_only_the_next_time(
    data: dict[str, Dataset], tmp_path: Path
) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.warns(RuntimeWarning, match="the yardstick is not kept: cannot write"):
        assert make_yardstick("blocks").references


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": blocks(classes=1)}, "its train split has 1 of them"),
        ({"test": Dataset("plain", blocks().images)}, "its test split has 0 of them"),
        ({"test": blocks("test", 65)}, "its test split has 65 pictures, and a yardstick needs at least 66"),
        ({"train": blocks(n=30)}, "its train split has 30 pictures"),
    ],
)
def test_data_that_cannot_be_measured_are_refused(
    data: dict[str, Dataset], tmp_path: Path, change: dict[str, Dataset], message: str
) -> None:
    data.update(change)
    with pytest.raises(ValueError, match=f"blocks cannot be measured: .*{message}"):
        make_yardstick("blocks")
    assert not kept(tmp_path)


def test_the_bundled_yardstick_is_taken_where_the_size_fits(
    data: dict[str, Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert yardstick_for("digits").name == yardstick_for("digits", 16).name == "digits"
    monkeypatch.setattr(yardsticks, "make_yardstick", lambda data, size, classes: (data, size))
    assert yardstick_for("digits", 8) == ("digits", 8)
    assert yardstick_for("cifar10", 32) == ("cifar10", 32)


def test_a_classifier_of_ones_own_measures(data: dict[str, Dataset], tmp_path: Path) -> None:
    make_yardstick("blocks")
    (file,) = kept(tmp_path)
    yardstick = yardstick_for("blocks", given=str(file))
    assert yardstick.name == str(file)
    assert evaluate(data["test"].images, None, yardstick)["frechet"]["value"] < 0.01  # the test split itself
    stored = Yardstick.load(file).references["test"].statistics.mean
    torch.testing.assert_close(yardstick.references["test"].statistics.mean, stored)


def test_a_classifier_of_other_pictures_is_refused(data: dict[str, Dataset], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is of pictures \(1, 16, 16\) in 10 classes, and blocks has"):
        yardstick_from("digits-classifier", "blocks")
    with pytest.raises(ValueError, match="holds a model, not a classifier"):
        yardstick_from(str(zoo.FOLDER / "mnist-unet.safetensors"), "blocks")
    with pytest.raises(ValueError, match="cannot read"):
        yardstick_from(str(tmp_path / "none"), "blocks")
    make_yardstick("blocks")
    data.update({split: replace(each, classes=(*"abcd",)) for split, each in data.items()})
    with pytest.raises(ValueError, match=r"in 3 classes, and blocks has .* in 4"):
        yardstick_from(str(kept(tmp_path)[0]), "blocks")
