"""Notebooks as pages that work with no kernel and no network.

nbconvert prefers a widget view to HTML, and a widget view fetches its manager from the web. Here the
HTML beside it is kept and the view dropped: `freeze` for a notebook that is stored with its outputs
(then a plain `jupyter nbconvert --to html` works as well), `to_html` for a page.
"""

import copy
from pathlib import Path
from typing import Any

VIEW = "application/vnd.jupyter.widget-view+json"


def freeze(notebook: Any) -> Any:
    """A copy of an executed notebook whose widgets are the HTML beside them, without widget state.

    Args:
        notebook: a notebook node; it is not changed.
    """
    frozen = copy.deepcopy(notebook)
    frozen["metadata"].pop("widgets", None)
    for cell in frozen["cells"]:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "text/html" in data:
                data.pop(VIEW, None)
    return frozen


def to_html(notebook: Any) -> str:
    """An executed notebook as one HTML page; code that is folded away in the notebook is left out.

    Args:
        notebook: a notebook node, or the path of an .ipynb file.
    """
    import nbformat
    from nbconvert import HTMLExporter

    if isinstance(notebook, (str, Path)):
        notebook = nbformat.read(notebook, as_version=4)
    frozen = freeze(notebook)
    for cell in frozen["cells"]:
        if cell["metadata"].get("jupyter", {}).get("source_hidden"):
            cell["metadata"]["transient"] = {"remove_source": True}
    page, _ = HTMLExporter().from_notebook_node(frozen)
    return str(page)
