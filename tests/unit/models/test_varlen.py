"""Attention in parts against torch's own with a mask over all pairs of tokens, in float64."""

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode

from masters.models import varlen
from masters.models.attention import plan_of
from masters.models.varlen import Part, Plan, attend
from tests.unit.models import flash_stand_in

ROWS = {  # (prefix, branches) of each row
    "one row": [(7, [3, 5, 2])],
    "rows of different lengths": [(7, [3, 5, 2]), (30, [4]), (1, [1, 1])],
    "rows without branches": [(5, []), (4, [2]), (3, [])],
    "no branch at all": [(5, []), (6, [])],
    "branches of one token": [(3, [1, 1, 1])],
    "equal branches": [(9, [4] * 8)],
    "too unequal for one batch": [(100, [90, 80, 45, 40, 3, 1]), (40, [70])],
}
HEADS = {"as many key heads": (2, 2), "shared key heads": (6, 2), "one key head": (4, 1)}
SIZE, SCALE = 8, 0.3


def drawn(tokens, heads, key_heads, seed=0):
    draw = torch.Generator().manual_seed(seed)
    make = lambda h: (torch.randn(tokens, h, SIZE, generator=draw, dtype=torch.float64) * 3).requires_grad_()  # noqa: E731
    return make(heads), make(key_heads), make(key_heads)


def visible(rows):
    """[T, T] bool: which token sees which."""
    row_of, branch_of = [], []
    for number, (prefix, branches) in enumerate(rows):
        for branch, length in enumerate([prefix, *branches]):
            row_of += [number] * length
            branch_of += [branch] * length
    row, branch = torch.tensor(row_of), torch.tensor(branch_of)
    same_row, place = row[:, None] == row, torch.arange(len(row))
    return same_row & (place[:, None] >= place) & ((branch[:, None] == branch) | (branch == 0))


def masked(q, k, v, mask):
    out = F.scaled_dot_product_attention(
        *(x.transpose(0, 1)[None] for x in (q, k, v)), attn_mask=mask, scale=SCALE, enable_gqa=True
    )
    return out[0].transpose(0, 1)


@pytest.fixture(params=["cpu", "plain", "varlen"])
def make_calls(request, monkeypatch):
    """calls of a plan by each of the three kernels; that for unequal lengths is a stand-in, since it needs a GPU."""
    if request.param == "plain":
        monkeypatch.setattr(varlen, "_kernel", lambda q: (varlen.plain_forward, varlen.plain_backward))
    flash_stand_in.put(monkeypatch)
    return lambda plan: [part.calls(torch.device("cpu"), request.param == "varlen") for part in plan.parts]


@pytest.mark.parametrize("heads", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_packed_rows_attend_as_under_a_mask(rows, heads, make_calls):
    mask = visible(rows)
    tensors = drawn(len(mask), *heads)
    found, expected = attend(*tensors, make_calls(plan_of(rows)), SCALE), masked(*tensors, mask)
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)
    weights = torch.linspace(-1, 1, found.numel(), dtype=torch.float64).view_as(found)
    for one, other in zip(*(torch.autograd.grad((x * weights).sum(), tensors) for x in (found, expected)), strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-12 * float(other.abs().max()))


@pytest.mark.parametrize("lengths", [[4, 4, 4], [4, 3, 4, 1], [12]])
def test_windows_attend_to_all_of_themselves(lengths, make_calls):
    starts = [sum(lengths[:i]) for i in range(len(lengths))]
    spans = tuple(zip(starts, lengths, strict=True))
    number = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    tensors = drawn(sum(lengths), 2, 2)
    found = attend(*tensors, make_calls(Plan((Part(spans, spans, causal=False),))), SCALE)
    expected = masked(*tensors, number[:, None] == number)
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)
    for one, other in zip(*(torch.autograd.grad(x.square().sum(), tensors) for x in (found, expected)), strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    ("rows", "calls"),
    [
        ([(283, [64] * 8)], [2, 1]),
        ([(283, [64, 62, 60, 50, 64, 63, 61, 55])] * 4, [2, 1]),
        ([(20, [3, 9, 1, 30])] * 2, [1, 1]),
        ([(300, [8]), (200, [8])], [3, 2]),
    ],
)
def test_rows_of_like_lengths_take_few_calls(rows, calls):
    assert [len(part.calls(torch.device("cpu"), fused=False)) for part in plan_of(rows).parts] == calls


def test_extreme_scores_of_other_sequences_leave_no_trace(make_calls):
    """What sequences are filled up with is some other token: its scores may overflow."""
    rows = [(3, [5, 2])]
    q, k, v = (x.detach() for x in drawn(10, 2, 2))
    q[0] *= 1e6
    k[0] *= 1e-6
    tensors = [x.requires_grad_() for x in (q, k, v)]
    found, expected = attend(*tensors, make_calls(plan_of(rows)), SCALE), masked(*tensors, visible(rows))
    for one, other in zip(*(torch.autograd.grad(x.sum(), tensors) for x in (found, expected)), strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-9 * float(other.abs().max()))


def test_the_kernel_for_unequal_lengths_is_called_as_torch_declares_it():
    """Without a GPU: torch checks the call and gives tensors of the right shapes, with nothing in them."""
    with FakeTensorMode():
        q, k, v = (torch.empty(10, heads, SIZE, dtype=torch.bfloat16, device="cuda") for heads in (4, 2, 2))
        starts = torch.empty(3, dtype=torch.int32, device="cuda")
        for call in (
            varlen._Varlen(slice(None), slice(None), starts, starts, (6, 6), True),
            varlen._Varlen(slice(3, 9), slice(0, 3), starts, starts, (6, 3), False),
        ):
            out, log_sum = call.forward(q, k, v, SCALE)
            assert (out.shape, log_sum.shape) == (q[call.queries].shape, q[call.queries].shape[:2])
            joined = torch.empty(10, 4, dtype=torch.float32, device="cuda")
            found = call.backward(torch.empty_like(q), q, k, v, torch.empty_like(q), joined, SCALE)
            assert [x.shape for x in found] == [q[call.queries].shape, k[call.keys].shape, v[call.keys].shape]
