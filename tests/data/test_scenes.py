import pytest
import torch

from diffusion_lessons.data.captions import wishes
from diffusion_lessons.data.scenes import (
    FORMS,
    HELD_OUT,
    OBJECTS,
    PAIR,
    RELATIONS,
    SHARES,
    SIDE,
    SPLITS,
    STEEP,
    Scenes,
    draw,
)
from diffusion_lessons.data.shapes import COLOURS, RADII, REACH, SHAPES, coverage

N = 2000


@pytest.fixture(scope="module", params=SPLITS)
def split(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def scenes(split: str) -> Scenes:
    return draw(3, torch.arange(N), split)


def pairs_of(scenes: Scenes, row: int) -> set[tuple[str, str]]:
    shown = [k for k in range(OBJECTS) if scenes.present[row, k]]
    return {(list(COLOURS)[scenes.colour[row, k]], SHAPES[scenes.shape[row, k]]) for k in shown}


def test_held_out_pairs_are_shown_where_they_belong_and_nowhere_else(scenes: Scenes, split: str) -> None:
    hidden = [bool(pairs_of(scenes, row) & set(HELD_OUT)) for row in range(N)]
    assert all(hidden) if split == "held-out" else not any(hidden)


def test_every_other_pair_colour_shape_and_relation_is_shown(scenes: Scenes, split: str) -> None:
    shown = set().union(*(pairs_of(scenes, row) for row in range(N)))
    everything = {(colour, shape) for colour in COLOURS for shape in SHAPES}
    assert shown >= everything - set(HELD_OUT)
    assert scenes.relation.unique().tolist() == [-1, *range(len(RELATIONS))]
    shares = scenes.form.bincount(minlength=len(FORMS)) / N
    assert torch.allclose(shares, torch.tensor(SHARES), atol=0.04)


def test_objects_lie_inside_and_never_touch(scenes: Scenes) -> None:
    covered = scenes.coverage(64)
    assert (covered.sum(1) <= 1).all()
    radius = torch.tensor(RADII)[scenes.large]
    room = (REACH * radius)[..., None]
    inside = (scenes.place - room >= 0) & (scenes.place + room <= SIDE)
    assert inside[scenes.present].all()
    assert (covered.amax((2, 3))[scenes.present] == 1).all()
    assert covered[~scenes.present].sum() == 0


def test_a_pair_stands_as_its_relation_says_and_further_so_than_aside(scenes: Scenes) -> None:
    pair = scenes.form == PAIR
    apart = scenes.place[pair, 0] - scenes.place[pair, 1]
    axis = torch.tensor([0, 0, 1, 1])[scenes.relation[pair]]
    sign = torch.tensor([-1, 1, -1, 1])[scenes.relation[pair]]
    along, aside = apart.gather(1, axis[:, None])[:, 0], apart.gather(1, 1 - axis[:, None])[:, 0]
    assert (along * sign > 0).all()
    assert (along.abs() >= aside.abs() * STEEP - 1e-3).all()


def test_the_two_kinds_of_a_scene_differ(scenes: Scenes) -> None:
    for wish in wishes(scenes):
        assert len({(each.colour, each.shape) for each in wish.objects}) == len(wish.objects)


def test_a_scene_is_a_function_of_seed_split_and_position_alone() -> None:
    whole, part = draw(5, torch.arange(40)), draw(5, torch.tensor([33, 7]))
    assert torch.equal(whole.render()[[33, 7]], part.render())
    assert torch.equal(whole[torch.tensor([33, 7])].place, part.place)
    assert not torch.equal(whole.render(), draw(6, torch.arange(40)).render())
    assert not torch.equal(whole.render(), draw(5, torch.arange(40), "test").render())


@pytest.mark.parametrize("size", [32, 64, 128])
def test_pictures_of_all_sizes_show_the_same(size: int) -> None:
    scenes = draw(0, torch.arange(20))
    pictures, masks = scenes.render(size), scenes.masks(size)
    assert pictures.shape == (20, 3, size, size)
    assert pictures.dtype == torch.uint8
    area = masks.sum((2, 3)) * (64 / size) ** 2
    assert torch.allclose(area, scenes.coverage(64).sum((2, 3)), rtol=0.15, atol=0)
    for row in range(20):
        colour = torch.tensor(list(COLOURS.values())[scenes.colour[row, 0]], dtype=torch.uint8)
        x, y = (scenes.place[row, 0] * size / SIDE).long().tolist()
        assert torch.equal(pictures[row, :, y, x], colour)
        assert (pictures[row, :, 0, 0] == scenes.ground[row]).all()


def test_shapes_have_smooth_edges_and_the_area_of_their_form() -> None:
    r, centre = torch.tensor(20.0), torch.tensor([32.0, 32.0])
    area = {name: float(coverage(torch.tensor(i), centre, r, 64).sum()) for i, name in enumerate(SHAPES)}
    side = 2 * 0.886 * 20
    assert area["circle"] == pytest.approx(torch.pi * 400, rel=0.01)
    assert area["square"] == pytest.approx(side**2, rel=0.01)
    assert area["triangle"] == pytest.approx((1.9 * 20) ** 2 / 3**0.5, rel=0.02)
    assert area["cross"] == pytest.approx(2 * (2 * 20) * (0.72 * 20) - (0.72 * 20) ** 2, rel=0.01)
    circle = coverage(torch.tensor(0), centre, r, 64)
    assert ((circle > 0) & (circle < 1)).sum() > 60


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown split of scenes 'heldout'.*did you mean 'held-out'"):
        draw(0, torch.arange(2), "heldout")


def test_a_form_can_be_asked_for() -> None:
    index = torch.arange(50)
    for form in range(len(FORMS)):
        scenes = draw(3, index, form=form)
        assert (scenes.form == form).all()
        assert (scenes.relation >= 0).all() == (form == PAIR)
        drawn = draw(3, index)
        same = drawn.form == form  # where that form would have come anyway, it is the same scene
        assert torch.equal(scenes.place[same], drawn.place[same])
