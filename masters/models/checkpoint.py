"""The tensors of a checkpoint, one at a time, and the model that they make."""

import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from masters.models import attention, vision
from masters.models.folder import check_experts, family_of, weight_files

_SIDE_FILES = ("config.json", "generation_config.json", "model.safetensors.index.json")


def tensors(folder: Path, file: str) -> Iterator[tuple[str, Tensor]]:
    """The tensors of one file, one in memory at a time."""
    with safe_open(folder / file, "pt") as opened:
        for name in opened.keys():  # noqa: SIM118
            yield name, opened.get_tensor(name)


def load_model(folder: Path, dtype: torch.dtype) -> Any:
    """The Hugging Face model with its weights in `dtype`, attending as packed rows need it.

    Raises:
        ValueError: where the checkpoint lacks a weight of the model, or has it in another shape or layout.
    """
    from transformers import AutoConfig, AutoModelForImageTextToText

    check_experts(folder)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    # Where weights are split as they are read, transformers does not see that a head of its own is in the files, and drops it.
    if _has_own_head(folder):
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


def _has_own_head(folder: Path) -> bool:
    """Whether the files hold an output head that is not the token embedding; config.json may say nothing or otherwise."""
    family, weights = family_of(folder), dict[str, Tensor]()
    for file in weight_files(folder):
        with safe_open(folder / file, "pt") as opened:
            for name in opened.keys():  # noqa: SIM118
                for kind, pattern in (("head", family.head), ("embedding", r"\bembed_tokens\.weight$")):
                    if re.search(pattern, name):
                        weights[kind] = opened.get_tensor(name)
    return "head" in weights and not torch.equal(weights["head"], weights["embedding"])


def write_like(source: Path, parameters: Mapping[str, Tensor], target: Path) -> None:
    """Write parameters of a model into files, names, shapes and dtypes as those of the folder that it was loaded from.

    Args:
        source: the folder; its configuration is copied.
        parameters: by their names in memory; all that the files hold.
        target: folder to write.
    """
    family = family_of(source)
    target.mkdir(parents=True, exist_ok=True)
    for name in _SIDE_FILES:
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)
    for file in weight_files(source):
        written = {}
        for name, original in tensors(source, file):
            piece = family.piece(name, original.numel())
            part = parameters[piece.parameter].flatten()[piece.start : piece.start + piece.numel]
            if family.turned(name):
                count, rows, columns = original.shape
                part = part.view(count, columns, rows).transpose(1, 2)
            # A copy: two names of one memory are refused.
            written[name] = part.reshape(original.shape).to(original.dtype, copy=True).contiguous()
        save_file(written, target / file, metadata={"format": "pt"})


def attach(model: Any) -> None:
    """Let a model work as it is trained: packed rows, windows in batches. What is saved of it stays what it was."""
    attention.attach(model)
    vision.attach(model)
