"""Micro-batches: groups of one rank, packed, with everything that the objective needs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from masters.algo.terms import Responses
from masters.data.image_shards import read_image
from masters.data.storage import Storage
from masters.models.chat import ChatProcessor, load_image
from masters.models.packing import Branch, Packed, Row, pack_rows, prompt_positions
from masters.models.prompts import messages
from masters.training.groups import Group, Response


@dataclass(frozen=True)
class MicroBatch:
    """What one rank takes through the models at once.

    Attributes:
        packed: one row per group; a row with a blank image and no response where no group has an image, because under
            ZeRO-3 every rank must run the image tower.
        media: pixel values and such of all rows.
        responses: for the objective; None where there is no response.
        keys: (sample id, response) in the order of the responses.
        dropped: how many responses were left out for a token id outside the vocabulary.
    """

    packed: Packed
    media: dict[str, Tensor]
    responses: Responses | None
    keys: Sequence[tuple[str, Response]]
    dropped: int = 0

    def to(self, device: torch.device) -> "MicroBatch":
        """On the device."""
        media = {name: value.to(device) for name, value in self.media.items()}
        responses = self.responses and _moved(self.responses, device)
        return replace(self, packed=_moved(self.packed, device), media=media, responses=responses)


def _moved(part: Any, device: torch.device) -> Any:
    tensors = {name: value for name, value in vars(part).items() if isinstance(value, Tensor)}
    return replace(part, **{name: tensor.to(device) for name, tensor in tensors.items()})


class Collator:
    """Makes micro-batches. `model` is asked for position ids only."""

    def __init__(self, run: Storage, chat: ChatProcessor, model: Any):
        self._run, self._chat, self._model = run, chat, model

    def __call__(self, groups: Sequence[Group]) -> MicroBatch:
        """Pack groups; those without a response are left out."""
        rows: list[Row] = []
        media: list[dict[str, Tensor]] = []
        keys: list[tuple[str, Response]] = []
        for group in groups:
            if group.responses:
                prefix, pixels = self._prompt(group.sample)
                rows.append(replace(prefix, branches=[Branch(self._inputs(r.token_ids)) for r in group.responses]))
                media.append(pixels)
                keys += [(group.sample["sample_id"], response) for response in group.responses]
        if not any(media):
            blank = self._chat.blank()
            rows.append(Row(blank.input_ids, prompt_positions(self._model, blank.input_ids, blank.media), ()))
            media.append(blank.media)
        packed = pack_rows(rows)
        joined = {name: torch.cat([m[name] for m in media if m]) for name in next(m for m in media if m)}
        responses = _responses(packed, [len(g.responses) for g in groups if g.responses], keys)
        return MicroBatch(packed, joined, responses, keys, sum(group.dropped for group in groups))

    def _prompt(self, sample: dict[str, Any]) -> tuple[Row, dict[str, Tensor]]:
        prompt = self._chat.encode(messages(sample), [self._image(name) for name in sample["image_ids"]])
        return Row(prompt.input_ids, prompt_positions(self._model, prompt.input_ids, prompt.media), ()), prompt.media

    def _image(self, name: str) -> Any:
        return load_image(read_image(self._run, name))

    def _inputs(self, token_ids: Sequence[int]) -> Sequence[int]:
        """A response that holds an image token would be taken for an image."""
        vision = set(self._chat.vision_tokens)
        return [self._chat.tokenizer.pad_token_id if token in vision else token for token in token_ids]


def _responses(packed: Packed, sizes: Sequence[int], keys: Sequence[tuple[str, Response]]) -> Responses | None:
    if not keys:
        return None
    verdicts = [float("nan") if response.verdict is None else float(response.verdict) for _, response in keys]
    return Responses(
        target_T=packed.target_T,
        response_T=packed.branch_T,
        group_J=torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes)),
        accuracy_J=torch.tensor(verdicts),
    )
