"""The picture that stands beside a link to the site elsewhere: the digits of the start page and a title."""

from pathlib import Path

from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

SIZE = (1200, 630)
GROUND, INK, PALE = "#14233b", "#ffffff", "#b9c7de"


def save_card(gif: Path, file: Path) -> None:
    """Draw it from the last frame of the moving picture and write a PNG."""
    card = Image.new("RGB", SIZE, GROUND)
    with Image.open(gif) as moving:
        moving.seek(getattr(moving, "n_frames", 1) - 1)
        last = moving.convert("L")
    scale = (SIZE[0] - 160) // last.width
    card.paste(last.resize((last.width * scale, last.height * scale), Image.Resampling.NEAREST), (80, 250))
    draw = ImageDraw.Draw(card)
    draw.text((80, 60), "Diffusion models", INK, ImageFont.truetype(_font("bold"), 72))
    draw.text(
        (80, 160),
        "Twenty questions, answered, built and measured",
        PALE,
        ImageFont.truetype(_font("normal"), 36),
    )
    card.quantize(64).save(file, optimize=True)


def _font(weight: str) -> str:
    """A font that matplotlib brings."""
    return font_manager.findfont(font_manager.FontProperties(family="DejaVu Sans", weight=weight))
