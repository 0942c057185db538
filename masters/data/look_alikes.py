"""Which images are the same picture: re-compressed, scaled, or with a small margin cut off; not merely of the same kind.

Candidates come from perceptual hashes, sorted in many random orders of their bits: near hashes come to lie beside each other
in some of them (Charikar, 2002). The work is N log N, however many look alike; comparing all pairs would be quadratic. A
candidate is the same picture only where its thumbnails agree everywhere once the cut is undone.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from masters.data.image_hashes import COLOUR_SIDE, SIDE, THUMBNAIL_BYTES

Array = np.ndarray

_ORDERS, _NEIGHBOURS = 24, 16
_FURTHEST = 34
"""Of 121 bits: those of two unrelated images differ by about 60."""
_CANDIDATES = 8
_MOST = 1 << 24
_ASPECT = 0.06
"""Largest difference of ln(width / height): a cut of 2 % of one side makes 0.02, rounding of small images the rest."""
_SLICE = 1 << 16

_LARGEST_CUT = 0.03
_STEPS = 4
_SLOPED, _USUAL, _TIMES, _ALONE = 3.0, 0.6, 10.0, 1.5
"""Where the slope is above _SLOPED, _USUAL of what differs is small; the largest may be _TIMES as much, and _ALONE."""
_FLAT, _EDGE = 6.0, 0.12
_FLAT_COLOUR, _EDGE_COLOUR = 7.0, 0.25


def candidates(base: Array, base_aspect: Array, asked: Array, asked_aspect: Array, *, same: bool = False) -> Array:
    """Pairs (place in asked, place in base) [p, 2] int64 of images that may look alike, sorted, each once.

    At most _CANDIDATES per asked image, the nearest first, the earlier of equally near ones.

    Args:
        base: [n, 2] uint64, perceptual hashes.
        base_aspect: [n], logarithms of their aspect ratios.
        asked: [q, 2] uint64.
        asked_aspect: [q].
        same: asked is base; then only pairs with an earlier image are meant.
    """
    assert len(asked) < _MOST
    found = [np.empty(0, np.uint64)]
    random = np.random.default_rng(0)
    for _ in range(_ORDERS if len(base) and len(asked) else 0):
        bits = random.permutation(128)[:64]
        base_keys, keys = _keys(base, bits), _keys(asked, bits)
        order = np.argsort(base_keys, kind="stable")
        sorted_keys = base_keys[order]
        for start in range(0, len(asked), _SLICE):
            mine = np.arange(start, min(start + _SLICE, len(asked)))
            place = np.searchsorted(sorted_keys, keys[mine], "left")
            if same:
                place = _ranks(order)[mine]
            found.append(_near(base, base_aspect, asked, asked_aspect, order, mine, place, same))
        found = [_nearest(np.concatenate(found))]
    pairs = np.column_stack([found[0] >> np.uint64(40), found[0] & np.uint64(0xFFFFFFFF)]).astype(np.int64)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def _keys(hashes: Array, bits: Array) -> Array:
    """[n] uint64 of 64 of their bits, in another order."""
    spread = np.unpackbits(hashes.astype(">u8").view(np.uint8).reshape(len(hashes), 16), axis=1)
    chosen = np.ascontiguousarray(np.packbits(spread[:, bits], axis=1))
    return chosen.view(">u8").ravel().astype(np.uint64)


def _ranks(order: Array) -> Array:
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    return ranks


def _near(
    base: Array,
    base_aspect: Array,
    asked: Array,
    asked_aspect: Array,
    order: Array,
    mine: Array,
    place: Array,
    same: bool,
) -> Array:
    """[p] uint64 of those among the neighbours in an order that are near: place in asked (24 bits), distance (8), place in
    base (32), so that they sort by them."""
    found = []
    for step in range(-_NEIGHBOURS, _NEIGHBOURS + 1):
        at = place + step
        inside = np.flatnonzero((at >= 0) & (at < len(order)))
        one, other = mine[inside], order[at[inside]]
        distance = np.bitwise_count(asked[one] ^ base[other]).sum(1)
        near = (distance <= _FURTHEST) & (np.abs(asked_aspect[one] - base_aspect[other]) <= _ASPECT)
        if same:
            near &= other < one
        parts = ((one[near], 40), (distance[near], 32), (other[near], 0))
        found.append(sum((part.astype(np.uint64) << np.uint64(bits) for part, bits in parts), np.uint64(0)))
    return np.concatenate(found)


def _nearest(found: Array) -> Array:
    """Each pair once, and of an asked image the nearest _CANDIDATES."""
    found = np.unique(found)
    starts = np.flatnonzero(np.diff((found >> np.uint64(40)).astype(np.int64), prepend=-1))
    rank = np.arange(len(found)) - np.repeat(starts, np.diff(starts, append=len(found)))
    return found[rank < _CANDIDATES]


def same_pictures(one: Array, other: Array) -> Array:
    """[p] bool for thumbnails [p, THUMBNAIL_BYTES] uint8 each: whether every part of one is there in the other.

    A cut of up to 3 % of a side, from either, is undone first, by a few steps of Gauss-Newton on the luma. What then still
    differs must be small everywhere: in flat places absolutely, at edges relative to them, in luma and in colour. It must not
    stand alone, either: coding and scaling change a little wherever there is an edge, and a template with other digits one line
    only. A bar of a chart that is a little longer, a word that is another one, a label of another colour, are other pictures.
    """
    assert one.shape == other.shape
    assert one.shape[1:] == (THUMBNAIL_BYTES,)
    same = np.zeros(len(one), bool)
    for start in range(0, len(one), 1024):
        part = slice(start, start + 1024)
        pair = one[part].astype(np.float32), other[part].astype(np.float32)
        found = _worst(*pair) <= 1
        # The whole one can be cut like the other; the other way about its margin would have to be made up.
        left = np.flatnonzero(~found)
        if len(left):
            found[left] = _worst(pair[1][left], pair[0][left]) <= 1
        same[part] = found
    return same


def _worst(one: Array, other: Array) -> Array:
    """[p]: the largest difference that is left, as a share of what is allowed in its place."""
    planes, others = _planes(one), _planes(other)
    cut = _cut(planes[0], others[0])
    worst = np.maximum(*_excess(_moved(planes[0], cut), others[0], _FLAT, _EDGE))
    for plane, its in zip(planes[1:], others[1:], strict=True):
        colour, _ = _excess(_moved(plane, cut), its, _FLAT_COLOUR, _EDGE_COLOUR)
        worst = np.maximum(worst, colour)
    return worst


def _planes(thumbnails: Array) -> list[Array]:
    luma, colour = SIDE * SIDE, COLOUR_SIDE * COLOUR_SIDE
    ends = np.cumsum([0, luma, colour, colour])
    sides = (SIDE, COLOUR_SIDE, COLOUR_SIDE)
    return [
        thumbnails[:, start:end].reshape(-1, side, side)
        for (start, end), side in zip(pairwise(ends), sides, strict=True)
    ]


def _cut(one: Array, other: Array) -> Array:
    """[p, 4]: shift and stretch down and across, in halves of the side, that bring `one` [p, S, S] onto `other`."""
    side = one.shape[1]
    across = (2 * np.arange(side, dtype=np.float32) + 1) / side - 1
    inner = np.zeros((side, side), np.float32)
    inner[2:-2, 2:-2] = 1
    cut = np.zeros((len(one), 4), np.float32)
    for _ in range(_STEPS):
        moved = _moved(one, cut)
        down, right = (np.gradient(moved, axis=axis) * inner * (side / 2) for axis in (1, 2))
        slopes = np.stack([down, down * across[:, None], right, right * across], 1).reshape(len(one), 4, -1)
        missing = ((other - moved) * inner).reshape(len(one), -1, 1)
        normal = slopes @ slopes.transpose(0, 2, 1)
        scale = np.trace(normal, axis1=1, axis2=2)[:, None, None]
        normal += (1e-4 * scale + 1e-3) * np.eye(4, dtype=np.float32)
        cut += np.linalg.solve(normal, slopes @ missing)[:, :, 0]
        np.clip(cut, -_LARGEST_CUT, _LARGEST_CUT, out=cut)
    return cut


def _moved(plane: Array, cut: Array) -> Array:
    """Planes [p, s, s] shifted and stretched, by cubic interpolation; beyond the border it is as at the border."""
    down, across = (_weights(plane.shape[1], cut[:, at], cut[:, at + 1]) for at in (0, 2))
    return down @ plane @ across.transpose(0, 2, 1)


def _weights(side: int, shift: Array, stretch: Array) -> Array:
    """[p, s, s]: how much of each old place is in each new one."""
    places = np.arange(side, dtype=np.float32)
    centred = (2 * places + 1) / side - 1
    target = places + (shift[:, None] + stretch[:, None] * centred) * (side / 2)
    far = np.abs(np.clip(target, 0, side - 1)[:, :, None] - places)
    near = (1.5 * far - 2.5) * far * far + 1
    outer = ((2.5 - 0.5 * far) * far - 4) * far + 2
    weights = np.where(far < 1, near, np.where(far < 2, outer, 0)).astype(np.float32)
    return weights / weights.sum(2, keepdims=True)


def _excess(one: Array, other: Array, flat: float, edge: float) -> tuple[Array, Array]:
    """[p] each: the largest difference of 3 x 3 means, as a share of `flat` and `edge` times the slope there; and as a share of
    what differs elsewhere."""
    margin = 1 if one.shape[1] < SIDE else 2
    inner = (slice(None), slice(margin, -margin), slice(margin, -margin))
    steep = np.maximum(*(np.hypot(np.gradient(plane, axis=1), np.gradient(plane, axis=2)) for plane in (one, other)))
    left, slope = (plane[inner].reshape(len(one), -1) for plane in (np.abs(_mean(other - one)), _mean(steep)))
    usual = np.sort(np.where(slope > _SLOPED, left, np.inf), axis=1)
    place = (_USUAL * ((slope > _SLOPED).sum(1) - 1)).clip(0).astype(np.int64)
    elsewhere = np.take_along_axis(usual, place[:, None], 1)[:, 0]
    return (left / (flat + edge * slope)).max(1), left.max(1) / (_TIMES * elsewhere + _ALONE)


def _mean(planes: Array) -> Array:
    """Means of 3 x 3."""
    padded = np.pad(planes, ((0, 0), (1, 1), (1, 1)), "edge")
    down = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    return (down[:, :, :-2] + down[:, :, 1:-1] + down[:, :, 2:]) / 9


def groups(count: int, pairs: Array, verify: Callable[[Array], Sequence[bool] | Array]) -> Array:
    """[n] int64: for each image the first one that is the same picture, itself where there is none.

    Every member was compared with the first one of its group: a chain of small differences joins nothing.

    Args:
        count: n; images stand in the order in which the first one is kept.
        pairs: [p, 2], (image, earlier image).
        verify: which pairs [p, 2] are the same picture.
    """
    first, direct = list(range(count)), [True] * count
    same = pairs[np.asarray(verify(pairs), bool)]
    same = same[np.lexsort((same[:, 1], same[:, 0]))]
    for mine in np.split(same, np.flatnonzero(np.diff(same[:, 0])) + 1) if len(same) else ():
        one, others = int(mine[0, 0]), mine[:, 1].tolist()
        leaders = [other for other in others if first[other] == other]
        first[one], direct[one] = min(leaders or [first[other] for other in others]), bool(leaders)
    found, unsure = np.array(first, np.int64), np.flatnonzero(~np.array(direct, bool))
    wrong = unsure[~np.asarray(verify(np.column_stack([unsure, found[unsure]])), bool)]
    found[wrong] = wrong
    return found
