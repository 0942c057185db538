"""Sizes of released models by their name on the hub, so that a plan needs no network."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from masters.families.sizes import Decoder, ModelSize, intern_tower, qwen2_5_tower, qwen3_tower


@dataclass(frozen=True)
class Released:
    """A model that others released.

    Attributes:
        family: its `model_type`.
        parameters: exactly, as its page or a public text states them; 0 where only `billions` are stated.
        billions: as its page states them, rounded.
        licence: as its page says, or as it is told; read it there before you ship a student.
        source: where the numbers are from, and whether they were verified.
    """

    name: str
    family: str
    size: ModelSize
    parameters: int
    billions: float
    licence: str
    source: str

    @property
    def series(self) -> str:
        """The part of its family whose models were made together and have one tokenizer: InternVL3.5."""
        match = re.search(r"/(Qwen[\d.]+-VL|InternVL\d(_\d)?)-", self.name)
        assert match, self.name
        return match[1].replace("_", ".")


_QWEN2_5 = "public config.json, verified: its sum of weights is the page's. Licence not verified"
_QWEN3 = (
    "public configs and loaders, verified: their sum of weights is the number in public texts. Licence not verified"
)
_INTERN3 = (
    "public loaders, and Qwen2.5's configs for the language model, verified: their sum of weights is the page's, rounded. "
    "Not verified: that the head of -hf has no row more, and the licence"
)
_SAME_AS_2_5 = _INTERN3.replace(", rounded", ", and exactly that of InternVL2.5, which is built alike")
_INTERN3_5 = (
    "public loaders, and Qwen3's configs for the language model, verified: their sum of weights is the page's, rounded, and "
    "only with an untied head. Licence of its page"
)
_HEADS = {1536: (12, 2), 2048: (16, 2), 3584: (28, 4), 5120: (40, 8), 8192: (64, 8)}
"""Heads and those of keys and values, of Qwen2 by its hidden size."""
_SMALL_QWEN = {"hidden_size": 1024, "depth": 24, "intermediate_size": 4096, "deepstack_visual_indexes": (5, 11, 17)}
_VIT_300M = {"attention_bias": True}
_VIT_6B = {
    "hidden_size": 3200,
    "num_hidden_layers": 45,
    "intermediate_size": 12_800,
    "norm_type": "rms_norm",
    "use_qk_norm": True,
}


def _qwen2(hidden: int, layers: int, intermediate: int, vocabulary: int, *, tied: bool = False) -> Decoder:
    heads, kv_heads = _HEADS[hidden]
    return Decoder(hidden, layers, heads, kv_heads, 128, intermediate, vocabulary, tied, attention_bias=True)


def _qwen3(
    hidden: int, layers: int, heads: int, intermediate: int, *, tied: bool = False, kv_heads: int = 8, experts: int = 0
) -> Decoder:
    """Its heads have 128 numbers whatever the hidden size, and a token goes through 8 experts where there are some."""
    return Decoder(
        hidden, layers, heads, kv_heads, 128, intermediate, 151_936, tied, False, True, experts, 8 * (experts > 0)
    )


def _qwen2_5_vl() -> Iterator[Released]:
    for name, decoder, wide, parameters, licence in (
        ("3B", _qwen2(2048, 36, 11_008, 151_936, tied=True), 3420, 3_754_622_976, "Qwen Research"),
        ("7B", _qwen2(3584, 28, 18_944, 152_064), 3420, 8_292_166_656, "Apache-2.0"),
        ("32B", _qwen2(5120, 64, 27_648, 152_064), 3456, 33_452_718_336, "Apache-2.0"),
        ("72B", _qwen2(8192, 80, 29_568, 152_064), 3456, 73_410_777_344, "Qwen"),
    ):
        size = ModelSize(decoder, qwen2_5_tower(decoder.hidden, {"intermediate_size": wide}))
        name = f"Qwen/Qwen2.5-VL-{name}-Instruct"
        yield Released(name, "qwen2_5_vl", size, parameters, round(parameters / 1e9, 1), licence, _QWEN2_5)


def _qwen3_vl() -> Iterator[Released]:
    for name, decoder, vision, parameters in (
        ("2B", _qwen3(2048, 28, 16, 6144, tied=True), _SMALL_QWEN, 2_127_532_032),
        ("4B", _qwen3(2560, 36, 32, 9728, tied=True), _SMALL_QWEN, 4_437_815_808),
        ("8B", _qwen3(4096, 36, 32, 12_288), {}, 8_767_123_696),
        ("32B", _qwen3(5120, 64, 64, 25_600), {}, 33_357_390_064),
        ("30B-A3B", _qwen3(2048, 48, 32, 768, kv_heads=4, experts=128), {}, 31_070_754_032),
    ):
        family = "qwen3_vl_moe" if decoder.experts else "qwen3_vl"
        size = ModelSize(decoder, qwen3_tower(decoder.hidden, vision))
        name = f"Qwen/Qwen3-VL-{name}-Instruct"
        yield Released(name, family, size, parameters, round(parameters / 1e9, 1), "Apache-2.0", _QWEN3)


def _internvl(
    name: str, decoder: Decoder, vision: dict[str, Any], billions: float, licence: str, source: str, exactly: int = 0
) -> Released:
    size = ModelSize(decoder, intern_tower(decoder.hidden, vision))
    return Released(f"OpenGVLab/{name}", "internvl", size, exactly, billions, licence, source)


def _internvl3() -> Iterator[Released]:
    """In the Hugging Face layout: -hf. Only the two largest have the tower of 6 B."""
    for name, hidden, layers, intermediate, vision, billions, exactly in (
        ("2B", 1536, 28, 8960, _VIT_300M, 2.1, 0),
        ("8B", 3584, 28, 18_944, _VIT_300M, 7.9, 0),
        ("14B", 5120, 48, 13_824, _VIT_300M, 15.1, 0),
        ("38B", 5120, 64, 27_648, _VIT_6B, 38.4, 38_388_164_992),
        ("78B", 8192, 80, 29_568, _VIT_6B, 78.4, 78_408_318_336),
    ):
        decoder = _qwen2(hidden, layers, intermediate, 151_674)
        source = _SAME_AS_2_5 if exactly else _INTERN3
        yield _internvl(f"InternVL3-{name}-hf", decoder, vision, billions, "Qwen", source, exactly)


def _internvl3_5() -> Iterator[Released]:
    """In the Hugging Face layout, spelled another way than before: InternVL3_5, -HF."""
    for name, decoder, vision, billions in (
        ("1B", _qwen3(1024, 28, 16, 3072), _VIT_300M, 1.1),
        ("2B", _qwen3(2048, 28, 16, 6144), _VIT_300M, 2.3),
        ("4B", _qwen3(2560, 36, 32, 9728), _VIT_300M, 4.7),
        ("8B", _qwen3(4096, 36, 32, 12_288), _VIT_300M, 8.5),
        ("14B", _qwen3(5120, 40, 40, 17_408), _VIT_300M, 15.1),
        ("38B", _qwen3(5120, 64, 64, 25_600), _VIT_6B, 38.4),
        ("30B-A3B", _qwen3(2048, 48, 32, 768, kv_heads=4, experts=128), _VIT_300M, 30.8),
    ):
        yield _internvl(f"InternVL3_5-{name}-HF", decoder, vision, billions, "Apache-2.0", _INTERN3_5)


_MODELS = (*_qwen2_5_vl(), *_qwen3_vl(), *_internvl3(), *_internvl3_5())

RELEASED = {model.name.lower(): model for model in _MODELS}


def known(name: str) -> Released | None:
    """A model by `owner/model` or `owner/model@revision`; None for one that is not in the table."""
    return RELEASED.get(name.partition("@")[0].lower())


def other_layout(name: str) -> Released | None:
    """The model of the table that is the same as one in a layout which is not read: InternVL3-8B-hf of InternVL3-8B."""
    return known(f"{name.partition('@')[0]}-hf")


def released(name: str) -> Released:
    """A model as `known` finds it. Raises ValueError for one that is not in the table."""
    if found := known(name):
        return found
    if other := other_layout(name):
        raise ValueError(
            f"{name}: is in OpenGVLab's own layout, which runs code from the hub. Use the Hugging Face layout: {other.name}."
        )
    raise ValueError(
        f"{name}: is no folder here, and not among the models whose size is known without a network: "
        f"{', '.join(model.name for model in _MODELS)}. Fetch its config.json and weights, and name the folder."
    )
