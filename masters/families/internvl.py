"""InternVL3 (Qwen2 inside) and InternVL3.5 (Qwen3 inside, dense or with experts), in the Hugging Face layout.

Those repositories are called -hf (3) and -HF (3.5); OpenGVLab's own layout runs code from the hub and is refused.
"""

from masters.families.base import Experts, Family
from masters.families.images import tile_limits, tiles

INTERNVL = Family(
    name="internvl",
    architecture="InternVLForConditionalGeneration",
    embeddings=r"\b(embed_tokens|patch_embeddings|position_embeddings|cls_token)\b",
    head=r"\blm_head\.weight$",
    vision=r"(^|\.)(vision_tower|multi_modal_projector)\.",
    projector=r"(^|\.)multi_modal_projector\.",
    renames=(
        (r"^language_model\.lm_head\.", "lm_head."),
        (r"^language_model\.model\.", "model.language_model."),
        (r"^(vision_tower|multi_modal_projector)\.", r"model.\1."),
    ),
    image_placeholder="<IMG_CONTEXT>",
    vision_tokens=("<IMG_CONTEXT>", "<img>", "</img>", "<video>"),
    end_of_turn="<|im_end|>",
    image_tokens=tiles,
    limits=("max_tiles",),
    limited=tile_limits,
    routers=r"\.mlp\.gate\.weight$",
    experts=Experts(
        stacked=r"\.mlp\.experts\.(gate_up_proj|down_proj)$",
        single=r"^(?P<stem>.*\.mlp\.experts)\.(?P<expert>\d+)\.(?P<matrix>gate|up|down)_proj\.weight$",
    ),
)
