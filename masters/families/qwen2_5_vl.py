"""Qwen2.5-VL. Files on the hub spell `visual.*` and `model.layers.*`; newer ones `model.visual.*`, `model.language_model.*`."""

from masters.families.base import Family
from masters.families.images import merged_patches, pixel_limits

QWEN2_5_VL = Family(
    name="qwen2_5_vl",
    architecture="Qwen2_5_VLForConditionalGeneration",
    embeddings=r"\b(embed_tokens|patch_embed)\b",
    head=r"\blm_head\.weight$",
    vision=r"(^|\.)visual\.",
    projector=r"(^|\.)visual\.merger\.",
    renames=(
        (r"^visual\.", "model.visual."),
        (r"^model\.(?!visual\.|language_model\.)", "model.language_model."),
    ),
    image_placeholder="<|vision_start|><|image_pad|><|vision_end|>",
    vision_tokens=("<|image_pad|>", "<|video_pad|>"),
    end_of_turn="<|im_end|>",
    image_tokens=merged_patches,
    limits=("min_pixels", "max_pixels"),
    limited=pixel_limits,
)
