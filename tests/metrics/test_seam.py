"""The jump from what is known to what is painted."""

import pytest
import torch

from diffusion_lessons.metrics.seam import seam


def test_only_pairs_on_the_border_count() -> None:
    pictures, masks = torch.zeros(2, 3, 4, 5), torch.zeros(2, 1, 4, 5)
    masks[:, :, 1:3, 2:4] = 1
    pictures[0][:, 1:3, 2:4] = 0.5  # a square that jumps by 0.5 all around
    pictures[1][:, 0, 0] = 9  # an edge elsewhere
    assert seam(pictures, masks).tolist() == [0.5, 0]
    pictures[0, 0] = 0  # two channels of three are left
    assert seam(pictures, masks)[0] == pytest.approx(1 / 3)


def test_it_is_the_mean_over_all_pairs_of_both_directions() -> None:
    mask = torch.tensor([[[[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]]])
    picture = torch.tensor([[[[1.0, 2.0, 3.0], [1.0, 0.0, 0.0]]]])
    assert seam(picture, mask).item() == pytest.approx((0 + 2 + 3) / 3)


def test_a_mask_without_a_border_has_no_seam() -> None:
    assert seam(torch.randn(1, 1, 4, 4), torch.ones(1, 1, 4, 4)).item() == 0


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="one mask"):
        seam(torch.zeros(2, 3, 4, 4), torch.zeros(1, 1, 4, 4))
