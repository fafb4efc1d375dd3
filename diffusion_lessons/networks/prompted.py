"""A text tower and the U-Net that it tells, as one network: from tokens to the output."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from diffusion_lessons.conditions import Condition, as_dict
from diffusion_lessons.networks.clip import TextConfig, TextTransformer
from diffusion_lessons.networks.unet_text import TextUNet, TextUNetConfig


@dataclass(frozen=True)
class PromptedConfig:
    """Both parts."""

    text: TextConfig
    unet: TextUNetConfig
    pooled: bool = False  # whether the U-Net sees one vector for the whole text, or one for each token

    kinds: ClassVar = {"text": TextConfig, "unet": TextUNetConfig}  # of the parts

    def __post_init__(self) -> None:
        for name, kind in self.kinds.items():
            given: Any = getattr(self, name)
            if isinstance(given, dict):  # from JSON
                object.__setattr__(self, name, kind(**given))
        if self.text.width != self.unet.context:
            raise ValueError(f"the tower is {self.text.width} wide and the U-Net wants {self.unet.context}")


class Prompted(nn.Module):
    """Noisy latents, times and a condition with "tokens" and "mask", or with the "context" made from them.

    All tokens are seen, those behind the end of a text too: that is how Stable Diffusion was trained.
    """

    drawn_by: type[TextUNet] = TextUNet  # the kind of U-Net

    def __init__(self, config: PromptedConfig) -> None:
        super().__init__()
        self.config = config
        self.text, self.unet = TextTransformer(config.text), self.drawn_by(config.unet)

    def null_condition(self, batch: int) -> Condition:
        """The tokens of the empty text, that of a caption that was dropped."""
        text = self.config.text
        device = next(self.parameters()).device
        tokens = torch.full((batch, text.context), text.end, device=device)
        tokens[:, 0] = text.begin
        mask = torch.arange(text.context, device=device).expand(batch, -1) < 2
        return {"tokens": tokens, "mask": mask}

    def told(self, condition: Condition) -> dict[str, Tensor]:
        """The condition with tokens replaced by what the tower makes of them: the work of a prompt, once."""
        entries = as_dict(condition)
        if "tokens" not in entries:
            return entries
        kept = {name: value for name, value in entries.items() if name not in ("tokens", "mask")}
        said = self.text(entries["tokens"])
        return {**kept, "context": said.pooled[:, None] if self.config.pooled else said.context}

    def forward(self, x: Tensor, time: Tensor, condition: Condition = None) -> Tensor:
        """The U-Net's output; without a condition, that of the empty text."""
        told = self.null_condition(x.shape[0]) if condition is None else condition
        return self.unet(x, time, self.told(told))
