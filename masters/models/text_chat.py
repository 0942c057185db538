"""Chats of texts for any model folder that has a chat template: what a judge of an unknown family is asked with."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from masters.config.images import OWN_LIMITS, ImagesConfig
from masters.families import FAMILIES
from masters.models.chat import ChatProcessor

_TRIED = [
    {"role": "system", "content": [{"type": "text", "text": "system's 81"}]},
    {"role": "user", "content": [{"type": "text", "text": "user's 82"}]},
]


def chat_of(folder: Path, images: ImagesConfig = OWN_LIMITS) -> Any:
    """The chat processor of a model of a family that Masters knows; else what asks a model of texts."""
    kind = json.loads((folder / "config.json").read_text()).get("model_type")
    return ChatProcessor(folder, FAMILIES[kind], images) if kind in FAMILIES else TextChat(folder)


class TextChat:
    """Tokenizer and chat template of a folder. Templates that know no system prompt get it before the user's text.

    Raises:
        ValueError: where the folder has no tokenizer, or no chat template that takes a question.
    """

    def __init__(self, folder: Path):
        from transformers import AutoTokenizer

        try:
            self.tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(
                f"{folder}: transformers finds no tokenizer there ({str(error).splitlines()[0]})"
            ) from error
        if len(self.tokenizer) <= len(self.tokenizer.get_added_vocab()):  # transformers makes up what the folder lacks
            raise ValueError(
                f"{folder}: has no tokenizer. Copy tokenizer.json and its settings from where the model is from."
            )
        self._template = self.tokenizer.chat_template or _of_processor(folder)
        if not self._template:
            raise ValueError(f"{folder}: has no chat template, so it cannot be asked. Use an instruction-tuned model.")
        self._knows_system = True
        self._knows_system = self._renders(_TRIED)
        if not self._knows_system and not self._renders(_TRIED):
            raise ValueError(f"{folder}: its chat template takes no question of text. Use an instruction-tuned model.")

    def prompt(self, chat: Sequence[Mapping[str, Any]]) -> str:
        """The text that the model continues. Chats hold texts only."""
        turns = [{"role": turn["role"], "content": "".join(part["text"] for part in turn["content"])} for turn in chat]
        if not self._knows_system and turns[0]["role"] == "system":
            system, first, *rest = turns
            turns = [{**first, "content": f"{system['content']}\n\n{first['content']}"}, *rest]
        return self.tokenizer.apply_chat_template(
            turns, chat_template=self._template, tokenize=False, add_generation_prompt=True
        )

    def _renders(self, chat: Sequence[Mapping[str, Any]]) -> bool:
        import jinja2

        try:
            return all(turn["content"][0]["text"] in self.prompt(chat) for turn in chat)
        except (jinja2.TemplateError, TypeError, ValueError):
            return False


def _of_processor(folder: Path) -> str | None:
    """Folders of models that see images may keep the template beside the processor only."""
    from transformers import AutoProcessor

    try:
        return getattr(AutoProcessor.from_pretrained(folder, trust_remote_code=False), "chat_template", None)
    except (OSError, ValueError, KeyError):
        return None
