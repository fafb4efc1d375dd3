import pytest
import torch
from diffusers.models.embeddings import get_timestep_embedding

from diffusion_lessons.networks.embedding import LabelEmbedding, TimeEmbedding, sinusoidal_embedding


@pytest.mark.parametrize("dim", [2, 32, 256])
def test_sines_come_first_and_agree_with_diffusers(dim: int) -> None:
    time = torch.tensor([0.0, 1.0, 37.5, 999.0])
    ours = sinusoidal_embedding(time, dim)
    theirs = get_timestep_embedding(time, dim, flip_sin_to_cos=False, downscale_freq_shift=0)
    assert ours.shape == (4, dim)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)  # sin of 999 in float32
    torch.testing.assert_close(ours[0, : dim // 2], torch.zeros(dim // 2))
    torch.testing.assert_close(ours[0, dim // 2 :], torch.ones(dim // 2))


def test_first_frequency_is_one_and_every_time_is_told_apart() -> None:
    time = torch.arange(0, 1000.0)
    embedded = sinusoidal_embedding(time, 32)
    torch.testing.assert_close(embedded[:, 0], time.sin())
    torch.testing.assert_close(embedded[:, 16], time.cos())
    distance = torch.cdist(embedded, embedded) + 10 * torch.eye(1000)
    assert distance.min() > 0.1


def test_bf16_times_are_embedded_in_float32() -> None:
    assert sinusoidal_embedding(torch.tensor([3.0], dtype=torch.bfloat16), 8).dtype == torch.float32


@pytest.mark.parametrize("dim", [0, 1, 7])
def test_odd_dims_are_refused(dim: int) -> None:
    with pytest.raises(ValueError, match=f"got {dim}"):
        sinusoidal_embedding(torch.zeros(1), dim)


def test_time_of_another_rank_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(B,\), got \(2, 1\)"):
        TimeEmbedding(8, 16)(torch.zeros(2, 1))


def test_null_label_is_the_number_of_classes() -> None:
    embedding = LabelEmbedding(10, 4)
    assert embedding.null(3).tolist() == [10, 10, 10]
    assert embedding.table.weight.shape == (11, 4)
    assert torch.equal(embedding(embedding.null(1))[0], embedding.table.weight[10])


@pytest.mark.parametrize("label", [-1, 11, 300])
def test_label_out_of_range_is_named(label: int) -> None:
    with pytest.raises(ValueError, match=f"label {label} is out of range: classes are 0 to 9"):
        LabelEmbedding(10, 4)(torch.tensor([0, label]))


@pytest.mark.parametrize("labels", [torch.zeros(2), torch.zeros(2, 1, dtype=torch.int64)])
def test_labels_of_another_kind_are_refused(labels: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="labels are int64"):
        LabelEmbedding(10, 4)(labels)
