"""Files of data: which ones a path names, what each is, and its records, from any place on."""

import os
from collections import Counter
from collections.abc import Iterator

from masters.config.prepare import FileKind
from masters.data.sources.file_kinds import kind_of, suffix_kind
from masters.data.sources.json_files import array_records, line_records
from masters.data.sources.records import START, Mark, Record
from masters.data.sources.table_files import arrow_records, parquet_pieces, parquet_records, tsv_records
from masters.data.sources.tar_files import member_records
from masters.data.storage import Storage

__all__ = ["Mark", "Record", "kind_of", "list_files", "pieces", "records"]

_ABOUT_DATA = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}


def list_files(path: str, kind: FileKind | None = None) -> tuple[Storage, list[str]]:
    """Of a file, its folder and its name; of a folder, itself and its data files in order, at any depth.

    Files are told by their suffixes: in a folder, what is hidden (any part of the name begins with `.` or `_`), images and
    all that is no data are left out. With `kind`, files of other kinds are too.

    Raises:
        ValueError: where nothing is there, no data file is, or files of several kinds are.
    """
    try:
        root = Storage(path)
        if not root.is_folder():
            above, base = _split(path)
            if not base or not above.exists(base):
                raise ValueError(f"{path}: no such file or folder. Name a file of data, or a folder of them.")
            return above, [base]
        names = root.names()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error}. Check the address, and who may read it.") from error
    return root, _data_files(path, names, kind)


def _split(path: str) -> tuple[Storage, str]:
    """The folder that a path or address lies in, and its last part; empty for an address without folders."""
    if "://" not in path:
        folder, base = os.path.split(os.path.abspath(path))
        return Storage(folder), base
    address, mark, query = path.partition("?")
    folder, _, base = address.rstrip("/").rpartition("/")
    return (Storage(path), "") if folder.endswith(":/") else (Storage(f"{folder}{mark}{query}"), base)


def _data_files(path: str, names: list[str], kind: FileKind | None) -> list[str]:
    """Names of data files. Raises ValueError."""
    kinds = {name: _family(suffix_kind(name)) for name in names if _is_data(name)}
    if kind:
        kinds = {name: found for name, found in kinds.items() if found == _family(kind)}
    if not kinds:
        counted = Counter(f".{name.rpartition('.')[2]}" if "." in name else name.rpartition("/")[2] for name in names)
        there = ", ".join(f"{number} {suffix}" for suffix, number in counted.most_common(5)) or "nothing"
        raise ValueError(
            f"{path}: no {kind or 'data'} file in this folder; there is {there}. "
            "Name a file, or a folder with JSON, JSON lines, Parquet, Arrow, TSV, CSV or tar files."
        )
    examples = {found: name for name, found in reversed(kinds.items())}
    if len(examples) > 1:
        shown = ", ".join(sorted(examples.values()))
        raise ValueError(
            f"{path}: files of several kinds: {shown}. Set `format` to the one that is meant, or name a file in `path`."
        )
    return list(kinds)


def _family(kind: FileKind | None) -> str | None:
    """A .json may hold lines: only the content says which of the two."""
    return "json" if kind == "jsonl" else kind


def _is_data(name: str) -> bool:
    parts = name.split("/")
    hidden = any(part.startswith((".", "_")) for part in parts)
    about = parts[-1] in _ABOUT_DATA or (parts[-1].startswith("cache-") and parts[-1].endswith(".arrow"))
    return suffix_kind(name) is not None and not hidden and not about


def pieces(root: Storage, name: str, kind: FileKind) -> int:
    """In how many pieces the file can be read, each on its own: groups of Parquet's row groups, else 1."""
    return parquet_pieces(root, name) if kind == "parquet" else 1


def records(root: Storage, name: str, kind: FileKind, piece: int = 0, start: Mark = START) -> Iterator[Record]:
    """Records of one piece of a file, from its start or from the `next` of a record of that piece.

    Raises:
        ValueError: where the file as a whole is at fault, with its address, the place, and what to do.
    """
    if kind == "parquet":
        return parquet_records(root, name, piece, start)
    read = {
        "json": array_records,
        "jsonl": line_records,
        "arrow": arrow_records,
        "tsv": tsv_records,
        "webdataset": member_records,
    }[kind]
    return read(root, name, start)
