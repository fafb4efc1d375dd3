"""References of lesson 15 that no single function of the system is: they say what the system does."""

import torch

from diffusion_lessons import zoo
from diffusion_lessons.conditions import as_dict
from diffusion_lessons.course.bank.lesson_15 import ancestral_step, conditioning_input, keep_in_guess, repaint
from diffusion_lessons.experiments.inpainting import holes
from diffusion_lessons.mixtures import GaussianMixture
from diffusion_lessons.painting import Begun, Canvas
from diffusion_lessons.samplers import there_and_back
from diffusion_lessons.training.recipe import PATHS


def test_the_nine_channels_are_those_that_a_canvas_tells_the_network() -> None:
    model, task = zoo.load("scenes-inpaint"), holes(1)
    assert model.vae is not None
    x = torch.randn(1, *model.shape, generator=torch.Generator().manual_seed(0))
    told = as_dict(Begun(Canvas(task.pictures, mask=task.masks), model).told(None, 1))["known"]
    with torch.no_grad():
        made = conditioning_input(x, task.pictures, task.masks, model.vae.encode)
    assert made.equal(torch.cat([x, told], 1))


def test_points_of_which_one_number_is_known_are_taken_as_the_lesson_gives_them() -> None:
    clouds = GaussianMixture(torch.tensor([[-1.0, -1.0], [1.0, 1.0]]).double(), 0.3)
    known, part = torch.tensor([[0.3, 0.0]]).double(), torch.tensor([[0.0, 1.0]]).double()
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(0)).double()
    levels = there_and_back(PATHS["cosine"]().levels(4), 2, 2)
    x0, _ = keep_in_guess(clouds, x, levels[0], known, part)
    assert (x0[:, 0] == known[0, 0]).all()
    drawn = repaint(clouds, x, levels, known, part, ancestral_step, lambda k: x)
    assert (drawn[:, 0] == known[0, 0]).all()
    assert drawn[:, 1].isfinite().all()
