"""Sphinx's settings of the site; `diffusion_lessons.course.site.build` runs it on sources that it wrote."""

from html import escape
from pathlib import Path

from docutils import nodes
from markupsafe import Markup

DESCRIPTION = (
    "Diffusion models: twenty interview questions answered in 30 seconds, built in code and measured."
)

project = "diffusion-lessons"
author = "the authors of diffusion-lessons"
project_copyright = ""
language = "en"
exclude_patterns = ["extra"]
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.githubpages"]
nitpicky = False
default_role = "code"
smartquotes = False
pygments_style = "a11y-high-contrast-light"

nb_execution_mode = "off"
nb_merge_streams = True
nb_number_source_lines = False
myst_enable_extensions = ["attrs_inline", "dollarmath"]
myst_heading_anchors = 3
myst_dmath_double_inline = True
suppress_warnings = ["misc.highlighting_failure"]

autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
python_use_unqualified_type_names = True
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "pydata_sphinx_theme"
html_title = "Diffusion lessons"
html_static_path = ["_static"]
html_extra_path = ["extra", "cheatsheet-print.html"]
html_favicon = "_static/favicon.svg"
html_css_files = ["katex/katex.min.css", "site.css"]
html_js_files = [(name, {"defer": "defer"}) for name in ("katex/katex.min.js", "maths.js", "folder.js")]
html_search_scorer = str(Path(__file__).parent / "_static" / "scorer.js")
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_show_copyright = False
html_math_renderer = "katex"
html_context = {"default_mode": "auto"}
html_theme_options = {
    "navbar_persistent": ["search-button"],
    "search_bar_text": "Search the site",
    "logo": {"text": "Diffusion lessons"},
    "header_links_before_dropdown": 8,
    "navigation_with_keys": False,
    "show_prev_next": True,
    "show_toc_level": 1,
    "footer_start": [],
    "footer_end": [],
    "back_to_top_button": False,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {
    page: [] for page in ("index", "interview", "quiz", "cheatsheet", "flashcards", "playground")
}


def _inline(self, node: nodes.math) -> None:
    self.body.append(f'<span class="math notranslate">\\({escape(node.astext())}\\)</span>')
    raise nodes.SkipNode


def _block(self, node: nodes.math_block) -> None:
    self.body.append(f'<div class="math notranslate">\\[{escape(node.astext())}\\]</div>')
    raise nodes.SkipNode


def _as_markup(app, what, name, obj, options, lines: list[str]) -> None:
    """What stands between backquotes in a docstring is code, also before an s; |x| is an absolute value."""
    for place, line in enumerate(lines):
        parts = line.split("`")
        if len(parts) % 2:  # else a pair goes over the end of the line
            text = [part.replace("|", "\\|") for part in parts[::2]]
            code = [f"``{part}``" if part else "``" for part in parts[1::2]]
            joined = [f"{c}\\ {t}" if t[:1].isalnum() else c + t for c, t in zip(code, text[1:], strict=True)]
            lines[place] = text[0] + "".join(joined)


def _described(app, page, template, context, doctree) -> None:
    """What others say of a page: its description and, where the site has an address, a card beside."""
    context["metatags"] = context.get("metatags", "") + f'<meta name="description" content="{DESCRIPTION}">\n'
    if address := app.config.html_baseurl:
        said = {
            "title": escape(Markup(context.get("title", html_title)).striptags()),
            "description": DESCRIPTION,
            "type": "website",
        }
        said |= {"url": f"{address}{page}.html", "image": f"{address}_static/card.png"}
        made = "".join(f'<meta property="og:{name}" content="{value}">\n' for name, value in said.items())
        context["metatags"] += f'{made}<meta name="twitter:card" content="summary_large_image">'


def _named_by_their_text(app, page, template, context, doctree) -> None:
    """A fold of myst-nb says what it shows; its label says something else, and screen readers say that."""
    if "body" in context:
        context["body"] = context["body"].replace(' aria-label="Toggle hidden content"', "")


def setup(app) -> None:
    app.connect("html-page-context", _described)
    app.connect("html-page-context", _named_by_their_text)
    app.connect("autodoc-process-docstring", _as_markup)
    app.add_html_math_renderer("katex", (_inline, None), (_block, None))
