"""References of lesson 15 that no single function of the system is: they say what the system does."""

import torch

from diffusion_lessons import zoo
from diffusion_lessons.conditions import as_dict
from diffusion_lessons.course.bank.lesson_15 import conditioning_input
from diffusion_lessons.experiments.inpainting import holes
from diffusion_lessons.painting import Begun, Canvas


def test_the_nine_channels_are_those_that_a_canvas_tells_the_network() -> None:
    model, task = zoo.load("scenes-inpaint"), holes(1)
    assert model.vae is not None
    x = torch.randn(1, *model.shape, generator=torch.Generator().manual_seed(0))
    told = as_dict(Begun(Canvas(task.pictures, mask=task.masks), model).told(None, 1))["known"]
    with torch.no_grad():
        made = conditioning_input(x, task.pictures, task.masks, model.vae.encode)
    assert made.equal(torch.cat([x, told], 1))
