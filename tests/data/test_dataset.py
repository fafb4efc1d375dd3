import pytest
import torch

from diffusion_lessons.data import Dataset, to_float, to_uint8


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
        assert torch.equal(x.cpu(), data.batch(index)[0])


IMAGES, LABELS, CLASSES = torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 1]), ("a", "b")


@pytest.mark.parametrize(
    ("images", "labels", "classes", "message"),
    [
        (IMAGES.float(), LABELS, CLASSES, "uint8"),
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
