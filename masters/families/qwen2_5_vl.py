"""Qwen2.5-VL. Files on the hub spell `visual.*` and `model.layers.*`; newer ones `model.visual.*`, `model.language_model.*`."""

import math
from collections.abc import Mapping
from typing import Any

from masters.families.base import Family

_MAX_ASPECT_RATIO = 200


def image_tokens(width: int, height: int, settings: Mapping[str, Any]) -> int:
    """Tokens of an image: it is resized to whole merged patches with between min and max pixels, as its processor does.

    Args:
        width: pixels.
        height: pixels.
        settings: of the image processor; older files say min_pixels and max_pixels, newer ones size.

    Raises:
        ValueError: where one side is more than 200 times the other.
    """
    if max(width, height) > _MAX_ASPECT_RATIO * min(width, height):
        raise ValueError(f"{width} x {height}: one side is more than {_MAX_ASPECT_RATIO} times the other")
    size = settings.get("size") or {}
    smallest = settings.get("min_pixels") or size.get("shortest_edge") or 56 * 56
    largest = settings.get("max_pixels") or size.get("longest_edge") or 28 * 28 * 1280
    unit = settings.get("patch_size", 14) * settings.get("merge_size", 2)
    rows, columns = round(height / unit), round(width / unit)
    if rows * columns * unit**2 > largest:
        shrink = math.sqrt(height * width / largest)
        rows, columns = (max(1, math.floor(side / shrink / unit)) for side in (height, width))
    elif rows * columns * unit**2 < smallest:
        stretch = math.sqrt(smallest / (height * width))
        rows, columns = (math.ceil(side * stretch / unit) for side in (height, width))
    return rows * columns


QWEN2_5_VL = Family(
    name="qwen2_5_vl",
    architecture="Qwen2_5_VLForConditionalGeneration",
    embeddings=r"\b(embed_tokens|patch_embed)\b",
    head=r"\blm_head\.weight$",
    routers=r"$^",
    vision=r"(^|\.)visual\.",
    projector=r"(^|\.)visual\.merger\.",
    stacked_experts=r"$^",
    renames=(
        (r"^visual\.", "model.visual."),
        (r"^model\.(?!visual\.|language_model\.)", "model.language_model."),
    ),
    image_placeholder="<|vision_start|><|image_pad|><|vision_end|>",
    vision_tokens=("<|image_pad|>", "<|video_pad|>"),
    end_of_turn="<|im_end|>",
    image_tokens=image_tokens,
)
