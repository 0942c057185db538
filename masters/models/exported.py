"""A student's folder beside its weights: what its base has there.

Whoever takes the base takes the student by the same code: transformers, vLLM, converters. So files beside the weights are the
base's own, byte for byte.
"""

import shutil
from pathlib import Path

CARD = "README.md"
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx", ".index.json")
_OF_THE_BASE = (CARD, "training.json")
"""About how the base was made; the student's card is its own."""


def side_files(base: Path) -> list[Path]:
    """What a student takes over from its base, sorted: configuration, tokenizer, templates, processor, licence.

    Not weights in any format and their indexes, nor what tells of the base; folders stay behind, and so does code, which is
    never run.
    """
    return sorted(
        file
        for file in base.iterdir()
        if file.is_file()
        and not file.name.startswith(".")
        and not file.name.endswith((*_WEIGHTS, ".py"))
        and file.name not in _OF_THE_BASE
    )


def copy_side_files(base: Path, target: Path) -> None:
    """Write them into a student's folder, over what is there: with the usual permissions, and never as links into a cache."""
    for file in side_files(base):
        shutil.copyfile(file, target / file.name)
