import math

import pytest
import torch

from masters.algo.divergence import K3_LARGEST, reverse_kl_k3


def test_k3_estimates_kl_on_samples_of_the_student():
    torch.manual_seed(0)
    student, reference = (torch.log_softmax(torch.randn(1, 6, dtype=torch.float64), -1) for _ in range(2))
    taken = torch.multinomial(student.exp(), 200_000, replacement=True)[0]
    estimate = reverse_kl_k3(student[0, taken], reference[0, taken])
    assert (estimate >= 0).all()
    exact = (student.exp() * (student - reference)).sum().item()
    assert estimate.mean().item() == pytest.approx(exact, rel=0.02)


def k3_in_float64(d: torch.Tensor) -> torch.Tensor:
    """exp(d) - d - 1, behind K3_LARGEST with the tangent of exp."""
    return d.clamp_max(K3_LARGEST).exp() * (1 + (d - K3_LARGEST).clamp_min(0)) - d - 1


@pytest.mark.parametrize(
    "d", [0.0, 1e-6, 1e-4, 0.3, -0.3, 5.0, -5.0, 19.99, K3_LARGEST, 20.01, 40.0, 88.0, 90.0, 1e4, -1e4]
)
def test_k3_is_bounded_and_exact_below_the_bound(d):
    difference = torch.tensor([d], dtype=torch.float64)
    student = (-difference).float()
    value = reverse_kl_k3(student, torch.zeros(1))
    expected = k3_in_float64(-student.double())
    assert value.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-11)
    if d <= K3_LARGEST:
        assert expected.item() == pytest.approx(math.exp(-student.item()) + student.item() - 1, rel=1e-12, abs=1e-15)
