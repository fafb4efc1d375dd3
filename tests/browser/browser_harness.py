"""JupyterLab in a real browser: start it, open a notebook, run it, read what the page shows.

with JupyterLab(folder) as lab, lab.notebook(browser, "lesson.ipynb") as notebook:
    notebook.run_all()
    assert notebook.errors() == []
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = ROOT / "out" / "screenshots"
TOKEN = "lessons"
PATIENCE = 60_000  # ms that a page may take for one thing, also on a busy machine
ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",  # nothing but this machine can be reached
]
CONNECTED = """
    window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel?.connectionStatus === 'connected'
"""


def find_chromium() -> str | None:
    """The browser, installed with apt-get where it is missing and that is allowed."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found or not shutil.which("apt-get") or not hasattr(os, "geteuid") or os.geteuid() != 0:
        return found
    install = [
        "apt-get",
        "-o",
        "DPkg::Lock::Timeout=300",
        "install",
        "-y",
        "--no-install-recommends",
        "chromium",
    ]
    for command in (["apt-get", "update"], install):  # another worker may be at it: what counts is the result
        subprocess.run(command, capture_output=True, timeout=900)
    return next(filter(None, map(shutil.which, names)), None)


def find_axe() -> str | None:
    """The source of axe-core, fetched with npm into out/node where it is missing."""
    home, script = ROOT / "out" / "node", Path("node_modules/axe-core/axe.min.js")
    if not (home / script).exists() and shutil.which("npm"):
        mine = home.with_name(f"node-{os.getpid()}")  # another worker may be fetching it too
        mine.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(mine), "axe-core@4"]
        subprocess.run(command, capture_output=True, timeout=300)
        if home.exists() or not (mine / script).exists():
            shutil.rmtree(mine)
        else:
            mine.rename(home)
    return (home / script).read_text(encoding="utf-8") if (home / script).exists() else None


class JupyterLab:
    """A server in a folder of its own: no settings, kernels or workspaces of whoever runs the tests."""

    def __init__(self, folder: Path, options: Sequence[str] = ()) -> None:
        self.folder, self.port, self.options = folder, _free_port(), options
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "JupyterLab":
        private = self.folder / ".private"
        news = private / "settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings"
        news.parent.mkdir(parents=True)
        news.write_text(json.dumps({"fetchNews": "false", "checkForUpdates": False}))
        env = os.environ | {
            "JUPYTER_CONFIG_DIR": str(private / "config"),
            "JUPYTER_DATA_DIR": str(private / "data"),
            "JUPYTER_RUNTIME_DIR": str(private / "runtime"),
            "JUPYTERLAB_SETTINGS_DIR": str(private / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(private / "workspaces"),
            "IPYTHONDIR": str(private / "ipython"),
            "OMP_NUM_THREADS": "1",
        }
        self.log = (private / "server.log").open("wb")
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={self.port}"]
        command += [
            f"--IdentityProvider.token={TOKEN}",
            "--expose-app-in-browser",
            "--ServerApp.port_retries=0",
        ]
        command += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
        command += self.options
        self.process = subprocess.Popen(command, cwd=self.folder, env=env, stdout=self.log, stderr=self.log)
        self._wait_until_up(private / "server.log")
        return self

    def __exit__(self, *_: object) -> None:
        if self.process:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.log.close()

    def _wait_until_up(self, log: Path, seconds: float = 180) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.process and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api?token={TOKEN}", timeout=2):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        raise RuntimeError(f"JupyterLab did not start:\n{log.read_text(errors='replace')[-2000:]}")

    @contextmanager
    def notebook(self, browser: Any, name: str, **page_options: Any) -> Iterator["NotebookPage"]:
        """Open a notebook of the folder in a fresh page and wait for its kernel."""
        context = browser.new_context(viewport={"width": 1280, "height": 1600}, **page_options)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        try:
            page.goto(f"http://127.0.0.1:{self.port}/lab/tree/{name}?token={TOKEN}&reset")
            page.wait_for_function(CONNECTED, timeout=3 * PATIENCE)
            yield NotebookPage(page)
        finally:
            context.close()


class NotebookPage:
    """An open notebook; `page` is Playwright's."""

    def __init__(self, page: Any) -> None:
        self.page = page

    def run_all(self) -> None:
        """Run every cell and wait until the last one is done."""
        self.page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")

    def cells(self) -> list[dict[str, Any]]:
        """The cells as the notebook would be saved now."""
        return self.page.evaluate("window.jupyterapp.shell.currentWidget.content.model.toJSON().cells")

    def errors(self) -> list[str]:
        """Every error output, as `cell 3: NameError: …`."""
        return [
            f"cell {i}: {output['ename']}: {output['evalue']}"
            for i, cell in enumerate(self.cells())
            for output in cell.get("outputs", [])
            if output["output_type"] == "error"
        ]

    def find(self, text: str) -> int:
        """The index of the one cell whose source holds `text`."""
        found = [i for i, cell in enumerate(self.cells()) if text in "".join(cell["source"])]
        if len(found) != 1:
            raise LookupError(f"{text!r} stands in {len(found)} cells, expected one")
        return found[0]

    def edit_and_run(self, index: int, source: str) -> None:
        """Put `source` in a cell and run it; what it shows is drawn a little later."""
        self.page.evaluate(
            """async ([index, source]) => {
                const notebook = window.jupyterapp.shell.currentWidget.content;
                notebook.activeCellIndex = index;
                notebook.deselectAll();
                notebook.activeCell.model.sharedModel.setSource(source);
                await window.jupyterapp.commands.execute('notebook:run-cell');
            }""",
            [index, source],
        )

    def output(self, index: int) -> Any:
        """The output area of a cell, as a Playwright locator; the page is scrolled to it."""
        self.page.evaluate(
            "(index) => window.jupyterapp.shell.currentWidget.content.scrollToItem(index, 'smart')", index
        )
        return self.page.locator(f".jp-Cell[data-windowed-list-index='{index}'] .jp-Cell-outputWrapper")

    def shut_down_kernel(self) -> None:
        self.page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")

    def save(self) -> None:
        self.page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")

    def screenshot(self, name: str) -> Path:
        return screenshot(self.page, name)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a folder on a plain file server of this machine."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


def screenshot(page: Any, name: str) -> Path:
    """A picture of the whole page in out/screenshots, for people to look at."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
    return SCREENSHOTS / f"{name}.png"


def pixels(canvas: Any) -> list[int]:
    """The red channel of a canvas, row by row."""
    return canvas.evaluate(
        """(canvas) => {
            const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
            return Array.from({ length: data.length / 4 }, (_, i) => data[4 * i]);
        }"""
    )


def serious(page: Any, axe: str, within: str) -> list[str]:
    """The serious and critical violations that axe finds in one part of a page."""
    page.evaluate(axe)
    found = page.evaluate(f"axe.run({json.dumps(within)}, {{ resultTypes: ['violations'] }})")
    return [
        f"{violation['id']} ({violation['impact']}): {node['html'][:200]}"
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])
