"""One picture file of any size and mode becomes a square of bytes."""

from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageOps

from diffusion_lessons.data.downloads import DataError

# What is recognised; notably not EPS, which would start another program.
FORMATS = ("PNG", "JPEG", "MPO", "GIF", "BMP", "WEBP", "TIFF", "PPM", "AVIF", "JPEG2000")
MAX_PIXELS = 80_000_000
WITH_ALPHA = ("LA", "PA", "RGBA", "RGBa")


def read_square(file: BinaryIO | Path, size: int, peaks: list[float] | None = None) -> np.ndarray:
    """The middle of a picture file, turned upright, as red, green and blue bytes (size, size, 3).

    The short side is brought to `size` pixels (bicubic, antialiased) and the long one cut at both ends. What
    is transparent shows white; 16 bits are scaled to 8; of several frames the first is taken. More than
    `MAX_PIXELS` are a DataError; what is no picture, or is damaged, is whatever Pillow raises for it. The
    list `peaks`, where one is given, gets the largest value of a 16-bit picture as a share of 65535.
    """
    Image.init()
    known = [name for name in FORMATS if name in Image.OPEN]  # this Pillow may be built without some
    try:
        with Image.open(file, formats=known) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise DataError(f"{width}x{height} pixels are more than {MAX_PIXELS:,}")
            deep = ";16" in str(image.tile)
            image.draft(None, (4 * size, 4 * size))  # a large JPEG is unpacked at a fraction of its size
            ImageOps.exif_transpose(image, in_place=True)
            if deep and peaks is not None:
                values = np.asarray(image)  # of colours Pillow gives 8 bits only
                peaks.append(float(values.max()) / (255 if values.dtype == np.uint8 else 65535))
            return middle(_to_rgb(image), size)
    except Image.DecompressionBombError as error:
        raise DataError(str(error)) from error


def upright_size(file: Path) -> tuple[int, int]:
    """(width, height) of a picture file, turned upright; what is no picture is whatever Pillow raises."""
    with Image.open(file) as image:
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
        return image.size[::-1] if turned else image.size


def middle(image: Image.Image, size: int) -> np.ndarray:
    """The middle square of a picture, its side brought to `size` pixels (bicubic, antialiased)."""
    side = min(image.size)
    left, top = ((extent - side) / 2 for extent in image.size)
    if side <= size:
        left, top = int(left), int(top)  # half a pixel to the side would blur what isn't shrunk
    box = (left, top, left + side, top + side)
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=box))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode[0] in "IF":  # Pillow would clip at 255, not scale
        values = np.asarray(image)
        white, kind = (65535, "32-bit") if image.mode[0] == "I" else (1, "floating-point")
        if not (values.min() >= 0 and values.max() <= white):  # so that NaN fails too
            raise ValueError(f"{kind} values outside 0..{white}: which one is white is not known")
        image = Image.fromarray(np.rint(values * (255 / white)).astype(np.uint8))
    elif image.mode in WITH_ALPHA or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
