"""Random Qwen2.5-VLs of any shape, built on the device from a configuration alone, and prompts with images for them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from masters.models.packing import Branch, Packed, Row, pack_rows, prompt_positions
from perf.gpu_checks.machine import DEVICE

PATCH, MERGE = 14, 2
Grid = tuple[int, int]
"""Height and width of an image in tokens."""


@dataclass(frozen=True)
class Shape:
    """Widths and depths; heads are `head` wide, those of the tower `vision_hidden / vision_heads`.

    Attributes:
        rows: of the head.
        ids: that the tokenizer has; the last sixteen stand for no text.
        window: tokens of a side of the tower's windows.
        whole: layers of the tower that attend to whole images.
        init: standard deviation of the weights.
    """

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    rows: int
    ids: int
    tied: bool
    vision_hidden: int
    vision_layers: int
    vision_heads: int
    vision_intermediate: int
    whole: tuple[int, ...]
    head: int = 128
    window: int = 4
    init: float = 0.02


QWEN_3B = Shape(2048, 36, 16, 2, 11008, 151_936, 151_665, True, 1280, 32, 16, 3420, (7, 15, 23, 31))
QWEN_7B = replace(QWEN_3B, hidden=3584, layers=28, heads=28, kv_heads=4, intermediate=18944, rows=152_064, tied=False)


def build(shape: Shape, dtype: torch.dtype, seed: int) -> Any:
    """The library's model on the device with weights drawn from a seed."""
    from transformers import AutoModelForImageTextToText, Qwen2_5_VLConfig

    quarter, first = shape.head // 8, shape.ids - 16
    marks = {"bos_token_id": first + 4, "eos_token_id": first + 5, "pad_token_id": first + 4}
    text = {
        "vocab_size": shape.rows,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "max_position_embeddings": 32768,
        "initializer_range": shape.init,
        **marks,
        "tie_word_embeddings": shape.tied,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e6,
            "mrope_section": [quarter, *[(shape.head // 2 - quarter) // 2] * 2],
        },
    }
    vision = {
        "depth": shape.vision_layers,
        "hidden_size": shape.vision_hidden,
        "intermediate_size": shape.vision_intermediate,
        "num_heads": shape.vision_heads,
        "out_hidden_size": shape.hidden,
        "patch_size": PATCH,
        "spatial_merge_size": MERGE,
        "fullatt_block_indexes": list(shape.whole),
        "window_size": shape.window * MERGE * PATCH,
        "initializer_range": shape.init,
    }
    config = Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        vision_start_token_id=first,
        vision_end_token_id=first + 1,
        image_token_id=first + 2,
        video_token_id=first + 3,
        tie_word_embeddings=shape.tied,
        **marks,
    )
    torch.manual_seed(seed)
    with DEVICE:
        return AutoModelForImageTextToText.from_config(config, dtype=dtype, attn_implementation="sdpa").train()


def prompt(model: Any, grids: Sequence[Grid], question: int, answers: Sequence[int]) -> tuple[Row, dict[str, Tensor]]:
    """A prompt of images and a question, with random answers of the given lengths; and its media, on the device."""
    config, largest = model.config, model.config.image_token_id - 2
    ids, pixels = [], []
    for height, width in grids:
        image = [config.vision_start_token_id, *[config.image_token_id] * (height * width), config.vision_end_token_id]
        ids.append(torch.tensor(image))
        pixels.append(torch.randn(height * width * MERGE**2, 3 * 2 * PATCH**2))
    ids.append(torch.randint(0, largest, (question,)))
    media = {}
    if grids:
        sides = [[1, height * MERGE, width * MERGE] for height, width in grids]
        media = {"pixel_values": torch.cat(pixels), "image_grid_thw": torch.tensor(sides)}
    prefix = torch.cat(ids)
    branches = [Branch(torch.randint(0, largest, (length,)).tolist()) for length in answers]
    row = Row(prefix, prompt_positions(model, prefix, media), branches)
    return row, {name: value.to(DEVICE) for name, value in media.items()}


def joined(media: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The media of several prompts."""
    some = [m for m in media if m]
    return {name: torch.cat([m[name] for m in some]) for name in some[0]}


def packed(rows: Sequence[Row]) -> Packed:
    """Rows one behind the other, on the device."""
    found = pack_rows(rows)
    tensors = {name: value.to(DEVICE) for name, value in vars(found).items() if isinstance(value, Tensor)}
    return replace(found, **tensors)


def one_row_each(rows: Sequence[Row], media: Sequence[dict[str, Tensor]]) -> tuple[Packed, dict[str, Tensor]]:
    """The same answers, each behind a prompt and an image of its own."""
    repeated = [
        (replace(row, branches=[branch]), m) for row, m in zip(rows, media, strict=True) for branch in row.branches
    ]
    return packed([row for row, _ in repeated]), joined([m for _, m in repeated])
