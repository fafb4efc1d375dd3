"""The reader is measured before anything is measured with it; its card is the recorded `reader-accuracy`."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from diffusion_lessons.data.captions import Wanted, Wish, plain, wishes
from diffusion_lessons.data.scenes import draw
from diffusion_lessons.experiments.reader_accuracy import DAMAGES, tally
from diffusion_lessons.metrics.captions_met import captions_met, met
from diffusion_lessons.metrics.reader import Seen, read_scenes

N = 256


@pytest.mark.parametrize("split", ["train", "held-out"])
@pytest.mark.parametrize("size", [64, 128])
def test_clean_pictures_are_read_without_an_error(size: int, split: str) -> None:
    scenes = draw(1, torch.arange(N), split)
    assert tally(scenes.render(size), scenes) == {"right": N, "refused": 0, "wrong": 0}


@pytest.mark.parametrize("damage", list(DAMAGES)[1:])
def test_spoilt_pictures_are_read_or_refused(damage: str) -> None:
    scenes = draw(1, torch.arange(N))
    found = tally(DAMAGES[damage](scenes.render(64)), scenes)
    assert found["right"] >= 0.99 * N
    assert found["wrong"] == 0


def test_small_pictures_are_read_or_refused() -> None:
    scenes = draw(1, torch.arange(N))
    found = tally(scenes.render(32), scenes)
    assert found["right"] >= 0.99 * N
    assert found["wrong"] == 0
    found = tally(DAMAGES["jpeg"](scenes.render(32)), scenes)
    assert found["right"] >= 0.85 * N
    assert found["wrong"] <= 0.02 * N


def test_what_stands_where_is_read() -> None:
    scenes = draw(4, torch.arange(50))
    for row, seen in enumerate(read_scenes(scenes.render(64))):
        assert seen is not None
        places = scenes.place[row][scenes.present[row]]
        found = torch.tensor([[each.x, each.y] for each in seen])
        assert torch.cdist(places, found).min(1).values.max() < 0.5


@pytest.mark.parametrize("kind", ["noise", "half", "smear", "grey blob"])
def test_the_reader_does_not_guess(kind: str) -> None:
    scenes = draw(0, torch.arange(40))
    picture = scenes.render(64)
    if kind == "noise":
        picture = torch.randint(0, 256, picture.shape, generator=torch.Generator().manual_seed(0)).byte()
    elif kind == "half":  # every picture ends in the middle of an object
        for row in range(40):
            x = int(scenes.place[row, 0, 0])
            picture[row, :, :, x:] = scenes.ground[row]
    elif kind == "smear":
        picture = torch.from_numpy(
            ndimage.uniform_filter(picture.numpy().astype(np.float32), (0, 0, 1, 25))
        ).byte()
    else:
        picture[:] = 230
        picture[:, :, 20:40, 20:40] = 120
    assert all(each is None for each in read_scenes(picture))


def test_a_swapped_turned_or_missing_object_is_told() -> None:
    red, blue = Seen("circle", "red", "small", 10, 30), Seen("square", "blue", "large", 50, 30)
    wish = Wish((Wanted("circle", "red", "small"), Wanted("square", "blue", "large")), "left of")
    assert met(wish, (blue, red)).everything
    assert not met(wish, (red,)).number
    assert not met(wish, None).readable
    turned = met(Wish(wish.objects, "right of"), (red, blue))
    assert turned.objects
    assert turned.sizes
    assert not turned.relation
    swapped = met(wish, (Seen("circle", "blue", "small", 10, 30), Seen("square", "red", "large", 50, 30)))
    assert (swapped.colours, swapped.shapes, swapped.objects, swapped.everything) == (
        True,
        True,
        False,
        False,
    )
    above = met(Wish(wish.objects, "above"), (red, Seen("square", "blue", "large", 50, 40)))
    assert not above.relation  # it is further to the left than above
    assert met(
        Wish((Wanted("circle"), Wanted("square")), None), (red, blue)
    ).everything  # any colour, any size


def test_captions_met_counts_each_attribute() -> None:
    scenes = draw(7, torch.arange(60))
    texts = [plain(wish) for wish in wishes(scenes)]
    shares = captions_met(scenes.render(64), texts)
    assert {name: share for name, (share, _) in shares.items()} == dict.fromkeys(shares, 1.0)
    low, high = shares["everything"][1]
    assert 0.9 < low < high
    turned = captions_met(scenes.render(64), texts[1:] + texts[:1])
    assert turned["readable"][0] == 1
    assert turned["everything"][0] < 0.1


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match=r"uint8 \(B, 3, S, S\)"):
        read_scenes(torch.zeros(1, 3, 64, 64))
    with pytest.raises(ValueError, match="square"):
        read_scenes(torch.zeros(1, 3, 64, 32, dtype=torch.uint8))
    with pytest.raises(ValueError, match="1 captions for 2 pictures"):
        captions_met(torch.zeros(2, 3, 64, 64, dtype=torch.uint8), ["a circle"])
