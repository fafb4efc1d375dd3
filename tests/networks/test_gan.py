"""The two players: what each gives, and whose gradients a turn makes."""

from typing import Any

import pytest
import torch

from diffusion_lessons.networks import (
    Discriminator,
    DiscriminatorConfig,
    Generator,
    GeneratorConfig,
    PointConfig,
    PointNetwork,
    build,
    describe,
)
from diffusion_lessons.networks.gan import Gan, draw
from diffusion_lessons.support.seeds import layers_seeded

SMALL: dict[str, Any] = {"base_channels": 8, "channel_mults": (1, 2)}


def pictures() -> Gan:
    with layers_seeded(0):
        generator = Generator(GeneratorConfig(image_size=8, latent_dim=6, **SMALL))
        return Gan(generator, Discriminator(DiscriminatorConfig(image_size=8, **SMALL)))


def points() -> Gan:
    with layers_seeded(0):
        generator = PointNetwork(PointConfig(in_dim=3, width=8))
        return Gan(generator, PointNetwork(PointConfig(out_dim=1, width=8, octaves=1)))


PAIRS = {"pictures": (pictures, (6,), (1, 8, 8)), "points": (points, (3,), (2,))}


@pytest.mark.parametrize("size", [16, 28])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_of_every_size_and_colour(size: int, channels: int, generator: torch.Generator) -> None:
    made = Generator(GeneratorConfig(image_size=size, out_channels=channels))(
        torch.randn(3, 64, generator=generator)
    )
    assert made.shape == (3, channels, size, size)
    assert made.abs().max() < 1
    assert made.std() > 0.1  # neither flat nor saturated at its start
    judge = Discriminator(DiscriminatorConfig(image_size=size, in_channels=channels))
    assert judge(made).shape == (3, 1)


@pytest.mark.parametrize("pair", PAIRS)
def test_no_sample_and_no_logit_depends_on_its_neighbours(pair: str, generator: torch.Generator) -> None:
    """As it would with batch norm, which shows a discriminator whole batches of one kind."""
    make, latent, shape = PAIRS[pair]
    gan, z, x = make(), torch.randn(5, *latent), torch.randn(5, *shape, generator=generator)
    for mode in (gan.train(), gan.eval()):
        assert torch.allclose(mode.generator(z)[2:3], mode.generator(z[2:3]), atol=1e-6)
        assert torch.allclose(mode.discriminator(x)[2:3], mode.discriminator(x[2:3]), atol=1e-6)


@pytest.mark.parametrize("pair", PAIRS)
def test_a_turn_moves_its_own_player_alone(pair: str, generator: torch.Generator) -> None:
    make, latent, shape = PAIRS[pair]
    gan = make()
    z, x = torch.randn(5, *latent, generator=generator), torch.randn(5, *shape, generator=generator)
    gan(z).sum().backward()
    assert all(p.grad is None for p in gan.discriminator.parameters())
    assert all(p.grad is not None for p in gan.generator.parameters())
    gan.zero_grad(set_to_none=True)
    real, made = gan(z, x)
    (made.sum() - real.sum()).backward()
    assert all(p.grad is None for p in gan.generator.parameters())
    assert all(p.grad is not None for p in gan.discriminator.parameters())


def test_both_turns_see_the_same_discriminator(generator: torch.Generator) -> None:
    gan, z = pictures(), torch.randn(5, 6, generator=generator)
    logits = gan(z)
    real, made = gan(z, gan.generator(z).detach())
    assert torch.equal(logits, made) and torch.equal(real, made)
    assert logits.shape == (5,)
    before = gan(z).sum()
    with torch.no_grad():
        gan.discriminator.out.bias += 1  # type: ignore[operator,union-attr]
    assert float((gan(z).sum() - before).detach()) == pytest.approx(5, abs=1e-4)  # no stale copy


def test_the_gradient_of_the_generator_is_that_through_the_discriminator(generator: torch.Generator) -> None:
    gan, z = pictures(), torch.randn(4, 6, generator=generator)
    weights = list(gan.generator.parameters())
    found = torch.autograd.grad(gan(z).sum(), weights)
    plain = torch.autograd.grad(gan.discriminator(gan.generator(z)).sum(), weights)
    assert all(torch.equal(a, b) for a, b in zip(found, plain, strict=True))


@pytest.mark.parametrize("pair", PAIRS)
def test_players_are_built_again_from_their_descriptions(pair: str, generator: torch.Generator) -> None:
    make, latent, _ = PAIRS[pair]
    player = make().generator
    again = build(describe(player))
    again.load_state_dict(player.state_dict())
    z = torch.randn(4, *latent, generator=generator)
    assert torch.equal(again(z), player(z))
    judge = make().discriminator
    assert describe(build(describe(judge))) == describe(judge)


def test_drawing_is_the_same_every_time_and_keeps_no_graph() -> None:
    generator = pictures().generator
    x = draw(generator, 4)
    assert x.shape == (4, 1, 8, 8) and not x.requires_grad
    assert torch.equal(draw(generator, 4), x)
    assert not torch.equal(draw(generator, 4, torch.Generator().manual_seed(1)), x)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        draw(generator, 0)


def test_what_does_not_fit_is_said() -> None:
    gan = pictures()
    with pytest.raises(ValueError, match=r"takes latents \(B, 6\), got shape \(2, 5\)"):
        gan.generator(torch.zeros(2, 5))
    with pytest.raises(ValueError, match=r"takes pictures \(B, \(1, 8, 8\)\), got \(2, 1, 9, 9\)"):
        gan.discriminator(torch.zeros(2, 1, 9, 9))


@pytest.mark.parametrize("config", [GeneratorConfig, DiscriminatorConfig])
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"image_size": 18}, "a multiple of 4 here, got 18"),
        ({"channel_mults": ()}, "at least one of everything"),
        ({"base_channels": 0}, "at least one of everything"),
    ],
)
def test_impossible_shapes_are_refused(config: type, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        config(**changes)
