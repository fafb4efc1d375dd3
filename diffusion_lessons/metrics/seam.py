"""The seam of a filled hole: how far pictures jump from what was known to what was painted."""

from torch import Tensor


def seam(pictures: Tensor, masks: Tensor) -> Tensor:
    """The mean |difference| of neighbouring pixels of which one is known and one painted: (B,).

    Pictures (B, C, H, W) as float; masks (B, 1, H, W), 1 where painted. Neighbours are beside or below each
    other; all such pairs and all channels count alike. 0 where a mask has no border. Other shapes are a
    ValueError. What real pictures jump at the same place has to be told beside it: they have edges, too.
    """
    if masks.shape != (len(pictures), 1, *pictures.shape[2:]):
        shapes = f"{tuple(masks.shape)} for {tuple(pictures.shape)}"
        raise ValueError(f"one mask (1, H, W) a picture, got {shapes}")
    jumps, pairs = pictures.new_zeros(len(pictures)), pictures.new_zeros(len(pictures))
    for axis in (2, 3):
        border = masks.diff(dim=axis).abs()  # 1 between two pixels of which one is painted
        jumps = jumps + (pictures.diff(dim=axis).abs().mean(1, keepdim=True) * border).sum((1, 2, 3))
        pairs = pairs + border.sum((1, 2, 3)).to(pairs)
    return jumps / pairs.clamp(min=1)
