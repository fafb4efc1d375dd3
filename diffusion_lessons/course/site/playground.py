"""The playground: models of the shelf as ONNX files, and what its page must know to sample from them."""

import base64
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from diffusion_lessons import zoo
from diffusion_lessons.checkpoint import Checkpoint
from diffusion_lessons.course.site.vendor import npm_package
from diffusion_lessons.course.widgets.panels import png, to_pixels
from diffusion_lessons.data.captioned import hole_of
from diffusion_lessons.data.captions import plain, wishes
from diffusion_lessons.data.scenes import PAIR, draw
from diffusion_lessons.onnx_files.parts import MAIN
from diffusion_lessons.onnx_files.writing import write_onnx
from diffusion_lessons.paths import Level

RUNTIME = "onnxruntime-web@1.30.0"
WASM = "ort-wasm-simd-threaded.wasm"
RUNTIME_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", WASM)
TEACHER = "mnist-unet"
STUDENTS = ("mnist-unet-1-step", "mnist-unet-2-steps", "mnist-unet-4-steps")
PARTS = {name: (MAIN,) for name in (TEACHER, *STUDENTS)} | {
    "scenes-text": (MAIN, "text", "decoder"),
    "scenes-inpaint": (MAIN, "text", "encoder", "decoder"),
}
EXAMPLES = (
    "a small red circle left of a large blue square",
    "two small yellow crosses and a large green triangle",
    "a huge purple dot below a tiny cyan box",
)
STEPS = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 25, 50)
SCENES, SCENE_SEED = 6, 3  # pictures to paint holes in
MARGIN = 5  # pixels of the first hole, beyond the object that it hides
WIDGETS = Path("diffusion_lessons") / "course" / "widgets"
DRAWING = ("drawing.js", "drawing.css")  # the canvas of the lessons


def write_playground(root: Path, folder: Path) -> dict[str, Any]:
    """Models, ONNX Runtime and `models.json` into a folder of the site; what the page's template needs.

    What is exported is kept in out/onnx for the next build. Without the extra onnx, or where npm cannot fetch
    ONNX Runtime, a ValueError, and nothing is written.
    """
    dist = npm_package(RUNTIME, root / "out" / "npm") / "dist"
    models = {name: zoo.load(name) for name in PARTS}
    graphs = {name: exported(name, model, root / "out" / "onnx") for name, model in models.items()}
    folder.mkdir(parents=True, exist_ok=True)
    for file in (*(dist / name for name in RUNTIME_FILES), *(root / WIDGETS / name for name in DRAWING)):
        shutil.copy(file, folder)
    known: dict[str, Any] = {"runtime": (dist / WASM).stat().st_size, "models": {}, "scenes": scenes()}
    for name, model in models.items():
        (folder / name).mkdir(exist_ok=True)
        for part, file in graphs[name].items():
            shutil.copy(file, folder / name / f"{part}.onnx")
        sizes = {part: file.stat().st_size for part, file in graphs[name].items()}
        known["models"][name] = settings(model) | {"files": sizes}
    (folder / "models.json").write_text(json.dumps(known), encoding="utf-8")
    return {
        "steps": STEPS,
        "digits": models[TEACHER].classes,
        "students": {name: models[name].sampling["steps"] for name in STUDENTS},
        "examples": EXAMPLES,
        "scenes": [scene["caption"] for scene in known["scenes"]],
    }


def exported(name: str, model: Checkpoint, kept: Path) -> dict[str, Path]:
    """The parts of a model as ONNX files in `kept`, written where those of these weights are not there."""
    place = kept / f"{name}-{zoo.card(name)['sha256'][:16]}"
    several = len(PARTS[name]) > 1
    place = place if several else place.with_suffix(".onnx")
    files = {part: place / f"{part}.onnx" if several else place for part in PARTS[name]}
    if not files[MAIN].exists():  # it is written last
        kept.mkdir(parents=True, exist_ok=True)
        write_onnx(model, place, half=True)  # the weights on the shelf are in half precision, too
    return files


def settings(model: Checkpoint) -> dict[str, Any]:
    """What the page must know of a model: its shape, what it is told, the levels of each number of steps."""
    usual = model.sampling
    counts = (usual["steps"],) if "sampling" in model.info else STEPS

    def row(level: Level) -> dict[str, float]:
        p, q = model.target.coefficients(level)
        values = {"t": level.t, "alpha": level.alpha, "sigma": level.sigma, "p": p, "q": q}
        values["time"] = model.path.network_time(level.t)
        return {name: float(value) for name, value in values.items()}

    return {
        "shape": list(model.shape),
        "none": len(model.classes),
        "tokenizer": None if model.tokenizer is None else model.tokenizer.to_json(),
        "scale": None if model.vae is None else model.vae.config.scale,
        "steps": usual["steps"],
        "guidance": usual["guidance"],
        "levels": {
            n: [row(level) for level in model.path.levels(n, usual.get("spacing", "trailing"))]
            for n in counts
        },
    }


def scenes() -> list[dict[str, Any]]:
    """Pictures of two objects, PNG in base64, with their captions, and with holes to begin with.

    A hole, (left, top, right, bottom) in pixels, is about the second object; the "wish" is a caption with the
    second object of the next picture in its place.
    """
    index = torch.arange(SCENES)
    drawn = draw(SCENE_SEED, index, "test", PAIR)
    pictures, boxes, asked = to_pixels(drawn.render().numpy()), drawn.masks()[:, 1], wishes(drawn)
    others = [each.objects[1] for each in asked[1:] + asked[:1]]
    return [
        {
            "caption": plain(wish),
            "wish": plain(replace(wish, objects=(wish.objects[0], other))),
            "png": base64.b64encode(png(pixels)).decode(),
            "hole": _corners(hole_of(box, MARGIN)),
        }
        for wish, other, pixels, box in zip(asked, others, pictures, boxes, strict=True)
    ]


def _corners(hole: torch.Tensor) -> list[int]:
    seen = hole.nonzero()
    (top, left), (bottom, right) = seen.amin(0).tolist(), (seen.amax(0) + 1).tolist()
    return [left, top, right, bottom]
