"""Rows of a step: a function of seed and step alone, conditions dropped whole."""

import pytest
import torch
from torch import Tensor

from diffusion_lessons.data import Dataset, to_uint8
from diffusion_lessons.support.seeds import seed_of, seeded
from diffusion_lessons.training.batches import Batches, batch_index
from diffusion_lessons.training.tasks import Denoising
from tests.tiny_training import tiny_recipe


@pytest.fixture
def dataset(generator: torch.Generator) -> Dataset:
    images = torch.randint(0, 256, (50, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return Dataset("tiny", images, torch.arange(50) % 3, ("a", "b", "c"))


def denoising(dataset: Dataset, batch: int = 8, class_dropout: float = 0.1) -> Denoising:
    return Denoising(tiny_recipe(batch=batch, class_dropout=class_dropout), dataset).place()


def test_each_epoch_sees_every_picture_once_in_an_order_of_its_own() -> None:
    seen = torch.cat([batch_index(seed=0, step=step, batch=8, n=50) for step in range(25)])  # 4 epochs
    epochs = seen.view(4, 50)
    assert all(epoch.sort().values.tolist() == list(range(50)) for epoch in epochs)
    assert not torch.equal(epochs[0], epochs[1])
    assert not torch.equal(epochs[0], batch_index(seed=1, step=0, batch=50, n=50))


def test_a_batch_may_be_larger_than_the_data() -> None:
    assert torch.bincount(batch_index(0, 3, 20, 5)).tolist() == [4] * 5


def test_a_step_is_a_function_of_the_seed_and_the_step_alone(dataset: Dataset) -> None:
    first, second = denoising(dataset), denoising(dataset)
    second.batch(7), second.batch(1)  # what was drawn before does not matter
    torch.rand(3)
    for a, b in zip(first.batch(3), second.batch(3), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(first.batch(3)[:3], first.batch(4)[:3], strict=True):
        assert not torch.equal(a, b)


@pytest.mark.parametrize("world", [2, 4])
def test_processes_share_the_batch_of_one(dataset: Dataset, world: int) -> None:
    whole = denoising(dataset).batch(5)
    parts = [denoising(dataset).place("cpu", rank, world).batch(5) for rank in range(world)]
    for field, value in enumerate(whole):
        assert torch.equal(torch.cat([part[field] for part in parts]), value)


def test_a_batch_that_cannot_be_shared_is_refused(dataset: Dataset) -> None:
    with pytest.raises(ValueError, match="a batch of 8 cannot be shared equally by 3"):
        Batches(dataset, 8, 0, rank=0, world=3)


def test_batch_holds_pictures_noise_times_and_labels_that_belong_together(dataset: Dataset) -> None:
    draw = denoising(dataset, class_dropout=0.0).batch
    batch, index = draw(2), batch_index(0, 2, 8, 50)
    torch.testing.assert_close(batch.x0, dataset.images[index].float() / 127.5 - 1)
    assert torch.equal(batch.condition, dataset.labels[index])
    assert batch.noise.shape == batch.x0.shape
    assert batch.t.dtype == torch.float64
    assert ((batch.t >= 1) & (batch.t <= 1000)).all()
    strata = (batch.t - 1) * 8 / 1000
    assert strata.floor().tolist() == list(range(8))  # one time from each eighth
    assert len(draw(2, most=3).x0) == len(draw(2, most=3).t) == len(draw(2, most=3).condition) == 3


def test_noise_is_standard_normal_and_independent_of_the_order(dataset: Dataset) -> None:
    noise = torch.cat([denoising(dataset).batch(step).noise for step in range(100)]).flatten()
    assert abs(noise.mean()) < 0.02
    assert abs(noise.std() - 1) < 0.02


def test_batches_drop_labels_at_the_rate_and_the_data_stay(dataset: Dataset) -> None:
    before, draw = dataset.labels.clone(), denoising(dataset, 50, 0.3).batch
    labels = torch.cat([draw(step).condition for step in range(100)])
    assert (labels == 3).float().mean().item() == pytest.approx(0.3, abs=0.027)  # 4 standard errors
    index = torch.cat([batch_index(0, step, 50, 50) for step in range(100)])
    assert torch.equal(labels[labels != 3], dataset.labels[index][labels != 3])
    assert torch.equal(dataset.labels, before)


@pytest.mark.parametrize(("rate", "null"), [(0.0, 0), (1.0, 50)])
def test_rates_of_none_and_all(dataset: Dataset, rate: float, null: int) -> None:
    batches = Batches(dataset, 50, 0, dropout=rate, null=lambda n: torch.full((n,), 9))
    assert (batches(0)[1] == 9).sum() == null


def test_a_caption_is_dropped_whole_and_what_belongs_to_the_picture_is_kept(dataset: Dataset) -> None:
    """Tokens go with their mask, by one decision a row; the known pixels have no null."""
    number = torch.arange(50)
    conditions = {
        "tokens": number[:, None] + torch.arange(4),
        "mask": torch.ones(50, 4, dtype=torch.bool),
        "known": number.float().view(-1, 1, 1, 1).expand(-1, 2, 8, 8).contiguous(),
    }

    def null(n: int) -> dict[str, Tensor]:
        return {"tokens": torch.full((n, 4), -1), "mask": torch.zeros(n, 4, dtype=torch.bool)}

    captioned = Dataset("captioned", dataset.images, conditions=conditions)
    batches, dropped = Batches(captioned, 10, 0, dropout=0.5, null=null), 0
    for step in range(40):
        _, condition = batches(step)
        assert isinstance(condition, dict)
        index = batch_index(0, step, 10, 50)
        gone = (condition["tokens"] == -1).all(1)
        assert torch.equal(condition["tokens"][~gone], conditions["tokens"][index][~gone])
        assert torch.equal(condition["mask"], ~gone[:, None].expand(-1, 4))
        assert torch.equal(condition["known"], conditions["known"][index])
        dropped += int(gone.sum())
    assert dropped / 400 == pytest.approx(0.5, abs=0.1)


def test_without_an_end_no_row_comes_twice() -> None:
    seen = torch.cat([batch_index(0, step, 8, None) for step in range(20)])
    assert seen.tolist() == list(range(160))


def test_keys_give_streams_of_their_own() -> None:
    keys = [(0, "noise", 1), (0, "noise", 11), (1, "noise", 1), (0, "times", 1), (0, "nois", "e1")]
    first = {torch.rand(1, generator=seeded("cpu", *key)).item() for key in keys}
    assert len(first) == len(keys)
    assert seed_of(0, "noise", 1) == seed_of(0, "noise", 1)
    assert 0 <= seed_of("x") < 2**63


@pytest.mark.gpu
def test_batches_on_a_gpu_hold_the_same_pictures_and_times(dataset: Dataset) -> None:
    there, here = denoising(dataset).place("cuda"), denoising(dataset)
    a, b = there.batch(3), here.batch(3)
    assert a.x0.is_cuda
    torch.testing.assert_close(a.x0.cpu(), b.x0, rtol=0, atol=1e-6)  # CUDA rounds otherwise
    assert torch.equal(to_uint8(a.x0).cpu(), to_uint8(b.x0))
    assert torch.equal(a.t, b.t)
    there.batches.dataset = dataset  # as where the pictures do not fit
    assert torch.equal(there.batch(3).x0, a.x0)
    assert torch.equal(there.batch(3).condition, a.condition)
