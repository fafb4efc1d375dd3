"""The bundled models of scenes do what their cards say, on a few pictures."""

import pytest
import torch

from diffusion_lessons import zoo
from diffusion_lessons.data.captions import captions
from diffusion_lessons.data.dataset import to_uint8
from diffusion_lessons.data.scenes import draw
from diffusion_lessons.filming import clips_measured
from diffusion_lessons.generate import generate, walk
from diffusion_lessons.makers.scenes.clip import retrieval
from diffusion_lessons.makers.scenes.inpaint import holes_met
from diffusion_lessons.makers.scenes.vae import redrawn
from diffusion_lessons.metrics.captions_met import captions_met


def test_the_autoencoder_draws_scenes_again_so_that_they_are_read_as_before() -> None:
    told = redrawn(zoo.load("scenes-vae"), 64)
    assert told["psnr"] == pytest.approx(zoo.card("scenes-vae")["metrics"]["psnr"], abs=1)
    assert told["latents_std"] == pytest.approx(1, abs=0.1)
    assert told["read_right"][0] > 0.95


def test_the_towers_find_captions_and_know_what_their_card_says_they_know() -> None:
    towers, tokenizer = zoo.load("scenes-clip")
    told, card = retrieval(towers, tokenizer, 100, "held-out"), zoo.card("scenes-clip")["metrics"]["held-out"]
    for what in told.keys() - {"n", "caption_found"}:  # fewer captions are easier to find among
        low, high = told[what][1:]
        assert low - 0.05 < card[what][0] < high + 0.05


def test_text_to_image_meets_captions_as_often_as_its_card_says() -> None:
    model, index = zoo.load("scenes-text"), torch.arange(1000, 1032)
    texts = captions(draw(0, index, "test"), 0, index, unsized=0)
    pictures = generate(model, model.prompts(texts), seed=1, device="cpu", precision="float32")
    met, card = (
        captions_met(to_uint8(pictures.clamp(-1, 1)), texts),
        zoo.card("scenes-text")["metrics"]["test"],
    )
    for what in ("objects", "sizes", "everything"):
        low, high = met[what][1]
        assert low <= card[what][0] <= high


def test_a_caption_makes_the_picture() -> None:
    """The same noise with other words is another picture, and the wanted one."""
    model = zoo.load("scenes-text")
    texts = ["a large red circle", "a small blue square", "three yellow circles"]
    noise = torch.randn(1, *model.shape, generator=torch.Generator().manual_seed(0)).expand(3, -1, -1, -1)
    *_, (_, latents, _) = walk(model, model.prompts(texts), noise, precision="float32")
    pictures = model.pictures(latents).clamp(-1, 1)
    assert captions_met(to_uint8(pictures), texts)["everything"][0] == 1


def test_holes_are_painted_as_their_caption_says() -> None:
    model, told = zoo.load("scenes-inpaint"), zoo.card("scenes-inpaint")["metrics"]
    met = holes_met(model, torch.device("cpu"), 16)
    for what in ("number", "objects", "everything"):
        low, high = met[what][1:]
        assert low <= told[what][0] <= high


def test_clips_move_as_their_caption_says_and_frames_apart_do_not() -> None:
    model, told = zoo.load("scenes-video"), zoo.card("scenes-video")["metrics"]
    assert told["from a first frame"]["motion"][1] > 0.9 and told["frames apart"]["motion"][2] < 0.5
    how = {"device": "cpu", "guidance": 1.0, "steps": 6}
    met = clips_measured(model, 4, ("from a first frame",), **how)["from a first frame"]
    low, high = met["motion"][1]
    assert low <= told["from a first frame"]["motion"][0] <= high
    assert met["jitter"][0] < 4 < told["frames apart"]["jitter"][1]  # pixels of 64
