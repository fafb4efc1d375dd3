"""Shared by all tests: GPU tests skip without a GPU, and real data where it lies beside the project."""

from pathlib import Path

import pytest
import torch

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.fixture
def shared_data() -> Path:
    """The folder with real MNIST and CIFAR-10, for tests that want more than the bundled digits."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real MNIST and CIFAR-10 are not beside the project ({SHARED_DATA.parent.name}/data)")
    return SHARED_DATA


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
