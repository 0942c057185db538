"""Products with a head: fp32 results of narrow inputs, block by block."""

import pytest
import torch

from masters.algo import products

MATRIX = torch.mm


def summed(left, right, *, out_dtype=None, out=None):
    """As torch.mm, and with `out_dtype` what the matrix units of a GPU do with bf16."""
    if out_dtype is None:
        return MATRIX(left, right, out=out)
    assert left.dtype == right.dtype == torch.bfloat16
    return MATRIX(left.to(out_dtype), right.to(out_dtype))


@pytest.fixture(params=["widened by block", "matrix units for bf16"])
def _machine(request, monkeypatch):
    monkeypatch.setattr(products, "_BLOCK_CPU", 5)
    if request.param == "matrix units for bf16":
        monkeypatch.setattr(products, "_multiplies_bf16", lambda *t: all(x.dtype == torch.bfloat16 for x in t))
        monkeypatch.setattr(torch, "mm", lambda *pair, **how: summed(*pair, **how))


@pytest.mark.usefixtures("_machine")
@pytest.mark.parametrize(
    ("hidden", "head", "wide"),
    [
        (torch.bfloat16, torch.bfloat16, torch.float32),
        (torch.bfloat16, torch.float32, torch.float32),
        (torch.float32, torch.bfloat16, torch.float32),
        (torch.float32, torch.float32, torch.float32),
        (torch.float64, torch.float64, torch.float64),
        (torch.float64, torch.bfloat16, torch.float64),
        (torch.bfloat16, torch.float64, torch.float64),
    ],
    ids=str,
)
def test_products_of_any_dtypes_are_wide(hidden, head, wide):
    torch.manual_seed(0)
    hidden_TH, weight_VH = torch.randn(4, 3).to(hidden), torch.randn(13, 3).to(head)
    gradient_TV, total_VH = torch.randn(4, 13).to(wide), torch.randn(13, 3).to(wide)
    exact = hidden_TH.double(), weight_VH.double(), gradient_TV.double()
    pairs = [
        (products.logits(hidden_TH, weight_VH, 12), exact[0] @ exact[1][:12].T, 1e-6),
        (products.logits(hidden_TH, weight_VH, 17)[:, :13], exact[0] @ exact[1].T, 1e-6),
        (products.hidden_gradient(gradient_TV, weight_VH), exact[2] @ exact[1], 1e-2),
        (total_VH.clone(), total_VH.double() + exact[2].T @ exact[0], 1e-2),
    ]
    assert products.logits(hidden_TH, weight_VH, 17).shape == (4, 17)
    products.add_head_gradient_(pairs[3][0], gradient_TV, hidden_TH)
    for found, expected, bound in pairs:
        assert found.dtype == wide == products.accumulation_dtype(hidden_TH, weight_VH)
        narrow = bound if torch.bfloat16 in (hidden, head) else 1e-6 if wide == torch.float32 else 1e-14
        assert (found - expected).abs().max() < narrow * expected.abs().max()
