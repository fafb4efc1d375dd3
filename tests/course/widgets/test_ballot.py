"""A blind vote: pairs and sides drawn evenly, a page that knows no names, and votes as a plain list."""

import json
import sys
from collections import Counter
from typing import Any

import pytest
import torch

from diffusion_lessons.course.widgets.ballot import Ballot, blind_vote
from diffusion_lessons.metrics import bradley_terry

ALT = "Six pairs of grey pictures, one above the other."
NAMES = ("teacher", "student", "mean")


def pictures(n: int = 12) -> dict[str, torch.Tensor]:
    """Every picture is a grey of its own."""
    shades = torch.linspace(-1, 1, 3 * n).view(3, n, 1, 1, 1)
    return {name: each.expand(n, 1, 4, 6) for name, each in zip(NAMES, shades, strict=True)}


def ballot(**how: Any) -> Ballot:
    return blind_vote(pictures(), ALT, **how)


def test_every_two_meet_equally_often_on_both_sides_and_never_twice_on_one_picture() -> None:
    pairs = ballot(pairs=36).pairs
    met = Counter(frozenset((pair.first, pair.second)) for pair in pairs)
    assert set(met.values()) == {12}
    assert len({(frozenset((pair.first, pair.second)), pair.place) for pair in pairs}) == 36
    first = Counter(pair.first < pair.second for pair in pairs)
    assert min(first.values()) > 8  # of 36: less would be one draw in a thousand
    assert pairs == ballot(pairs=36).pairs
    assert pairs != ballot(pairs=36, seed=1).pairs


def test_what_stands_on_a_side_is_the_picture_of_that_name() -> None:
    made, given = ballot(pairs=20), pictures()
    for k, (first, second, place) in enumerate(made.pairs):
        for side, name in ((made.left, first), (made.right, second)):
            shade = float((given[name][place, 0, 0, 0] + 1) * 127.5)
            assert int(side[k, 0, 0, 0]) == pytest.approx(shade, abs=0.51)


def test_before_anybody_votes_there_are_no_votes_and_the_page_has_a_strip() -> None:
    made = ballot(question="Which is *better*?")
    assert made.votes == []
    html = made._repr_html_()
    assert f'<img alt="{ALT}"' in html
    assert "With a running kernel, vote on 20 pairs" in html
    assert repr(made) == f"Ballot of 20 pairs: {ALT}"


def test_the_page_is_blind_until_the_last_vote() -> None:
    pytest.importorskip("anywidget")
    made = ballot(pairs=6, asked=[f"a {k}" for k in range(12)])
    page, folded = made.widget().children
    assert page.spec["asked"] == [f"a {pair.place}" for pair in made.pairs]
    assert page.picture[:4] == b"\x89PNG"
    page.choices = "LRTLL"
    assert [vote.choice for vote in made.votes] == ["first", "second", "tie", "first", "first"]
    assert [(vote.first, vote.second) for vote in made.votes] == [pair[:2] for pair in made.pairs[:5]]
    sent = json.dumps(page.spec) + page.saved + folded.value + made._repr_html_() + repr(made)
    assert not any(name in sent for name in NAMES)
    page.choices = "LRTLLR"
    saved = json.loads(page.saved)
    assert saved["votes"] == [list(vote) for vote in made.votes]
    page.choices = "LRTLL"
    assert (len(made.votes), page.saved) == (5, "")  # going back takes a vote back


def test_a_page_that_is_shown_again_goes_on_where_it_was() -> None:
    pytest.importorskip("anywidget")
    made = ballot(pairs=6)
    made.widget().children[0].choices = "LR"
    assert made.widget().children[0].choices == "LR"


def test_what_a_page_sends_beyond_the_letters_is_no_vote() -> None:
    pytest.importorskip("anywidget")
    made = ballot(pairs=3)
    made.widget().children[0].choices = "LxRTTTT"
    assert [vote.choice for vote in made.votes] == ["first", "second", "tie"]


def test_votes_of_a_ballot_can_be_analysed() -> None:
    pytest.importorskip("anywidget")
    made = ballot(pairs=36)
    order = {name: k for k, name in enumerate(NAMES)}
    letters = ["L" if order[pair.first] < order[pair.second] else "R" for pair in made.pairs]
    letters[3:12] = ["T"] * 9
    made.widget().children[0].choices = "".join(letters)
    assert bradley_terry(made.votes).names == NAMES


def test_without_ipywidgets_the_strip_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    assert sorted(ballot()._repr_mimebundle_()) == ["text/html", "text/plain"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: blind_vote({"one": torch.zeros(3, 1, 4, 4)}, ALT), "two names or more"),
        (
            lambda: blind_vote({"a": torch.zeros(3, 1, 4, 4), "b": torch.zeros(2, 1, 4, 4)}, ALT),
            "as many of each",
        ),
        (lambda: blind_vote({"a": torch.zeros(3, 4, 4), "b": torch.zeros(3, 4, 4)}, ALT), r"\(N, C, H, W\)"),
        (lambda: ballot(asked=["a 1"]), "got 1 texts for 12 pictures"),
        (lambda: ballot(pairs=37), "36 pairs can be made"),
        (lambda: ballot(pairs=0), "got pairs=0"),
        (lambda: blind_vote(pictures(), "short"), "a picture needs alt text"),
        (lambda: blind_vote({name: each * torch.nan for name, each in pictures().items()}, ALT), "NaN"),
    ],
)
def test_what_does_not_fit_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
