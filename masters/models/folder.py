"""Model folders in the Hugging Face layout: where they are, of which family, who they are. Without torch."""

import hashlib
import json
import math
import os
import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from masters.families import FAMILIES, Family

_SAMPLE, _SAMPLES = 1 << 16, 16
_SETTINGS = (".json", ".jinja", ".txt", ".model")  # what processors, tokenizers and vLLM read
_NO_SETTINGS = ("model.safetensors.index.json", "training.json")  # training.json: how long `masters tiny` took


def resolve(path: str, token_env: str, *, weights: bool = True, mirror: str | None = None) -> Path:
    """The local folder of a model: the path itself, or the hub's files in this machine's cache.

    A model at a commit, as `pinned` names it, that is in the cache is taken without a question to anyone; one that is not is
    fetched once, while other processes that share the cache wait.

    Args:
        path: a folder, or a name on the Hugging Face hub: owner/model, or owner/model@revision.
        token_env: environment variable with the hub's token; may be unset.
        weights: False leaves the weights on the hub, for those who need tokenizer and configuration only.
        mirror: folder or address with copies of models, which are taken instead of the hub's.

    Raises:
        ValueError: where neither a folder nor a model on the hub is found.
    """
    if os.path.isdir(path):
        return Path(path)
    from masters.models import fetch

    with from_hub(path, token_env) as (name, revision, token):
        return fetch.fetch(name, fetch.commit_of(name, revision, token), token, weights=weights, mirror=mirror)


@contextmanager
def from_hub(path: str, token_env: str) -> Iterator[tuple[str, str, str | None]]:
    """Name, revision and the hub's token of a model; what goes wrong in the block is said as people need it.

    Raises:
        ValueError: for a path that is no name on the hub, and where the hub does not give what it is asked for.
    """
    name, _, revision = path.partition("@")
    if name.count("/") != 1 or name.startswith(("/", ".")):
        raise ValueError(f"{path}: no such folder, and not a name on the hub (owner/model)")
    import httpx2  # what the hub's client raises, beside its own errors
    from huggingface_hub.errors import RevisionResolutionError

    try:
        yield name, revision, os.environ.get(token_env) or None
    except (OSError, ValueError, httpx2.HTTPError, RevisionResolutionError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{path}: no such folder here, and the hub did not give it ({reason}). Is {token_env} set?"
        ) from error


def pinned(path: str, token_env: str) -> str:
    """The path of a folder; a name on the hub with the commit that it has now, so that every node takes the same model."""
    if os.path.isdir(path):
        return path
    from masters.models import fetch

    with from_hub(path, token_env) as (name, revision, token):
        return f"{name}@{fetch.commit_of(name, revision, token)}"


def family_of(folder: Path) -> Family:
    """The family that `config.json` names. Raises ValueError for one that Masters does not know."""
    try:
        config = json.loads((folder / "config.json").read_text())
    except OSError as error:
        raise ValueError(f"{folder}: has no config.json, so it is no Hugging Face model folder") from error
    kind = config.get("model_type")
    if kind == "internvl_chat":
        raise ValueError(
            f"{folder}: is in OpenGVLab's layout, which runs code from the hub. Take the Hugging Face layout of the same model: "
            "the repository whose name ends in -hf for InternVL3, in -HF for InternVL3.5 (OpenGVLab/InternVL3_5-8B-HF)."
        )
    if kind not in FAMILIES:
        raise ValueError(f"{folder}: model_type {kind} is not a family that Masters knows: {', '.join(FAMILIES)}")
    return FAMILIES[kind]


def tokens(folder: Path) -> dict[int, str]:
    """Token ids and tokens out of tokenizer.json; empty where there is none, or one that lists its tokens without ids."""
    file = folder / "tokenizer.json"
    written = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"model": {}}
    vocabulary = written["model"].get("vocab")
    if not isinstance(vocabulary, dict):
        return {}
    added = {token["id"]: token["content"] for token in written.get("added_tokens") or ()}
    return {**{index: token for token, index in vocabulary.items()}, **added}


def head_rows(folder: Path) -> int:
    """Rows of the output head, from `config.json`: often more than the tokenizer has tokens."""
    config = json.loads((folder / "config.json").read_text())
    return int((config.get("text_config") or config).get("vocab_size") or config["vocab_size"])


def weight_files(folder: Path) -> list[str]:
    """Names of the safetensors files. Raises ValueError where there are none or where the index names another one."""
    files = sorted(file.name for file in folder.glob("*.safetensors"))
    if not files:
        raise ValueError(f"{folder}: holds no *.safetensors file; convert the checkpoint with save_pretrained")
    index = folder / "model.safetensors.index.json"
    if index.exists():
        missing = set(json.loads(index.read_text())["weight_map"].values()) - set(files)
        if missing:
            raise ValueError(
                f"{folder}: {sorted(missing)[0]} is named in the index and not there: the download is incomplete"
            )
    return files


def fingerprint(path: str, token_env: str, *, any_family: bool = False) -> str:
    """What tells checkpoints apart: 16 hexadecimal digits of a folder, or the commit of a model on the hub.

    Of a folder: the hash of configuration, tokenizer, templates and processor, and of each weight file's name, size, header
    and 16 evenly spaced samples of 64 KiB. A training step changes nearly every weight, so it is seen; an edit of a few
    weights between two samples is not.
    """
    if not os.path.isdir(path):
        return pinned(path, token_env).partition("@")[2]
    folder = Path(path)
    if not any_family:
        check_experts(folder)
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.suffix in _SETTINGS and file.name not in _NO_SETTINGS and file.is_file():
            content = file.read_bytes()
            digest.update(f"{file.name} {len(content)}".encode() + content)
    for name in weight_files(folder):
        size = (folder / name).stat().st_size
        with open(folder / name, "rb") as stream:
            (header,) = struct.unpack("<Q", stream.read(8))
            digest.update(f"{name} {size}".encode() + stream.read(header))
            for i in range(_SAMPLES):
                stream.seek((size - _SAMPLE) * i // (_SAMPLES - 1) if size > _SAMPLE else 0)
                digest.update(stream.read(_SAMPLE))
    return digest.hexdigest()[:16]


def shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor in the files, by its name, from their headers."""
    found: dict[str, tuple[int, ...]] = {}
    for name in weight_files(folder):
        with open(folder / name, "rb") as stream:
            (header,) = struct.unpack("<Q", stream.read(8))
            tensors = json.loads(stream.read(header))
        found |= {key: tuple(entry["shape"]) for key, entry in tensors.items() if key != "__metadata__"}
    return found


def check_experts(folder: Path) -> None:
    """Raise ValueError where vLLM and transformers would make two models of stacked experts, or where that cannot be told.

    transformers itself saves them turned; vLLM would not load these, or load them wrongly.
    """
    family = family_of(folder)
    if not family.experts.turned:
        return
    text = json.loads((folder / "config.json").read_text()).get("text_config") or {}
    if not text.get("norm_topk_prob"):
        raise ValueError(
            f"{folder}: text_config.norm_topk_prob of config.json is {text.get('norm_topk_prob')}; vLLM goes by it, transformers "
            "always normalises, so they would be two models. Set it to true."
        )
    for name, shape in shapes(folder).items():
        if not family.turned(name):
            continue
        hidden, width = text["hidden_size"], text["moe_intermediate_size"]
        expected = (hidden, 2 * width) if "gate_up" in name else (width, hidden)
        if expected[0] == expected[1]:
            raise ValueError(
                f"{folder}: {name} holds square matrices, {hidden} x {hidden}, so it cannot be told whether they are turned, "
                "and the model is not taken. Give it another moe_intermediate_size."
            )
        if shape[1:] != expected:
            raise ValueError(
                f"{folder}: {name} is {list(shape)}, where the hub has [experts, in, out], {[shape[0], *expected]}: it is from "
                "save_pretrained, and vLLM would misread it. Swap the last two dimensions of every gate_up_proj and down_proj."
            )


def parameter_count(folder: Path, counts: Callable[[str], bool] = lambda name: True) -> int:
    """Weights in the files; tied ones count once, and only tensors whose name `counts`."""
    return sum(math.prod(shape) for name, shape in shapes(folder).items() if counts(name))


def copy_all_but_weights(source: Path, target: Path) -> None:
    """Configuration, tokenizer and processor of a model folder."""
    target.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        if file.is_file() and file.suffix != ".safetensors":
            shutil.copy(file, target / file.name)
