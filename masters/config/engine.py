"""What decides the answers of a vLLM engine beside model and sampling."""

from typing import Literal

from masters.config.base import Section, ours


class EngineConfig(Section):
    """Of every vLLM engine: generate, LLM judges, evaluate."""

    dtype: Literal["auto", "bfloat16", "float16", "float32"] = ours(
        "auto", "Of weights and activations; auto: the checkpoint's."
    )
    max_model_len: int = ours(4096, "Longest prompt and response together, in tokens.", ge=16)
