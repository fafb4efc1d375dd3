"""The recorded swaps of lesson 12, and that its command measures every kind of row."""

from typing import Any

import pytest
import torch

from diffusion_lessons.data.dataset import to_float
from diffusion_lessons.data.scenes import draw
from diffusion_lessons.experiments import recorded
from diffusion_lessons.experiments.pieces_swapped import (
    AS_IT_IS,
    EXPERIMENT,
    SWAPS,
    TOWERS,
    Shared,
    context,
    decoded,
    measure,
    prepare,
)
from diffusion_lessons.metrics.captions_met import Met

OPTIONS = {"model": "scenes-text", "n": 2, "seed": 0, "device": "cpu"}
ROWS = EXPERIMENT.settings({})


@pytest.fixture(scope="module")
def shared() -> Shared:
    return prepare(OPTIONS)


def test_every_row_but_the_first_differs_in_one_piece() -> None:
    assert ROWS[0] == {"piece": "nothing", **AS_IT_IS}
    assert [row["piece"] for row in ROWS] == sorted((row["piece"] for row in ROWS), key=list(SWAPS).index)
    for row in ROWS[1:]:
        changed = {name for name in AS_IT_IS if row[name] != AS_IT_IS[name]}
        assert changed and changed <= ({"sampler", "steps"} if row["piece"] == "sampler" else {row["piece"]})


def test_what_is_recorded_belongs_to_its_settings() -> None:
    result = recorded("pieces-swapped")
    assert [row["settings"] for row in result["rows"]] == ROWS
    for row in result["rows"]:
        for what in (*Met.__dataclass_fields__, "everything"):
            share, low, high = row[what]
            assert low <= share <= high
        assert row["right"] == row["everything"][0]


@pytest.mark.parametrize("piece", SWAPS)
def test_a_row_of_each_piece_is_measured(shared: Shared, piece: str) -> None:
    row: dict[str, Any] = next(each for each in ROWS if each["piece"] == piece)
    figures = measure(shared, {**row, "steps": 2}, OPTIONS)
    assert set(figures) == {"rows_seen", "right", *Met.__dataclass_fields__, "everything"}


def test_rows_seen_are_those_of_the_sampler(shared: Shared) -> None:
    row = {**ROWS[0], "sampler": "plms", "steps": 3}
    assert measure(shared, row, OPTIONS)["rows_seen"] == 2 * 4
    assert (
        measure(shared, {**row, "decoder": "linear"}, OPTIONS)["rows_seen"] is None
    )  # nothing is drawn again


@torch.no_grad()
def test_towers_and_decoders_differ_and_leave_the_model_as_it_was(shared: Shared) -> None:
    own = shared.model.network.text
    before = {name: value.clone() for name, value in own.state_dict().items()}
    said = {name: context(shared, shared.texts, name) for name in ("its own", *TOWERS)}
    tokens = shared.model.prompts(shared.texts)["tokens"]
    assert len({float(each[0, 1, 0]) for each in said.values()}) == len(TOWERS)  # padding comes behind
    assert all(each.shape == said["its own"].shape for each in said.values())
    end = int((tokens[0] == tokens[0, -1]).nonzero()[0])  # up to the end padding changes nothing
    assert torch.allclose(said["its own"][0, : end + 1], said["padded with 0"][0, : end + 1], atol=1e-5)
    z = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    drawn = [decoded(shared, z, row["decoder"]) for row in ROWS if row["piece"] in ("nothing", "decoder")]
    assert all(each.shape == (2, 3, 64, 64) for each in drawn)
    assert all(before[name].equal(value) for name, value in own.state_dict().items())


@torch.no_grad()
def test_the_linear_decoder_shows_latents_as_a_model_draws_them(shared: Shared) -> None:
    pictures, vae = to_float(draw(2, torch.arange(8)).render(64)), shared.model.vae
    assert vae is not None
    z = vae.encode(pictures, torch.randn(8, 4, 16, 16, generator=torch.Generator().manual_seed(1)))
    assert (decoded(shared, z, "linear") - pictures).std() < 0.7 * pictures.std()
