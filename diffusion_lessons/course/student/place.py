"""Where the notebook lies: beside it are the class's seed and the student's progress.

A kernel usually runs in that folder, but an editor may start it elsewhere.
"""

import os
import sys
from pathlib import Path


def beside(name: str) -> Path:
    """A file beside the notebook; one of that name where the kernel runs only if there is none."""
    folders = [folder for folder in (notebook_folder(), Path.cwd()) if folder]
    return next((folder / name for folder in folders if (folder / name).exists()), folders[0] / name)


def notebook_folder() -> Path | None:
    """The folder of the running notebook, as VS Code, JupyterLab or Notebook tell it, or None."""
    shell = _shell()
    spaces = (getattr(shell, "user_ns", {}), vars(sys.modules["__main__"]))
    told = [names.get("__vsc_ipynb_file__") for names in spaces]
    for file in filter(None, (*told, os.environ.get("JPY_SESSION_NAME"))):
        folder = (Path.cwd() / str(file)).parent
        if folder.is_dir():
            return folder
    return None


def unknown() -> str:
    """A sentence where nobody tells and the notebook does not seem to be here; else nothing."""
    here = Path.cwd()
    told = notebook_folder() or not hasattr(_shell(), "kernel") or "google.colab" in sys.modules
    if told or any(here.glob("*.ipynb")):
        return ""
    return f"Nobody tells where this notebook lies: class.json is looked for, and progress kept, in {here}."


def _shell() -> object:
    """The running IPython, if this is one."""
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython is not None else None
