"""Conditions: what a network is told beside the noisy sample, and the rules that all kinds share.

A condition is None, labels (B,), or a dict of batch-first tensors ("label"; "tokens" and "mask"; "known").
Labels alone are short for {"label": labels}. A null condition names the entries that mean "no condition";
entries that it does not name, such as inpainting channels, belong to the picture and are always kept.
"""

import torch
from torch import Tensor

Condition = Tensor | dict[str, Tensor] | None


def as_dict(condition: Condition) -> dict[str, Tensor]:
    """The entries by name."""
    if condition is None:
        return {}
    return condition if isinstance(condition, dict) else {"label": condition}


def label_of(condition: Condition) -> Tensor | None:
    """The labels (B,) in a condition, or None."""
    return as_dict(condition).get("label")


def replaced(condition: Condition, null: Condition, batch: int) -> Condition:
    """The condition with the entries of `null`, tensors of 1 or `batch` rows, in the place of its own."""
    for value in as_dict(null).values():
        if not isinstance(value, Tensor) or len(value) not in (1, batch):
            raise ValueError(
                f"a condition to guide away from must be a tensor of 1 or {batch} rows, got {value!r}"
            )
    entries = {name: value.expand(batch, *value.shape[1:]) for name, value in as_dict(null).items()}
    if isinstance(condition, dict):
        return {**condition, **entries}
    return entries if isinstance(null, dict) else entries.get("label")


def dropped(condition: Condition, null: Condition, drop: Tensor) -> Condition:
    """A new condition with `null`, of 1 row or B, where `drop` (Ho and Salimans 2022, algorithm 1).

    drop is (B,) bool. One decision holds for all entries of a row: a caption goes with its mask.
    """
    if null is None:
        return condition
    without = as_dict(replaced(condition, null, len(drop)))
    mixed = {
        name: torch.where(drop.view(-1, *[1] * (value.ndim - 1)), without[name], value)
        for name, value in as_dict(condition).items()
    }
    return mixed if isinstance(condition, dict) else mixed.get("label")


def rows_of(condition: Condition) -> int | None:
    """The number of rows of a condition; None where there is none, or no row has an entry."""
    return next((len(value) for value in as_dict(condition).values()), None)


def taken(condition: Condition, index: Tensor, device: torch.device | str) -> Condition:
    """The rows at positions (B,) of a condition, on a device."""
    rows = {name: value[index.to(value.device)].to(device) for name, value in as_dict(condition).items()}
    return rows if isinstance(condition, dict) else rows.get("label")


def stacked(first: Condition, second: Condition) -> Condition:
    """Both, one batch behind the other."""
    if isinstance(first, dict) and isinstance(second, dict):
        return {name: torch.cat([first[name], second[name]]) for name in first}
    return torch.cat([first, second])  # type: ignore[list-item]
