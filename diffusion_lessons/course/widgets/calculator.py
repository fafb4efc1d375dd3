"""A calculator: choose a picture, a network, a sampler and a GPU; FLOPs, memory, seconds and money follow."""

from collections.abc import Mapping, Sequence

from diffusion_lessons.course.widgets.controls import Live, live
from diffusion_lessons.course.widgets.page import Card
from diffusion_lessons.metrics.planning import Costs, counts, planned
from diffusion_lessons.metrics.training_cost import PEAK

PIXELS, WIDTHS = (64, 128, 256, 512), (64, 128, 192, 320)
STEPS, GUIDANCE = (1, 4, 25, 50, 1000), (1.0, 7.5)
SPACES = ("pixels", "latents")
PRICE, SHARE, PICTURES = "2", "0.28", "1e9"  # what the boxes begin with
BATCH = 32
UNITS = ((86400 * 365.25, "years"), (86400, "days"), (3600, "hours"), (60, "minutes"), (1, "s"), (1e-3, "ms"))
PREFIXES = ((1e21, "Z"), (1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def explore_costs(peaks: Mapping[str, float] = PEAK, pixels: Sequence[int] = PIXELS) -> Live:
    """Choose, or type, and read what a picture and a training cost by `metrics.planning`.

    The share of the peak that is reached, the pictures that are learnt from and the price of an hour are
    boxes to type in: none of the three is claimed. Numbers that make no sense are said in the page.

    Args:
        peaks: FLOPs a second that a GPU has at best, by its name; one GPU does all the work.
        pixels: sides of pictures to choose from.
    """

    def draw(
        side: int,
        space: str,
        width: int,
        steps: int,
        guidance: float,
        gpu: str,
        share: str,
        pictures: str,
        price: str,
    ) -> Card:
        counted = counts(side, space == "latents", width)
        settings = steps, guidance, number("pictures", pictures), BATCH, peaks[gpu]
        costs = planned(counted, *settings, number("share", share), number("price", price))
        return Card(*told(costs, counted.parameters, f"{side}×{side} pixels, in {space}, {gpu}"))

    return live(
        draw,
        start={
            "side": 256 if 256 in pixels else pixels[0],
            "space": "latents",
            "width": 192,
            "steps": 25,
            "guidance": 7.5,
        },
        side=pixels,
        space=SPACES,
        width=WIDTHS,
        steps=STEPS,
        guidance=GUIDANCE,
        gpu=list(peaks),
        share=SHARE,
        pictures=PICTURES,
        price=PRICE,
    )


def number(name: str, text: str) -> float:
    """What was typed; anything but a number is a ValueError that says how one looks."""
    try:
        return float(text.replace(",", "."))
    except ValueError as error:
        raise ValueError(f"{name} is a number such as 0.3, 2 or 1e9; got {text!r}") from error


def told(costs: Costs, parameters: int, what: str) -> tuple[str, str]:
    """The costs as text and as a table."""
    rows = (
        ("FLOPs", scaled(costs.picture_flops), scaled(costs.training_flops)),
        ("memory, at least", f"{scaled(costs.drawing_bytes)}B", f"{scaled(costs.training_bytes)}B"),
        ("time on one", lasting(costs.picture_seconds), lasting(costs.training_seconds)),
        (
            "money, at your price",
            f"{paid(1000 * costs.picture_money)} a thousand",
            paid(costs.training_money),
        ),
    )
    title = f"{what}: {scaled(parameters)} parameters"
    text = "; ".join(f"{name}: a picture {one}, the training {all_}" for name, one, all_ in rows)
    body = "".join(f"<tr><th>{name}</th><td>{one}</td><td>{all_}</td></tr>" for name, one, all_ in rows)
    head = "<tr><th></th><th>one picture</th><th>the training</th></tr>"
    return f"{title}. {text}", f"<p><strong>{title}</strong></p><table>{head}{body}</table>"


def scaled(value: float) -> str:
    """A number in three digits with a prefix: 1.23 G."""
    factor, prefix = next(((f, p) for f, p in PREFIXES if value >= 0.9995 * f), (1.0, ""))
    return f"{value / factor:.3g} {prefix}".rstrip() + ("" if prefix else " ")


def paid(money: float) -> str:
    """Money as people write it: 0.071, 13.5, 3,312."""
    return f"{money:,.0f}" if money >= 99.95 else f"{money:.3g}"


def lasting(seconds: float) -> str:
    """Seconds in the unit in which they are at least 1."""
    size, unit = next(((s, u) for s, u in UNITS if seconds >= s), UNITS[-1])
    return f"{seconds / size:,.3g} {unit}"
