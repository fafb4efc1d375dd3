"""The inflated network: identity at the start, time kept in order, and agreement with diffusers' blocks."""

import re
from dataclasses import replace

import pytest
import torch
from diffusers.models.resnet import TemporalConvLayer
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from diffusers.models.unets.unet_3d_condition import UNet3DConditionModel
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D

from diffusion_lessons.networks import Prompted, PromptedConfig, build, describe
from diffusion_lessons.networks.clip import TextConfig
from diffusion_lessons.networks.unet_text import TextUNetConfig
from diffusion_lessons.networks.video import (
    TemporalConv,
    TemporalTransformer,
    ToldClip,
    VideoUNet,
    VideoUNetConfig,
    causal_mask,
    inflate,
    neighbours,
)
from diffusion_lessons.training.speed import perturbed

TEXT = TextConfig(vocabulary=12, context=6, width=16, hidden=32, layers=1, heads=2, begin=10, end=11)
UNET = TextUNetConfig(
    widths=(16, 32), attention=(True, True), blocks_per_level=1, heads=(2, 2), context=16, groups=8
)
PUBLISHED = {"causal": False, "convolutions": 4, "places": False, "told": False}


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def picture() -> Prompted:
    torch.manual_seed(0)
    return Prompted(PromptedConfig(TEXT, UNET)).double().eval()


def shaken(network: Prompted, **how: bool | int):
    """An inflated network whose layers over time do something."""
    video = inflate(network, **how).double()
    with torch.no_grad():
        generator = torch.Generator().manual_seed(1)
        for weight in video.over_time().values():
            weight += 0.2 * torch.randn(weight.shape, generator=generator, dtype=torch.float64)
    return video


def told(batch: int, seed: int = 0) -> dict[str, torch.Tensor]:
    return {"context": noise(batch, 6, 16, seed=seed + 5), "motion": noise(batch, 6, 16, seed=seed + 6)}


def test_at_the_start_every_frame_is_drawn_as_the_picture_network_would(picture: Prompted) -> None:
    """To the last bit: what is added is zero."""
    x, time, text = noise(2, 3, 4, 8, 8), torch.tensor([900.0, 100.0]), told(2)
    folded = x.flatten(0, 1), time.repeat_interleave(3), {"context": text["context"].repeat_interleave(3, 0)}
    for how in ({}, {"reach": 3, "causal": False}, {"told": False, "entry": True}, {"gated": True}):
        video = inflate(picture, **how)
        assert torch.equal(video(x, time, text).flatten(0, 1), video(*folded))
        assert not torch.equal(shaken(picture, **how)(x, time, text).flatten(0, 1), video(*folded))
    torch.testing.assert_close(video(*folded), picture(*folded), rtol=0, atol=1e-13)


def test_a_picture_passes_through_without_the_layers_over_time(picture: Prompted) -> None:
    x, time, text = noise(2, 4, 8, 8), torch.tensor([900.0, 100.0]), {"context": noise(2, 6, 16)}
    torch.testing.assert_close(shaken(picture)(x, time, text), picture(x, time, text), rtol=0, atol=1e-13)


@pytest.mark.parametrize("gated", [False, True])
def test_two_clips_are_drawn_as_each_alone(picture: Prompted, gated: bool) -> None:
    video, x, time, text = (
        shaken(picture, reach=3, gated=gated),
        noise(2, 3, 4, 8, 8),
        torch.tensor([900.0, 100.0]),
        told(2),
    )
    both = video(x, time, text)
    for i in range(2):
        alone = video(x[i : i + 1], time[i : i + 1], {name: v[i : i + 1] for name, v in text.items()})
        torch.testing.assert_close(both[i : i + 1], alone, rtol=1e-10, atol=1e-12)


def test_a_causal_network_never_looks_ahead_and_the_other_does(picture: Prompted) -> None:
    x, time, text = noise(1, 5, 4, 8, 8), torch.tensor([500.0]), told(1)
    later = x.clone()
    later[:, 3:] += 1
    for causal in (True, False):
        video = shaken(picture, causal=causal, reach=3)
        apart = (video(x, time, text) - video(later, time, text)).abs().amax((0, 2, 3, 4))
        assert bool((apart[3:] > 1e-3).all())
        assert bool((apart[:3] == 0).all()) == causal
        assert causal or bool((apart[:3] > 1e-6).all())


def test_shuffled_frames_are_not_shuffled_outputs_unless_no_place_is_told(picture: Prompted) -> None:
    """Attention alone, without positions, cannot tell in which order its frames are."""
    x, time = noise(1, 4, 4, 8, 8), torch.tensor([500.0])
    order = torch.tensor([2, 0, 3, 1])

    def apart(**how: bool) -> float:
        video = shaken(picture, causal=False, **how)
        for name, weight in video.named_parameters():
            if "temp_convs" in name:
                weight.data.zero_()  # a convolution knows the order by itself
        gap = video(x[:, order], time, told(1)) - video(x, time, told(1))[:, order]
        return float(gap.detach().abs().max())

    assert apart(places=False) < 1e-10
    assert apart(places=True) > 1e-3


def test_frames_before_are_told_time_0_and_are_not_in_the_output(picture: Prompted) -> None:
    x, before, text = noise(2, 4, 4, 8, 8), noise(2, 2, 4, 8, 8, seed=3), told(2)
    heard = []
    video = shaken(picture, reach=3)
    video.unet.time_embedding.register_forward_pre_hook(lambda module, given: heard.append(given[0].clone()))
    going_on = video(x[:, 2:], torch.tensor([700.0, 300.0]), {**text, "before": before})
    assert heard[0].tolist() == [0, 0, 700, 700, 0, 0, 300, 300]
    times = torch.tensor([[0.0, 0, 700, 700], [0, 0, 300, 300]])
    whole = video(torch.cat([before, x[:, 2:]], 1), times, text)
    assert torch.equal(going_on, whole[:, 2:])
    other = video(x[:, 2:], torch.tensor([700.0, 300.0]), {**text, "before": before + 1})
    assert not torch.allclose(going_on, other, atol=1e-3)


def test_attention_over_frames_so_far_is_attention_over_all_of_them(picture: Prompted) -> None:
    """What is drawn frame by frame sees the frames before it, and not only the first ones."""
    x, text = noise(1, 4, 4, 8, 8), told(1)
    video, times = shaken(picture, reach=3), torch.tensor([[0.0, 0, 0, 600]])
    whole = video(x, times, text)
    last = video(x[:, 3:], torch.tensor([600.0]), {**text, "before": x[:, :3]})
    torch.testing.assert_close(last, whole[:, 3:], rtol=1e-10, atol=1e-12)


def test_the_text_of_a_gated_convolution_multiplies_what_is_around() -> None:
    """Two clips told apart by the text alone differ by what they show: no sum of the two parts does that."""
    config = VideoUNetConfig(**vars(UNET) | {"gated": True, "reach": 3})
    layer = with_random_weights(TemporalConv(config, 16))
    text, x = noise(2, 6, 16, seed=6), noise(3, 16, 5, 4)

    def added(x: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        return layer(x, ToldClip(noise(1), noise(1), None, config, 3, text)) - x

    apart = [added(each, text[:1]) - added(each, text[1:]) for each in (x, x.flip(3))]
    assert float(apart[0].detach().abs().max()) > 1e-2
    assert float((apart[0] - apart[1]).detach().abs().max()) > 1e-2


def test_the_causal_mask_is_that_of_pytorch() -> None:
    query, key, value = (noise(1, 2, 5, 4, seed=i) for i in range(3))
    attend = torch.nn.functional.scaled_dot_product_attention
    torch.testing.assert_close(
        attend(query, key, value, attn_mask=causal_mask(5)), attend(query, key, value, is_causal=True)
    )


def test_neighbours_are_frames_and_not_channels() -> None:
    """Frames coded by their number and channels by theirs stay what they are."""
    clip = torch.stack([torch.stack([torch.full((2, 2), 10.0 * f + c) for c in range(3)]) for f in range(4)])
    early = neighbours(clip[None], causal=True)[0, :, :, 0, 0]
    assert early[3].tolist() == [10, 11, 12, 20, 21, 22, 30, 31, 32]
    assert early[0].tolist() == [0, 0, 0, 0, 0, 0, 0, 1, 2]
    around = neighbours(clip[None], causal=False)[0, :, :, 0, 0]
    assert around[1].tolist() == [0, 1, 2, 10, 11, 12, 20, 21, 22]


def test_the_text_for_the_layers_over_time_moves_no_picture(picture: Prompted) -> None:
    tokens = torch.tensor([[10, 1, 2, 11, 11, 11]])
    moving = torch.tensor([[10, 1, 2, 3, 11, 11]])
    x, time = noise(1, 3, 4, 8, 8), torch.tensor([500.0])
    video = shaken(picture)
    still, moved = (video(x, time, {"tokens": tokens, "moving": each}) for each in (tokens, moving))
    assert float((still - moved).abs().max()) > 1e-4
    assert torch.equal(video(x, time, {"tokens": tokens}), still)
    condition = {"tokens": tokens, "moving": moving}
    video.told(condition)
    assert condition.keys() == {"tokens", "moving"}
    assert video.null_condition(2)["moving"].shape == (2, 6)


def test_only_the_layers_over_time_learn_and_a_description_makes_the_network_again(picture: Prompted) -> None:
    video = inflate(picture, reach=3)
    learn = {name for name, weight in video.named_parameters() if weight.requires_grad}
    assert learn == set(video.over_time())
    assert set(dict(picture.named_parameters())) == set(dict(video.named_parameters())) - learn
    again = build(describe(video))
    again.load_state_dict(video.state_dict())
    assert again.config == video.config


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"x": noise(2, 3, 5, 8, 8)}, "clips"),
        ({"x": noise(2, 3, 8, 8)[0]}, "clips"),
        ({"x": noise(2, 0, 4, 8, 8)}, "clips"),
        ({"time": torch.zeros(3)}, "one time for each"),
        ({"time": torch.zeros(2, 4)}, "one time for each"),
        ({"condition": None}, "context"),
        ({"condition": {"context": noise(6, 6, 16)}}, "context"),
        ({"condition": {**told(2), "motion": noise(3, 6, 16)}}, "motion"),
        ({"condition": {**told(2), "before": noise(2, 1, 4, 4, 4)}}, "frames before"),
        ({"condition": {**told(2), "before": noise(1, 1, 4, 8, 8)}}, "frames before"),
    ],
)
def test_what_does_not_fit_is_refused(picture: Prompted, change: dict, said: str) -> None:
    given = {"x": noise(2, 3, 4, 8, 8), "time": torch.zeros(2), "condition": told(2)} | change
    with pytest.raises(ValueError, match=said):
        shaken(picture).unet(**given)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"reach": 2}, "odd side"),
        ({"convolutions": 0}, "odd side"),
        ({"reach": 0}, "odd side"),
        ({"gated": True, "convolutions": 1}, "between two convolutions"),
    ],
)
def test_a_shape_that_is_none_is_refused(picture: Prompted, how: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        inflate(picture, **how)


# Agreement with diffusers --------------------------------------------------------------------------


def small(**how: bool | int) -> VideoUNetConfig:
    return VideoUNetConfig(**vars(UNET) | PUBLISHED | how)


def clip_of(config: VideoUNetConfig, frames: int) -> ToldClip:
    return ToldClip(noise(1), noise(1), None, config, frames, noise(1, 6, 16))


def with_random_weights(module: torch.nn.Module) -> torch.nn.Module:
    """Zeros hide what differs."""
    generator = torch.Generator().manual_seed(2)
    for weight in module.parameters():
        weight.data = 0.3 * torch.randn(weight.shape, generator=generator, dtype=torch.float64)
    return module.double().eval()


def ours(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Published weights under our names: one over frames is one over their channels."""
    mine = {}
    for name, weight in weights.items():
        found = re.fullmatch(r"(.*temp_convs.*\.|)(conv[1-4])\.(\d)\.(weight|bias)", name)
        if found:
            name = f"{found[1]}{found[2]}.{int(found[3] != '0')}.{found[4]}"
            weight = weight.transpose(1, 2).flatten(1, 2) if weight.ndim == 5 else weight
        mine[name] = weight
    return mine


def test_attention_over_time_agrees_with_diffusers() -> None:
    theirs = with_random_weights(TransformerTemporalModel(2, 8, in_channels=16, norm_num_groups=8))
    mine = TemporalTransformer(config := small(), 16, 2).double()
    mine.load_state_dict(theirs.state_dict())
    x = noise(6, 16, 5, 4)
    torch.testing.assert_close(
        mine(x, clip_of(config, 3)), theirs(x, num_frames=3).sample, rtol=0, atol=1e-11
    )


def test_attention_over_time_with_places_agrees_with_the_motion_module_of_diffusers() -> None:
    how = {"positional_embeddings": "sinusoidal", "num_positional_embeddings": 8, "norm_num_groups": 8}
    theirs = with_random_weights(AnimateDiffTransformer3D(2, 8, in_channels=16, **how))
    mine = TemporalTransformer(config := small(places=True), 16, 2).double()
    weights = theirs.state_dict()
    mine.load_state_dict({name: w for name, w in weights.items() if "pos_embed" not in name})
    x = noise(6, 16, 5, 4)
    # their table of sines is float32, as ours is before it is cast
    torch.testing.assert_close(mine(x, clip_of(config, 3)), theirs(x, num_frames=3), rtol=0, atol=1e-5)


def test_convolution_over_time_agrees_with_diffusers() -> None:
    theirs = with_random_weights(TemporalConvLayer(16, 16, norm_num_groups=8))
    mine = TemporalConv(config := small(), 16).double()
    mine.load_state_dict(ours(theirs.state_dict()))
    x = noise(6, 16, 5, 4)
    torch.testing.assert_close(mine(x, clip_of(config, 3)), theirs(x, num_frames=3), rtol=0, atol=1e-11)


def test_the_whole_network_agrees_with_diffusers() -> None:
    """Every weight of UNet3DConditionModel has its place, and nothing of ours is left over."""
    theirs = UNet3DConditionModel(
        block_out_channels=(16, 32),
        down_block_types=("CrossAttnDownBlock3D", "CrossAttnDownBlock3D"),
        up_block_types=("CrossAttnUpBlock3D", "CrossAttnUpBlock3D"),
        layers_per_block=1,
        cross_attention_dim=16,
        attention_head_dim=2,
        norm_num_groups=8,
    )
    generator = torch.Generator().manual_seed(2)
    for weight in theirs.parameters():  # small enough for the float32 of their sines not to grow
        weight.data += 0.05 * torch.randn(weight.shape, generator=generator)
    theirs = theirs.double().eval()
    # what they call the width of a head is the divisor: 16 // 2 heads, and 32 // 2
    mine = VideoUNet(replace(small(entry=True), linear=True, heads=(8, 16))).double()
    mine.load_state_dict(ours(theirs.state_dict()))
    x, context = noise(2, 3, 4, 8, 8), noise(2, 6, 16)
    for time in (0.0, 500.0):
        wanted = theirs(x.transpose(1, 2), time, context).sample.transpose(1, 2)
        drawn = mine(x, torch.full((2,), time), {"context": context})
        torch.testing.assert_close(drawn, wanted, rtol=0, atol=1e-10)


def test_shaking_the_weights_leaves_them_as_they_were(picture: Prompted) -> None:
    video = inflate(picture)
    before = {name: w.clone() for name, w in video.state_dict().items()}
    with perturbed(video):
        pass
    assert all(torch.equal(before[name], w) for name, w in video.state_dict().items())
