"""The score of a picture with its caption, by towers of which the angle is known."""

import pytest
import torch
from torch import Tensor, nn

from diffusion_lessons.data.captioned import scene_tokenizer
from diffusion_lessons.metrics.clip_score import clip_scores
from diffusion_lessons.networks.clip import TwoTowers, VisionConfig
from diffusion_lessons.training.text_to_image import text_config
from tests.oracles import randn

TOKENIZER = scene_tokenizer()
TEXTS = ["a red circle", "a blue square", "a green star"]


class Said(nn.Module):
    """A tower that says what it was told to."""

    def __init__(self, vectors: Tensor, config: object = None) -> None:
        super().__init__()
        self.vectors, self.config = vectors, config

    def forward(self, x: Tensor) -> "Said | Tensor":
        return self if self.config is None else self.vectors

    @property
    def projected(self) -> Tensor:
        return self.vectors


def towers(image: Tensor | None = None, text: Tensor | None = None) -> TwoTowers:
    torch.manual_seed(0)
    vision = VisionConfig(32, 8, 32, 64, layers=1, heads=2, projection=16)
    both = TwoTowers(text_config(TOKENIZER, 32, 1, projection=16), vision).eval()
    if image is not None and text is not None:
        both.vision, both.text = Said(image, vision), Said(text)  # type: ignore[assignment]
    return both


def pictures(n: int = 3, size: int = 32) -> Tensor:
    return torch.randint(0, 256, (n, 3, size, size), generator=torch.Generator().manual_seed(0)).byte()


def test_it_is_two_and_a_half_times_the_cosine_and_never_negative() -> None:
    image = torch.tensor([[2.0, 0.0], [1.0, 1.0], [1.0, 0.0]])
    text = torch.tensor([[3.0, 0.0], [0.0, 5.0], [-1.0, 0.0]])
    scores = clip_scores(towers(image, text), TOKENIZER, pictures(), TEXTS)
    assert scores.tolist() == pytest.approx([2.5, 2.5 * 0.5**0.5, 0.0])


class Published:
    """Model and processor as torchmetrics takes them, with vectors that are given: no pictures, no words."""

    config = None

    def __init__(self, image: Tensor, text: Tensor) -> None:
        self.image, self.text = image, text

    def __call__(self, **given: object) -> dict[str, Tensor]:
        return dict.fromkeys(("pixel_values", "input_ids", "attention_mask"), torch.zeros(1))

    def to(self, device: object) -> "Published":
        return self

    def get_image_features(self, pixels: Tensor) -> Tensor:
        return self.image

    def get_text_features(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return self.text


def test_it_is_torchmetrics_score_but_for_the_constants() -> None:
    """100·max(cos, 0) there, 2.5·max(cos, 0) here; theirs of many is cut after the mean, ours one by one."""
    from torchmetrics.functional.multimodal import clip_score

    image, text = randn(6, 16, seed=1), randn(6, 16, seed=2)
    x = pictures(6)
    ours = clip_scores(towers(image, text), TOKENIZER, x, TEXTS * 2)
    pairs = [Published(image[i : i + 1], text[i : i + 1]) for i in range(6)]
    theirs = [clip_score(x[i], "", lambda pair=pair: (pair, pair)) for i, pair in enumerate(pairs)]
    assert 0 < sum(score == 0 for score in theirs) < 6
    torch.testing.assert_close(ours / 2.5, torch.stack(theirs) / 100, rtol=1e-14, atol=1e-15)


def test_each_picture_meets_its_own_caption() -> None:
    both, x = towers(), pictures()
    scores = clip_scores(both, TOKENIZER, x, TEXTS)
    logits = both(x.float() / 127.5 - 1, TOKENIZER(TEXTS)["tokens"])
    expected = (2.5 * logits.diagonal() / both.logit_scale.exp()).clamp(min=0)
    assert torch.allclose(scores, expected.detach(), atol=1e-5)


def test_larger_pictures_are_brought_to_the_towers_size() -> None:
    large = pictures().repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert clip_scores(towers(), TOKENIZER, large, TEXTS).shape == (3,)


def test_another_number_of_captions_is_refused() -> None:
    with pytest.raises(ValueError, match="2 captions for 3 pictures"):
        clip_scores(towers(), TOKENIZER, pictures(), TEXTS[:2])
