import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, UnidentifiedImageError

from diffusion_lessons.data import DataError
from diffusion_lessons.data.dataset import resize
from diffusion_lessons.data.pictures import read_square


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> io.BytesIO:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    stream.seek(0)
    return stream


def colour_of(file: io.BytesIO, size: int = 8) -> list[int]:
    """The one colour of a picture that is even."""
    square = read_square(file, size)
    assert square.shape == (size, size, 3)
    assert square.dtype == np.uint8
    assert (square == square[0, 0]).all()
    return square[0, 0].tolist()


def even(mode: str, value: object) -> Image.Image:
    return Image.new(mode, (20, 30), value)  # type: ignore[arg-type]


def palette(transparent: int | None = None) -> io.BytesIO:
    image = even("P", 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    return saved(image, "PNG" if transparent is None else "GIF", transparency=transparent)


MODES = {
    "1": (saved(even("1", 1)), [255, 255, 255]),
    "L": (saved(even("L", 77)), [77, 77, 77]),
    "LA, half transparent": (saved(even("LA", (100, 51))), [224, 224, 224]),
    "RGB": (saved(even("RGB", (1, 2, 3))), [1, 2, 3]),
    "RGB with a transparent colour": (saved(even("RGB", (9, 8, 7)), transparency=(9, 8, 7)), [255] * 3),
    "RGBA, opaque": (saved(even("RGBA", (1, 2, 3, 255))), [1, 2, 3]),
    "RGBA, transparent black": (saved(even("RGBA", (0, 0, 0, 0))), [255, 255, 255]),
    "RGBA, half transparent red": (saved(even("RGBA", (255, 0, 0, 51))), [255, 204, 204]),
    "P": (palette(), [200, 100, 50]),
    "P, transparent": (palette(1), [255, 255, 255]),
    "P, another transparent": (palette(0), [200, 100, 50]),
    "16-bit grey, dark": (saved(even("I;16", 257 * 40)), [40, 40, 40]),
    "16-bit grey, white": (saved(even("I;16", 65535)), [255, 255, 255]),
    "32-bit grey within 16 bits": (saved(even("I", 257 * 3), "TIFF"), [3, 3, 3]),
    "float grey": (saved(even("F", 0.2), "TIFF"), [51, 51, 51]),
    "CMYK, red": (saved(even("CMYK", (0, 255, 255, 0)), "TIFF"), [255, 0, 0]),
    "YCbCr, grey": (saved(even("YCbCr", (90, 128, 128)), "JPEG", quality=100), [90, 90, 90]),
    "WebP": (saved(even("RGB", (10, 20, 30)), "WEBP", lossless=True), [10, 20, 30]),
    "BMP": (saved(even("RGB", (10, 20, 30)), "BMP"), [10, 20, 30]),
    "PPM": (saved(even("RGB", (10, 20, 30)), "PPM"), [10, 20, 30]),
}


@pytest.mark.parametrize("name", MODES)
def test_modes(name: str) -> None:
    file, colour = MODES[name]
    file.seek(0)
    assert colour_of(file) == colour


def test_cmyk_jpeg_is_not_a_negative() -> None:
    red, green, blue = colour_of(saved(even("CMYK", (0, 255, 255, 0)), "JPEG", quality=100))
    assert red > 245
    assert max(green, blue) < 10


def test_of_several_frames_the_first_is_taken() -> None:
    frames = [even("RGB", colour) for colour in ("#ff0000", "#00ff00")]
    assert colour_of(saved(frames[0], "GIF", save_all=True, append_images=frames[1:])) == [255, 0, 0]


@pytest.mark.parametrize(
    "image", [even("F", 3.0), even("F", -0.1), even("F", float("nan")), even("I", 70_000), even("I", -1)]
)
def test_values_without_a_known_white_are_not_guessed(image: Image.Image) -> None:
    with pytest.raises(ValueError, match="which one is white"):
        read_square(saved(image, "TIFF"), 8)


def test_exif_rotation_is_undone() -> None:
    upright = np.zeros((40, 20, 3), np.uint8)
    upright[:, :, 1] = np.linspace(0, 255, 40).astype(np.uint8)[:, None]  # brighter to the bottom
    stored = Image.fromarray(np.rot90(upright).copy())  # 90° counter-clockwise: orientation 6 undoes it
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = read_square(saved(stored, "PNG", exif=exif), 16)
    straight = read_square(saved(Image.fromarray(upright)), 16)
    assert np.array_equal(turned, straight)
    assert not np.array_equal(read_square(saved(stored), 16), straight)


@pytest.mark.parametrize("lying", [False, True])
def test_the_middle_is_cut_out(lying: bool) -> None:
    strip = np.zeros((30, 90, 3), np.uint8)
    strip[:, 30:60] = (0, 255, 0)
    strip[:, 60:] = (255, 0, 0)
    image = Image.fromarray(strip if lying else strip.transpose(1, 0, 2).copy())
    assert colour_of(saved(image), 30) == [0, 255, 0]


def test_size_one_to_one_is_bit_exact() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    assert np.array_equal(read_square(saved(Image.fromarray(pixels)), 16), pixels)


def test_an_odd_rest_is_not_blurred() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 17, 3), dtype=np.uint8)
    assert np.array_equal(read_square(saved(Image.fromarray(pixels)), 16), pixels[:, :16])


def test_shrinking_is_antialiased() -> None:
    board = (np.indices((256, 256)).sum(0) % 2 * 255).astype(np.uint8)
    small = read_square(saved(Image.fromarray(board)), 16)
    assert (abs(small.astype(int) - 127) <= 2).all()


def test_a_needle_does_not_take_much_memory() -> None:
    assert colour_of(saved(Image.new("RGB", (60_000, 1), "#00ff00")), 32) == [0, 255, 0]


@pytest.mark.parametrize("shape", [(1600, 1200), (400, 300), (160, 120)])
def test_a_large_jpeg_looks_the_same_at_a_fraction(shape: tuple[int, int]) -> None:
    random = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    photo = Image.fromarray(random).resize(shape, Image.Resampling.BICUBIC)
    fast = read_square(saved(photo, "JPEG", quality=95), 32).astype(int)
    exact = read_square(saved(photo, "BMP"), 32).astype(int)
    assert abs(fast - exact).mean() < 3


def png_of(width: int, height: int) -> io.BytesIO:
    """A PNG of a few bytes that says it is this large."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return io.BytesIO(
        b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(("width", "height"), [(100_000, 100_000), (9_000, 9_000), (80_000_001, 1)])
def test_pixel_bombs_are_refused_unopened(width: int, height: int) -> None:
    with pytest.raises(DataError, match="pixels"):
        read_square(png_of(width, height), 8)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"\x89PNG\r\n\x1a\n",
    ],
)
def test_what_is_no_picture_is_not_identified(data: bytes) -> None:
    with pytest.raises(UnidentifiedImageError):
        read_square(io.BytesIO(data), 8)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"])
def test_a_truncated_file_is_no_picture(kind: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = saved(Image.fromarray(pixels), kind).getvalue()
    with pytest.raises((OSError, ValueError, SyntaxError)) as caught:
        read_square(io.BytesIO(data[: len(data) // 2]), 8)
    assert not isinstance(caught.value, DataError)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [8, 12, 24])
def test_resize_keeps_order_and_channels(channels: int, size: int) -> None:
    images = torch.zeros(4, channels, 16, 16, dtype=torch.uint8)
    for n in range(4):
        for c in range(channels):
            images[n, c] = 50 * n + 10 * c
    before = images.clone()
    small = resize(images, size)
    assert small.shape == (4, channels, size, size)
    assert torch.equal(small, images[..., :1, :1].expand_as(small))
    assert torch.equal(images, before)


def test_resize_to_the_same_size_changes_nothing() -> None:
    images = torch.randint(256, (2, 3, 9, 9), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    assert torch.equal(resize(images, 9), images)
