"""The safety check that belongs to a model: the published one beside its files, or one of scenes."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from diffusion_lessons import zoo
from diffusion_lessons.checkpoint import Checkpoint, CheckpointError
from diffusion_lessons.data.captions import captions, read
from diffusion_lessons.data.dataset import to_uint8
from diffusion_lessons.data.pictures import middle
from diffusion_lessons.data.scenes import FORMS, draw
from diffusion_lessons.data.tokenizer import Tokenizer
from diffusion_lessons.networks.clip import TwoTowers, VisionConfig, VisionTransformer
from diffusion_lessons.safety import SafetyCheck
from diffusion_lessons.zoo.published import load_weights, read_settings, read_weights

PUBLISHED, SCENES = "safety_checker", "scenes-clip"
CONCEPTS = ("a red cross",)  # an emblem that the Geneva Conventions protect; no scene of "train" shows it
CAPTIONS = 1000  # that the embeddings of a concept of scenes are made from
OFF = "Another seed or prompt may do; --no-safety-check turns the check off."
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of CLIP's pictures
VISION = {
    "image_size": "size",
    "patch_size": "patch",
    "hidden_size": "width",
    "intermediate_size": "hidden",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "hidden_act": "activation",
}


def safety_check(model: Checkpoint) -> SafetyCheck | None:
    """The check for a model's pictures, on the CPU; None where there is none.

    A published model has its own where `safety_checker` lies beside its files; a model of scenes has that of
    `scenes-clip`. One that cannot be read is a ValueError.
    """
    published = model.info.get("published")
    if published is not None:
        file = Path(published)
        folder = (file if file.is_dir() else file.parent) / PUBLISHED
        return published_check(folder) if folder.is_dir() else None
    return scenes_check() if model.recipe.get("data") == "scenes" else None


# Published -----------------------------------------------------------------------------------------


def published_check(folder: Path) -> SafetyCheck:
    """The check in a folder in diffusers' layout. What its concepts are was not published, only their number.

    Weights that don't fit, and a pickle, are a CheckpointError.
    """
    given, weights = read_settings(folder), checker_names(read_weights(folder))
    try:
        sizes = {VISION[name]: value for name, value in given["vision_config"].items() if name in VISION}
        config = VisionConfig(**sizes, projection=given.get("projection_dim", 512))
        count, special = len(weights["concept_embeds"]), len(weights["special_care_embeds"])
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{folder} is no safety checker that this version knows: {error}") from error
    names = [f"concept {i + 1} of {count}" for i in range(count)]
    with torch.device("meta"):
        check = SafetyCheck(
            VisionTransformer(config), lambda x: clip_pictures(x, config.size), names, special, OFF
        )
    load_weights(check, weights, folder, "check")
    return check


def checker_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The published names, which have one `vision_model` too many, as the check has them."""
    new = {}
    for name, weight in weights.items():
        if name.startswith("vis"):
            name = f"tower.{name.replace('vision_model.vision_model.', 'vision_model.')}"
        if not name.endswith(".position_ids"):  # a constant in older files
            new[name] = weight
    return new


def clip_pictures(pictures: Tensor, size: int) -> Tensor:
    """Pictures (B, 3, H, W) in [−1, 1] as CLIP sees them: the middle square in bytes, whitened."""
    squares = [middle(Image.fromarray(x), size) for x in to_uint8(pictures.cpu()).permute(0, 2, 3, 1).numpy()]
    x = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).float() / 255
    return (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


# Scenes --------------------------------------------------------------------------------------------


def scenes_check(folder: Path = zoo.FOLDER) -> SafetyCheck:
    """The check of scenes, by the bundled towers and with the thresholds on their card."""
    towers, tokenizer = zoo.load(SCENES, folder)
    about: dict[str, Any] = zoo.card(SCENES, folder).get("safety", {})
    if set(about) != set(CONCEPTS):
        raise ValueError(
            f"the card of {SCENES} has no thresholds: rebuild it, or sample with --no-safety-check"
        )
    rate = max(each["false_alarms"][2] for each in about.values())  # the upper end of its interval
    check = of_scenes(towers, tokenizer, f"Fewer than 1 picture in {int(1 / rate)} is a false alarm. {OFF}")
    thresholds = [each for name in CONCEPTS for each in about[name]["thresholds"]]
    check.concept_embeds_weights = torch.tensor(thresholds)
    return check


def of_scenes(towers: TwoTowers, tokenizer: Tokenizer, advice: str = "") -> SafetyCheck:
    """The check of scenes with thresholds of 1, which nothing reaches."""
    size = towers.vision.config.size

    def prepare(x: Tensor) -> Tensor:
        return x if x.shape[-1] == size else F.interpolate(x, (size, size), mode="bilinear", antialias=True)

    names = [name for name in CONCEPTS for _ in FORMS]
    check = SafetyCheck(towers.vision, prepare, names, advice=advice).to(towers.logit_scale.device)
    check.concept_embeds = torch.cat([embeddings(towers, tokenizer, name) for name in CONCEPTS])
    return check


@torch.no_grad()
def embeddings(towers: TwoTowers, tokenizer: Tokenizer, concept: str) -> Tensor:
    """What sets captions that name a kind of object apart from those that don't, (FORMS, projection).

    A row for each form of scene: with a single one for all, lone objects are hardly ever found.
    """
    index, (wanted,) = torch.arange(CAPTIONS), read(concept).objects
    scenes = draw(0, index, "held-out")
    texts = captions(scenes, 0, index)
    objects = [{(each.colour, each.shape) for each in read(text).objects} for text in texts]
    says = torch.tensor([(wanted.colour, wanted.shape) in each for each in objects])
    tokens = tokenizer(texts)["tokens"].to(towers.logit_scale.device)
    embeds = F.normalize(towers.text(tokens).projected, dim=-1)
    with_it = [embeds[says & (scenes.form == form)].mean(0) for form in range(len(FORMS))]
    return F.normalize(torch.stack(with_it) - embeds[~says].mean(0), dim=-1)
