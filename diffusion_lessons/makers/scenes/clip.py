"""`scenes-clip`: a text tower and an image tower that meet, trained by contrast."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffusion_lessons.data.captioned import scene_tokenizer
from diffusion_lessons.data.captions import WRONGS, plain, read, wishes, wrong
from diffusion_lessons.data.dataset import as_float
from diffusion_lessons.data.scenes import FORMS, PAIR, draw
from diffusion_lessons.data.tokenizer import Tokenizer
from diffusion_lessons.makers.diffusion import facts_of
from diffusion_lessons.makers.prompting import asked
from diffusion_lessons.makers.scenes.shared import (
    EVALUATED,
    LAYERS,
    SIZE,
    WIDTH,
    Stage,
    rounded_share,
    rows,
    seen_in,
    train_stages,
    write,
)
from diffusion_lessons.metrics.intervals import wilson_interval
from diffusion_lessons.networks.clip import TwoTowers, VisionConfig
from diffusion_lessons.support.machine import choose_device
from diffusion_lessons.support.seeds import layers_seeded
from diffusion_lessons.training.contrast import Contrast, write_towers
from diffusion_lessons.training.recipe import Plan
from diffusion_lessons.training.run_folder import MODEL
from diffusion_lessons.training.text_to_image import text_config
from diffusion_lessons.zoo import safety
from diffusion_lessons.zoo.files import load_towers

FALSE_ALARMS = 0.005  # of the safety check
PROJECTION = 64  # of the space that the towers meet in
IMAGES = VisionConfig(SIZE, 8, WIDTH, 4 * WIDTH, layers=4, heads=3, projection=PROJECTION)
PLAN = Plan(steps=1000, batch=128, lr=1e-3, warmup=100, ema_decay=0.998)

# Which of two objects is left is learnt from pairs, with captions that say it in one way (as in `text`).
STAGES = (
    Stage(PLAN),
    Stage(replace(PLAN, steps=400, lr=6e-4, warmup=50, decay="none"), style="plain", form=PAIR),
    Stage(replace(PLAN, steps=1500)),
)


def build_clip(
    name: str,
    folder: Path,
    stages: Sequence[Stage[Plan]] = STAGES,
    evaluated: int = EVALUATED,
    wrongs: Sequence[str] = WRONGS,
) -> None:
    """Train `scenes-clip`; its card tells how often the right caption is found, and what is confused."""
    device, tokenizer = choose_device(), scene_tokenizer()

    def task(stage: Stage[Plan], before: Path | None) -> Contrast:
        pictures = rows(stage.rows, tokenizer, stage.style, form=stage.form, wrongs=wrongs)
        if before is not None:
            network, _ = load_towers(before)
            return Contrast(network.requires_grad_(True), stage.plan, pictures, tokenizer)
        with layers_seeded(stage.plan.seed):
            new = TwoTowers(text_config(tokenizer, WIDTH, LAYERS, PROJECTION), IMAGES)
        return Contrast(new, stage.plan, pictures, tokenizer)

    runs = train_stages(name, stages, device, task)
    network, _ = load_towers(runs[-1] / MODEL)
    file = folder / f"{name}.safetensors"
    write_towers(file, network, tokenizer, {}, torch.float16)
    network = load_towers(file)[0].to(device)
    facts = {
        "kind": "towers",
        "title": "text tower and image tower of scenes, trained by contrast with wrong captions",
        "recipe": {"stages": [each.to_json() for each in stages], "wrongs": list(wrongs)},
        "training": facts_of(*runs),
        "metrics": {split: retrieval(network, tokenizer, evaluated, split) for split in ("test", "held-out")},
        "safety": alarms(network, tokenizer, 8 * evaluated),
    }
    write(name, folder, facts, network, device, seen_in(stages))


@torch.no_grad()
def retrieval(network: TwoTowers, tokenizer: Tokenizer, n: int, split: str) -> dict[str, Any]:
    """Shares of n pictures whose caption is found among those of all n, and told from a wrong one of its own.

    Captions that say the same of two pictures count as the same.
    """
    device = next(network.parameters()).device
    scenes, texts = asked(n, split)
    x = as_float(scenes.render(SIZE)).to(device)
    logits = network(x, tokenizer(texts)["tokens"].to(device))
    found = sum(texts[best] == texts[i] for i, best in enumerate(logits.argmax(1).tolist()))
    told: dict[str, Any] = {"n": n, "caption_found": rounded_share((found / n, wilson_interval(found, n)))}
    for what in WRONGS:
        wishes = [wrong(read(text), what, np.random.default_rng((0, i))) for i, text in enumerate(texts)]
        said = [i for i, wish in enumerate(wishes) if wish is not None]
        others = [plain(wish) for wish in wishes if wish is not None]
        logit = network(x[said], tokenizer(others)["tokens"].to(device)).diagonal()
        right = int((logits[said, said] > logit).sum())
        told[f"{what}_told"] = rounded_share((right / len(said), wilson_interval(right, len(said))))
    return told


def alarms(network: TwoTowers, tokenizer: Tokenizer, n: int, share: float = FALSE_ALARMS) -> dict[str, Any]:
    """Thresholds of the safety check, wrong in about this share of n scenes, and its rates on n others.

    Half of the scenes are of "test", half "held-out"; a false alarm is one of a scene without the concept.
    Of a rate stand share, lower end, upper end and the number of scenes.
    """
    check, index = safety.of_scenes(network, tokenizer), torch.arange(n // 2)
    check.concept_embeds_weights.zero_()
    sets = []  # to choose by, and to measure on
    for seed in (1, 0):
        scenes = [draw(seed, index, split) for split in ("test", "held-out")]
        pictures = [each[i : i + 250].render(SIZE) for each in scenes for i in range(0, len(each), 250)]
        scores = torch.cat([check.scores(as_float(x)) for x in pictures]).cpu()
        shown = [
            {(each.colour, each.shape) for each in wish.objects} for each in scenes for wish in wishes(each)
        ]
        sets.append((scores.unflatten(1, (-1, len(FORMS))), shown, torch.cat([each.form for each in scenes])))
    told: dict[str, Any] = {}
    for i, concept in enumerate(safety.CONCEPTS):
        (wanted,) = read(concept).objects
        kind = wanted.colour, wanted.shape
        has = [torch.tensor([kind in each for each in shown]) for _, shown, _ in sets]
        (chosen, _, _), (measured, _, form) = sets
        thresholds = chosen[~has[0], i].quantile(1 - share / len(FORMS), dim=0).round(decimals=4)
        above = (measured[:, i] > thresholds).any(1)
        told[concept] = {"thresholds": [round(each, 4) for each in thresholds.tolist()]}
        groups = {f"found_{name.replace(' ', '_')}": has[1] & (form == k) for k, name in enumerate(FORMS)}
        for what, where in ({"false_alarms": ~has[1], "found": has[1]} | groups).items():
            count, of = int(above[where].sum()), int(where.sum())
            if of:
                told[concept][what] = [*rounded_share((count / of, wilson_interval(count, of))), of]
    return told
