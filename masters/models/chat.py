"""From chat messages to what a model is given: prompt text, token ids, pixel values."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from masters.config.images import OWN_LIMITS, ImagesConfig
from masters.data.images import upright_rgb
from masters.families import Family
from masters.models.folder import head_rows
from masters.models.image_limits import changed_settings


def load_image(content: bytes) -> Image.Image:
    """An encoded image, decoded as prepare checked it."""
    with Image.open(io.BytesIO(content)) as opened:
        return upright_rgb(opened)


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt as model inputs.

    Attributes:
        input_ids: [T] with image tokens expanded.
        media: what the model takes beside token ids, for example pixel values; empty for text-only prompts.
    """

    input_ids: Tensor
    media: dict[str, Tensor]


class ChatProcessor:
    """Tokenizer, chat template and image processor of a model folder, as Hugging Face loads them.

    The image processor keeps within a recipe's limits of images.
    """

    def __init__(self, folder: Path, family: Family, images: ImagesConfig = OWN_LIMITS):
        from transformers import AutoProcessor

        self.processor = AutoProcessor.from_pretrained(folder, trust_remote_code=False)
        if changes := changed_settings(folder, family, images):
            own = self.processor.image_processor
            self.processor.image_processor = type(own).from_dict(own.to_dict() | changes)
        self.tokenizer = self.processor.tokenizer
        self.family, self.images = family, images
        self.head_rows = head_rows(folder)
        self.end_of_turn: int = self._token_id(family.end_of_turn)
        self.vision_tokens = [self._token_id(token) for token in family.vision_tokens]

    def _token_id(self, token: str) -> int:
        index = self.tokenizer.convert_tokens_to_ids(token)
        if index is None or index == self.tokenizer.unk_token_id:
            raise ValueError(f"the tokenizer has no token {token}, so it is no {self.family.name} model")
        return index

    def prompt(self, chat: Sequence[Mapping[str, Any]]) -> str:
        """The text that the model continues, with one placeholder for each image."""
        return self.processor.apply_chat_template(list(chat), tokenize=False, add_generation_prompt=True)

    def encode(self, chat: Sequence[Mapping[str, Any]], images: Sequence[Image.Image]) -> EncodedPrompt:
        """Token ids with image tokens expanded, and pixel values."""
        encoded = self.processor(text=[self.prompt(chat)], images=list(images) or None, return_tensors="pt")
        media = {key: value for key, value in encoded.items() if key in ("pixel_values", "image_grid_thw")}
        return EncodedPrompt(encoded["input_ids"][0], media)

    def answer_ids(self, answer: str) -> list[int]:
        """Tokens of an answer as a model would generate it, end of turn included."""
        return [*self.tokenizer(answer, add_special_tokens=False).input_ids, self.end_of_turn]

    def blank(self) -> EncodedPrompt:
        """A prompt with one small blank image, for ranks that have none (ZeRO-3 wants every rank to run the tower)."""
        image = Image.new("RGB", (56, 56))
        return self.encode([{"role": "user", "content": [{"type": "image"}]}], [image])


def common_vocabulary(first: ChatProcessor, second: ChatProcessor) -> int:
    """The number of token ids that two models of a family share: both tokenizers have them, and both heads have rows for them.

    Raises:
        ValueError: where a token has different ids in the two tokenizers.
    """
    one, two = ({index: token for token, index in p.tokenizer.get_vocab().items()} for p in (first, second))
    check_same_tokens(one, two)
    return min(max(one) + 1, max(two) + 1, first.head_rows, second.head_rows)


def check_same_tokens(one: Mapping[int, str], two: Mapping[int, str]) -> None:
    """Raise ValueError where an id that both have stands for two tokens."""
    for index in sorted(one.keys() & two.keys()):
        if one[index] != two[index]:
            raise ValueError(
                f"token {index} is {one[index]!r} for one model and {two[index]!r} for the other: not of one family"
            )
