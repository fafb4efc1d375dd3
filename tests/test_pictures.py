"""Grids, animations and curves hold the pictures they were given."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion_lessons.pictures import grid, save_gif, save_loss, save_png


def test_a_grid_holds_every_picture_in_reading_order() -> None:
    x = torch.stack([torch.full((1, 4, 4), value, dtype=torch.uint8) for value in (10, 20, 30, 40, 50)])
    sheet = grid(x, columns=3, gap=1, scale=2)
    assert sheet.shape == (2 * (4 + 1 + 4), 2 * (3 * 4 + 2), 3)
    assert [sheet[0, 2 * column, 0] for column in (0, 5, 10)] == [10, 20, 30]
    assert [sheet[10, 2 * column, 0] for column in (0, 5)] == [40, 50]
    assert (sheet[10:, 20:] == 255).all()  # the empty place is white


def test_floats_are_mapped_from_minus_one_to_one() -> None:
    x = torch.tensor([-1.0, 0.0, 1.0, 5.0]).view(4, 1, 1, 1).expand(4, 3, 2, 2)
    sheet = grid(x, columns=4, gap=0, scale=1)
    assert sheet[0, ::2, 1].tolist() == [0, 128, 255, 255]


@pytest.mark.parametrize("shape", [(0, 1, 4, 4), (2, 2, 4, 4), (1, 4, 4)])
def test_what_is_no_batch_of_pictures_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="a grid needs pictures"):
        grid(torch.zeros(shape))


def test_files_can_be_read_back(tmp_path: Path) -> None:
    sheets = [grid(torch.full((4, 1, 8, 8), value)) for value in (-1.0, 0.0, 1.0)]
    save_png(sheets[1], tmp_path / "one.png")
    assert (np.asarray(Image.open(tmp_path / "one.png")) == sheets[1]).all()
    save_gif(sheets, tmp_path / "walk.gif", seconds=0.3, hold=1.0)
    with Image.open(tmp_path / "walk.gif") as walk:
        assert getattr(walk, "n_frames", 1) == 3
        walk.seek(2)
        assert walk.info["duration"] == 1000
        assert np.asarray(walk.convert("RGB"))[0, 0].tolist() == [255, 255, 255]
    save_loss([1, 2, 3], [1.0, 0.5, 0.2], tmp_path / "loss.png", "Training")
    assert np.asarray(Image.open(tmp_path / "loss.png").convert("L")).std() > 5  # something is drawn
