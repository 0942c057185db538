"""Which images are the same picture: hashes, candidates, thumbnails, groups; and the figures of perf/duplicates.py on 500."""

import random

import numpy as np
import pytest
from PIL import Image

from masters.data import look_alikes
from masters.data.image_hashes import THUMBNAIL_BYTES, hash_image
from masters.data.look_alikes import candidates, groups, same_pictures
from perf.duplicate_images import copy, draw
from perf.duplicates import COPIES, lines, measured


def random_hashes(count, seed):
    return np.random.default_rng(seed).integers(0, 2**64, (count, 2), np.uint64)


def flipped(hashes, bits, seed):
    """The same hashes with some bits changed in each."""
    rng, found = np.random.default_rng(seed), hashes.copy()
    for row in found:
        for bit in rng.permutation(128)[:bits]:
            row[bit // 64] ^= np.uint64(1) << np.uint64(bit % 64)
    return found


def test_hashing_is_asked_for():
    image = Image.effect_noise((40, 30), 60).convert("RGB")
    assert hash_image(image, "off") is None
    exact, whole = hash_image(image, "exact"), hash_image(image, "perceptual")
    assert (exact.perceptual, exact.thumbnail) == (None, None)
    assert exact.pixels == whole.pixels
    assert len(whole.perceptual) == len(whole.pixels) == 16
    assert len(whole.thumbnail) == THUMBNAIL_BYTES
    assert whole.aspect == pytest.approx(np.log(4 / 3))


@pytest.mark.parametrize(
    ("size", "other"), [((6, 4), (4, 6)), ((1, 1), (1, 2)), ((12, 1), (1, 12))], ids=["turned", "longer", "a line"]
)
def test_the_size_belongs_to_the_pixels(size, other):
    assert hash_image(Image.new("RGB", size), "exact").pixels != hash_image(Image.new("RGB", other), "exact").pixels


@pytest.mark.parametrize("bits", [0, 6, 12, 16])
def test_near_hashes_are_candidates(bits):
    """Of 2,000 at least 99 % are found, with the distance that a 2 % cut has and one half more; unrelated ones never are."""
    base = random_hashes(20_000, 0)
    asked, flat = flipped(base[:2000], bits, 1), np.zeros(20_000)
    pairs = candidates(base, flat, asked, flat[:2000])
    assert (pairs[:, 0] == pairs[:, 1]).sum() >= 1980
    assert (pairs[:, 0] == pairs[:, 1]).mean() > 0.99


def test_candidates_within_are_earlier_and_once():
    base = random_hashes(3000, 0)
    both = np.concatenate([base, flipped(base[:500], 5, 2)])
    pairs = candidates(both, np.zeros(3500), both, np.zeros(3500), same=True)
    assert (pairs[:, 1] < pairs[:, 0]).all()
    assert len(np.unique(pairs, axis=0)) == len(pairs)
    assert {(3000 + place, place) for place in range(500)} <= set(map(tuple, pairs.tolist()))


def test_another_shape_is_no_candidate():
    base = random_hashes(100, 0)
    aspect = np.linspace(0, 1, 100)
    assert len(candidates(base, aspect, base, aspect + 0.05)) == 100
    assert len(candidates(base, aspect, base, aspect + 0.07)) == 0


def test_the_work_does_not_grow_with_the_square_where_all_look_alike(monkeypatch):
    """All in one heap: a search by equal bands would compare every pair, here no more than the neighbours are."""
    compared = []
    count = np.bitwise_count
    monkeypatch.setattr(look_alikes.np, "bitwise_count", lambda pairs: compared.append(len(pairs)) or count(pairs))
    sizes = {}
    for n in (2000, 4000):
        compared.clear()
        hashes = flipped(np.zeros((n, 2), np.uint64), 3, n)
        pairs = candidates(hashes, np.zeros(n), hashes, np.zeros(n), same=True)
        sizes[n] = sum(compared)
        assert np.bincount(pairs[:, 0]).max() <= 8
    assert sizes[4000] < 2.2 * sizes[2000]


@pytest.mark.parametrize(
    ("same", "expected"),
    [
        ([], [0, 1, 2, 3]),
        ([(1, 0), (3, 1)], [0, 0, 2, 3]),  # 3 is like 1 and not like 0: a chain joins nothing
        ([(1, 0), (3, 1), (3, 0)], [0, 0, 2, 0]),
        ([(1, 0), (3, 1), (3, 2)], [0, 0, 2, 2]),  # like one that is kept
        ([(2, 1), (3, 2), (3, 1)], [0, 1, 1, 1]),
    ],
)
def test_every_member_is_like_the_first_of_its_group(same, expected):
    pairs = np.array([(1, 0), (2, 1), (3, 1), (3, 2)])  # (3, 0) is no candidate

    def verify(asked):
        return [tuple(pair) in same for pair in asked.tolist()]

    assert groups(4, pairs, verify).tolist() == expected


def thumbnail(image):
    found = hash_image(image, "perceptual").thumbnail
    return np.frombuffer(found, np.uint8)[None]


@pytest.mark.parametrize(("cut", "same"), [(0.0, True), (0.02, True), (0.08, False)])
def test_a_small_cut_is_undone_from_either_side(cut, same):
    noise = Image.effect_noise((12, 9), 90).convert("RGB").resize((480, 360), Image.Resampling.BICUBIC)
    less = noise.crop((round(480 * cut), 0, 480, round(360 * (1 - cut))))
    for pair in ((noise, less), (less, noise)):
        assert same_pictures(*map(thumbnail, pair)).tolist() == [same]


@pytest.mark.parametrize(("kind", "share"), [("page", 0.9), ("lines", 0.97)])
@pytest.mark.parametrize("turned", [False, True], ids=["whole first", "cut first"])
def test_fine_lines_are_no_others_where_a_margin_is_cut_off(kind, share, turned):
    rng = random.Random(0)
    drawn = [draw(kind, seed) for seed in range(40)]
    pairs = [[thumbnail(image)[0], thumbnail(copy(image, "cropped", rng))[0]] for image in drawn]
    whole, cut = map(np.stack, zip(*pairs, strict=True))
    assert same_pictures(*((cut, whole) if turned else (whole, cut))).mean() >= share


def test_a_template_with_other_digits_in_one_line_is_another_picture():
    pairs = [[thumbnail(draw("table", seed, twin))[0] for twin in (1, 2)] for seed in range(40)]
    assert not same_pictures(*map(np.stack, zip(*pairs, strict=True))).any()


def test_five_hundred_images_keep_the_bounds(capsys):
    """At least 95 % of the copies, of each kind, and no more than 0.1 % of the others; 6 ms of CPU an image."""
    figures = measured(500, workers=0)
    for name in ("duplicates", "leakage"):
        planted = [figures[name][how] for how in COPIES]
        assert sum(n for _, n in planted) >= 1
        assert sum(hits for hits, _ in planted) >= 0.95 * sum(n for _, n in planted), planted
        assert figures[name]["false"][0] == 0, figures[name]  # 0.1 % of 500 is less than one
    assert sum(n for _, n in (figures["duplicates"][how] for how in COPIES)) >= 20
    assert figures["duplicates"]["false_twins"][1] >= 40
    assert sum(figures["seconds"].values()) < 500 * 0.006
    assert len(list(lines(figures))) == 10
