"""The tensors of a checkpoint, one at a time, and the model that they make."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from masters.models import attention, vision
from masters.models.folder import family_of, shapes


def tensors(folder: Path, file: str) -> Iterator[tuple[str, Tensor]]:
    """The tensors of one file, one in memory at a time."""
    with safe_open(folder / file, "pt") as opened:
        for name in opened.keys():  # noqa: SIM118
            yield name, opened.get_tensor(name)


def load_model(folder: Path, dtype: torch.dtype) -> Any:
    """The Hugging Face model with its weights in `dtype`, attending as packed rows need it.

    Raises:
        ValueError: where the checkpoint lacks a weight of the model, or has it in another shape.
    """
    from transformers import AutoConfig, AutoModelForImageTextToText

    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    # The files say whether the head is tied: an older config.json may not, and where weights are split as they are read,
    # transformers does not see that the file's head is another one and drops it.
    if any(re.search(family_of(folder).head, name) for name in shapes(folder)):
        config.tie_word_embeddings = False
    model, report = AutoModelForImageTextToText.from_pretrained(
        folder,
        config=config,
        dtype=dtype,
        attn_implementation="sdpa",
        output_loading_info=True,
        trust_remote_code=False,
    )
    for kind in ("missing_keys", "mismatched_keys"):
        if report[kind]:
            raise ValueError(
                f"{folder}: {kind.replace('_', ' ')}, for example {sorted(report[kind])[0]}: not the whole model"
            )
    attach(model)
    return model


def attach(model: Any) -> None:
    """Let a model work as it is trained: packed rows, windows in batches. What is saved of it stays what it was."""
    attention.attach(model)
    vision.attach(model)
