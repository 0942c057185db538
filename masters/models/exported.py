"""A student's folder beside its weights: what its base has there; and that its tensors are as those of its base.

Whoever takes the base takes the student by the same code: transformers, vLLM, converters. So files beside the weights are the
base's own, byte for byte, and tensors have the names and shapes that they have there.
"""

import shutil
from pathlib import Path

from masters.models.folder import shapes

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


def check_layout(base: Path, target: Path) -> None:
    """Raise ValueError where a student's tensor has a name or a shape that its base's files do not have.

    transformers remembers how it read the base, and writes as it read; another version of it may not.
    """
    theirs = shapes(base)
    for name, shape in shapes(target).items():
        if shape != theirs.get(name):
            known = f"has {theirs[name]}" if name in theirs else "has no such tensor"
            raise ValueError(
                f"{name}: was written as {shape}, its base {base} {known}: who reads the base could not read the student. "
                "This version of transformers writes another layout than it read. Checkpoints are kept; continue with the "
                "version that is locked."
            )
