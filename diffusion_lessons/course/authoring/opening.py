"""The start page's picture: ten digits out of noise, by the bundled model.

    python -m diffusion_lessons.course.authoring.opening

writes docs/opening.gif anew.
"""

import argparse
from pathlib import Path

import torch

from diffusion_lessons import zoo
from diffusion_lessons.generate import walk
from diffusion_lessons.pictures import grid, save_gif

FILE = Path("docs") / "opening.gif"
ALT = "Ten squares of noise in which the handwritten digits 0 to 9 take shape, from a blur to clear strokes."
SEED, STEPS, LOOPS = 7, 24, 3  # it rests in the end: what never stops moving is hard to read beside


def main() -> None:
    """Draw it and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path.cwd(), help="the repository (default: here)")
    file = parser.parse_args().root / FILE
    noise = torch.randn(10, 1, 32, 32, generator=torch.Generator().manual_seed(SEED))
    points = walk(zoo.load("mnist-unet"), torch.arange(10), noise, steps=STEPS, precision="float32")
    save_gif([grid(x, columns=5, gap=1, scale=1) for _, x, _ in points], file, loops=LOOPS)
    print(f"{file}: {file.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
