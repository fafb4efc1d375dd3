"""Stable Diffusion's networks agree with the reference libraries, in float64 and with every bias disturbed.

At a network's random start swapped norms and missing biases go unnoticed, and float32 hides what is left.
"""

import re
from collections.abc import Callable
from typing import Any

import diffusers
import pytest
import torch
import transformers
from torch import Tensor, nn

from diffusion_lessons.networks.clip import (
    TextConfig,
    TextTransformer,
    TwoTowers,
    VisionConfig,
    contrastive_loss,
)
from diffusion_lessons.networks.unet_text import TextUNet, TextUNetConfig
from diffusion_lessons.networks.vae import Vae, VaeConfig

EXACT = 1e-12
TEXT: dict[str, Any] = dict(
    vocab_size=60, hidden_size=32, intermediate_size=64, num_attention_heads=4, max_position_embeddings=16,
    bos_token_id=58, eos_token_id=59,
)  # fmt: skip


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def disturbed(network: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    for weight in network.parameters():
        if weight.ndim == 1:
            weight.data += 0.2 * torch.randn(weight.shape, generator=generator)
    return network.double().eval()


def ours(network: nn.Module, theirs: nn.Module, rename: Callable[[str], str] = str) -> nn.Module:
    """Ours with their weights, every name and shape the same."""
    network.load_state_dict({rename(name): weight for name, weight in theirs.state_dict().items()})
    return network.double().eval()


def close(a: Tensor, b: Tensor) -> None:
    assert a.shape == b.shape
    assert (a - b).abs().max() < EXACT * max(1, float(b.abs().max()))


# U-Net


@pytest.fixture(scope="module", params=[False, True], ids=["convolutions", "linear"])
def unets(request: pytest.FixtureRequest) -> tuple[nn.Module, nn.Module]:
    theirs = disturbed(
        diffusers.UNet2DConditionModel(
            down_block_types=("CrossAttnDownBlock2D",) * 2 + ("DownBlock2D",),
            up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 2,
            block_out_channels=(16, 24, 32),
            layers_per_block=2,
            cross_attention_dim=20,
            attention_head_dim=(2, 4, 2),  # the number of heads, whatever it is called
            norm_num_groups=8,
            use_linear_projection=request.param,
        )
    )
    config = TextUNetConfig(
        widths=(16, 24, 32), attention=(True, True, False), heads=(2, 4, 2), context=20, linear=request.param,
        groups=8,
    )  # fmt: skip
    return ours(TextUNet(config), theirs), theirs


@pytest.mark.parametrize("scale", [1.0, 0.01])  # small inputs show the ε of a norm
@pytest.mark.parametrize("size", [(8, 8), (16, 8), (6, 10)])
@torch.no_grad()
def test_the_unet(unets: tuple[nn.Module, nn.Module], size: tuple[int, int], scale: float) -> None:
    network, theirs = unets
    x, time, context = (
        scale * randn(2, 4, *size),
        torch.tensor([3.0, 700.0]).double(),
        randn(2, 5, 20, seed=2),
    )
    close(network(x, time, {"context": context}), theirs(x, time, context).sample)
    seen = torch.tensor([[True, True, True, False, False], [True] * 4 + [False]])
    masked = network(x, time, {"context": context, "seen": seen})
    close(masked, theirs(x, time, context, encoder_attention_mask=seen).sample)
    other = torch.where(seen[..., None], context, 9.0)
    close(network(x, time, {"context": other, "seen": seen}), masked)  # what is hidden changes nothing


def test_the_unet_of_real_size_has_the_published_weights() -> None:
    with torch.device("meta"):
        theirs = diffusers.UNet2DConditionModel(cross_attention_dim=768)
        network = TextUNet(TextUNetConfig())
        inpainting = TextUNet(TextUNetConfig(in_channels=9))
    shapes = {name: weight.shape for name, weight in theirs.state_dict().items()}
    assert {name: weight.shape for name, weight in network.state_dict().items()} == shapes
    assert (len(shapes), sum(map(torch.Size.numel, shapes.values()))) == (686, 859_520_964)
    assert sum(weight.numel() for weight in inpainting.parameters()) == 859_535_364


@torch.no_grad()
def test_known_channels_come_behind_the_noisy_ones() -> None:
    torch.manual_seed(0)
    config = TextUNetConfig(
        in_channels=9, widths=(16,), attention=(True,), heads=(2,), blocks_per_level=1, context=6, groups=8
    )
    network = TextUNet(config).eval()
    x, known, context = torch.randn(1, 4, 4, 4), torch.randn(1, 5, 4, 4), torch.randn(1, 3, 6)
    seen: list[Tensor] = []
    network.conv_in.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    network(x, torch.zeros(1), {"context": context, "known": known})
    assert torch.equal(seen[0], torch.cat([x, known], 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(x=torch.zeros(2, 3, 8, 8)), "the network takes (B, 4, H, W), got (2, 3, 8, 8)"),
        (dict(x=torch.zeros(2)), "the network takes (B, 4, H, W), got (2,)"),
        (dict(time=torch.zeros(3)), "one time for each of 2 pictures"),
        (dict(condition=None), 'must hold the text as "context"'),
        (dict(condition={"context": torch.zeros(2, 5, 7)}), "the context is (2, L, 20), got (2, 5, 7)"),
        (
            dict(condition={"context": torch.zeros(2, 5, 20), "seen": torch.ones(2, 5)}),
            "`seen` is bool (2, 5), True for tokens to look at; got torch.float32 (2, 5)",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    unets: tuple[nn.Module, nn.Module], change: dict[str, Any], message: str
) -> None:
    good = dict(x=torch.zeros(2, 4, 8, 8), time=torch.zeros(2), condition={"context": torch.zeros(2, 5, 20)})
    with pytest.raises(ValueError, match=re.escape(message)):
        unets[0](**good | change)


# autoencoder


@pytest.fixture(scope="module")
def vaes() -> tuple[Vae, nn.Module]:
    theirs = disturbed(
        diffusers.AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            block_out_channels=(16, 32, 48),
            layers_per_block=1,
            latent_channels=4,
            norm_num_groups=8,
        )
    )
    network = ours(Vae(VaeConfig(widths=(16, 32, 48), blocks_per_level=1, groups=8)), theirs)
    assert isinstance(network, Vae)
    return network, theirs


@pytest.mark.parametrize("scale", [1.0, 0.01])
@pytest.mark.parametrize("size", [(32, 32), (16, 24)])
@torch.no_grad()
def test_the_autoencoder(vaes: tuple[Vae, nn.Module], size: tuple[int, int], scale: float) -> None:
    network, theirs = vaes
    x = scale * randn(2, 3, *size).clamp(-1, 1)
    latents, expected = network.moments(x), theirs.encode(x).latent_dist
    close(latents.mean, expected.mean)
    close(latents.logvar, expected.logvar)
    close(latents.kl(), expected.kl())
    noise = randn(*latents.mean.shape, seed=4)
    close(latents.sample(noise), expected.mean + expected.std * noise)
    z = randn(*latents.mean.shape, seed=5)
    close(network.decode(0.18215 * z), theirs.decode(z).sample)
    assert torch.equal(network.encode(x), network.encode(x))  # the mean: nothing is drawn
    close(network.encode(x, noise), 0.18215 * latents.sample(noise))


def test_decoding_changes_nothing_that_it_is_given(vaes: tuple[Vae, nn.Module]) -> None:
    z = randn(1, 4, 8, 8)
    before = z.clone()
    with torch.no_grad():
        assert torch.equal(vaes[0].decode(z), vaes[0].decode(z))
    assert torch.equal(z, before)


def test_the_autoencoder_of_real_size_has_the_published_weights() -> None:
    with torch.device("meta"):
        theirs = diffusers.AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(128, 256, 512, 512), layers_per_block=2,
        )  # fmt: skip
        network = Vae(VaeConfig())
    shapes = {name: weight.shape for name, weight in theirs.state_dict().items()}
    assert {name: weight.shape for name, weight in network.state_dict().items()} == shapes
    assert (len(shapes), sum(map(torch.Size.numel, shapes.values()))) == (248, 83_653_863)
    assert network.config.factor == 8


@torch.no_grad()
def test_patches_become_channels_and_come_back() -> None:
    network = Vae(VaeConfig(widths=(8, 16), blocks_per_level=1, groups=4, patch=2))
    x = torch.rand(2, 3, 16, 24)
    drawn, mean, _ = network(x)
    assert network.config.factor == 4
    assert mean.shape == (2, 4, 4, 6)
    assert drawn.shape == x.shape


def test_pictures_that_cannot_be_halved_are_refused(vaes: tuple[Vae, nn.Module]) -> None:
    with pytest.raises(ValueError, match=r"H and W multiples of 4, got \(1, 3, 30, 32\)"):
        vaes[0].encode(randn(1, 3, 30, 32))
    with pytest.raises(ValueError, match=r"latents are \(B, 4, h, w\), got \(1, 3, 8, 8\)"):
        vaes[0].decode(randn(1, 3, 8, 8))


# CLIP


def tokens() -> Tensor:
    ids = torch.randint(0, 58, (3, 9), generator=torch.Generator().manual_seed(3))
    ids[:, 0] = 58
    ids[0, 5:], ids[1, 8], ids[2, 3] = 59, 59, 59  # filled up; full; more words behind the end
    return ids


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
@torch.no_grad()
def test_the_text_tower(activation: str) -> None:
    config = transformers.CLIPTextConfig(num_hidden_layers=3, hidden_act=activation, **TEXT)
    theirs, ids = disturbed(transformers.CLIPTextModel(config)), tokens()
    network = TextTransformer(TextConfig(60, 16, 32, 64, 3, 4, activation, begin=58, end=59))
    network = ours(network, theirs, lambda name: "text_model." + name.removeprefix("text_model."))
    expected = theirs(ids)
    features = network(ids)
    close(features.context, expected.last_hidden_state)
    close(features.pooled, expected.pooler_output)
    mask = torch.arange(9) < torch.tensor([[6], [9], [4]])
    close(network(ids, mask).context, theirs(ids, attention_mask=mask.long()).last_hidden_state)
    later = ids.clone()
    later[:, 6:] = 59
    close(network(later).context[:, :6], features.context[:, :6])  # nothing looks ahead


@torch.no_grad()
def test_both_towers_and_their_loss() -> None:
    vision = dict(hidden_size=24, intermediate_size=48, num_hidden_layers=2, num_attention_heads=3)
    config = transformers.CLIPConfig(
        text_config=dict(num_hidden_layers=2, hidden_act="quick_gelu", **TEXT),
        vision_config=dict(image_size=32, patch_size=8, **vision),
        projection_dim=20,
    )
    theirs = disturbed(transformers.CLIPModel(config))
    network = TwoTowers(
        TextConfig(60, 16, 32, 64, 2, 4, begin=58, end=59, projection=20),
        VisionConfig(32, 8, 24, 48, 2, 3, projection=20),
    )
    tower = {"text": "text.", "visi": "vision.", "visu": "vision.", "logi": ""}
    ours(network, theirs, lambda name: tower[name[:4]] + name)
    pictures = randn(3, 3, 32, 32)
    expected = theirs(input_ids=tokens(), pixel_values=pictures, return_loss=True)
    logits = network(pictures, tokens())
    close(logits, expected.logits_per_image)
    close(contrastive_loss(logits), expected.loss)
    lopsided = logits + 5 * torch.eye(3)[[1, 2, 0]].double().cumsum(0)
    assert abs(contrastive_loss(lopsided) - contrastive_loss(lopsided.T)) < EXACT  # both directions count


def test_the_temperature_starts_at_a_fourteenth_and_cannot_run_away() -> None:
    towers = TwoTowers(
        TextConfig(60, 16, 32, 64, 1, 4, begin=58, end=59, projection=20),
        VisionConfig(32, 8, 24, 48, 1, 3, projection=20),
    )
    assert towers.logit_scale.exp().item() == pytest.approx(1 / 0.07)
    towers.logit_scale.data.fill_(50.0)
    assert towers(torch.randn(3, 3, 32, 32), tokens()).abs().max() <= 100.001


def test_the_text_tower_of_real_size_has_the_published_weights() -> None:
    with torch.device("meta"):
        theirs = transformers.CLIPTextModel(
            transformers.CLIPTextConfig(
                vocab_size=49408, hidden_size=768, intermediate_size=3072, num_attention_heads=12
            )
        )
        network = TextTransformer(TextConfig())
    shapes = {
        "text_model." + name.removeprefix("text_model."): weight.shape  # newer versions leave it out
        for name, weight in theirs.state_dict().items()
    }
    assert {name: weight.shape for name, weight in network.state_dict().items()} == shapes
    assert (len(shapes), sum(map(torch.Size.numel, shapes.values()))) == (196, 123_060_480)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (
            torch.full((1, 17), 59),
            "tokens are int64 (B, L), B at least 1 and L up to 16, got torch.int64 of shape (1, 17)",
        ),
        (torch.full((0, 4), 59), "got torch.int64 of shape (0, 4)"),
        (torch.full((1, 4), 59.0), "got torch.float32 of shape (1, 4)"),
        (torch.tensor([[58, 60, 59]]), "ids of tokens are 0 to 59, got 58 to 60"),
        (torch.tensor([[58, 1, 59], [58, 1, 2]]), "text 1 of the batch has no end: no token 59"),
    ],
)
def test_tokens_that_are_none_are_refused(ids: Tensor, message: str) -> None:
    tower = TextTransformer(TextConfig(60, 16, 32, 64, 1, 4, begin=58, end=59))
    with pytest.raises(ValueError, match=re.escape(message)):
        tower(ids)
