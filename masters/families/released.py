"""Sizes of released models by their name on the hub, so that a plan needs no network."""

from dataclasses import dataclass

from masters.families.sizes import Decoder, ModelSize, qwen_tower


@dataclass(frozen=True)
class Released:
    """A model that others released.

    Attributes:
        parameters: as its page states them, where that is known exactly.
        licence: as its page says; read it there before you ship a student.
        source: where the numbers are from, and whether they were checked.
    """

    name: str
    size: ModelSize
    parameters: int
    licence: str
    source: str


_HEADS = {2048: (16, 2), 3584: (28, 4), 5120: (40, 8), 8192: (64, 8)}


def _qwen2_5_vl(
    size: str, hidden: int, layers: int, intermediate: int, vocabulary: int, tower: int, parameters: int, licence: str
) -> Released:
    heads, kv_heads = _HEADS[hidden]
    decoder = Decoder(
        hidden,
        layers,
        heads,
        kv_heads,
        128,
        intermediate,
        vocabulary,
        tied=vocabulary == 151_936,
        attention_bias=True,
    )
    return Released(
        f"Qwen/Qwen2.5-VL-{size}-Instruct",
        ModelSize(decoder, qwen_tower(hidden, tower)),
        parameters,
        licence,
        "public config.json; its sum of weights is the page's. Licence not verified",
    )


_MODELS = (
    _qwen2_5_vl("3B", 2048, 36, 11_008, 151_936, 3420, 3_754_622_976, "Qwen Research"),
    _qwen2_5_vl("7B", 3584, 28, 18_944, 152_064, 3420, 8_292_166_656, "Apache-2.0"),
    _qwen2_5_vl("32B", 5120, 64, 27_648, 152_064, 3456, 33_452_718_336, "Apache-2.0"),
    _qwen2_5_vl("72B", 8192, 80, 29_568, 152_064, 3456, 73_410_777_344, "Qwen"),
)

RELEASED = {model.name.lower(): model for model in _MODELS}


def released(name: str) -> Released:
    """A model by `owner/model` or `owner/model@revision`. Raises ValueError for one that is not in the table."""
    found = RELEASED.get(name.partition("@")[0].lower())
    if found is None:
        known = ", ".join(model.name for model in _MODELS)
        raise ValueError(
            f"{name}: is no folder here, and not among the models whose size is known without a network: {known}. "
            "Fetch its config.json and weights, and name the folder."
        )
    return found
