"""How large models are, from their configuration alone: what a plan must know of one that is not here."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Decoder:
    """A language model: layers of grouped-query attention and a gated MLP, or many of which a router chooses some.

    Attributes:
        head_size: of one attention head; many models state it, and it need not be hidden / heads.
        intermediate: of an MLP; with experts, of one expert.
        tied: the output head is the token embedding.
        attention_bias: queries, keys and values have one.
        query_key_norm: a norm of each head's queries and keys.
        experts: of each layer; 0 for one MLP.
        active_experts: that a token goes through.
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
    experts: int = 0
    active_experts: int = 0

    @property
    def mlps(self) -> int:
        """Of a layer."""
        return self.experts or 1

    @property
    def active_mlps(self) -> int:
        """Of a layer, those that a token goes through."""
        return self.active_experts or 1

    @property
    def layer_matrices(self) -> int:
        """Weights of a layer that a token is multiplied with."""
        return self._attention + self.active_mlps * self._mlp

    @property
    def layer(self) -> int:
        """Weights of a layer, all experts among them."""
        bias = self.head_size * (self.heads + 2 * self.kv_heads) if self.attention_bias else 0
        norms = 2 * self.hidden + (2 * self.head_size if self.query_key_norm else 0)
        return self._attention + self.mlps * self._mlp + bias + norms

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

    def asleep(self, tokens: float) -> float:
        """Weights of experts that none of so many tokens is expected to go through, all tokens choosing alike and apart."""
        share = (1 - self.active_mlps / self.mlps) ** tokens
        return self.layers * self.mlps * self._mlp * share

    @property
    def _attention(self) -> int:
        """Weights of its products, and of the router before the experts."""
        return self.hidden * (self.head_size * (2 * self.heads + 2 * self.kv_heads) + self.experts)

    @property
    def _mlp(self) -> int:
        return 3 * self.hidden * self.intermediate


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
        vectors: weights of a layer that are no matrices: biases, norms, scales.
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
    vectors: int

    @property
    def layer_matrices(self) -> int:
        """Weights of a layer that patches are multiplied with."""
        return 4 * self.hidden**2 + self.matrices * self.hidden * self.intermediate

    @property
    def parameters(self) -> int:
        """All weights."""
        return self.layers * (self.layer_matrices + self.vectors) + self.embedding + self.projector

    @property
    def token_pixels(self) -> int:
        """Pixels that one image token stands for."""
        return self.patches * self.patch_pixels**2


NO_TOWER = Tower(0, 0, 0, 2, 0, 1, 1, 1, 0, 0, 0)
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


def qwen2_5_tower(out: int, vision: Mapping[str, Any]) -> Tower:
    """That of Qwen2.5-VL: gated MLPs, RMS norms, windows in most layers.

    Args:
        out: hidden units of the language model behind it.
        vision: `vision_config`; older files leave out what is as in the first release.
    """
    hidden, layers, wide = (
        vision.get(key, value) for key, value in (("hidden_size", 1280), ("depth", 32), ("intermediate_size", 3420))
    )
    patch, merge = vision.get("patch_size", 14), vision.get("spatial_merge_size", 2)
    full, window = len(vision.get("fullatt_block_indexes", (7, 15, 23, 31))), vision.get("window_size", 112) // patch
    out, merged = vision.get("out_hidden_size", out), merge**2 * hidden
    merger = hidden + merged * (merged + 1) + out * (merged + 1)
    embedding = 3 * 2 * patch**2 * hidden  # two frames; an image is shown twice
    vectors = 5 * hidden + 2 * wide + 2 * hidden
    return Tower(hidden, layers, wide, 3, full, window**2, merge**2, patch, embedding, merger, vectors)


def qwen3_tower(out: int, vision: Mapping[str, Any]) -> Tower:
    """That of Qwen3-VL: layer norms, a table of positions, and a merger more for each layer whose features go deeper.

    Args:
        out: hidden units of the language model behind it.
        vision: `vision_config`, with what the class takes where it says nothing.
    """
    hidden, layers, wide = (
        vision.get(key, value) for key, value in (("hidden_size", 1152), ("depth", 27), ("intermediate_size", 4304))
    )
    patch, merge = vision.get("patch_size", 16), vision.get("spatial_merge_size", 2)
    deep, places = len(vision.get("deepstack_visual_indexes", (8, 16, 24))), vision.get("num_position_embeddings", 2304)
    out, merged = vision.get("out_hidden_size", out), merge**2 * hidden
    products = merged * (merged + 1) + out * (merged + 1)
    mergers = products + 2 * hidden + deep * (products + 2 * merged)
    embedding = (3 * 2 * patch**2 + 1 + places) * hidden
    vectors = 5 * hidden + wide + 4 * hidden
    return Tower(hidden, layers, wide, 2, layers, 1, merge**2, patch, embedding, mergers, vectors)


def intern_tower(out: int, vision: Mapping[str, Any], downsample: float = 0.5) -> Tower:
    """That of InternVL: every square tile is a window of its own, and has one patch more, which stands for all of it.

    Args:
        out: hidden units of the language model behind it.
        vision: `vision_config`, with what the class takes where it says nothing.
        downsample: side of the patches in a token, inverted.
    """
    hidden, layers, wide = (
        vision.get(key, value)
        for key, value in (("hidden_size", 1024), ("num_hidden_layers", 24), ("intermediate_size", 4096))
    )
    tile, patch = (
        side if isinstance(side, int) else side[0]
        for side in (vision.get("image_size", 448), vision.get("patch_size", 14))
    )
    merge = round(1 / downsample)
    window, merged = (tile // patch) ** 2, merge**2 * hidden
    projector = 2 * merged + out * (merged + 1) + out * (out + 1)
    embedding = (3 * patch**2 + 1 + 1 + window + 1) * hidden
    norms = (2 if vision.get("norm_type") == "rms_norm" else 4) + 2 * bool(vision.get("use_qk_norm"))
    biases = 2 + 3 * bool(vision.get("attention_bias"))  # behind attention and MLP always
    vectors = (norms + biases + 2) * hidden + wide  # and two scales
    return Tower(hidden, layers, wide, 2, 0, window, merge**2, patch, embedding, projector, vectors)


_TOWERS: Mapping[str, Callable[[int, Mapping[str, Any], Mapping[str, Any]], Tower]] = {
    "qwen2_5_vl": lambda out, vision, _: qwen2_5_tower(out, vision),
    "qwen3_vl": lambda out, vision, _: qwen3_tower(out, vision),
    "qwen3_vl_moe": lambda out, vision, _: qwen3_tower(out, vision),
    "internvl": lambda out, vision, whole: intern_tower(out, vision, whole.get("downsample_ratio", 0.5)),
}
_WITH_BIAS = ("qwen2", "qwen2_5_vl", "qwen2_5_vl_text")


def size_of(config: Mapping[str, Any], counted: int = 0) -> ModelSize:
    """The size that a `config.json` tells: of a known family, or of a language model without images, which may judge.

    Args:
        config: its content; older files have the fields of the language model at the top.
        counted: weights in the files beside it.

    Raises:
        ValueError: for another family, or one that lacks a number.
    """
    kind, vision = config.get("model_type"), config.get("vision_config")
    if vision is not None and kind not in _TOWERS:
        raise ValueError(f"model_type {kind}: its size is not known from its config.json. Known: {', '.join(_TOWERS)}.")
    text = config.get("text_config") or config
    try:
        decoder = _decoder(text, text.get("model_type") or ("qwen2" if kind == "internvl" else kind), config)
    except KeyError as error:
        raise ValueError(f"config.json: lacks {error.args[0]}, so the model's size is not known") from error
    return ModelSize(
        decoder, NO_TOWER if vision is None else _TOWERS[str(kind)](decoder.hidden, vision, config), counted
    )


def _decoder(text: Mapping[str, Any], kind: str | None, whole: Mapping[str, Any]) -> Decoder:
    """Of the fields of the language model. Raises KeyError for one that is missing, ValueError for layers of two kinds."""
    experts = text.get("num_experts") or text.get("num_local_experts") or 0
    if experts and (text.get("mlp_only_layers") or text.get("decoder_sparse_step", 1) != 1):
        raise ValueError("config.json: some layers have experts and some not, so the model's size is not known")
    return Decoder(
        hidden=text["hidden_size"],
        layers=text["num_hidden_layers"],
        heads=text["num_attention_heads"],
        kv_heads=text.get("num_key_value_heads") or text["num_attention_heads"],
        head_size=text.get("head_dim") or text["hidden_size"] // text["num_attention_heads"],
        intermediate=text["moe_intermediate_size" if experts else "intermediate_size"],
        vocabulary=text["vocab_size"],
        tied=bool(whole.get("tie_word_embeddings", text.get("tie_word_embeddings", False))),
        attention_bias=kind in _WITH_BIAS,
        query_key_norm=str(kind).startswith("qwen3"),
        experts=experts,
        active_experts=text["num_experts_per_tok"] if experts else 0,
    )


def in_billions(count: float) -> str:
    """A number of parameters as people say it: 0.4 M, 8.3 B."""
    scale, unit = (1e9, "B") if math.fabs(count) >= 1e9 else (1e6, "M")
    return f"{count / scale:.1f} {unit}"
