"""The mix of the data: which rows of a source are used, how its questions end, and what all of them together hold.

A row's place in the mix is a hash of the seed and its id, so neither the order of reading, nor other rows, nor the number of
workers changes it. It is another hash than the one that orders the samples, or a limited source would come first in training.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from masters.config.prepare import AnswerType, Source
from masters.data.order import SPLITS, Array, Keys, id_hashes, mixed
from masters.data.summary import SourceSummary, Spread, counted

ANSWER_TYPES = get_args(AnswerType)
PERCENTILES = (5, 25, 50, 75, 95)


@dataclass(frozen=True)
class Facts:
    """What statistics of the mix are made of: some 20 bytes a row beside its keys.

    Attributes:
        question: [n] int32, characters, in the order of the keys.
        prompt: [n] int32, tokens with images expanded.
        kind: [n] int8, place of the answer type in ANSWER_TYPES.
        images: [n] int16, how many.
        side: [m] int32, longer side of each image of these rows, in pixels.
    """

    question: Array
    prompt: Array
    kind: Array
    images: Array
    side: Array

    @classmethod
    def of_chunk(cls, table: pa.Table) -> "Facts":
        """Of the accepted rows of one chunk, as prepare stages them."""
        accepted = table.filter(pc.is_null(table["reason"]))
        sides = pc.list_flatten(accepted["image_sides"]).to_numpy().reshape(-1, 2)
        return cls(
            question=pc.utf8_length(accepted["question"]).to_numpy().astype(np.int32),
            prompt=accepted["prompt_tokens"].to_numpy().astype(np.int32),
            kind=np.array([ANSWER_TYPES.index(kind) for kind in accepted["answer_type"].to_pylist()], np.int8),
            images=pc.list_value_length(accepted["image_ids"]).to_numpy().astype(np.int16),
            side=sides.max(1).astype(np.int32) if len(sides) else np.empty(0, np.int32),
        )

    @classmethod
    def join(cls, chunks: Sequence["Facts"]) -> "Facts":
        """Of all rows, from those of the chunks in order."""
        names = [field.name for field in fields(cls)]
        return cls(**{name: np.concatenate([getattr(facts, name) for facts in chunks]) for name in names})


def mix_keys(seed: int, ids: Array) -> Array:
    """[n] uint64, even over all of them, from hashes of ids [n, 2] (masters.data.order.id_hashes)."""
    salt = hashlib.sha256(f"mix/{seed}".encode()).digest()[:8]
    return mixed(ids[:, 0] ^ np.uint64(int.from_bytes(salt, "big")))


def is_thinned(source: Source, split: str | None, row: str, seed: int) -> bool:
    """Whether the source's `weight` leaves a row out, by its id, or by its place where it has none."""
    if split != "train" or source.weight >= 1:
        return False
    (key,) = mix_keys(seed, id_hashes([f"{source.name}/{row}"])).tolist()
    return bool(key >= source.weight * 2.0**64)


def with_suffix(question: str, suffix: str) -> str:
    """The question and a line behind it, unless it ends so, in whatever spacing and case."""
    asked, wanted = (" ".join(text.split()).casefold() for text in (question, suffix))
    ends_so = re.search(rf"(?<!\w){re.escape(wanted)}$", asked)
    return question if ends_so else f"{question.rstrip()}\n{suffix.strip()}"


def keep_limits(
    keys: Keys,
    facts: Facts,
    kept: Array,
    owner: Array,
    sources: Sequence[Source],
    summaries: Sequence[SourceSummary],
    seed: int,
) -> Array:
    """Which rows [n] are still kept when each source has no more in a split than its `limit`.

    The rows with the smallest mix keys stay: those of a smaller limit are among those of a larger one. Summaries then tell of
    what is kept, and count the others as over the limit, not as rejects.

    Args:
        keys: of all accepted rows.
        facts: of the same rows.
        kept: [n] bool, rows that nothing else drops.
        owner: [n], number of each row's source.
        sources: those of the recipe.
        summaries: one for each source.
        seed: of the recipe.
    """
    kept = kept.copy()
    for number, (source, summary) in enumerate(zip(sources, summaries, strict=True)):
        if source.limit is None:
            continue
        for split in range(len(SPLITS)):
            mine = np.flatnonzero(kept & (owner == number) & (keys.split == split))
            ids = keys.id[mine]
            over = mine[np.lexsort((ids[:, 1], mix_keys(seed, ids)))][source.limit :]
            kept[over] = False
            summary.over_limit += len(over)
        if summary.over_limit:
            recount(summary, keys, facts, kept & (owner == number))
    return kept


def recount(summary: SourceSummary, keys: Keys, facts: Facts, mine: Array) -> None:
    """Let a summary tell of these rows alone."""
    for split in summary.splits:
        summary.splits[split] = int((keys.split[mine] == SPLITS.index(split)).sum())
    for kind in summary.answer_types:
        summary.answer_types[kind] = int((facts.kind[mine] == ANSWER_TYPES.index(kind)).sum())
    summary.imageless = int((facts.images[mine] == 0).sum())
    for name in ("images", "question", "prompt"):
        values = getattr(facts, name)[mine].astype(np.int64)
        told = (len(values), int(values.sum()), int(values.min()), int(values.max())) if len(values) else ()
        setattr(summary, name, Spread(*told))


def statistics(keys: Keys, facts: Facts, kept: Array, owner: Array, names: Sequence[str]) -> list[dict[str, Any]]:
    """What the kept rows of each source and split are, in the order of the recipe; plain data, for the report.

    Each has source, split, rows, imageless (rows), prompt_tokens (their sum), answer_types (rows by type), and PERCENTILES of
    question (characters), images (of a row) and side (the longer one of each image, in pixels; empty without images).
    """
    told = []
    owner_of_image, split_of_image = (np.repeat(of_row, facts.images) for of_row in (owner, keys.split))
    kept_image = np.repeat(kept, facts.images)
    for number, name in enumerate(names):
        for place, split in enumerate(SPLITS):
            mine = kept & (owner == number) & (keys.split == place)
            if not mine.any():
                continue
            kinds = np.bincount(facts.kind[mine], minlength=len(ANSWER_TYPES)).tolist()
            sides = facts.side[kept_image & (owner_of_image == number) & (split_of_image == place)]
            told.append(
                {
                    "source": name,
                    "split": split,
                    "rows": int(mine.sum()),
                    "imageless": int((facts.images[mine] == 0).sum()),
                    "prompt_tokens": int(facts.prompt[mine].sum(dtype=np.int64)),
                    "answer_types": {kind: rows for kind, rows in zip(ANSWER_TYPES, kinds, strict=True) if rows},
                    "question": _percentiles(facts.question[mine]),
                    "images": _percentiles(facts.images[mine]),
                    "side": _percentiles(sides),
                }
            )
    return told


def _percentiles(values: Array) -> list[int]:
    """Values that are there, not between two."""
    return np.percentile(values, PERCENTILES, method="inverted_cdf").astype(int).tolist() if len(values) else []


def mix_words(source: Source) -> str:
    """What the recipe says of the source's part in the mix; empty where it takes all."""
    words = [f"weight {source.weight:g} of train"] if source.weight < 1 else []
    words += [f"at most {counted(source.limit, 'row')} of each split"] if source.limit else []
    return ", ".join(words)
