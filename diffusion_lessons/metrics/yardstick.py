"""What the features of real pictures look like, kept small: so that a distance needs no data set."""

from dataclasses import dataclass

import torch
from torch import Tensor

from diffusion_lessons.metrics.frechet import Statistics


@dataclass(frozen=True, eq=False)
class Reference:
    """Statistics of the features of all n pictures of a split, and the features of some of them.

    Args:
        statistics: mean, covariance and n, float64.
        sample: (M, D) features of M ≤ n pictures drawn at random, half precision in the file.
    """

    statistics: Statistics
    sample: Tensor

    @classmethod
    def of(cls, features: Tensor, size: int, generator: torch.Generator) -> "Reference":
        """The reference of features (N, D), with at most `size` of them as the sample."""
        chosen = torch.randperm(len(features), generator=generator)[:size]
        return cls(Statistics.of(features), features[chosen])

    def tensors(self, split: str) -> dict[str, Tensor]:
        """What is stored in a file, under the name of the split."""
        s = self.statistics
        return {
            f"reference.{split}.mean": s.mean,
            f"reference.{split}.covariance": s.covariance,
            f"reference.{split}.n": torch.tensor(s.n),
            f"reference.{split}.sample": self.sample.half(),
        }

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], split: str) -> "Reference":
        """The inverse of `tensors`, with the sample in float32."""
        mean, covariance, n, sample = (
            tensors[f"reference.{split}.{part}"] for part in ("mean", "covariance", "n", "sample")
        )
        return cls(Statistics(mean, covariance, int(n)), sample.float())
