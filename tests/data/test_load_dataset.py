import subprocess
import sys
from pathlib import Path

import pytest

from diffusion_lessons.data import DATASETS, load_dataset


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("mnits", "'mnist'"),
        ("digit", "'digits'"),
        ("fashion-mnist", "'fashion_mnist'"),
        ("CIFAR10", None),
        ("cifar-10", "'cifar10'"),
        ("folder", "'folder:PATH'"),
        ("folder:", "'folder:PATH'"),
        ("", None),
    ],
)
def test_unknown_names_get_the_nearest_right_one(name: str, near: str | None) -> None:
    with pytest.raises(ValueError, match="unknown data set") as caught:
        load_dataset(name)
    assert "digits, mnist, fashion_mnist, cifar10, scenes, folder:PATH" in str(caught.value)
    if near:
        assert f"did you mean {near}?" in str(caught.value)


def test_scenes_have_no_end_to_load() -> None:
    with pytest.raises(ValueError, match=r"without end: take their rows from data\.captioned\.scene_rows"):
        load_dataset("scenes")


@pytest.mark.parametrize("name", [*DATASETS, "folder:."])
def test_bad_splits_and_sizes_are_refused_before_anything_is_read(name: str, data_dir: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown split 'tset'.*did you mean 'test'"):
        load_dataset(name, "tset")
    for size in (0, -1, 7, 513, 16.0, "16", True):
        with pytest.raises(ValueError, match=r"size must be a whole number of pixels in 8\.\.512"):
            load_dataset(name, "train", size)  # type: ignore[arg-type]
    assert not data_dir.exists()


def test_importing_stays_cheap() -> None:
    code = (
        "import sys, torch; before = set(sys.modules); import diffusion_lessons.data;"
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"sklearn", "scipy", "PIL", "pooch", "requests", "tqdm"} & set(run.stdout.split())
