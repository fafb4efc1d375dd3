"""The site: `make site`, or

    python -m diffusion_lessons.course.site.build [--out out/site]

reads the lessons and docs/, writes Sphinx's sources beside the site and has Sphinx make the pages. Nothing of
a lesson is executed. Every warning of Sphinx, such as a link that leads nowhere, is an error.
"""

import argparse
import io
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from diffusion_lessons.course.lessons import site_address
from diffusion_lessons.course.site.pages import read_all, write_pages, write_printed, write_sources
from diffusion_lessons.course.site.playground import write_playground
from diffusion_lessons.course.site.vendor import copy_katex

OURS = {"index.html", "index.md", "_static"}  # what a folder of ours holds, even one that was left half made
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def build(root: Path, out: Path) -> list[str]:
    """Make the site of a repository and say what is left out; ValueError with all that is wrong."""
    sources = out.with_name(f"{out.name}-source")
    for old in (sources, out):
        _remove(old)
    pages = read_all(root)
    write_sources(pages, sources)
    copy_katex(root / "out" / "npm", sources / "_static")
    write_printed(pages, sources)
    pdf = print_pdf(sources / "cheatsheet-print.html", sources / "extra" / "cheatsheet.pdf")
    play, lacking = _playground(root, sources / "_static" / "playground")
    write_pages(pages, sources, pdf=pdf, play=play)
    shutil.copy(root / "docs" / "site" / "conf.py", sources)
    _sphinx(root, sources, out)
    return lacking


def _playground(root: Path, folder: Path) -> tuple[dict[str, Any] | None, list[str]]:
    """The playground's files; where they cannot be had, none, and why."""
    try:
        return write_playground(root, folder), []
    except ValueError as error:
        shutil.rmtree(folder)
        return None, [f"the playground is left out: {error}"]


def _remove(folder: Path) -> None:
    """Remove what an earlier build made; ValueError for a folder that is none of ours."""
    if folder.exists() and any(folder.iterdir()) and not (OURS & set(os.listdir(folder))):
        raise ValueError(f"{folder} holds something else than a site: choose another folder with --out")
    shutil.rmtree(folder, ignore_errors=True)


def print_pdf(page: Path, pdf: Path) -> bool:
    """Print a page as PDF with the browser that is there; False where there is none."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        return False
    root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    command = [
        browser,
        "--headless=new",
        "--disable-gpu",
        *root,
        "--no-pdf-header-footer",
        f"--print-to-pdf={pdf}",
    ]
    subprocess.run([*command, page.absolute().as_uri()], capture_output=True, timeout=60)
    return pdf.exists()


def _sphinx(root: Path, sources: Path, out: Path) -> None:
    import torch
    from sphinx.application import Sphinx

    torch.set_num_threads(1)  # Sphinx forks: a child would wait for threads of torch that only its parent has
    said, warned = io.StringIO(), io.StringIO()
    app = Sphinx(
        sources,
        sources,
        out,
        out.with_name(f"{out.name}-doctrees"),
        "html",
        confoverrides=_settings(root),
        status=said,
        warning=warned,
        freshenv=True,
        parallel=os.cpu_count() or 1,
    )
    app.build(force_all=True)
    (out / "_static" / "webpack-macros.html").unlink(missing_ok=True)  # the theme's own template, no page
    if warnings := re.sub(r"\x1b\[[\d;]*m", "", warned.getvalue()).strip():
        raise ValueError(f"Sphinx warns:\n{warnings}")


def _settings(root: Path) -> dict[str, Any]:
    """What depends on the address of the site; nothing where none is set."""
    address = site_address(root)
    return {"html_baseurl": address.rstrip("/") + "/"} if address else {}


def main() -> int:
    """Build; the exit code is 2 where something is wrong with the sources."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path.cwd(), help="the repository (default: here)")
    parser.add_argument("--out", type=Path, default=Path("out") / "site", help="where the site goes")
    args = parser.parse_args()
    start = time.monotonic()
    try:
        lacking = build(args.root, args.out)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for each in lacking:
        print(each)
    files = [file for file in args.out.rglob("*") if file.is_file()]
    pages = [file.stat().st_size for file in files if file.suffix == ".html"]
    total = sum(file.stat().st_size for file in files)
    print(
        f"{args.out / 'index.html'}: {len(pages)} pages in {time.monotonic() - start:.0f} s, the largest "
        f"{max(pages) / 1e6:.2f} MB, all files {total / 1e6:.1f} MB"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
