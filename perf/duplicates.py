"""Duplicates and leakage among 100,000 drawn images: CPU-minutes, peak memory, copies found, others taken for copies.

One image in eight is a twin: near-identical to another one and not the same. One in sixteen is a copy of an earlier one,
re-compressed (JPEG, quality 30 to 90), scaled (0.5 to 2 times), or with 2 % cut off; of a benchmark's images one in ten. All
ask the same and have the same answer, so only images tell. Beside it what people do by hand with `imagehash` alone: images whose
`phash` is within a number of bits are the same. Its pairs are all compared, in numpy; in Python, as its own `-` does, they take
the time that is printed for a sample of them.
"""

import argparse
import multiprocessing
import random
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))  # where perf is

from masters.data.duplicates import RowHashes, find_duplicates
from masters.data.image_hashes import ImageHashes, hash_image, words
from masters.data.leakage import IMAGE_HASHES, HashedImages, find_leaks
from masters.data.look_alikes import same_pictures
from masters.data.order import Keys
from perf.duplicate_images import COPIES, copy, draw
from perf.duplicate_images import KINDS as DRAWN

IMAGES, BENCHMARK_SHARE = 100_000, 20
RIVAL_BITS = (0, 4, 8, 12)


@dataclass(frozen=True)
class Planned:
    """An image to draw: what it shows, and how it is a copy of the one at place `of`, or a twin of it (`how` is empty)."""

    kind: str
    seed: int
    twin: int = 0
    of: int = -1
    how: str = ""


def plan(images: int, seed: int = 0) -> tuple[list[Planned], list[Planned]]:
    """Images of train, and of a benchmark of which some are copies of them."""
    rng, train, benchmark = random.Random(seed), list[Planned](), list[Planned]()
    for place in range(images):
        into, copies = (train, 1 / 16) if place < images - images // BENCHMARK_SHARE else (benchmark, 1 / 10)
        of, share = rng.randrange(max(1, len(train))), rng.random()
        source = train[of] if train and not train[of].how else None
        if source and share < copies:
            into.append(Planned(source.kind, source.seed, source.twin, of, rng.choice(COPIES)))
        elif source and share < copies + 1 / 8:
            into.append(Planned(source.kind, source.seed, place + 1, of))
        else:
            into.append(Planned(rng.choice(DRAWN), place))
    return train, benchmark


def drawn(planned: Planned) -> Image.Image:
    """The image itself, decoded."""
    image = draw(planned.kind, planned.seed, planned.twin)
    return (
        copy(image, planned.how, random.Random(f"{planned.of}/{planned.how}/{planned.seed}")) if planned.how else image
    )


def hashed(planned: Planned) -> tuple[ImageHashes, float, int, float]:
    """Hashes and CPU seconds they took; those of the rival."""
    image = drawn(planned)
    image.load()
    began = time.process_time()
    hashes = hash_image(image, "perceptual")
    ours = time.process_time()
    bits = np.packbits(imagehash.phash(image).hash.ravel()).tobytes()
    return hashes, ours - began, int.from_bytes(bits, "big"), time.process_time() - ours


def table_of(hashes: Sequence[ImageHashes]) -> pa.Table:
    """As prepare keeps them."""
    rows = [{"id": str(place), **asdict(one)} for place, one in enumerate(hashes)]
    return pa.Table.from_pylist(rows, schema=IMAGE_HASHES)


def keys_of(table: pa.Table) -> tuple[Keys, RowHashes]:
    """One row for each image, all with one question and one answer."""
    same, zeros = np.zeros((table.num_rows, 2), np.uint64), np.zeros(table.num_rows, np.int32)
    places = np.arange(table.num_rows)
    keys = Keys(zeros, places, zeros, same[:, 0], same, same, places, zeros, zeros, same)
    seen = pc.is_valid(table["perceptual"]).to_numpy()
    return keys, RowHashes(
        same, same, words(table["pixels"]), words(table["perceptual"]), table["aspect"].to_numpy(), seen
    )


def compared(table: pa.Table, pairs: np.ndarray) -> np.ndarray:
    """Which pairs of places are the same picture."""
    sides = (b"".join(table["thumbnail"].take(pairs[:, side]).to_pylist()) for side in (0, 1))
    one, other = (np.frombuffer(side, np.uint8).reshape(len(pairs), -1) for side in sides)
    return same_pictures(one, other)


def measured(images: int, workers: int = 2, seed: int = 0) -> dict[str, Any]:
    """All figures; CPU seconds are of hashing images that are decoded, of looking for duplicates, and for leaks."""
    train, benchmark = plan(images, seed)
    if workers:
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            found = list(pool.imap(hashed, [*train, *benchmark], chunksize=64))
    else:
        found = [hashed(one) for one in [*train, *benchmark]]
    hashes = [one[0] for one in found]
    seconds = {"hashing": sum(one[1] for one in found)}
    first: dict[bytes, Any] = {}
    identity = [
        first.setdefault(one.pixels, (p.kind, p.seed, p.twin))
        for one, p in zip(hashes, [*train, *benchmark], strict=True)
    ]
    mine, theirs = table_of(hashes[: len(train)]), table_of(hashes[len(train) :])
    began = time.process_time()
    keys, rows = keys_of(mine)

    def verify(pairs: np.ndarray) -> np.ndarray:
        parts = [pairs[start : start + 16_384] for start in range(0, len(pairs), 16_384)]
        return np.concatenate([np.zeros(0, bool), *(compared(mine, part) for part in parts)])

    repeated = find_duplicates(keys, np.ones(len(train), bool), rows, verify)
    seconds["duplicates"] = time.process_time() - began
    began = time.process_time()
    leaks = find_leaks(HashedImages.of_table(mine), HashedImages.of_table(theirs)).to_pylist()
    seconds["leakage"] = time.process_time() - began
    of = {place: int(repeated.of[place]) for place in np.flatnonzero(repeated.kind).tolist()}
    leaked = {len(train) + int(pair["evaluated"]): int(pair["train"]) for pair in leaks}
    planned = dict(enumerate([*train, *benchmark]))
    rival_hashes = np.array([one[2] for one in found], np.uint64)
    return {
        "seconds": seconds,
        "duplicates": told(dict(list(planned.items())[: len(train)]), of, identity),
        "leakage": told(dict(list(planned.items())[len(train) :]), leaked, identity),
        "rival_hashing": sum(one[3] for one in found),
        "rival": rival(rival_hashes, [*train, *benchmark], identity),
        "peak": max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        / 1024,
    }


def told(planned: dict[int, Planned], of: dict[int, int], identity: Sequence[Any]) -> dict[str, Any]:
    """Copies that were found, by kind, and the share of others that were taken for copies."""
    figures: dict[str, Any] = {}
    for how in COPIES:
        planted = [place for place, one in planned.items() if one.how == how]
        hits = sum(place in of and identity[of[place]] == identity[place] for place in planted)
        figures[how] = (hits, len(planted))
    # An image that happens to have the very pixels of another one is no false duplicate: identity says so.
    others = [place for place, one in planned.items() if not one.how]
    wrong = [place for place in planned if place in of and identity[of[place]] != identity[place]]
    twins = [place for place in others if planned[place].of >= 0]
    figures["false"] = (len(wrong), len(others))
    figures["false_twins"] = (sum(place in set(wrong) for place in twins), len(twins))
    figures["false_kinds"] = {kind: sum(planned[place].kind == kind for place in wrong) for kind in DRAWN}
    return figures


def rival(
    hashes: np.ndarray, planned: Sequence[Planned], identity: Sequence[Any], rows: int = 10_000
) -> dict[str, Any]:
    """phash alone: copies found and others taken for copies, by bits; some rows, each against all earlier ones."""
    some = sorted(random.Random(1).sample(range(1, len(planned)), min(rows, len(planned) - 1)))
    began, nearest, own = time.process_time(), [], []
    for place in some:
        distance = np.bitwise_count(hashes[:place] ^ hashes[place])
        nearest.append(int(distance.min()))
        own.append(int(distance[planned[place].of]) if planned[place].how else -1)
    seconds = (time.process_time() - began) * len(planned) / len(some)
    copies = [distance for distance in own if distance >= 0]
    others = [n for place, n in zip(some, nearest, strict=True) if not planned[place].how]
    return {
        "seconds": seconds,
        "found": {bits: float(np.mean([distance <= bits for distance in copies])) for bits in RIVAL_BITS},
        "false": {bits: float(np.mean([distance <= bits for distance in others])) for bits in RIVAL_BITS},
        "python_seconds": python_pairs(hashes[:200]) * len(planned) ** 2 / 2,
    }


def python_pairs(hashes: np.ndarray) -> float:
    """CPU seconds that imagehash's own comparison of two hashes takes."""
    some = [imagehash.ImageHash(np.unpackbits(np.array([one], ">u8").view(np.uint8)).reshape(8, 8)) for one in hashes]
    began = time.process_time()
    for one in some:
        for other in some:
            _ = one - other
    return (time.process_time() - began) / len(some) ** 2


def lines(figures: dict[str, Any]) -> Iterator[str]:
    """What people read."""
    seconds = figures["seconds"]
    yield (
        f"{sum(seconds.values()) / 60:.1f} CPU-minutes ("
        + ", ".join(f"{name} {value:.0f} s" for name, value in seconds.items())
        + f"), peak {figures['peak']:,.0f} MiB"
    )
    for name in ("duplicates", "leakage"):
        found = figures[name]
        planted = [(how, *found[how]) for how in COPIES]
        copies = ", ".join(f"{how} {hits / max(1, n):.2%} of {n:,}" for how, hits, n in planted)
        wrong, others = found["false"]
        yield f"{name}: {copies}; false {wrong:,} of {others:,} ({wrong / others:.3%}); of twins {found['false_twins']}"
        yield f"  false by what they show: {found['false_kinds']}"
    other = figures["rival"]
    yield (
        f"imagehash.phash alone: hashing {figures['rival_hashing']:.0f} s; all pairs in numpy {other['seconds']:.0f} s, by "
        f"its own `-` {other['python_seconds'] / 3600:,.0f} hours"
    )
    for bits in RIVAL_BITS:
        yield f"  within {bits:2} bits: found {other['found'][bits]:.2%}, false {other['false'][bits]:.2%}"


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("images", nargs="?", type=int, default=IMAGES)
    count = parser.parse_args().images
    print(f"{count:,} images, of them {count // BENCHMARK_SHARE:,} of a benchmark")
    print("\n".join(lines(measured(count))))


if __name__ == "__main__":
    main()
