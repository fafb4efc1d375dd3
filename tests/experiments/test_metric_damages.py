"""Damages and cheats: what each does to pictures, and what the recorded metrics say of them."""

import pytest
import torch

from diffusion_lessons import zoo
from diffusion_lessons.data import Dataset
from diffusion_lessons.experiments import find, metric_damages, recorded
from diffusion_lessons.experiments.metric_damages import (
    DAMAGES,
    EXPERIMENT,
    SEEDS,
    Parts,
    chosen,
    damaged,
    prepare,
)


def made_up(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures that hold their class as a bright block, and numbers of their own."""
    labels = torch.arange(n) % 10
    images = torch.randint(0, 60, (n, 1, 32, 32), generator=torch.Generator().manual_seed(seed)).byte()
    for image, label in zip(images, labels.tolist(), strict=True):
        image[0, 8:20, 2 * label : 2 * label + 6] = 250
    return images, labels


@pytest.fixture(scope="module")
def parts() -> Parts:
    return Parts(made_up(500, 1), made_up(400, 2), made_up(400, 3), zoo.yardstick("mnist"))


def test_every_damage_at_every_strength_is_a_row_for_each_seed() -> None:
    assert find("metric-damages") is EXPERIMENT
    rows = EXPERIMENT.settings({"seed": 5})
    assert {row["seed"] for row in rows} == set(range(5, 5 + SEEDS))
    assert len(rows) == SEEDS * sum(map(len, DAMAGES.values()))


def test_the_parts_share_no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = torch.arange(1500)
    images = torch.stack([numbers % 256, numbers // 256], -1)[:, None, None].expand(-1, 1, 2, 2).byte()
    dataset = Dataset("numbers", images.contiguous(), numbers % 10, tuple("0123456789"))
    monkeypatch.setattr(metric_damages, "load_dataset", lambda *_: dataset)
    monkeypatch.setattr(metric_damages, "PART", 500)
    made = prepare({})
    seen = [{tuple(each.flatten().tolist()) for each in part[0]} for part in made[:3]]
    assert [len(each) for each in seen] == [500] * 3
    assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])
    monkeypatch.setattr(metric_damages, "PART", 501)
    with pytest.raises(ValueError, match="needs 1503 pictures with labels, got 1500"):
        prepare({})


def test_pictures_go_round_the_classes_and_none_comes_twice(parts: Parts) -> None:
    made = chosen(parts.fresh, 100, seed=4)
    assert made.labels.tolist() == [k % 10 for k in range(100)]
    assert len(made.images.flatten(1).unique(dim=0)) == 100


@pytest.mark.parametrize(("name", "strength"), [(name, each) for name in DAMAGES for each in DAMAGES[name]])
def test_each_damage_gives_pictures_of_the_same_kind_and_but_one_changes_them(
    parts: Parts, name: str, strength: float
) -> None:
    real, made = damaged(parts, "none", 0, 100, 0), damaged(parts, name, strength, 100, 0)
    assert (made.images.shape, made.images.dtype) == ((100, 1, 32, 32), torch.uint8)
    assert made.labels.shape == (100,)
    same = made.images.equal(real.images) and made.labels.equal(real.labels)
    assert same == (name == "none")
    again = damaged(parts, name, strength, 100, 0)
    assert made.images.equal(again.images)


def test_a_blur_keeps_the_light_and_a_shift_moves_it(parts: Parts) -> None:
    dot = torch.zeros(1, 1, 32, 32, dtype=torch.uint8)
    dot[..., 16, 12] = 255
    blurred = metric_damages.ON_PICTURES["blur"](dot, 1.0, 0)
    assert 240 < int(blurred.sum()) < 270
    assert int(blurred.max()) == int(blurred[..., 16, 12]) == pytest.approx(255 / (2 * torch.pi), abs=1.5)
    moved = metric_damages.ON_PICTURES["shifted"](dot, 2, 0)
    assert moved[0, 0].nonzero().tolist() == [[16, 14]]


def test_dropped_classes_are_gone_and_wrong_labels_are_wrong(parts: Parts) -> None:
    dropped = damaged(parts, "classes dropped", 3, 200, 0)
    assert set(dropped.labels.tolist()) == set(range(7))
    real, wrong = damaged(parts, "none", 0, 200, 0), damaged(parts, "wrong labels", 0.1, 200, 0)
    assert wrong.images.equal(real.images)
    assert int((wrong.labels != real.labels).sum()) == 20


def test_cheats_come_from_the_training_part(parts: Parts) -> None:
    training = {each.numpy().tobytes() for each in parts.training[0]}
    for name, strength, different in (("copies", 1, 100), ("few", 50, 50), ("one a class", 1, 10)):
        images = damaged(parts, name, strength, 100, 0).images
        kept = {each.numpy().tobytes() for each in images}
        assert kept <= training
        assert len(kept) == different
    means = damaged(parts, "means", 1, 20, 0).images
    threes = parts.training[0][parts.training[1] == 3].double().mean(0)
    assert (means[3] - threes).abs().max() <= 0.5
    assert means[3].equal(means[13])


def test_the_recorded_result_shows_what_fools_what() -> None:
    result = recorded("metric-damages")
    assert [row["settings"] for row in result["rows"]] == EXPERIMENT.settings(result["options"])
    rows = {tuple(row["settings"].values()): row for row in result["rows"]}
    for seed in range(SEEDS):
        real, copies = rows["none", 0, seed], rows["copies", 1, seed]
        for metric in ("frechet", "kernel", "precision", "recall", "accuracy"):
            error = (real[f"{metric}_error"] ** 2 + copies[f"{metric}_error"] ** 2) ** 0.5
            assert abs(copies[metric] - real[metric]) < 3 * error  # copies look like real pictures
        assert copies["nearer_interval"][0] > 0.9
        assert real["nearer_interval"][0] < 0.5 < real["nearer_interval"][1]
        assert rows["one a class", 1, seed]["accuracy"] == rows["means", 1, seed]["accuracy"] == 1
        assert rows["few", 200, seed]["recall"] == 0
        assert rows["few", 200, seed]["frechet"] < 0.6
        assert rows["wrong labels", 0.5, seed]["frechet"] == real["frechet"]
        assert rows["halved", 1, seed]["frechet"] > 4 + rows["halved, nearest", 1, seed]["frechet"]
