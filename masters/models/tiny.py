"""Tiny models of a real architecture, with their own tokenizer and processor, for a run on one CPU machine.

Three choices make models of this size learn (notes in the README): initial weights of about 1/sqrt(hidden), a RoPE base of
10, so that neighbouring image columns differ, and two layers.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from masters.data.sources.charts import SIZE, scene
from masters.families.qwen2_5_vl import QWEN2_5_VL

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
HEAD_SIZE, PATCH, MERGE, VOCABULARY, CORPUS_SCENES = 32, 14, 2, 640, 400


@dataclass(frozen=True)
class TinySize:
    """Widths and depths. Initial weights are drawn with standard deviation `init`. Long texts need a larger RoPE base."""

    hidden: int
    layers: int
    vision_hidden: int
    vision_layers: int
    init: float
    rope_theta: float = 10.0


SIZES = {
    "teacher": TinySize(hidden=128, layers=2, vision_hidden=96, vision_layers=2, init=0.09),
    "student": TinySize(hidden=64, layers=2, vision_hidden=64, vision_layers=2, init=0.1),
    "judge": TinySize(hidden=128, layers=3, vision_hidden=32, vision_layers=1, init=0.09, rope_theta=1e4),
    "test": TinySize(hidden=64, layers=2, vision_hidden=32, vision_layers=1, init=0.1),
}


def build_tokenizer(texts: Iterable[str] = ()) -> Any:
    """The tokenizer of a tiny Qwen2.5-VL."""
    tokenizer = train_tokenizer(SPECIAL_TOKENS, CHAT_TEMPLATE, texts)
    tokenizer.image_token, tokenizer.video_token = QWEN2_5_VL.vision_tokens
    return tokenizer


def train_tokenizer(special: Sequence[str], template: str, texts: Iterable[str] = (), **named: str) -> Any:
    """A byte-level BPE trained on the questions and answers of the charts, and on more texts; the same on every machine.

    Args:
        special: special tokens, with the first ids.
        template: of chats.
        texts: more of what it is trained on.
        named: special tokens that a processor asks the tokenizer for by a name.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(special),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    raw.train_from_iterator(chain(_corpus(), texts), trainer)
    more = {"extra_special_tokens": named} if named else {}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|endoftext|>", model_max_length=2048, **more
    )
    tokenizer.chat_template = template
    return tokenizer


def _corpus() -> Iterator[str]:
    for index in range(CORPUS_SCENES):
        for question in scene(0, index).questions:
            yield question.text
            yield from question.answers
    yield from ("user\n", "assistant\n", "system\n") * 50


def build_processor(tokenizer: Any) -> Any:
    """Tokenizer and image processor together; images are scaled to 4 to 16 image tokens."""
    from transformers import Qwen2_5_VLProcessor, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    images = Qwen2VLImageProcessor(
        patch_size=PATCH, merge_size=MERGE, min_pixels=SIZE * SIZE, max_pixels=4 * SIZE * SIZE
    )
    return Qwen2_5_VLProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(),
        chat_template=CHAT_TEMPLATE,
    )


def build_model(size: TinySize, tokenizer: Any, seed: int, tie_word_embeddings: bool = False) -> Any:
    """A Qwen2.5-VL in fp32 with weights drawn from `seed`."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS}
    heads = size.hidden // HEAD_SIZE
    text = {
        "vocab_size": -(-len(tokenizer) // 64) * 64,
        "hidden_size": size.hidden,
        "intermediate_size": size.hidden * 3,
        "num_hidden_layers": size.layers,
        "num_attention_heads": heads,
        "num_key_value_heads": max(1, heads // 2),
        "max_position_embeddings": 2048,
        "initializer_range": size.init,
        "tie_word_embeddings": tie_word_embeddings,
        "rope_parameters": {"rope_type": "default", "rope_theta": size.rope_theta, "mrope_section": [4, 6, 6]},
        "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|im_end|>"],
        "pad_token_id": ids["<|endoftext|>"],
    }
    vision = {
        "depth": size.vision_layers,
        "hidden_size": size.vision_hidden,
        "intermediate_size": size.vision_hidden * 2,
        "num_heads": max(1, size.vision_hidden // HEAD_SIZE),
        "out_hidden_size": size.hidden,
        "patch_size": PATCH,
        "spatial_merge_size": MERGE,
        "fullatt_block_indexes": list(range(size.vision_layers)),
        "window_size": 4 * SIZE,
        "initializer_range": size.init,
    }
    config = Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=tie_word_embeddings,
        bos_token_id=ids["<|endoftext|>"],
        eos_token_id=ids["<|im_end|>"],
        pad_token_id=ids["<|endoftext|>"],
    )
    torch.manual_seed(seed)
    return Qwen2_5_VLForConditionalGeneration(config)


def save(model: Any, tokenizer: Any, folder: Path, dtype: torch.dtype = torch.bfloat16) -> None:
    """Write a model folder that transformers and vLLM load."""
    folder.mkdir(parents=True, exist_ok=True)
    model.to(dtype).save_pretrained(folder)
    build_processor(tokenizer).save_pretrained(folder)


def make_untrained(folder: Path, size: str, seed: int, dtype: torch.dtype = torch.bfloat16, **options: bool) -> None:
    """A folder with random weights, for tests of mechanics."""
    tokenizer = build_tokenizer()
    save(build_model(SIZES[size], tokenizer, seed, **options), tokenizer, folder, dtype)
