"""A solved notebook becomes a page: what is folded, what is left out, and which picture stands for it."""

import nbformat

from diffusion_lessons.course.site.notebooks import VIEW, first_picture, site_notebook
from diffusion_lessons.course.widgets.page import image_tag


def code(source: str, html: str = "", **metadata: object) -> nbformat.NotebookNode:
    cell = nbformat.v4.new_code_cell(source, metadata=metadata, execution_count=1)
    if html:
        cell.outputs = [nbformat.v4.new_output("display_data", {"text/html": html, VIEW: {"model_id": "x"}})]
    return cell


def lesson() -> nbformat.NotebookNode:
    cells = [
        nbformat.v4.new_markdown_cell("# 02 · Title\n\n- a fact", metadata={"tags": ["header"]}),
        code("setup()", image_tag(b"early", "A picture of the setup."), tags=["setup"]),
        nbformat.v4.new_markdown_cell("## See", metadata={"tags": ["see"]}),
        code("x = 1"),
        code("scrub(x)", image_tag(b"first", 'Noise & "signal".'), jupyter={"source_hidden": True}),
        code("strip(x)", image_tag(b"second", "Another picture.")),
        code("def f(): ...", tags=["exercise"]),
    ]
    return nbformat.v4.new_notebook(
        cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "P"}}
    )


def test_solutions_and_setup_are_folded_and_hidden_code_is_left_out() -> None:
    solved = lesson()
    made = site_notebook(solved, "- another fact")
    assert made.cells[0].source == "# 02 · Title\n\n- a fact\n- another fact"
    tags = [cell.metadata.get("tags", []) for cell in made.cells]
    assert tags[1] == tags[6] == ["hide-input"] and tags[4] == ["remove-input"] and tags[3] == []
    assert made.cells[6].metadata.mystnb.code_prompt_show == "Show our solution"
    assert [cell.source for cell in made.cells[1:]] == [cell.source for cell in solved.cells[1:]]
    assert solved.cells[0].source.endswith("a fact"), "what was given is not changed"
    assert VIEW in solved.cells[4].outputs[0].data and VIEW not in made.cells[4].outputs[0].data
    assert "text/html" in made.cells[4].outputs[0].data


def test_the_picture_is_the_first_of_the_opening() -> None:
    picture = first_picture(lesson())
    assert picture is not None
    assert (picture.png, picture.alt) == (b"first", 'Noise & "signal".')
    plain = lesson()
    del plain.cells[2]
    found = first_picture(plain)
    assert found is not None and found.png == b"early"
    assert first_picture(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# None")])) is None


def test_a_badge_from_the_network_is_its_words_and_still_leads_there() -> None:
    solved = lesson()
    badge = "[![Open in Colab](https://a.example/badge.svg)](https://a.example/02.ipynb)"
    solved.cells[0].source += f"\n- {badge}"
    solved.cells[2].source += "\n\n![A drawing](attachment:a.png)"
    made = site_notebook(solved, "")
    assert "- [Open in Colab](https://a.example/02.ipynb)" in made.cells[0].source
    assert made.cells[2].source.endswith("![A drawing](attachment:a.png)")
    assert badge in solved.cells[0].source
