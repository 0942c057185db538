"""Tiny models of every family, with random weights and the family's real processor: for tests of mechanics and first tries.

Every parameter is drawn at random, norms and biases too, so that none can be left out unseen. The files are laid out as the
hub's are.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from masters.data.sources.charts import SIZE
from masters.families import FAMILIES
from masters.models.folder import weight_files
from masters.models.tiny import CHAT_TEMPLATE, HEAD_SIZE, MERGE, SPECIAL_TOKENS, TinySize, train_tokenizer

SIZES = {
    "student": TinySize(hidden=64, layers=2, vision_hidden=64, vision_layers=3, init=0.1, rope_theta=1e3),
    "teacher": TinySize(hidden=128, layers=3, vision_hidden=64, vision_layers=3, init=0.09, rope_theta=1e3),
}
_INTERN_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>")
_INTERN_TEMPLATE = CHAT_TEMPLATE.replace("<|vision_start|><|image_pad|><|vision_end|>", "<IMG_CONTEXT>\\n")
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 96, "norm_topk_prob": True}
"""96: neither hidden size nor half of one, so that a turned matrix is seen; and a width that no CPU kernel fills up."""
_MAX_LENGTH = 4096


@dataclass(frozen=True)
class Built:
    """A configuration and the processor that goes with it."""

    config: Any
    processor: Any


def make(
    family: str,
    folder: Path,
    size: str = "student",
    seed: int = 0,
    *,
    tied: bool = False,
    dtype: torch.dtype = torch.bfloat16,
) -> int:
    """Write a model folder that transformers and vLLM load; the number of its weights.

    Args:
        family: one of `KINDS`.
        folder: to write.
        size: `student` or `teacher`.
        seed: of the weights.
        tied: the output head is the token embedding.
        dtype: of the weights.

    Raises:
        ValueError: for an unknown family or size.
    """
    from transformers import AutoModelForImageTextToText

    for kind, name, known in (("family", family, KINDS), ("size", size, SIZES)):
        if name not in known:
            raise ValueError(f"{name}: no such {kind}. There are {', '.join(known)}.")
    built = KINDS[family](SIZES[size], tied)
    torch.manual_seed(seed)
    model = AutoModelForImageTextToText.from_config(built.config, dtype=torch.float32)
    randomise(model)
    folder.mkdir(parents=True, exist_ok=True)
    model.to(dtype).save_pretrained(folder)
    built.processor.save_pretrained(folder)
    _turn_experts(folder, built.config.model_type)
    return sum(parameter.numel() for parameter in model.parameters())


@torch.no_grad()
def randomise(model: Any) -> None:
    """Draw what initialisers leave at 0 or 1."""
    for parameter in model.parameters():
        if parameter.dim() < 2 or not parameter.any():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)


def _turn_experts(folder: Path, kind: str) -> None:
    """transformers saves stacked experts as its parameters are; files on the hub hold them turned."""
    experts = FAMILIES[kind].experts
    if not experts.turned:
        return
    for name in weight_files(folder):
        tensors = load_file(folder / name)
        for key, weight in tensors.items():
            if FAMILIES[kind].slices(key, weight.shape) > 1:
                tensors[key] = weight.transpose(1, 2).contiguous()
        save_file(tensors, folder / name, metadata={"format": "pt"})


def _text(size: TinySize, tokenizer: Any, tied: bool, rope: dict[str, Any], experts: dict[str, Any]) -> dict[str, Any]:
    """Of the language model. Its head is filled up to multiples of its width: a teacher's has more rows than a student's."""
    heads = size.hidden // HEAD_SIZE
    end, turn = (tokenizer.convert_tokens_to_ids(token) for token in ("<|endoftext|>", "<|im_end|>"))
    return {
        "vocab_size": -(-len(tokenizer) // size.hidden) * size.hidden,
        "hidden_size": size.hidden,
        "intermediate_size": size.hidden * 3,
        "num_hidden_layers": size.layers,
        "num_attention_heads": heads,
        "num_key_value_heads": max(1, heads // 2),
        "head_dim": HEAD_SIZE,
        "max_position_embeddings": _MAX_LENGTH,
        "initializer_range": size.init,
        "tie_word_embeddings": tied,
        "rope_parameters": {"rope_type": "default", "rope_theta": size.rope_theta, **rope},
        "bos_token_id": end,
        "eos_token_id": turn,
        "pad_token_id": end,
        **experts,
    }


def _qwen(kind: str, size: TinySize, tied: bool) -> Built:
    """Qwen2.5-VL, and Qwen3-VL with features of deeper tower layers added behind the first layers of the language model."""
    from transformers import AutoConfig, Qwen2VLImageProcessor

    third = kind != "qwen2_5_vl"
    patch = 16 if third else 14
    names = {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"}
    around = {"vision_bos_token": "<|vision_start|>", "vision_eos_token": "<|vision_end|>"}
    tokenizer = train_tokenizer(SPECIAL_TOKENS, CHAT_TEMPLATE, **names, **(around if third else {}))
    rope = {"mrope_section": [6, 5, 5], "mrope_interleaved": True} if third else {"mrope_section": [4, 6, 6]}
    own = (
        {"deepstack_visual_indexes": [0, 1], "num_position_embeddings": 64}
        if third
        else {"fullatt_block_indexes": [1], "window_size": 4 * patch}
    )
    vision = {
        "depth": size.vision_layers,
        "hidden_size": size.vision_hidden,
        "intermediate_size": size.vision_hidden * 2,
        "num_heads": size.vision_hidden // HEAD_SIZE,
        "out_hidden_size": size.hidden,
        "patch_size": patch,
        "spatial_merge_size": MERGE,
        "initializer_range": size.init,
        **own,
    }
    token_ids = {
        f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{token}|>")
        for name, token in {
            "image": "image_pad", "video": "video_pad", "vision_start": "vision_start", "vision_end": "vision_end",
        }.items()
    }  # fmt: skip
    experts = _EXPERTS | {"decoder_sparse_step": 1} if kind == "qwen3_vl_moe" else {}
    text = _text(size, tokenizer, tied, rope, experts)
    config = AutoConfig.for_model(kind, text_config=text, vision_config=vision, tie_word_embeddings=tied, **token_ids)
    norm: dict[str, Any] = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3} if third else {}
    pixels = {"min_pixels": (4 * patch) ** 2, "max_pixels": 4 * (4 * patch) ** 2}
    images = Qwen2VLImageProcessor(patch_size=patch, merge_size=MERGE, **pixels, **norm)
    return Built(config, _qwen_processor(third)(images, tokenizer))


def _qwen_processor(third: bool) -> Callable[[Any, Any], Any]:
    import transformers

    whole, videos = (
        (transformers.Qwen3VLProcessor, transformers.Qwen3VLVideoProcessor)
        if third
        else (transformers.Qwen2_5_VLProcessor, transformers.Qwen2VLVideoProcessor)
    )
    return lambda images, tokenizer: whole(
        image_processor=images, tokenizer=tokenizer, video_processor=videos(), chat_template=CHAT_TEMPLATE
    )


def _internvl(kind: str, size: TinySize, tied: bool) -> Built:
    """A Qwen2, Qwen3 or Qwen3-MoE behind a tower that sees square tiles; a teacher has the norms of the 6B tower."""
    from transformers import AutoConfig, GotOcr2ImageProcessor, InternVLProcessor, InternVLVideoProcessor

    names = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>"}
    tokenizer = train_tokenizer(_INTERN_TOKENS, _INTERN_TEMPLATE, **names, video_token="<video>")  # added, the last
    patch, tile, tokens = SIZE // 4, {"height": SIZE, "width": SIZE}, (4 // MERGE) ** 2
    large = size.hidden > SIZES["student"].hidden
    vision = {
        "hidden_size": size.vision_hidden,
        "num_hidden_layers": size.vision_layers,
        "num_attention_heads": size.vision_hidden // HEAD_SIZE,
        "intermediate_size": size.vision_hidden * 2,
        "image_size": [SIZE, SIZE],
        "patch_size": [patch, patch],
        "attention_bias": True,
        "use_qk_norm": large,
        "norm_type": "rms_norm" if large else "layer_norm",
        "initializer_range": size.init,
    }
    text = _text(size, tokenizer, tied, {}, _EXPERTS if kind == "qwen3_moe" else {})
    if kind == "qwen2":  # as released: the tokenizer's last token, <video>, has no row in the head
        text["vocab_size"] = len(tokenizer) - 1
    config = AutoConfig.for_model(
        "internvl",
        text_config={"model_type": kind, **text},
        vision_config=vision,
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=tokens,
        tie_word_embeddings=tied,
    )
    processor = InternVLProcessor(
        image_processor=GotOcr2ImageProcessor(size=tile, crop_to_patches=True, min_patches=1, max_patches=4),
        tokenizer=tokenizer,
        video_processor=InternVLVideoProcessor(size=tile),
        image_seq_length=tokens,
        chat_template=_INTERN_TEMPLATE,
    )
    return Built(config, processor)


KINDS: dict[str, Callable[[TinySize, bool], Built]] = {
    "qwen2_5_vl": lambda size, tied: _qwen("qwen2_5_vl", size, tied),
    "qwen3_vl": lambda size, tied: _qwen("qwen3_vl", size, tied),
    "qwen3_vl_moe": lambda size, tied: _qwen("qwen3_vl_moe", size, tied),
    "internvl3": lambda size, tied: _internvl("qwen2", size, tied),
    "internvl3_5": lambda size, tied: _internvl("qwen3", size, tied),
    "internvl3_5_moe": lambda size, tied: _internvl("qwen3_moe", size, tied),
}
"""By the names that `masters tiny make` takes."""
