"""From a sample to chat messages, and how many tokens its prompt has, without torch and without decoding an image."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from masters.config.images import OWN_LIMITS, ImagesConfig
from masters.data.rows import IMAGE_MARK
from masters.families import Family
from masters.models.image_limits import changed_settings, own_settings, read_settings


def messages(sample: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The chat of a sample: system prompt, earlier turns, question; images at their marks, else before the first turn."""
    turns = [*sample["history"], sample["question"]]
    marked = any(IMAGE_MARK in turn for turn in turns[::2])
    chat: list[dict[str, Any]] = []
    if sample["system"]:
        chat.append({"role": "system", "content": [_text(sample["system"])]})
    for place, turn in enumerate(turns):
        if place % 2:
            chat.append({"role": "assistant", "content": [_text(turn)]})
            continue
        unmarked_images = [] if marked or place else [{"type": "image"}] * len(sample["image_ids"])
        chat.append({"role": "user", "content": [*unmarked_images, *_content(turn)]})
    return chat


def _content(turn: str) -> list[dict[str, str]]:
    """Text and images in the order of the marks; a line break that belongs to a mark goes with it."""
    parts: list[dict[str, str]] = []
    for place, piece in enumerate(turn.split(IMAGE_MARK)):
        if place:
            parts.append({"type": "image"})
        if piece.strip():
            parts.append(_text(piece.strip("\n")))
    return parts


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


class PromptCounter:
    """Counts the tokens that a model's processor, with a recipe's limits, would make of a prompt, from its images' sizes.

    The processor itself imports torch, which takes 10 s in every process, and resizes every image only to count.
    """

    def __init__(self, folder: Path, family: Family, images: ImagesConfig = OWN_LIMITS):
        from tokenizers import Tokenizer

        file = folder / "tokenizer.json"
        if not file.exists():
            raise ValueError(
                f"{folder}: has no tokenizer.json. Convert it: AutoTokenizer.from_pretrained(...).save_pretrained(...)"
            )
        self._tokenizer = Tokenizer.from_file(str(file))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._template, self._special = _template(folder)
        self.family = family
        self._settings = own_settings(folder) | changed_settings(folder, family, images)

    def prompt(self, sample: Mapping[str, Any], sizes: Sequence[tuple[int, int]]) -> int:
        """Tokens of the prompt, images expanded.

        Args:
            sample: as in the samples table; of its images only the number counts.
            sizes: (width, height) of each image in pixels.

        Raises:
            ValueError: where the chat template refuses the chat, or an image has a shape that the family refuses.
        """
        return self.chat(messages(sample), sizes)

    def chat(self, chat: Sequence[Mapping[str, Any]], sizes: Sequence[tuple[int, int]]) -> int:
        """Tokens of the prompt of a chat, which may be any; as `prompt` otherwise."""
        from jinja2 import TemplateError
        from transformers.utils.chat_template_utils import render_jinja_template

        try:
            (text,), _ = render_jinja_template(
                [list(chat)], chat_template=self._template, add_generation_prompt=True, **self._special
            )
        except TemplateError as error:
            raise ValueError(f"the chat template refuses it: {error}") from error
        images = sum(self.family.image_tokens(width, height, self._settings) - 1 for width, height in sizes)
        return len(self._tokenizer.encode(text).ids) + images

    def text(self, text: str) -> int:
        """Tokens of a text, without any that a template would add."""
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)


def _template(folder: Path) -> tuple[str, dict[str, str]]:
    """The chat template as transformers finds it, and the special tokens that it may name."""
    settings = read_settings(folder / "tokenizer_config.json")
    special = {
        key: value["content"] if isinstance(value, dict) else value
        for key, value in settings.items()
        if key.endswith("_token") and isinstance(value, str | dict)
    }
    if (folder / "chat_template.jinja").exists():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8"), special
    template = read_settings(folder / "chat_template.json").get("chat_template") or settings.get("chat_template")
    if not isinstance(template, str):
        raise ValueError(f"{folder}: has no chat template (chat_template.jinja), so it is no model for chats")
    return template, special
