"""Images of a run, packed into Parquet shards with their hash as key, so that a million of them are thousands of objects.

An image's id is `<shard>/<SHA-256>.<suffix>`, and the shard lies at images/<shard>.parquet. Its rows are sorted by name, so
the statistics of the row groups tell which one holds an image: about 1 MiB is read for one image, not the shard.
"""

import functools
import threading
from collections.abc import Collection, Iterable

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from masters.data.images import CheckedImage
from masters.data.storage import Storage
from masters.data.tables import IMAGES

FOLDER = "images"
_SHARD_BYTES = 64 << 20
_GROUP_BYTES = 1 << 20


class ImageShards:
    """Writes the images of one chunk of rows, each once. Holds at most one shard in memory."""

    def __init__(self, run: Storage, chunk: str):
        self._run, self._chunk = run, chunk
        self._ids: dict[str, str] = {}
        self._open: dict[str, bytes] = {}
        self._bytes = self._written = 0

    def add(self, image: CheckedImage) -> str:
        """The image's id; it is written by the next `close` at the latest."""
        if image.name not in self._ids:
            if self._bytes and self._bytes + len(image.content) > _SHARD_BYTES:
                self.close()
            self._ids[image.name] = f"{self._chunk}-{self._written}/{image.name}"
            self._open[image.name] = image.content
            self._bytes += len(image.content)
        return self._ids[image.name]

    def close(self) -> None:
        """Write what is open."""
        if self._open:
            _write(self._run, f"{self._chunk}-{self._written}", self._open)
            self._written, self._open, self._bytes = self._written + 1, {}, 0


def read_image(run: Storage, image_id: str) -> bytes:
    """An image as it was given; threads may ask. Raises KeyError where the shard does not hold it, and FileNotFoundError
    without the shard."""
    shard, _, name = image_id.rpartition("/")
    file, reading = _opened(run.uri, shard)
    with reading:
        table = file.read_row_group(_group_of(file.metadata, name))
    place = pc.index(table["name"], name).as_py()
    if place < 0:
        raise KeyError(f"{image_id}: no such image in {run.address(_file(shard))}")
    return table["content"][place].as_py()


def keep_only(run: Storage, shard: str, digests: Collection[str]) -> None:
    """Take the images out of a shard whose names begin with none of the digests, 32 hexadecimal digits each.

    They are kept in another shard. One that is left empty is deleted; an earlier attempt may have done that.
    """
    if not run.exists(_file(shard)):
        return
    table = run.read_table(_file(shard))
    left = {row["name"]: row["content"] for row in table.to_pylist() if row["name"][:32] in digests}
    if not left:
        run.delete(_file(shard))
        _opened.cache_clear()
    elif len(left) < table.num_rows:
        _write(run, shard, left)


@functools.lru_cache(maxsize=64)
def _opened(uri: str, shard: str) -> tuple[pq.ParquetFile, threading.Lock]:
    """A file, and who may read it: two threads that do end the process."""
    return Storage(uri).open_parquet(_file(shard)), threading.Lock()


def _group_of(metadata: pq.FileMetaData, name: str) -> int:
    """The first row group whose last name is not before the wanted one."""
    low, high = 0, metadata.num_row_groups - 1
    while low < high:
        middle = (low + high) // 2
        if metadata.row_group(middle).column(0).statistics.max < name:
            low = middle + 1
        else:
            high = middle
    return low


def _write(run: Storage, shard: str, images: dict[str, bytes]) -> None:
    """Equal images give equal bytes, in whichever order they came."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, IMAGES, compression="none", use_dictionary=False, write_statistics=["name"]) as writer:
        for names in _groups(images):
            contents = [images[name] for name in names]
            writer.write_table(pa.table({"name": names, "content": contents}, schema=IMAGES), row_group_size=len(names))
    run.write(_file(shard), sink.getvalue())
    _opened.cache_clear()  # a footer that was read before tells of another file


def _groups(images: dict[str, bytes]) -> Iterable[list[str]]:
    names: list[str] = []
    size = 0
    for name in sorted(images):
        if names and size + len(images[name]) > _GROUP_BYTES:
            yield names
            names, size = [], 0
        names.append(name)
        size += len(images[name])
    yield names


def _file(shard: str) -> str:
    return f"{FOLDER}/{shard}.parquet"
