import time
from decimal import Decimal
from fractions import Fraction

import pytest
import torch

from masters.algo import masking
from masters.algo.masking import mask_, pattern_value, thresholds

RATIOS = [Decimal(r) for r in ("0", "0.05", "0.1", "0.15", "0.2", "0.5", "1")]
DTYPES = [torch.bfloat16, torch.float16, torch.float32]


def _weights(kind: str, dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    normal = torch.randn(57, 43, generator=generator) * 0.02
    tiny = torch.finfo(dtype).tiny
    return {
        "normal": normal,
        "ties": (normal * 100).round() / 100,
        "constant": torch.full((9, 5), 0.25),
        "zeros": torch.where(torch.rand(57, 43, generator=generator) < 0.4, 0.0, normal),
        "all zero": torch.zeros(8, 8),
        "negative zero": torch.where(torch.rand(57, 43, generator=generator) < 0.3, -0.0, normal),
        "subnormal": normal * tiny * 8,
        "outlier": torch.cat([normal.flatten(), torch.tensor([1e4, -1e4])]).reshape(1, -1),
        "one": torch.tensor([[0.5]]),
        "two": torch.tensor([[-0.5, 0.25]]),
        "row": torch.tensor([[3.0, -1.0, 2.0, -2.0, 0.0, 1.0, 5.0]]),
    }[kind].to(dtype)


def _by_sorting(weight: torch.Tensor, ratio: Decimal) -> torch.Tensor:
    """The rule, written down anew: |w| < lambda in float64, lambda the k-th smallest counted from 0, everything for r = 1."""
    magnitudes = weight.double().abs()
    k = int(Fraction(ratio) * weight.numel())
    if k == weight.numel():
        return torch.ones_like(weight, dtype=torch.bool)
    return magnitudes < magnitudes.flatten().sort().values[k]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "kind",
    [
        "normal",
        "ties",
        "constant",
        "zeros",
        "all zero",
        "negative zero",
        "subnormal",
        "outlier",
        "one",
        "two",
        "row",
    ],
)
def test_thresholds_equal_a_float64_sort(kind, dtype):
    weight = _weights(kind, dtype)
    found = thresholds(weight, RATIOS)
    for index, ratio in enumerate(RATIOS):
        expected = _by_sorting(weight, ratio)
        assert found.masked[index] == int(expected.sum()), (kind, ratio)
        if ratio < 1:
            k = int(Fraction(ratio) * weight.numel())
            threshold = weight.double().abs().flatten().sort().values[k].item()
            assert pattern_value(found.patterns[index][0], dtype) == threshold
        masked = weight.clone()
        count = mask_(masked.view(-1), found.patterns[index], dtype=dtype, slice_numel=weight.numel())
        assert count == found.masked[index]
        assert torch.equal(masked, torch.where(expected, torch.zeros_like(weight), weight))


@pytest.mark.parametrize(
    ("dtype", "shift"),
    [*((dtype, shift) for dtype in DTYPES[:2] for shift in (0, 3, 8)), (torch.float32, 16), (torch.float32, 19)],
)
@pytest.mark.parametrize("chunk", [7, 100, 1 << 20])
@pytest.mark.parametrize("kind", ["normal", "ties", "constant", "negative zero", "subnormal", "outlier", "two"])
def test_however_it_is_cut_thresholds_are_the_same(kind, chunk, dtype, shift, monkeypatch):
    """A GPU cuts otherwise than a CPU: other chunks, and fewer bits in the first histogram."""
    weight = _weights(kind, dtype)
    expected = thresholds(weight, RATIOS)
    monkeypatch.setattr(masking, "_CHUNK", {"cpu": chunk})
    monkeypatch.setattr(masking, "_COARSE", {(dtype, "cpu"): shift})
    assert thresholds(weight, RATIOS) == expected


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_weights_that_are_no_numbers_are_kept(dtype):
    weight = torch.tensor([float("nan"), float("inf"), -float("inf"), -float("nan"), -0.0, 0.25, -0.5], dtype=dtype)
    pattern = int(torch.tensor([0.5], dtype=dtype).view(masking._INTEGER[dtype]))
    bits = masking._INTEGER[dtype]
    masked = weight.clone()
    assert mask_(masked, [pattern], dtype=dtype, slice_numel=7) == 2
    assert torch.equal(masked.view(bits), torch.where(weight.abs() < 0.5, 0, weight).view(bits))
    assert mask_(weight.clone(), [0], dtype=dtype, slice_numel=7) == 0


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_masks_and_thresholds_run_at_the_speed_of_memory(dtype):
    """A third of what perf/masking.py is to find: 2 GB in a second of CPU time."""
    weight = (0.02 * torch.randn(1 << 23)).to(dtype)
    found, masked = thresholds(weight, [Decimal("0.2"), Decimal("0.1")]), weight.clone()

    def rate(function):
        taken = []
        for _ in range(5):
            began = time.process_time()
            function()
            taken.append(time.process_time() - began)
        return weight.nbytes / 1e9 / min(taken)

    assert rate(lambda: mask_(masked, found.patterns[0], dtype=dtype, slice_numel=weight.numel())) > 2 / 3
    assert rate(lambda: thresholds(weight, [Decimal("0.2"), Decimal("0.1")])) > 2 / 3


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_smaller_ratio_masks_a_subset(dtype):
    weight = _weights("ties", dtype)
    found = thresholds(weight, RATIOS)
    patterns = [p[0] for p in found.patterns]
    assert patterns == sorted(patterns)
    assert list(found.masked) == sorted(found.masked)


@pytest.mark.parametrize("pieces", [1, 2, 3, 7])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_masking_shards_equals_masking_the_whole(pieces, dtype):
    weight = torch.randn(6, 5, 4, generator=torch.Generator().manual_seed(1)).to(dtype)
    found = thresholds(weight, [Decimal("0.5")], slices=6)
    whole, sharded = weight.clone().view(-1), weight.clone().view(-1)
    total = mask_(whole, found.patterns[0], dtype=dtype, slice_numel=20)
    size = -(-whole.numel() // pieces)
    counts = [
        mask_(sharded[start : start + size], found.patterns[0], dtype=dtype, slice_numel=20, start=start)
        for start in range(0, whole.numel(), size)
    ]
    assert torch.equal(whole, sharded)
    assert sum(counts) == total == found.masked[0]


def test_stacked_experts_get_a_threshold_each():
    weight = torch.stack([torch.randn(10, 10), 100 * torch.randn(10, 10)])
    found = thresholds(weight, [Decimal("0.2")], slices=2)
    mask_(weight.view(-1), found.patterns[0], dtype=torch.float32, slice_numel=100)
    assert [int((expert == 0).sum()) for expert in weight] == [20, 20]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_wider_copy_is_masked_exactly(dtype):
    weight = _weights("normal", dtype)
    found = thresholds(weight, [Decimal("0.2")])
    narrow, wide = weight.clone(), weight.float()
    for copy in (narrow, wide):
        mask_(copy.view(-1), found.patterns[0], dtype=dtype, slice_numel=weight.numel())
    assert torch.equal(narrow.float(), wide)


@pytest.mark.parametrize(
    ("shape", "slices"), [((0,), 1), ((0, 4), 1), ((4, 0), 1), ((3, 0), 3), ((0, 5, 5), 0)], ids=str
)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_in_an_empty_tensor_there_is_nothing_to_mask(shape, slices, dtype):
    weight = torch.empty(shape, dtype=dtype)
    found = thresholds(weight, RATIOS, slices)
    assert found.patterns == ((0,) * slices,) * len(RATIOS)
    assert found.masked == (0,) * len(RATIOS)
    for patterns in found.patterns:
        assert mask_(weight.view(-1), patterns, dtype=dtype, slice_numel=0) == 0


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_rank_that_holds_nothing_masks_nothing(dtype):
    found = thresholds(_weights("normal", dtype), [Decimal("0.5")])
    for start in (0, 57 * 43):
        assert mask_(torch.empty(0, dtype=dtype), found.patterns[0], dtype=dtype, slice_numel=57 * 43, start=start) == 0


def test_a_narrower_copy_is_refused():
    with pytest.raises(ValueError, match=r"cannot be masked by thresholds of a torch\.float32 checkpoint"):
        mask_(torch.zeros(4, dtype=torch.bfloat16), [1], dtype=torch.float32, slice_numel=4)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_nan_and_infinity_are_refused(bad, dtype):
    with pytest.raises(ValueError, match="NaN or infinity"):
        thresholds(torch.tensor([[1.0, bad]]).to(dtype), RATIOS)


def test_other_dtypes_are_refused():
    with pytest.raises(ValueError, match=r"dtype torch\.float64"):
        thresholds(torch.zeros(2, 2, dtype=torch.float64), RATIOS)
