"""Records of webdataset's tar files: the members whose names differ only behind the first dot are one."""

import json
import tarfile
from collections.abc import Iterator, Mapping
from typing import Any

from masters.data.sources.records import START, Mark, Record, reading, unpacked
from masters.data.storage import Storage

_IMAGES = {"png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff"}
_TEXTS = {"txt", "text", "cls", "caption"}
_CHUNK = 1 << 20


def member_records(root: Storage, name: str, start: Mark = START) -> Iterator[Record]:
    """Per group of members {"__key__": their name, the JSON member's fields, "image": bytes or a list of bytes, ...}.

    Texts and what is of no known suffix stand under their suffix, as text and as bytes.

    Raises:
        ValueError: for an archive that is cut off or damaged, with the last member that was read.
    """
    last = ""
    with reading(root, name), unpacked(root, name, start[0]) as stream:
        try:
            with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member) as archive:
                group: dict[str, bytes] = {}
                key, number = "", start[1]
                for member in archive:
                    offset = start[0] + member.offset
                    archive.members = []  # type: ignore[attr-defined]  # else it keeps all of them
                    if not member.isfile() or _parts(member.name)[1] is None:
                        continue
                    found, suffix = _parts(member.name)
                    if group and (found != key or suffix in group):
                        number += 1
                        yield _record(key, group, (offset, number))
                        group = {}
                    content = archive.extractfile(member)
                    assert content is not None  # of a file
                    group[suffix or ""] = content.read()
                    key, last = found, member.name
                if group:
                    yield _record(key, group, (start[0] + archive.offset, number + 1))
                _check_end(archive)
        except (tarfile.TarError, EOFError) as error:
            behind = f"behind member {last}" if last else "at its start"
            raise ValueError(
                f"{root.address(name)}: is cut off or damaged {behind}: {error}. Fetch or write the file again."
            ) from error


class _Member(tarfile.TarInfo):
    """Python's own takes an archive that is cut off, or damaged, as ended there."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> "_Member":
        """The next member. Raises tarfile.ReadError where neither one nor the end mark is there."""
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # the end mark
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"no member and no end mark, but {error}") from error


def _check_end(archive: tarfile.TarFile) -> None:
    """Python stops at the end mark; of archives that were put together, it would not see the others."""
    stream: Any = archive.fileobj
    while chunk := stream.read(_CHUNK):
        if chunk.strip(b"\0"):
            raise tarfile.ReadError("there is more behind its end mark")


def _parts(member: str) -> tuple[str, str | None]:
    """Key with the folder, and suffix; the suffix is None where the member is hidden or has none."""
    folder, slash, base = member.removeprefix("./").rpartition("/")
    stem, dot, suffix = base.partition(".")
    return f"{folder}{slash}{stem}", suffix.lower() if stem and dot and not stem.startswith("_") else None


def _record(key: str, members: Mapping[str, bytes], following: Mark) -> Record:
    value: dict[str, Any] = {"__key__": key}  # first, whatever the fields say
    images = []
    for suffix, content in members.items():
        try:
            last = suffix.rpartition(".")[2]
            if last in _IMAGES:
                images.append(content)
            elif last == "json":
                fields = json.loads(content)
                own = {suffix.removesuffix(".json"): fields}
                value.update(fields if suffix == "json" and isinstance(fields, Mapping) else own)
            else:
                value[suffix] = content.decode() if last in _TEXTS else content
        except (ValueError, RecursionError) as error:
            return Record(error.with_traceback(None), f"member {key}", following)
    if images:
        value["image"] = images[0] if len(images) == 1 else images
    value["__key__"] = key
    return Record(value, f"member {key}", following)
