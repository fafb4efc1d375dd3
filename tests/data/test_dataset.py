import pytest
import torch
from torch import Tensor

from diffusion_lessons.data import Dataset, to_float, to_uint8
from diffusion_lessons.data.dataset import Rendered


def make(n: int = 6, channels: int = 3, classes: tuple[str, ...] = ("cat", "dog")) -> Dataset:
    images = torch.arange(n * channels * 20).remainder(256).to(torch.uint8).reshape(n, channels, 4, 5)
    return Dataset("pets", images, torch.arange(n) % 2, classes)


def test_every_byte_survives_the_way_to_floats_and_back() -> None:
    every = torch.arange(256, dtype=torch.uint8)
    x = to_float(every)
    assert x.dtype == torch.float32
    assert x[0] == -1
    assert x[255] == 1
    assert torch.equal(to_uint8(x), every)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_of_any_precision_become_bytes(dtype: torch.dtype) -> None:
    assert to_uint8(torch.tensor([-1, 0.5, 1], dtype=dtype)).tolist() == [0, 191, 255]


def test_bytes_are_rounded_and_clamped() -> None:
    step = 2 / 255
    x = torch.tensor([-7.0, -1 + 0.49 * step, -1 + 0.51 * step, 1.2])
    before = x.clone()
    assert to_uint8(x).tolist() == [0, 0, 1, 255]
    assert torch.equal(x, before)


def test_to_uint8_takes_what_a_network_returns() -> None:
    assert to_uint8(torch.ones(2, requires_grad=True)).tolist() == [255, 255]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_diverged_sample_is_no_picture(bad: float) -> None:
    with pytest.raises(ValueError, match="NaN or infinity"):
        to_uint8(torch.tensor([0.0, bad]))


def test_converting_twice_is_an_error() -> None:
    with pytest.raises(ValueError, match="takes floats"):
        to_uint8(torch.zeros(2, dtype=torch.uint8))
    with pytest.raises(ValueError, match="takes uint8"):
        to_float(torch.zeros(2))


def test_batch_has_the_pictures_that_were_asked_for() -> None:
    data = make()
    before = data.images.clone()
    x, labels = data.batch(torch.tensor([4, 1, 1]))
    assert x.dtype == torch.float32
    assert x.shape == (3, 3, 4, 5)
    assert torch.equal(to_uint8(x), data.images[[4, 1, 1]])
    assert labels.tolist() == [0, 1, 1]
    assert torch.equal(data.images, before)


@pytest.mark.parametrize("index", [torch.tensor([6]), torch.tensor([-1])])
def test_batch_refuses_positions_that_are_not_there(index: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"0\.\.5"):
        make().batch(index)


@pytest.mark.parametrize("index", [torch.tensor(1), torch.ones(6, dtype=torch.bool), torch.zeros(2)])
def test_batch_refuses_an_index_of_another_kind(index: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="int64"):
        make().batch(index)


def test_length_shape_and_text() -> None:
    data = make()
    assert len(data) == 6
    assert data.shape == (3, 4, 5)
    assert repr(data) == "Dataset('pets': 6 pictures of 3x4x5, 2 classes)"


def test_to_moves_both_and_changes_nothing() -> None:
    data = make()
    moved = data.to("cpu")
    assert torch.equal(moved.images, data.images)
    assert moved.classes == data.classes


@pytest.mark.gpu
def test_batch_is_taken_where_the_pictures_are() -> None:
    data = make()
    moved = data.to("cuda")
    index = torch.tensor([5, 0])
    for place in (index, index.cuda()):
        x, labels = moved.batch(place)
        assert x.device.type == labels.device.type == "cuda"
        torch.testing.assert_close(x.cpu(), data.batch(index)[0], rtol=0, atol=1e-6)  # CUDA rounds otherwise
        assert torch.equal(to_uint8(x).cpu(), data.images[index])


IMAGES, LABELS, CLASSES = torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 1]), ("a", "b")


@pytest.mark.parametrize(
    ("images", "labels", "classes", "message"),
    [
        (IMAGES.int(), LABELS, CLASSES, "uint8"),
        (IMAGES, None, CLASSES, "one for each picture; got none"),
        (IMAGES[0], LABELS, CLASSES, r"\(N, C, H, W\)"),
        (IMAGES.expand(2, 2, 4, 4), LABELS, CLASSES, "C = 1 or 3"),
        (IMAGES[:0], LABELS[:0], CLASSES, "at least one"),
        (IMAGES, LABELS.int(), CLASSES, "int64"),
        (IMAGES, LABELS[:1], CLASSES, r"shape \(2,\)"),
        (IMAGES, LABELS + 1, CLASSES, r"0\.\.1 for 2 classes; got 1\.\.2"),
        (IMAGES, LABELS - 1, CLASSES, r"got -1\.\.0"),
        (IMAGES, LABELS, ("a", "a"), "differ"),
        (IMAGES, LABELS, (), "at least one name"),
        (IMAGES, LABELS, ["a", "b"], "tuple"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    images: torch.Tensor, labels: torch.Tensor, classes: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Dataset("bad", images, labels, classes)


# Rows of other kinds --------------------------------------------------------------------------------


def test_rows_come_with_all_their_conditions() -> None:
    tokens = torch.arange(12).view(6, 2)
    data = Dataset("pets", make().images, make().labels, ("cat", "dog"), {"tokens": tokens})
    images, conditions = data.rows(torch.tensor([5, 0]))
    assert torch.equal(images, data.images[[5, 0]])
    assert conditions["label"].tolist() == [1, 0]
    assert conditions["tokens"].tolist() == [[10, 11], [0, 1]]


def test_a_set_may_have_no_labels_and_says_so_where_they_are_asked_for() -> None:
    data = Dataset("bare", make().images)
    assert data.rows(torch.tensor([1]))[1] == {}
    assert data.classes == ()
    with pytest.raises(ValueError, match=r"bare has no labels: take its rows by rows\(index\)"):
        data.batch(torch.tensor([0]))


def test_conditions_have_a_row_for_each_picture() -> None:
    with pytest.raises(ValueError, match="5 rows of 'tokens' for 6 pictures"):
        Dataset("pets", make().images, conditions={"tokens": torch.zeros(5, 2)})


def test_clips_and_latents_are_rows_too() -> None:
    assert Dataset("clips", torch.zeros(2, 8, 3, 4, 5, dtype=torch.uint8)).shape == (8, 3, 4, 5)
    latents = torch.randn(3, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    data = Dataset("latents", latents, torch.tensor([0, 1, 0]), ("a", "b"))
    x, _ = data.batch(torch.tensor([2]))
    assert torch.equal(x, latents[2:])  # as they are: latents have no range


def test_a_fingerprint_tells_pictures_labels_and_conditions_apart() -> None:
    data = make()
    prints = {
        data.fingerprint(),
        make(n=4).fingerprint(),
        Dataset("pets", 255 - data.images, data.labels, data.classes).fingerprint(),
        Dataset("pets", data.images, 1 - data.labels, data.classes).fingerprint(),
        Dataset("pets", data.images, data.labels, data.classes, {"t": torch.ones(6)}).fingerprint(),
        Dataset("pets", data.images, data.labels, data.classes, {"t": torch.zeros(6)}).fingerprint(),
    }
    assert len(prints) == 6
    assert make().fingerprint() == data.fingerprint() == "6x3x4x5 8fa039dd"  # runs of before go on


def stripes(seed: int, index: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    shade = ((index * 37 + seed) % 256).to(torch.uint8)
    return shade.view(-1, 1, 1, 1).expand(-1, 1, 4, 4), {"label": index % 2}


def test_rendered_rows_are_a_function_of_seed_and_place() -> None:
    rows = Rendered("stripes", (1, 4, 4), stripes, seed=1, classes=("a", "b"))
    images, conditions = rows.rows(torch.tensor([10**9, 3]))
    assert torch.equal(images[1], rows.rows(torch.tensor([3]))[0][0])
    assert conditions["label"].tolist() == [0, 1]
    assert rows.length is None
    assert rows.fingerprint() != Rendered("stripes", (1, 4, 4), stripes, seed=2).fingerprint()
    with pytest.raises(ValueError, match=r"stripes says that a row has shape \(3, 4, 4\)"):
        Rendered("stripes", (3, 4, 4), stripes).rows(torch.tensor([0]))
