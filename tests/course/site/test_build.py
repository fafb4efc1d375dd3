"""How Sphinx is run."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

WORK = """
import sys
from pathlib import Path

import torch

from diffusion_lessons.course.site.build import _sphinx

torch.set_num_threads(2)
torch.rand(1000, 1000) @ torch.rand(1000, 1000)
_sphinx(Path.cwd(), Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_pages_whose_modules_compute_are_read_although_torch_has_threads(tmp_path: Path) -> None:
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "conf.py").write_text("extensions = ['sphinx.ext.autodoc']\n")
    for number in range(8):  # from six on, Sphinx reads in several processes
        (sources / f"page{number}.rst").write_text(
            f":orphan:\n\nPage {number}\n======\n\n.. automodule:: computes{number}\n"
        )
        (sources / f"computes{number}.py").write_text(
            '"""Computes."""\nimport torch\ntorch.rand(1000, 1000) @ torch.rand(1000, 1000)\n'
        )
    (sources / "index.rst").write_text("Start\n=====\n")
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{sources}", "OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-c", WORK, str(sources), str(tmp_path / "site")]
    subprocess.run(command, env=environment, cwd=ROOT, timeout=240, check=True)
    assert "Computes." in (tmp_path / "site" / "page7.html").read_text()
