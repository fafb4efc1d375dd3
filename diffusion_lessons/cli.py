"""The system's commands: train, sample, evaluate, experiment, zoo, export; `__main__` adds the course's."""

import json as json_module
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch
from tyro.conf import OmitArgPrefixes, Positional, UseAppendAction, arg

from diffusion_lessons import experiments
from diffusion_lessons.checkpoint import Checkpoint
from diffusion_lessons.conditions import Condition, label_of
from diffusion_lessons.data import FOLDER, SCENES, SHARDS
from diffusion_lessons.data.dataset import to_float
from diffusion_lessons.support.console import Device, Json, report
from diffusion_lessons.support.errors import unknown
from diffusion_lessons.support.files import writable_file
from diffusion_lessons.training.recipe import Recipe

if TYPE_CHECKING:
    from diffusion_lessons.painting import Canvas

Model = Annotated[str, arg(help="a file, the folder of a training run, or a zoo name")]
ALIKE = 0.02  # by which the proportions of a picture and its mask may differ: sides are rounded
Provider = Annotated[str | None, arg(help="what runs an exported model: cpu (if left out), cuda or tensorrt")]


@dataclass(frozen=True)
class Sampling:
    """How pictures are drawn."""

    # the comments behind the fields are what --help says
    sampler: str = "ddim"  # ddim, ddpm, heun or dpmpp-2m
    steps: int | None = None  # 25, or what a model was distilled for, if left out
    guidance: float | None = None  # 1 is plain conditional; the model's own, mostly 2, if left out
    spacing: str | None = None  # trailing, leading, linspace or stable-diffusion; the model's own if left out
    precision: str = "auto"  # auto (bf16 where the hardware has it) or float32
    seed: int = 0  # same seed, same machine, same pictures; from 0 to 2^63 - 1

    def of(self, model: Checkpoint) -> dict[str, Any]:
        """What `generate` is told: what was asked for, and the model's own where nothing was."""
        asked = {name: value for name, value in vars(self).items() if value is not None}
        return {"spacing": "trailing", **model.sampling, **asked}


@dataclass(frozen=True)
class Wish:
    """What to draw, in words and pictures, for models that were trained with captions."""

    prompt: UseAppendAction[tuple[str, ...]] = ()  # what to draw; several, each with its own --prompt
    negative: str | None = None  # what to keep away from
    size: int | None = None  # height and width in pixels; the model's own if left out
    init: Path | None = None  # a picture to begin with
    strength: float = 1.0  # how much of --init to change, above 0, at most 1
    mask: Path | None = None  # a picture that is white where --init is to be painted over
    frames: int | None = None  # of clips, for models that draw them; 8 if left out

    def sized(self, model: Checkpoint) -> Checkpoint:
        """The model, for samples of the wanted size."""
        if self.size is None:
            return model
        factor = 1 if model.vae is None else model.vae.config.factor
        if model.vae is None or self.size < factor or self.size % factor:
            wanted = "its own, leave it out" if model.vae is None else f"a multiple of {factor}"
            raise ValueError(f"the size of this model's pictures is {wanted}; got {self.size}")
        side = self.size // factor
        return replace(model, shape=(*model.shape[:-2], side, side))

    def condition(self, model: Checkpoint, n: int, label: str | None) -> Condition:
        """Each prompt n times, or labels for a model that knows those."""
        from diffusion_lessons.data.captions import read
        from diffusion_lessons.data.clips import asked
        from diffusion_lessons.generate import labels_for

        if not self.prompt and model.tokenizer is None:
            return labels_for(model, n, label)
        if label is not None and model.tokenizer is not None:
            raise ValueError("this model is told what to draw by --prompt, not by --label")
        if n < 1:
            raise ValueError(f"the number of samples must be at least 1, got {n}")
        condition = model.prompts([prompt for prompt in self.prompt or [""] for _ in range(n)])
        of_scenes = model.recipe.get("data") == SCENES or self.clips(model)
        for prompt in filter(None, self.prompt if of_scenes else ()):
            try:
                read(asked(prompt).there if self.clips(model) else prompt)
            except ValueError as error:
                warnings.warn(f"{error}. It is drawn all the same", stacklevel=2)
        return condition

    def clips(self, model: Checkpoint) -> bool:
        """Whether the model draws clips; what does not go with that is a ValueError."""
        from diffusion_lessons.networks import Video

        draws = isinstance(model.network, Video)
        if self.frames is not None and not draws:
            raise ValueError("--frames is for models of clips, and this one draws pictures")
        if draws and (self.mask is not None or self.strength != 1):
            raise ValueError(
                "a clip begins with the picture of --init as it is: leave out --mask and --strength"
            )
        return draws

    def negated(self, model: Checkpoint, guidance: float) -> dict[str, Any]:
        """What `generate` is told of the words to keep away from, at this scale of guidance."""
        if self.negative is None:
            return {}
        negative = model.prompts([self.negative])
        if guidance == 1:
            raise ValueError("--negative is what guidance leads away from: it needs --guidance above 1")
        return {"negative": negative}

    def canvas(self, model: Checkpoint) -> "Canvas | None":
        """The picture to begin with, in the model's size."""
        from diffusion_lessons.data.pictures import read_square
        from diffusion_lessons.painting import Canvas

        if self.init is None:
            if self.mask is not None or self.strength != 1:
                raise ValueError("--mask and --strength say what to do with a picture: give it with --init")
            return None
        side = model.shape[-1] * (1 if model.vae is None else model.vae.config.factor)

        def opened(file: Path) -> torch.Tensor:
            try:
                return torch.tensor(read_square(file, side)).permute(2, 0, 1)[None]  # (1, 3, side, side)
            except (OSError, ValueError) as error:
                raise ValueError(f"cannot read the picture {file}: {error}") from error

        picture, mask = to_float(opened(self.init)), None
        if self.mask is not None:
            mask = (opened(self.mask).float().mean(1, keepdim=True) > 127).float()
            self._check_mask(mask)
        return Canvas(picture.mean(1, keepdim=True) if model.shape[-3] == 1 else picture, self.strength, mask)

    def _check_mask(self, mask: torch.Tensor) -> None:
        """A ValueError where a mask is empty, or lies beside its picture, for both are cut to squares."""
        from diffusion_lessons.data.pictures import upright_size

        assert self.init is not None
        assert self.mask is not None
        (width, height), (across, down) = upright_size(self.init), upright_size(self.mask)
        if abs(width / height / (across / down) - 1) > ALIKE:
            raise ValueError(
                f"the mask {self.mask} has {across}×{down} pixels and the picture {self.init} "
                f"{width}×{height}: a mask lies over its picture, so give one of the same proportions"
            )
        if not mask.any():
            at = f"at {mask.shape[-1]}×{mask.shape[-1]}"
            raise ValueError(f"the mask {self.mask} is white nowhere {at}: white is where to paint")


class Asked(Recipe):
    """Everything that decides how a denoiser is trained. The same recipe and data give the same model."""

    def __post_init__(self) -> None:
        """Checked by `train` alone, whose errors are one line."""


def train_on(args: Sequence[str]) -> Callable[..., None]:
    """`train` for these arguments; its options default to what suits the data that are named first."""
    if list(args[:2]) != ["train", SCENES]:
        return train
    from diffusion_lessons.makers.scenes.text import RECIPE

    return partial(train, recipe=Asked(**vars(RECIPE) | {"steps": None}))


def told(how: dict[str, Any]) -> dict[str, Any]:
    """The same for --json, where "precision" is a figure of `evaluate`: drawn in "sampling_precision"."""
    return {"sampling_precision" if name == "precision" else name: value for name, value in how.items()}


def train(
    data: Annotated[
        Positional[str],
        arg(help="digits, mnist, fashion_mnist, cifar10, folder:PATH, shards:PATTERN; or scenes, by its own"),
    ],
    recipe: OmitArgPrefixes[Asked],
    out: Annotated[Path, arg(help="folder for model.safetensors, metrics.json and what --resume needs")],
    resume: Annotated[
        bool, arg(help="go on where the run in --out stopped; a finished one, with a larger budget")
    ] = False,
    from_: Annotated[
        Model | None, arg(name="from", help="start from these (averaged) weights, of a network of this shape")
    ] = None,
    captions: Annotated[
        bool, arg(help="learn from captions beside the pictures: NAME.txt, a folder's metadata.jsonl or .csv")
    ] = False,
    device: Device = None,
    json: Json = False,
) -> None:
    """Train a diffusion model: class-conditional, from captions, or without either where there are none."""
    from diffusion_lessons.data import load_dataset
    from diffusion_lessons.onnx_files.opening import is_onnx
    from diffusion_lessons.support.processes import Processes
    from diffusion_lessons.training.loop import train as run
    from diffusion_lessons.training.run_folder import prepare
    from diffusion_lessons.training.tasks import Denoising
    from diffusion_lessons.zoo import open_model

    if recipe.data != (SCENES if data == SCENES else Recipe.data):  # defaults of the one, data of the other
        raise ValueError(
            f"name the data right behind `train`, as in: train {data} --minutes 20 --out out/run"
        )
    plan = Recipe(**vars(recipe) | {"data": data})
    if captions and data != SCENES and not data.startswith((FOLDER, SHARDS)):
        yours = f"{FOLDER}PATH or {SHARDS}PATTERN"
        raise ValueError(f"--captions is for pictures of your own, {yours}, and not for {data}")
    if data.startswith(SHARDS) and not captions:
        raise ValueError(f"what is learnt of {SHARDS}PATTERN are its captions: add --captions")
    prepare(out, resume)  # said now, not after minutes of rendering
    start = None if from_ is None else open_model(from_)
    if start is not None and is_onnx(Path(from_ or "")):
        raise ValueError(
            f"{from_} is an exported model, whose weights are fixed: start from what it was made of"
        )
    task: Denoising
    if data == SCENES:
        from diffusion_lessons.makers.scenes.text import live_task

        task = live_task(plan, device, start, from_)
    elif captions:
        from diffusion_lessons.training.text_to_image import from_folder, from_shards

        with Processes(device).ahead():  # who indexes shards, and keeps what it has found
            task = (from_shards if data.startswith(SHARDS) else from_folder)(plan, start, from_)
    else:
        dataset = load_dataset(data, "train", plan.size)
        known = None if start is None or resume else start.network  # a resumed run has its own weights
        task = Denoising(plan, dataset, plan.build_network(dataset, known), from_)
    print(task.dataset.words(), file=sys.stderr)
    result = run(task, out, resume=resume, device=device)
    files = [out / "model.safetensors", out / "metrics.json"]
    words = f"{result['steps']} steps, {result['images_per_second']:.0f} images/s, loss {result['loss']:.4f}"
    report(json, {"checkpoint": str(files[0]), **result}, words, files)


def sample(
    checkpoint: Positional[Model],
    sampling: OmitArgPrefixes[Sampling],
    wish: OmitArgPrefixes[Wish],
    label: Annotated[str | None, arg(help="class number or name; all in turn if left out")] = None,
    n: Annotated[int | None, arg(help="number of pictures; 64, or 1 of each prompt")] = None,
    safety_check: Annotated[
        bool, arg(help="show grey for pictures of what a model's safety check names")
    ] = True,
    out: Annotated[Path, arg(help=".png grid, .gif of the trajectory or clip, or .npz: x, y")] = Path(
        "samples.png"
    ),
    provider: Provider = None,
    device: Device = None,
    json: Json = False,
) -> None:
    """Draw pictures, or clips, from a trained model; of several processes each draws its part."""
    from diffusion_lessons.clips import film, save_clips
    from diffusion_lessons.generate import generate, save_samples, save_trajectory
    from diffusion_lessons.support.processes import Processes
    from diffusion_lessons.zoo import open_model, safety

    if out.suffix not in (".png", ".gif", ".npz"):
        raise unknown("kind of output", out.suffix, (".png", ".gif", ".npz"))
    model = wish.sized(open_model(checkpoint, provider))
    clips = wish.clips(model)
    n = n if n is not None else 1 if wish.prompt or clips else 64
    condition, canvas, how = wish.condition(model, n, label), wish.canvas(model), sampling.of(model)
    drawn = how | wish.negated(model, how["guidance"])
    columns, n = (n, n * len(wish.prompt)) if len(wish.prompt) > 1 else (None, n)  # a row for each prompt
    writable_file(out)
    check, processes = safety.safety_check(model) if safety_check else None, Processes(device)
    if check is not None:
        check.to(processes.device)
    elif "published" in model.info and safety_check:
        print(f"no safety check: no folder {safety.PUBLISHED} beside the model's files", file=sys.stderr)
    if clips:  # all of them by the first process
        drawn |= {"first": canvas and canvas.picture, "device": processes.device}
    else:
        drawn |= {"canvas": canvas, "check": check, "processes": processes}
    started = time.perf_counter()
    if clips:
        drawn |= {} if wish.frames is None else {"frames": wish.frames}
        if processes.rank == 0:
            save_clips(film(model, condition, **drawn), out, columns)
    elif out.suffix == ".gif":
        save_trajectory(model, condition, n, out, columns=columns, **drawn)
    else:
        pictures = generate(model, condition, n, progress=True, **drawn)
        if processes.rank == 0:
            save_samples(pictures, label_of(condition), out, columns)
    seconds = time.perf_counter() - started
    asked = {name: str(value) if isinstance(value, Path) else value for name, value in vars(wish).items()}
    facts = {"out": str(out), "n": n, "label": label, **asked, **told(how), "seconds": round(seconds, 3)}
    facts["safety_check"] = check is not None
    report(
        json,
        {**facts, "torch": torch.__version__},
        f"{n} {'clip' if clips else 'picture'}{'s' * (n > 1)} in {seconds:.1f} s",
        [out],
    )


def evaluate(
    checkpoint: Positional[Model],
    sampling: OmitArgPrefixes[Sampling],
    n: Annotated[int, arg(help="number of samples to measure on")] = 1000,
    data: Annotated[
        str | None, arg(help="data set to compare with, or scenes to draw; the model's own if left out")
    ] = None,
    yardstick: Annotated[
        str | None,
        arg(help="file or zoo name of a classifier to measure by; bundled, or trained on data, if left out"),
    ] = None,
    provider: Provider = None,
    device: Device = None,
    json: Json = False,
) -> None:
    """Measure samples: distances, precision, recall; of scenes, captions met; of clips, how they move."""
    from diffusion_lessons import filming
    from diffusion_lessons.generate import generate, labels_for
    from diffusion_lessons.makers.prompting import folder_prompts, measure_scenes, words_of
    from diffusion_lessons.makers.yardsticks import yardstick_for
    from diffusion_lessons.metrics.evaluate import evaluate as measure
    from diffusion_lessons.metrics.evaluate import figures
    from diffusion_lessons.networks import Video
    from diffusion_lessons.support.processes import Processes
    from diffusion_lessons.zoo import open_model

    model, processes = open_model(checkpoint, provider), Processes(device)
    data, how = data or model.data, sampling.of(model)
    about = {"checkpoint": checkpoint, **told(how)}
    if isinstance(model.network, Video):
        if yardstick is not None or data != model.data:
            raise ValueError("clips are measured by how their object moves: leave out --data and --yardstick")
        met = filming.clips_measured(model, n, device=device, **how)
        report(json, {**about, **filming.plainly(met, n)}, filming.words_of(met), [])
        return
    if data == SCENES:
        if yardstick is not None:
            raise ValueError("pictures of scenes are measured by their reader: leave out --yardstick")
        result = measure_scenes(model, n, processes, progress=True, **how)
        if result:
            report(json, {**about, "data": data, **result}, words_of(result), [])
        return
    labels = labels_for(model, n)
    condition: Condition = labels
    with processes.ahead():  # who may download data, and train a yardstick
        if model.tokenizer is not None:
            condition, measured_by = folder_prompts(model, data, n, yardstick)
        else:
            measured_by = yardstick_for(data, model.shape[-1], yardstick, model.classes)
            measured_by.check((n, *model.shape), labels)
    pictures = generate(model, condition, n, progress=True, processes=processes, **how)
    if processes.rank:  # the first has all pictures, and measures them
        return
    result = measure(pictures.clamp(-1, 1), labels, measured_by)
    rows = "\n".join(
        f"  {name:10} {entry['value']:9.4f} ± {entry['uncertainty']:.4f}"
        for name, entry in figures(result).items()
    )
    report(json, {**about, **result}, f"n = {n}\n{rows}", [])


def experiment(
    name: Annotated[Positional[str], arg(help=", ".join(experiments.names()))],
    model: Model = "mnist-unet",
    n: Annotated[int, arg(help="number of samples a row")] = 1000,
    seed: int = 0,
    out: Annotated[Path | None, arg(help="result file, gone on with if it exists; or out/NAME.json")] = None,
    device: Device = None,
    json: Json = False,
) -> None:
    """Run a long measurement; a stopped one goes on where it was."""
    chosen = experiments.find(name)
    file = out or Path("out") / f"{name}.json"
    result = experiments.run(chosen, file, {"model": model, "n": n, "seed": seed, "device": device})
    report(json, result, experiments.table(chosen, result), [file])


def zoo(
    name: Annotated[Positional[str | None], arg(help="show one card; all names if left out")] = None,
    json: Json = False,
) -> None:
    """List the bundled weights, or show the card of one."""
    from diffusion_lessons import zoo as bundled

    if name is not None:
        print(json_module.dumps(bundled.card(name), indent=None if json else 2, ensure_ascii=json))
        return
    cards = {entry: bundled.card(entry) for entry in bundled.names()}
    report(json, cards, "\n".join(f"  {entry:22} {card['title']}" for entry, card in cards.items()), [])


def export(
    model: Positional[Model],
    out: Annotated[Path, arg(help="an .onnx file; a folder for a model of several parts")] = Path(
        "model.onnx"
    ),
    half: Annotated[bool, arg(help="keep weights in half precision; the arithmetic stays float32")] = False,
    json: Json = False,
) -> None:
    """Write a model as ONNX, for `sample` and `evaluate`, other programs and web pages."""
    from diffusion_lessons import zoo as bundled
    from diffusion_lessons.onnx_files.writing import write_onnx

    found = bundled.load(model) if model in bundled.names() else bundled.open_model(model)
    files = write_onnx(found, out, half)
    worst = max(file["difference"] for file in files)
    words = f"agrees with the network to {worst:.0e} of its largest output"
    report(json, {"model": model, "out": str(out), "files": files}, words, [Path(f["file"]) for f in files])


COMMANDS: dict[str, Callable[..., None]] = dict(
    train=train, sample=sample, evaluate=evaluate, experiment=experiment, zoo=zoo, export=export
)
