"""Which images that are evaluated are among those of train: hashes of both, exact and perceptual, in tables and arrays.

RUN/hashes/<split>-<place of the first row>.parquet   hashes of a split's images, each once a file
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from masters.data.image_hashes import HASHES, THUMBNAIL_BYTES, ImageHashes, words
from masters.data.look_alikes import candidates, same_pictures
from masters.data.order import Array
from masters.data.storage import Storage

FOLDER = "hashes"
HASHED = f"{FOLDER}/done.json"
FOUND = "leakage/found.json"
IMAGE_HASHES = pa.schema([("id", pa.string()), *HASHES])  # the first row's that has the image
_LIGHT = [name for name in IMAGE_HASHES.names if name != "thumbnail"]
_PAIRS = 16_384

LEAKS = pa.schema(
    [
        ("evaluated", pa.string()),  # row of the benchmark, or sample
        ("train", pa.string()),  # sample
        ("kind", pa.string()),  # exact | perceptual
    ]
)


def hash_table(ids: Sequence[str], hashes: Sequence[Sequence[ImageHashes]]) -> pa.Table:
    """Of the images of rows, in order; each image once."""
    found = {
        one.pixels: {"id": name, **asdict(one)}
        for name, its in reversed(list(zip(ids, hashes, strict=True)))
        for one in its
    }
    return pa.Table.from_pylist(list(reversed(found.values())), schema=IMAGE_HASHES)


def write_hashes(run: Storage, split: str, first: int, table: pa.Table) -> None:
    """Write the images of some rows of a split, of which the first one stands at place `first`."""
    run.write_table(f"{FOLDER}/{split}-{first:09d}.parquet", table, row_group_size=1024)


@dataclass(frozen=True)
class HashedImages:
    """Images [n] that differ in their pixels.

    Attributes:
        ids: of the first row that has each.
        pixels, perceptual: [n, 2] uint64.
        aspect: [n] float32.
        seen: [n] bool, whether there is a perceptual hash.
        thumbnails: of images at some places: [p, THUMBNAIL_BYTES] uint8.
    """

    ids: pa.ChunkedArray
    pixels: Array
    perceptual: Array
    aspect: Array
    seen: Array
    thumbnails: Callable[[Array], Array]

    @classmethod
    def of_table(cls, table: pa.Table) -> "HashedImages":
        """Of a table of IMAGE_HASHES, held in memory."""
        return cls._of(table, lambda places: _as_array(table["thumbnail"].take(places)))

    @classmethod
    def of_split(cls, run: Storage, split: str) -> "HashedImages":
        """Of a split of a run; thumbnails are read where they are asked for."""
        names = sorted(name for name in run.names(FOLDER, ".parquet") if name.startswith(f"{FOLDER}/{split}-"))
        tables = [run.read_table(name, _LIGHT) for name in names]
        starts = np.cumsum([0, *(table.num_rows for table in tables)])

        def thumbnails(places: Array) -> Array:
            found = np.empty((len(places), THUMBNAIL_BYTES), np.uint8)
            file = np.searchsorted(starts, places, "right") - 1
            for number in np.unique(file).tolist():
                mine = np.flatnonzero(file == number)
                column = run.read_table(names[number], ["thumbnail"])["thumbnail"]
                found[mine] = _as_array(column.take(places[mine] - starts[number]))
            return found

        return cls._of(pa.concat_tables([IMAGE_HASHES.empty_table().select(_LIGHT), *tables]), thumbnails)

    @classmethod
    def _of(cls, table: pa.Table, thumbnails: Callable[[Array], Array]) -> "HashedImages":
        pixels = words(table["pixels"])
        firsts = np.sort(np.unique(pixels, axis=0, return_index=True)[1]) if len(pixels) else np.empty(0, np.int64)
        return cls(
            table["id"].take(firsts),
            pixels[firsts],
            words(table["perceptual"])[firsts],
            table["aspect"].to_numpy()[firsts],
            pc.is_valid(table["perceptual"]).to_numpy()[firsts],
            lambda places: thumbnails(firsts[places]),
        )


def find_leaks(train: HashedImages, evaluated: HashedImages) -> pa.Table:
    """LEAKS: evaluated images that train has too, each once, in their order: exactly, or else the nearest same picture."""
    of = np.full(len(evaluated.pixels), -1, np.int64)
    if len(train.pixels):
        order = np.lexsort((train.pixels[:, 1], train.pixels[:, 0]))
        at = np.searchsorted(train.pixels[order, 0], evaluated.pixels[:, 0])
        place = order[np.minimum(at, len(order) - 1)]
        exact = (train.pixels[place] == evaluated.pixels).all(1)
        of[exact] = place[exact]
    kind = np.where(of >= 0, "exact", "perceptual")
    asked, base = np.flatnonzero(evaluated.seen & (of < 0)), np.flatnonzero(train.seen)
    pairs = candidates(train.perceptual[base], train.aspect[base], evaluated.perceptual[asked], evaluated.aspect[asked])
    for start in range(0, len(pairs), _PAIRS):
        one, other = asked[pairs[start : start + _PAIRS, 0]], base[pairs[start : start + _PAIRS, 1]]
        same = same_pictures(evaluated.thumbnails(one), train.thumbnails(other))
        of[one[same][::-1]] = other[same][::-1]  # of several the first one is written last
    leaked = np.flatnonzero(of >= 0)
    columns = [evaluated.ids.take(leaked), train.ids.take(of[leaked]), pa.array(kind[leaked].tolist(), pa.string())]
    return pa.table(columns, schema=LEAKS)


def _as_array(thumbnails: pa.ChunkedArray) -> Array:
    return np.frombuffer(b"".join(thumbnails.to_pylist()), np.uint8).reshape(-1, THUMBNAIL_BYTES)
