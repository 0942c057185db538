"""How large models are, from their configuration alone: what a plan must know of one that is not here."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Decoder:
    """A language model: layers of grouped-query attention and a gated MLP.

    Attributes:
        head_size: of one attention head; many models state it, and it need not be hidden / heads.
        tied: the output head is the token embedding.
        attention_bias: queries, keys and values have one.
        query_key_norm: a norm of each head's queries and keys.
    """

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    intermediate: int
    vocabulary: int
    tied: bool
    attention_bias: bool = False
    query_key_norm: bool = False

    @property
    def layer_matrices(self) -> int:
        """Weights of a layer that tokens are multiplied with."""
        attention = self.hidden * self.head_size * (2 * self.heads + 2 * self.kv_heads)
        return attention + 3 * self.hidden * self.intermediate

    @property
    def layer(self) -> int:
        """Weights of a layer."""
        bias = self.head_size * (self.heads + 2 * self.kv_heads) if self.attention_bias else 0
        norms = 2 * self.hidden + (2 * self.head_size if self.query_key_norm else 0)
        return self.layer_matrices + bias + norms

    @property
    def head(self) -> int:
        """Weights of the output head."""
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        """All weights; tied ones count once."""
        return self.layers * self.layer + (1 if self.tied else 2) * self.head + self.hidden

    @property
    def kv_bytes(self) -> int:
        """Bytes of the keys and values of one token in bf16."""
        return 2 * 2 * self.layers * self.kv_heads * self.head_size


@dataclass(frozen=True)
class Tower:
    """An image tower and what brings its features into the language model.

    Attributes:
        matrices: of an MLP: 3 where it is gated, 2 where not.
        full_layers: layers in which patches see their whole image; in the others, a window of `window` patches.
        patches: of one image token.
        patch_pixels: side of a patch.
        embedding: weights of patch and position embeddings.
        projector: weights of all that is behind the tower.
    """

    hidden: int
    layers: int
    intermediate: int
    matrices: int
    full_layers: int
    window: int
    patches: int
    patch_pixels: int
    embedding: int
    projector: int

    @property
    def layer_matrices(self) -> int:
        """Weights of a layer that patches are multiplied with."""
        return 4 * self.hidden**2 + self.matrices * self.hidden * self.intermediate

    @property
    def parameters(self) -> int:
        """All weights, biases and RMS norms included."""
        bias = 4 * self.hidden + (self.matrices - 1) * self.intermediate + self.hidden
        return self.layers * (self.layer_matrices + bias + 2 * self.hidden) + self.embedding + self.projector

    @property
    def token_pixels(self) -> int:
        """Pixels that one image token stands for."""
        return self.patches * self.patch_pixels**2


NO_TOWER = Tower(0, 0, 0, 2, 0, 1, 1, 1, 0, 0)
"""Of a model that sees no images."""


@dataclass(frozen=True)
class ModelSize:
    """A vision-language model.

    Attributes:
        counted: weights in its files, where they are here; 0 computes them.
    """

    decoder: Decoder
    tower: Tower
    counted: int = 0

    @property
    def parameters(self) -> int:
        """All weights; tied ones count once."""
        return self.counted or self.decoder.parameters + self.tower.parameters


def qwen_tower(out: int, intermediate: int) -> Tower:
    """That of Qwen2.5-VL before a language model of `out` hidden units."""
    hidden, layers, patch, merge, window, full = 1280, 32, 14, 2, 112, 4
    return _qwen_tower(hidden, layers, intermediate, out, patch, merge, window, full)


def _qwen_tower(
    hidden: int, layers: int, intermediate: int, out: int, patch: int, merge: int, window: int, full: int
) -> Tower:
    merged = merge**2 * hidden
    merger = hidden + merged * (merged + 1) + out * (merged + 1)
    embedding = 3 * 2 * patch**2 * hidden  # two frames; an image is shown twice
    return Tower(hidden, layers, intermediate, 3, full, (window // patch) ** 2, merge**2, patch, embedding, merger)


def size_of(config: Mapping[str, Any], counted: int = 0) -> ModelSize:
    """The size that a `config.json` tells: of Qwen2.5-VL, or of a language model without images, which may judge.

    Args:
        config: its content; older files have the fields of the language model at the top.
        counted: weights in the files beside it.

    Raises:
        ValueError: for another family, or one that lacks a number.
    """
    kind, vision = config.get("model_type"), config.get("vision_config")
    if vision is not None and kind != "qwen2_5_vl":
        raise ValueError(f"model_type {kind}: its size is not known from its config.json. Known: qwen2_5_vl.")
    text = config.get("text_config") or config
    try:
        decoder = Decoder(
            hidden=text["hidden_size"],
            layers=text["num_hidden_layers"],
            heads=text["num_attention_heads"],
            kv_heads=text.get("num_key_value_heads") or text["num_attention_heads"],
            head_size=text.get("head_dim") or text["hidden_size"] // text["num_attention_heads"],
            intermediate=text["intermediate_size"],
            vocabulary=text["vocab_size"],
            tied=bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings", False))),
            attention_bias=kind == "qwen2_5_vl",
        )
    except KeyError as error:
        raise ValueError(f"config.json: lacks {error.args[0]}, so the model's size is not known") from error
    return ModelSize(decoder, NO_TOWER if vision is None else _tower_of(vision, decoder.hidden), counted)


def _tower_of(vision: Mapping[str, Any], out: int) -> Tower:
    """Older files leave out what is as in the first release."""
    return _qwen_tower(
        vision.get("hidden_size", 1280),
        vision.get("depth", 32),
        vision.get("intermediate_size", 3420),
        vision.get("out_hidden_size", out),
        vision.get("patch_size", 14),
        vision.get("spatial_merge_size", 2),
        vision.get("window_size", 112),
        len(vision.get("fullatt_block_indexes", (7, 15, 23, 31))),
    )


def in_billions(count: float) -> str:
    """A number of parameters as people say it: 0.4 M, 8.3 B."""
    scale, unit = (1e9, "B") if math.fabs(count) >= 1e9 else (1e6, "M")
    return f"{count / scale:.1f} {unit}"
