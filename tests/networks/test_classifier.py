from dataclasses import asdict, replace

import pytest
import torch
import torch.nn.functional as F

from diffusion_lessons.networks.classifier import Classifier, ClassifierConfig

SMALL = ClassifierConfig(image_size=8, base_channels=8, channel_mults=(1, 2), num_features=16)


def make(config: ClassifierConfig) -> Classifier:
    torch.manual_seed(0)
    return Classifier(config).eval()


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        replace(SMALL, in_channels=3, num_classes=4),
        replace(SMALL, image_size=16, patch=2),
        replace(SMALL, channel_mults=[1, 2, 3]),  # type: ignore[arg-type]
    ],
)
def test_shapes(config: ClassifierConfig) -> None:
    classifier = make(config)
    x = torch.randn(3, config.in_channels, config.image_size, config.image_size)
    assert classifier(x).shape == (3, config.num_classes)
    assert classifier.features(x).shape == (3, 16)
    torch.testing.assert_close(classifier.classify(classifier.features(x)), classifier(x))


def test_every_parameter_learns_and_every_pixel_counts() -> None:
    for config in (SMALL, replace(SMALL, time=True, image_size=16, patch=2)):
        classifier = make(config)
        x = torch.randn(4, 1, config.image_size, config.image_size, requires_grad=True)
        time = torch.tensor([0.0, 10, 500, 999]) if config.time else None
        for block in classifier.blocks:  # they start as the identity
            torch.nn.init.normal_(block.conv_2.weight, std=0.1)
        F.cross_entropy(classifier(x, time), torch.tensor([0, 1, 2, 3])).backward()
        assert all(p.grad is not None and bool((p.grad != 0).any()) for p in classifier.parameters())
        assert x.grad is not None
        assert (x.grad != 0).all()


def test_a_sample_does_not_depend_on_its_batch(generator: torch.Generator) -> None:
    classifier, x = make(SMALL), torch.randn(6, 1, 8, 8, generator=generator)
    alone = torch.cat([classifier(one) for one in x.split(1)])
    torch.testing.assert_close(classifier(x), alone, atol=1e-5, rtol=1e-5)


def test_the_time_changes_what_is_seen(generator: torch.Generator) -> None:
    classifier, x = make(replace(SMALL, time=True)), torch.randn(2, 1, 8, 8, generator=generator)
    for block in classifier.blocks:
        torch.nn.init.normal_(block.conv_2.weight, std=0.1)
    early, late = classifier(x, torch.tensor([10.0, 10.0])), classifier(x, torch.tensor([10.0, 900.0]))
    torch.testing.assert_close(early[0], late[0])
    assert (early[1] - late[1]).abs().max() > 1e-4


def test_it_learns(generator: torch.Generator) -> None:
    """Two classes told apart by the brighter half."""
    classifier = make(replace(SMALL, num_classes=2)).train()
    x, labels = torch.randn(64, 1, 8, 8, generator=generator), torch.arange(64) % 2
    x[labels == 0, :, :, :4] += 1
    x[labels == 1, :, :, 4:] += 1
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=5e-3)
    for _ in range(30):
        optimizer.zero_grad()
        F.cross_entropy(classifier(x), labels).backward()
        optimizer.step()
    assert (classifier(x).argmax(1) == labels).float().mean() == 1


def test_bad_input_is_refused() -> None:
    plain, timed, x = make(SMALL), make(replace(SMALL, time=True)), torch.zeros(2, 1, 8, 8)
    for bad in (torch.zeros(2, 1, 16, 16), torch.zeros(2, 3, 8, 8), torch.zeros(1, 8, 8)):
        with pytest.raises(ValueError, match="takes pictures"):
            plain(bad)
    with pytest.raises(ValueError, match="takes no time"):
        plain(x, torch.zeros(2))
    for time in (None, torch.zeros(3), torch.tensor(5.0)):
        with pytest.raises(ValueError, match=r"time of shape \(2,\)"):
            timed(x, time)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 9}, r"multiple of 2 .*got 9"),
        ({"image_size": 10, "patch": 2}, r"multiple of 4 .*got 10"),
        ({"num_classes": 0}, "at least one"),
        ({"channel_mults": ()}, "at least one"),
    ],
)
def test_impossible_shapes_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClassifierConfig(**{**asdict(SMALL), **change})  # type: ignore[arg-type]
