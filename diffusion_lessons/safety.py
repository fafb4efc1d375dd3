"""A check of pictures: which of some concepts they show, by the cosine of embeddings (Radford et al. 2021).

The rule, and the names of the weights, are those of Stable Diffusion's published safety checker.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_lessons.networks.clip import VisionTransformer

ADJUSTMENT = 0.01  # by which thresholds are lower for a picture that shows a concept of special care


class SafetyCheck(nn.Module):
    """Pictures (B, 3, H, W) in [−1, 1] to the names of the concepts that each shows.

    A picture shows a concept where the cosine of their embeddings is above the concept's weight, its
    threshold. Concepts of special care are asked first: they alone hide no picture, but a picture that shows
    one is judged more strictly in all others.

    Args:
        tower: from pictures to embeddings (B, projection).
        prepare: from pictures in [−1, 1] to what the tower takes.
        concepts: what each is called; of those with the same name one is said.
        special: the number of concepts of special care.
        advice: what to do about a picture that is hidden, and how often that is a false alarm, in words.
    """

    concept_embeds: Tensor  # (concepts, projection), of any length
    concept_embeds_weights: Tensor  # (concepts,)
    special_care_embeds: Tensor
    special_care_embeds_weights: Tensor

    def __init__(
        self,
        tower: VisionTransformer,
        prepare: Callable[[Tensor], Tensor],
        concepts: Sequence[str],
        special: int = 0,
        advice: str = "",
    ) -> None:
        super().__init__()
        self.tower, self.prepare, self.concepts, self.advice = tower, prepare, tuple(concepts), advice
        for name, count in (("concept", len(concepts)), ("special_care", special)):
            self.register_buffer(f"{name}_embeds", torch.ones(count, tower.config.projection))
            self.register_buffer(f"{name}_embeds_weights", torch.ones(count))

    @torch.no_grad()
    def scores(self, pictures: Tensor) -> Tensor:
        """By how much each picture is above each threshold, (B, concepts); nothing is rounded."""
        image = self.tower(self.prepare(pictures.clamp(-1, 1)).to(self.concept_embeds.device))
        special = _cosines(image, self.special_care_embeds) - self.special_care_embeds_weights > 0
        scores = _cosines(image, self.concept_embeds) - self.concept_embeds_weights
        return scores + ADJUSTMENT * special.any(1, keepdim=True)

    def forward(self, pictures: Tensor) -> list[list[str]]:
        """What each picture shows."""
        shown = (self.scores(pictures) > 0).tolist()
        found = [[name for name, yes in zip(self.concepts, row, strict=True) if yes] for row in shown]
        return [list(dict.fromkeys(names)) for names in found]

    def said(self, found: Sequence[Sequence[str]]) -> str:
        """What was found, in words; "" for nothing."""
        shown = [f"{i + 1} ({', '.join(each)})" for i, each in enumerate(found) if each]
        if not shown:
            return ""
        return (
            f"the safety check hides behind grey, of {len(found)}, picture {', '.join(shown)}. {self.advice}"
        )


def covered(pictures: Tensor, found: Sequence[Sequence[str]]) -> Tensor:
    """The pictures (B, C, H, W), plain grey in the place of those in which something was found."""
    hide = torch.tensor([bool(each) for each in found], device=pictures.device)
    return torch.where(hide[:, None, None, None], 0.0, pictures)


def _cosines(image: Tensor, concepts: Tensor) -> Tensor:
    return F.normalize(image, dim=-1) @ F.normalize(concepts, dim=-1).T
