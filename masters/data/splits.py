"""Which split rows belong to: by the names of their files, as `datasets` reads them, or by a row's own word."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "testmini", "eval", "evaluation"), "test"),
}
_VALUES = {**_WORDS, "train_sft": "train", "test_sft": "test"}
SKIP = "skip"


def known_split(value: Any, overrides: Mapping[str, str]) -> str:
    """train, validation, test or skip, for a split as a row calls it; `overrides` are the recipe's `splits`.

    Raises:
        KeyError: for a word that neither knows.
    """
    word = str(value).strip()
    return overrides[word] if word in overrides else _VALUES[word.lower()]


def split_names(files: Sequence[str], overrides: Mapping[str, str]) -> dict[str, str]:
    """Per file the split that its name says, else the nearest of its folders that says one; empty where none does.

    Words count where no letter or digit is beside them (`val-00.json`, `My_testmini.json`), and with digits behind
    (`train2014`). What `overrides` names comes first, and may be skip.

    Raises:
        ValueError: for a name that says two splits.
    """
    return {
        file: next(filter(None, (_said(part, file, overrides) for part in reversed(file.split("/")))), "")
        for file in files
    }


def _said(part: str, file: str, overrides: Mapping[str, str]) -> str:
    own = sorted((word for word in overrides if _stands_in(word, part)), key=len)
    if own:
        return overrides[own[-1]]
    found = {word: split for word, split in _WORDS.items() if _stands_in(word, part, r"\d*")}
    if len(set(found.values())) > 1:
        first, second = list(found)[:2]
        raise ValueError(
            f"{file}: its name says {first} and {second}. Map it by splits: {{{part.split('.')[0]}: {found[first]}}}."
        )
    return next(iter(found.values()), "")


def _stands_in(word: str, part: str, behind: str = "") -> bool:
    edge = r"[^\W_]"
    return re.search(rf"(?<!{edge}){re.escape(word)}{behind}(?!{edge})", part, re.IGNORECASE) is not None


def file_splits(files: Sequence[str], overrides: Mapping[str, str], split: str | None) -> dict[str, str]:
    """Per file that is not skipped its split; empty where neither names nor the recipe's `split` say one.

    `split`: the recipe's, None where it has none. It counts where no name says another than the others do.

    Raises:
        ValueError: where only some names say a split, or where `split` would put several splits into one.
    """
    said = {file: name for file, name in split_names(files, overrides).items() if name != SKIP}
    examples = {name: file for file, name in reversed(said.items())}
    shown = ", ".join(f"{file} ({name or 'none'})" for name, file in sorted(examples.items(), reverse=True))
    if not said:
        raise ValueError(f"splits: every file is skipped, such as {files[0]}. Leave one to read.")
    if split is not None:
        if len(examples.keys() - {""}) > 1:
            raise ValueError(
                f"split = {split}: the files are of several splits: {shown}. Remove split, or name one file in path, "
                "or map names by splits."
            )
        return dict.fromkeys(said, split)
    if "" in examples and len(examples) > 1:
        raise ValueError(
            f"splits: some files say their split by name, others do not: {shown}. Map words of their names, "
            "as in splits: {" + _word(examples[""]) + ": train}, or name one file in path."
        )
    return said


def _word(file: str) -> str:
    """What could be mapped in a name."""
    return file.rpartition("/")[2].split(".")[0]
