"""Quality over evaluations: diffusion and flows at equal training, each with the same solvers (lesson 18).

The same network learns the same digits along the cosine path (target v) or along the straight one (target
flow), at uniform or at logit-normal shares of the path's time. A path is one thing in training and another in
sampling: `OnPath` has each model walk the other's levels, too. So all of them get Euler (which is DDIM),
Heun, DPM-Solver++(2M) and two adaptive solvers.

Three rows go on from the flow of their seed for as many steps again: "trained on" as before, a control;
"reflow" on pairs that the flow has made; "consistency" to answer at every place of a way with its end (Song
et al. 2023, algorithm 2, on the straight path). Real digits of the training split are the floor.
"""

import copy
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from diffusion_lessons.conditions import Condition
from diffusion_lessons.denoiser import Denoiser, NetworkDenoiser, OnPath
from diffusion_lessons.experiments import Experiment, Row, pictures
from diffusion_lessons.experiments.pictures import Digits, digits, headline, real
from diffusion_lessons.metrics import straightness
from diffusion_lessons.metrics.cost import count_evaluations
from diffusion_lessons.paths import Level, StraightPath, add_noise
from diffusion_lessons.runge_kutta import adaptive
from diffusion_lessons.samplers import ddim_step, dpmpp_2m, heun, trajectory
from diffusion_lessons.targets import TARGETS, Estimate
from diffusion_lessons.training import loop
from diffusion_lessons.training.recipe import PATHS, Recipe
from diffusion_lessons.training.rectified_flow import Reflow, pairs
from diffusion_lessons.training.tasks import Batch, Denoising, Forward

STEPS, SEEDS = 1000, 3
SMALL: Row = {
    "base_channels": 16,
    "head_dim": 16,
    "channel_mults": (1, 2),
    "attention_levels": (1,),
    "patch": 2,
}
RECIPE = replace(pictures.RECIPE, steps=STEPS, lr=3e-3, **SMALL)
ON = {"lr": 1e-3}  # of the rows that go on from a flow
MODELS: dict[str, Row] = {
    "diffusion": {"path": "cosine", "target": "v"},
    "diffusion, logit-normal": {"path": "cosine", "target": "v", "times": "logit-normal"},
    "flow": {"path": "straight", "target": "flow"},
    "flow, logit-normal": {"path": "straight", "target": "flow", "times": "logit-normal"},
}
AFTER = ("trained on", "reflow", "consistency")
FLOOR = "real"
PAIRS, PAIR_STEPS = 4000, 13  # made by Heun's method, 25 evaluations each
INTERVALS = 18  # of the ways that a consistency model learns
EVALUATIONS, FEW = (1, 2, 3, 5, 9, 19, 49), (3, 5, 9, 19)  # all odd but one: Heun's n steps cost 2n − 1
TOLERANCES = (0.1, 0.01)
LEAST = 0.0065  # where adaptive solvers stop: about the cleanest level of the cosine path
SHOWN_AT = (1, 5)  # steps whose pictures are kept
WALKS = 200  # starts of the straightness


class Shared(NamedTuple):
    """What all rows use; the flows are kept by seed, since others go on from them."""

    digits: Digits
    flows: dict[int, nn.Module]


def prepare(options: Row) -> Shared:
    return Shared(digits(RECIPE, options), {})


def settings(options: Row) -> list[Row]:
    seeds = range(options["seed"], options["seed"] + SEEDS)
    trained = [{"seed": seed, "model": name} for seed in seeds for name in (*MODELS, *AFTER)]
    return [{"seed": options["seed"], "model": FLOOR}, *trained]


# Training ------------------------------------------------------------------------------------------


class Consistency(Denoising):
    """Learn to answer everywhere on a way of the teacher with the end of that way (Song et al. 2023).

    With the target flow x̂₀ = x − t·v: at t = 0 it is x itself, whatever the network says, as it has to be.
    """

    def __init__(self, recipe: Recipe, dataset: Any, teacher: nn.Module, intervals: int = INTERVALS) -> None:
        super().__init__(recipe, dataset, copy.deepcopy(teacher))
        self.teacher, self.intervals = NetworkDenoiser(teacher, self.path, self.target), intervals

    def batch(self, step: int, most: int | None = None) -> Batch:
        batch = super().batch(step, most)
        return batch._replace(t=(batch.t * self.intervals).ceil() / self.intervals)

    def loss(self, forward: Forward, batch: Batch) -> Tensor:
        x0, noise, t, condition = batch
        now, next = self.path(t), self.path((t - 1 / self.intervals).clamp(min=0))
        x = add_noise(x0, noise, now)
        student = NetworkDenoiser(forward, self.path, self.target)  # type: ignore[arg-type]
        with torch.no_grad():
            nearer = ddim_step(x, self.teacher(x, now, condition), now, next)
            above = self.path(next.t.clamp(min=1e-3))  # at the end the answer is x, whoever is asked
            wanted = student(nearer, above, condition).x0
        return (student(x, now, condition).x0 - wanted).square().mean()


def recipe_of(row: Row, steps: int) -> Recipe:
    """How a row is trained; those that go on train as a flow."""
    how = MODELS.get(row["model"], {**MODELS["flow"], **ON})
    return replace(RECIPE, seed=row["seed"], steps=steps, **how)


def trained(shared: Shared, row: Row, steps: int = STEPS, rows: int = PAIRS) -> nn.Module:
    """The network of a row, with averaged weights, to evaluate."""
    device, recipe, data = shared.digits.device, recipe_of(row, steps), shared.digits.train
    if row["model"] in MODELS and row["model"] != "flow":
        return loop.fit(Denoising(recipe, data), device)
    seed = row["seed"]
    if seed not in shared.flows:
        shared.flows[seed] = loop.fit(Denoising(recipe_of({**row, "model": "flow"}, steps), data), device)
    flow = shared.flows[seed]
    if row["model"] == "flow":
        return flow
    task: Denoising
    if row["model"] == "reflow":
        noise = torch.randn(rows, *data.shape, generator=torch.Generator().manual_seed(1000 + seed))
        teacher, levels = (
            NetworkDenoiser(flow, StraightPath(), TARGETS["flow"]),
            StraightPath().levels(PAIR_STEPS),
        )
        made = pairs(teacher, noise.to(device), levels, torch.arange(rows, device=device) % 10, data.classes)
        task = Reflow(recipe, made, copy.deepcopy(flow))
    elif row["model"] == "consistency":
        task = Consistency(recipe, data, flow)
    else:
        task = Denoising(recipe, data, copy.deepcopy(flow))
    return loop.fit(task, device)


# Measuring -----------------------------------------------------------------------------------------


def fresh_step(x: Tensor, estimate: Estimate, now: Level, next: Level, noise: Tensor) -> Tensor:
    """To the next level with new noise alone: how a consistency model takes several steps."""
    return add_noise(estimate.x0, noise, next)


def walks(row: Row) -> dict[str, list[Row]]:
    """What is drawn with a model: for each solver the steps, or the tolerances, that it is given."""
    if row["model"] == "consistency":
        return {"fresh noise": [{"n": n, "step": fresh_step} for n in (1, 2, 3, 5)]}
    if row["model"] in AFTER:
        return {"euler": [{"n": n} for n in EVALUATIONS[:-1]]}
    found: dict[str, list[Row]] = {
        "euler": [{"n": n} for n in EVALUATIONS],
        "euler, the other path": [{"n": n, "other": True} for n in FEW],
        "heun": [{"n": (n + 1) // 2, "sampler": heun} for n in FEW],
        "dpmpp-2m": [{"n": n, "sampler": dpmpp_2m} for n in FEW],
    }
    for method in ("rk23", "rk45"):
        how = {"sampler": adaptive, "method": method, "least": LEAST}
        found[method] = [{"n": 1, "rtol": each, "atol": each, **how} for each in TOLERANCES]
    return found


def drawn(
    shared: Shared, row: Row, network: nn.Module, options: Row, n: int, keep: bool = False, **how: Any
) -> Row:
    """The headline of the digits of one solver, and the evaluations that each of them took."""
    recipe = recipe_of(row, STEPS)
    own, straight = PATHS[recipe.path](), StraightPath()
    denoiser: Denoiser = NetworkDenoiser(network, own, TARGETS[recipe.target])
    path = own
    if how.pop("other", False):
        path = PATHS["straight" if recipe.path == "cosine" else "cosine"]()
    elif how.get("sampler") is adaptive:
        path = straight
    denoiser = denoiser if path is own else OnPath(denoiser, own)
    with count_evaluations(network) as count:
        found = shared.digits.measure(denoiser, path.levels(n), options["n"], row["seed"], keep, **how)
    return {"evaluations": count.pictures / options["n"], **found}


def bent(shared: Shared, row: Row, network: nn.Module) -> float:
    """Straightness of the ways on the straight path, a mean over walks: in units of the chord's square."""
    recipe, device = recipe_of(row, STEPS), shared.digits.device
    path = PATHS[recipe.path]()
    flow = OnPath(NetworkDenoiser(network, path, TARGETS[recipe.target]), path)
    noise = torch.randn(
        WALKS, *shared.digits.train.shape, generator=torch.Generator().manual_seed(row["seed"])
    )
    labels: Condition = torch.arange(WALKS, device=device) % 10
    noise, levels = noise.to(device), StraightPath().levels(25)
    *_, (_, ends, _) = trajectory(flow, noise, levels, labels)
    return float(
        (straightness(flow, noise, levels, labels) / (noise - ends).square().flatten(1).sum(1)).mean()
    )


def measure(shared: Shared, row: Row, options: Row, steps: int = STEPS, rows: int = PAIRS) -> Row:
    """Train one network; what each solver draws with it, by the evaluations that a picture takes."""
    if row["model"] == FLOOR:
        return headline(real("digits", options))
    network = trained(shared, row, steps, rows)
    solvers: dict[str, Row] = {}
    kept: Row = {}
    for name, each in walks(row).items():
        keep = row["seed"] == options["seed"] and not solvers
        found = [drawn(shared, row, network, options, keep=keep, **how) for how in each]
        if keep:
            shown = zip(each, (one.pop("pictures") for one in found), strict=True)
            kept = {f"pictures_{how['n']}": drawing for how, drawing in shown if how["n"] in SHOWN_AT}
        solvers[name] = {key: [one[key] for one in found] for key in found[0]}
    first = next(iter(solvers.values()))
    return {
        "steps": steps,
        "parameters": sum(p.numel() for p in network.parameters()),
        "straightness": bent(shared, row, network),
        "one_step": first["frechet"][0],
        "frechet": min(first["frechet"]),
        "solvers": solvers,
        **kept,
    }


COLUMNS = "model seed straightness one_step frechet seconds"
EXPERIMENT = Experiment(__name__, __doc__, COLUMNS, settings, prepare, measure)
