"""One server for all tests of a module: what starting one costs is paid once."""

from collections.abc import Iterator

import pytest

from diffusion_lessons.course.grading.sandbox import Worker
from tests.course.grading.made import LIMITS


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker(LIMITS) as made:
        yield made
