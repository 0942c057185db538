"""Rows that repeat an earlier one of their split: the same images in the same order, and the same question.

Like the order of samples it is found from keys alone (masters.data.order), some 60 bytes a row and 40 an image. Which row
came first is a matter of the sources' order, not of chunks or workers.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from masters.data.image_hashes import words
from masters.data.look_alikes import candidates, groups
from masters.data.order import Array, Keys, id_hashes, mixed

EXACT, PERCEPTUAL = 1, 2
KINDS = {EXACT: "exact", PERCEPTUAL: "perceptual"}
_MARK = re.compile(r"\s*<image>\s*")
_ENDS = " .?!:;,。？！：；，"

Verify = Callable[[Array], Array]
"""Which pairs [p, 2] of places among all images are the same picture: [p] bool."""


@dataclass(frozen=True)
class RowHashes:
    """Hashes of accepted rows [n] and of their images [m], in the order of the keys; 128-bit ones are two uint64.

    Attributes:
        question: [n, 2] uint64, of the normalised question with the turns before it.
        answer: [n, 2] uint64, of the normalised label.
        pixels: [m, 2] uint64.
        perceptual: [m, 2] uint64.
        aspect: [m] float32, logarithm of the aspect ratio.
        seen: [m] bool, whether the image has a perceptual hash.
    """

    question: Array
    answer: Array
    pixels: Array
    perceptual: Array
    aspect: Array
    seen: Array

    @classmethod
    def of_chunk(cls, table: pa.Table, prompt_suffix: str | None) -> "RowHashes":
        """Of the accepted rows of one chunk, as prepare stages them with `hashes`."""
        accepted = table.filter(pc.is_null(table["reason"]))
        rows = accepted.select(["question", "history", "answer", "image_ids"]).to_pylist()
        images = pc.list_flatten(accepted["hashes"]).combine_chunks()
        said = [_said([*row["history"], row["question"]], len(row["image_ids"]), prompt_suffix) for row in rows]
        perceptual = images.field("perceptual")
        return cls(
            question=_text_hashes(said),
            answer=_text_hashes([row["answer"] for row in rows]),
            pixels=words(images.field("pixels")),
            perceptual=words(perceptual),
            aspect=images.field("aspect").to_numpy(zero_copy_only=False).astype(np.float32),
            seen=perceptual.is_valid().to_numpy(zero_copy_only=False).astype(bool),
        )

    @classmethod
    def join(cls, chunks: Sequence["RowHashes"]) -> "RowHashes":
        """Of all rows, from those of the chunks in order."""
        names = [field.name for field in fields(cls)]
        return cls(**{name: np.concatenate([getattr(chunk, name) for chunk in chunks]) for name in names})


def normalised(text: str) -> str:
    """A question or answer without what makes no other one of it: case, spacing, forms of letters, punctuation at its end."""
    line = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return line.rstrip(_ENDS) or line


def _said(turns: Sequence[str], images: int, suffix: str | None) -> str:
    """All turns, without the recipe's `prompt_suffix`; where the mark of an image stands matters among several only."""
    text = "\n".join(turns)
    line = normalised(text if images > 1 else _MARK.sub(" ", text))
    return normalised(line.removesuffix(normalised(suffix))) if suffix else line


def _text_hashes(texts: Sequence[str]) -> Array:
    return id_hashes([normalised(text) for text in texts])


@dataclass(frozen=True)
class Duplicates:
    """Which rows [n] repeat an earlier one.

    Attributes:
        kind: [n] int8: 0 for none, EXACT, or PERCEPTUAL.
        of: [n] int64: place of the row that is kept in its stead; its own where it is none.
        other_answer: [n] bool: whether that row's answer is another one.
    """

    kind: Array
    of: Array
    other_answer: Array


def find_duplicates(keys: Keys, kept: Array, hashes: RowHashes, verify: Verify | None) -> Duplicates:
    """Look at kept rows alone; those that are no duplicates are the first of their kind.

    Exact: the same pixels, in the same order, and the same question, whatever the answer. Perceptual: images that are the same
    picture, the same question, and the same answer: where a question is a template, look-alikes are many.

    Args:
        keys: of all accepted rows.
        kept: [n] bool.
        hashes: of the same rows.
        verify: of images that look alike; None to look for exact duplicates only.
    """
    rank = np.empty(len(kept), np.int64)
    rank[np.lexsort((keys.row, keys.chunk))] = np.arange(len(kept))
    of = _firsts(_row_keys(keys, hashes.question, hashes.pixels), rank, kept)
    kind = np.where(of != np.arange(len(of)), EXACT, 0).astype(np.int8)
    if verify is not None and len(hashes.seen):
        left = kept & (kind == 0)
        question = hashes.question ^ mixed(hashes.answer)
        pictures = _pictures(keys, left, question, hashes, rank, verify)
        again = _firsts(_row_keys(keys, question, pictures), rank, left)
        kind[again != np.arange(len(of))] = PERCEPTUAL
        of = again[of]
    return Duplicates(kind, of, (hashes.answer != hashes.answer[of]).any(1))


def _row_keys(keys: Keys, question: Array, images: Array) -> Array:
    """[n, 4] uint64: equal where split, question and all images in order are."""
    place = (keys.place[:, None].astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    sums = np.zeros((len(question), 2), np.uint64)
    np.add.at(sums, keys.owner, mixed(images + place))
    split = (keys.split.astype(np.uint64) + np.uint64(1)) * np.uint64(0xD1B54A32D192ED03)
    return np.column_stack([question, sums ^ split[:, None]])


def _firsts(row_keys: Array, rank: Array, kept: Array) -> Array:
    """[n] int64: place of the first kept row with the same key; of rows that are not kept their own."""
    of = np.arange(len(row_keys))
    places = np.flatnonzero(kept)
    mine = row_keys[places]
    sequence = np.lexsort((rank[places], *mine.T))
    new = np.ones(len(sequence), bool)
    new[1:] = (mine[sequence[1:]] != mine[sequence[:-1]]).any(1)
    first = np.maximum.accumulate(np.where(new, np.arange(len(sequence)), 0))
    of[places[sequence]] = places[sequence[first]]
    return of


def _pictures(keys: Keys, left: Array, question: Array, hashes: RowHashes, rank: Array, verify: Verify) -> Array:
    """[m, 2] uint64: pixels of the first image that is the same picture as each, among rows that ask the same."""
    asked = np.column_stack([question, keys.split.astype(np.uint64)])
    _, number, count = np.unique(asked[left], axis=0, return_inverse=True, return_counts=True)
    several = np.zeros(len(left), bool)
    several[left] = count[number.ravel()] > 1
    mine = np.flatnonzero(several[keys.owner] & hashes.seen)
    mine = mine[np.lexsort((keys.place[mine], rank[keys.owner[mine]]))]
    _, at, which = np.unique(hashes.pixels[mine], axis=0, return_index=True, return_inverse=True)
    firsts = np.sort(at)  # one image for each picture of the same pixels, in the order of their rows
    number = np.searchsorted(firsts, at)[which.ravel()]
    places = mine[firsts]
    near = hashes.perceptual[places], hashes.aspect[places]
    group = groups(len(places), candidates(*near, *near, same=True), lambda pairs: verify(places[pairs]))
    pictures = hashes.pixels.copy()
    pictures[mine] = hashes.pixels[places[group[number]]]
    return pictures


def listed(found: Duplicates, owner: Array, names: Sequence[str]) -> list[dict[str, Any]]:
    """Counts by kind and pair of sources: kind, source, of (the kept row's source), rows, other_answer (rows among them)."""
    dropped = np.flatnonzero(found.kind)
    cases = np.column_stack([found.kind[dropped], owner[dropped], owner[found.of[dropped]]]).astype(np.int64)
    kinds, number = np.unique(cases, axis=0, return_inverse=True)
    rows = np.bincount(number.ravel(), minlength=len(kinds))
    other = np.bincount(number.ravel(), weights=found.other_answer[dropped], minlength=len(kinds))
    return [
        {
            "kind": KINDS[kind],
            "source": names[source],
            "of": names[of],
            "rows": int(rows[at]),
            "other_answer": int(other[at]),
        }
        for at, (kind, source, of) in enumerate(kinds.tolist())
    ]
