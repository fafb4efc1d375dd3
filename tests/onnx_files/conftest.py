"""Models written once for all tests of ONNX files."""

from pathlib import Path

import pytest

from diffusion_lessons.checkpoint import Checkpoint
from diffusion_lessons.onnx_files import writing
from diffusion_lessons.onnx_files.parts import parts_of
from diffusion_lessons.onnx_files.writing import write_onnx
from diffusion_lessons.zoo import open_model
from tests.published_folder import Shape, pipeline
from tests.tiny_checkpoint import tiny


@pytest.fixture(scope="session")
def graph() -> bytes:
    """That of `tiny()`: tracing takes seconds."""
    return writing.graph_of(parts_of(tiny())[1][0], half=False)


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of `tiny()`, told labels."""
    file = tmp_path_factory.mktemp("onnx") / "digits.onnx"
    write_onnx(tiny(), file)
    return file


@pytest.fixture(scope="session")
def prompted(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A small random text model of Stable Diffusion's layout, its ids in an order of their own."""
    folder = tmp_path_factory.mktemp("published") / "model"
    pipeline(folder, Shape())
    return open_model(str(folder))


@pytest.fixture(scope="session")
def parts(prompted: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of its parts."""
    folder = tmp_path_factory.mktemp("onnx") / "prompted"
    write_onnx(prompted, folder)
    return folder
