import pytest
import torch

from diffusion_lessons.data import Dataset
from diffusion_lessons.paths import DiscreteVP
from diffusion_lessons.schedules import cosine_betas
from diffusion_lessons.training.batches import Batches, batch_index, drop_labels, seed_of, seeded


@pytest.fixture
def dataset(generator: torch.Generator) -> Dataset:
    images = torch.randint(0, 256, (50, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return Dataset("tiny", images, torch.arange(50) % 3, ("a", "b", "c"))


def batches(dataset: Dataset, batch: int = 8, class_dropout: float = 0.1) -> Batches:
    return Batches(dataset, DiscreteVP(cosine_betas()), batch, class_dropout, 0, torch.device("cpu"))


def test_each_epoch_sees_every_picture_once_in_an_order_of_its_own() -> None:
    seen = torch.cat([batch_index(seed=0, step=step, batch=8, n=50) for step in range(25)])  # 4 epochs
    epochs = seen.view(4, 50)
    assert all(epoch.sort().values.tolist() == list(range(50)) for epoch in epochs)
    assert not torch.equal(epochs[0], epochs[1])
    assert not torch.equal(epochs[0], batch_index(seed=1, step=0, batch=50, n=50))


def test_a_batch_may_be_larger_than_the_data() -> None:
    assert torch.bincount(batch_index(0, 3, 20, 5)).tolist() == [4] * 5


def test_a_step_is_a_function_of_the_seed_and_the_step_alone(dataset: Dataset) -> None:
    first, second = batches(dataset), batches(dataset)
    second(7), second(1)  # what was drawn before does not matter
    torch.rand(3)
    for a, b in zip(first(3), second(3), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(first(3)[:3], first(4)[:3], strict=True):
        assert not torch.equal(a, b)


@pytest.mark.parametrize("world", [2, 4])
def test_processes_share_the_batch_of_one(dataset: Dataset, world: int) -> None:
    whole = batches(dataset)(5)
    parts = [batches(dataset).shared(rank, world)(5) for rank in range(world)]
    for field, value in enumerate(whole):
        assert torch.equal(torch.cat([part[field] for part in parts]), value)


def test_a_batch_that_cannot_be_shared_is_refused(dataset: Dataset) -> None:
    with pytest.raises(ValueError, match="a batch of 8 cannot be shared equally by 3"):
        batches(dataset).shared(0, 3)


def test_batch_holds_pictures_noise_times_and_labels_that_belong_together(dataset: Dataset) -> None:
    draw = batches(dataset, class_dropout=0.0)
    batch, index = draw(2), batch_index(0, 2, 8, 50)
    torch.testing.assert_close(batch.x0, dataset.images[index].float() / 127.5 - 1)
    assert torch.equal(batch.labels, dataset.labels[index])
    assert batch.noise.shape == batch.x0.shape
    assert batch.t.dtype == torch.float64
    assert ((batch.t >= 1) & (batch.t <= 1000)).all()
    strata = (batch.t - 1) * 8 / 1000
    assert strata.floor().tolist() == list(range(8))  # one time from each eighth
    assert len(draw(2, most=3).x0) == len(draw(2, most=3).t) == len(draw(2, most=3).labels) == 3


def test_noise_is_standard_normal_and_independent_of_the_order(dataset: Dataset) -> None:
    noise = torch.cat([batches(dataset)(step).noise for step in range(100)]).flatten()
    assert abs(noise.mean()) < 0.02
    assert abs(noise.std() - 1) < 0.02


def test_labels_are_dropped_at_the_rate_and_the_callers_stay(generator: torch.Generator) -> None:
    labels = torch.arange(20_000) % 10
    before = labels.clone()
    dropped = drop_labels(labels, 0.1, 10, generator)
    assert torch.equal(labels, before)
    assert dropped.data_ptr() != labels.data_ptr()
    assert (dropped == 10).float().mean().item() == pytest.approx(0.1, abs=0.008)  # 4 standard errors
    assert torch.equal(dropped[dropped != 10], labels[dropped != 10])


@pytest.mark.parametrize(("rate", "null"), [(0.0, 0), (1.0, 5)])
def test_rates_of_none_and_all(rate: float, null: int, generator: torch.Generator) -> None:
    assert (drop_labels(torch.arange(5), rate, 9, generator) == 9).sum() == null


def test_batches_drop_labels_at_the_rate(dataset: Dataset) -> None:
    labels = torch.cat([batches(dataset, 50, 0.3)(step).labels for step in range(100)])
    assert (labels == 3).float().mean().item() == pytest.approx(0.3, abs=0.027)


def test_keys_give_streams_of_their_own() -> None:
    keys = [(0, "noise", 1), (0, "noise", 11), (1, "noise", 1), (0, "times", 1), (0, "nois", "e1")]
    first = {torch.rand(1, generator=seeded("cpu", *key)).item() for key in keys}
    assert len(first) == len(keys)
    assert seed_of(0, "noise", 1) == seed_of(0, "noise", 1)
    assert 0 <= seed_of("x") < 2**63


@pytest.mark.gpu
def test_batches_on_a_gpu_hold_the_same_pictures_and_times(dataset: Dataset) -> None:
    path = DiscreteVP(cosine_betas())
    there = Batches(dataset, path, 8, 0.0, 0, torch.device("cuda"))
    assert there.images.is_cuda
    a, b = there(3), Batches(dataset, path, 8, 0.0, 0, torch.device("cpu"))(3)
    assert torch.equal(a.x0.cpu(), b.x0)
    assert torch.equal(a.t, b.t)
    assert torch.equal(a.labels.cpu(), b.labels)
    there.images = dataset.images  # as where the pictures do not fit
    assert torch.equal(there(3).x0, a.x0)
