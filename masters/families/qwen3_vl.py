"""Qwen3-VL, dense and with experts. Files are named as the parameters are; position embeddings are a table.

The hub's files hold experts as [experts, in, out], the parameters of transformers are [experts, out, in]: see `layout`.
"""

from dataclasses import replace

from masters.families.base import Experts, Family
from masters.families.images import merged_patches, pixel_limits

QWEN3_VL = Family(
    name="qwen3_vl",
    architecture="Qwen3VLForConditionalGeneration",
    embeddings=r"\b(embed_tokens|patch_embed|pos_embed)\b",
    head=r"\blm_head\.weight$",
    vision=r"(^|\.)visual\.",
    projector=r"(^|\.)visual\.(merger|deepstack_merger_list)\.",
    image_placeholder="<|vision_start|><|image_pad|><|vision_end|>",
    vision_tokens=("<|image_pad|>", "<|video_pad|>"),
    end_of_turn="<|im_end|>",
    image_tokens=merged_patches,
    limits=("min_pixels", "max_pixels"),
    limited=pixel_limits,
)

QWEN3_VL_MOE = replace(
    QWEN3_VL,
    name="qwen3_vl_moe",
    architecture="Qwen3VLMoeForConditionalGeneration",
    routers=r"\.mlp\.gate\.weight$",
    experts=Experts(stacked=r"\.mlp\.experts\.(gate_up_proj|down_proj)$", turned=True),
)
