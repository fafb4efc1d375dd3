"""Running solved notebooks again notices other output, errors, dead kernels and what was never stored."""

import nbformat
import pytest

from diffusion_lessons.course.authoring.rerun import TAG, main, rerun, unchecked


@pytest.fixture
def solved(tmp_path):
    """A solved notebook of one tagged cell."""

    def made(source, printed, count=1, name="02_a.ipynb"):
        cell = nbformat.v4.new_code_cell(source, execution_count=count, metadata={"tags": [TAG]})
        cell.outputs = [nbformat.v4.new_output("stream", text=printed)] if printed else []
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook = nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": kernel})
        nbformat.write(notebook, tmp_path / name)
        return tmp_path / name

    return made


def test_equal_output_passes_and_the_budget_is_full(solved, capfd):
    code = "import os\nprint(os.environ['DIFFUSION_LESSONS_BUDGET'], os.environ['OMP_NUM_THREADS'])"
    assert rerun([solved(code, "full 1\n")]) == 0
    assert "1 passed" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("print(2)", "Cell outputs differ"),
        ("1 / 0", "ZeroDivisionError"),
        ("import os; os._exit(1)", "failed"),
    ],
)
def test_what_is_different_now_is_noticed(solved, capfd, source, said):
    assert rerun([solved(source, "1\n")], timeout=10) == 1
    assert said in capfd.readouterr().out


@pytest.mark.parametrize(("printed", "count"), [("1\n", None), ("", 1)])
def test_what_was_never_stored_is_refused(solved, printed, count):
    file = solved("print(1)", printed, count)
    assert len(unchecked(file)) == 1
    with pytest.raises(ValueError, match=r"02_a\.ipynb: nothing is stored for the cells"):
        rerun([file])


def test_an_unknown_lesson_is_one_line(tmp_path, capsys):
    assert main(["07", "--root", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "no solutions/07_….py: there are none\n"
