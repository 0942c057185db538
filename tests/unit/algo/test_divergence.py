import math

import pytest
import torch

from masters.algo.divergence import jsd, log_probabilities, reverse_kl, reverse_kl_k3


def _log_p(*probabilities: float) -> torch.Tensor:
    return torch.tensor([probabilities], dtype=torch.float64).log()


def test_jsd_by_hand():
    # M = (.75, .25): JSD = 1/2 (.5 ln(.5/.75) + .5 ln(.5/.25)) + 1/2 (1 ln(1/.75))
    student, teacher = _log_p(0.5, 0.5), _log_p(1.0, 1e-300)
    by_hand = 0.5 * (0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)) + 0.5 * math.log(1 / 0.75)
    assert jsd(student, teacher).item() == pytest.approx(by_hand, rel=1e-12)


def test_reverse_kl_by_hand_and_its_direction():
    student, reference = _log_p(0.9, 0.1), _log_p(0.5, 0.5)
    by_hand = 0.9 * math.log(1.8) + 0.1 * math.log(0.2)
    assert reverse_kl(student, reference).item() == pytest.approx(by_hand, rel=1e-12)
    assert reverse_kl(reference, student).item() != pytest.approx(by_hand, rel=1e-2)


def test_jsd_is_symmetric_and_between_zero_and_ln_2():
    generator = torch.Generator().manual_seed(0)
    for scale in (0.1, 1.0, 10.0, 400.0):
        p, q = (torch.log_softmax(scale * torch.randn(64, 33, generator=generator), -1) for _ in range(2))
        divergence = jsd(p, q)
        assert torch.allclose(divergence, jsd(q, p), atol=1e-6)
        assert (divergence >= -1e-7).all()
        assert (divergence <= math.log(2) + 2e-5).all()
        assert jsd(p, p).abs().max() < 1e-7


def test_k3_estimates_kl_on_samples_of_the_student():
    torch.manual_seed(0)
    student, reference = (torch.log_softmax(torch.randn(1, 6, dtype=torch.float64), -1) for _ in range(2))
    taken = torch.multinomial(student.exp(), 200_000, replacement=True)[0]
    estimate = reverse_kl_k3(student[0, taken], reference[0, taken])
    assert (estimate >= 0).all()
    assert estimate.mean().item() == pytest.approx(reverse_kl(student, reference).item(), rel=0.02)


def test_padding_of_the_vocabulary_has_no_probability():
    hidden, head = torch.randn(4, 8), torch.randn(20, 8)
    padded = torch.cat([head, 100 * torch.ones(3, 8)])
    assert torch.equal(log_probabilities(hidden, padded, 20), log_probabilities(hidden, head, 20))
    assert log_probabilities(hidden, padded, 20).exp().sum(-1) == pytest.approx(torch.ones(4))


def test_bf16_logits_are_compared_in_fp32():
    torch.manual_seed(0)
    hidden = torch.randn(32, 64)
    head = torch.randn(5000, 64) / 8
    other = head + 0.02 * torch.randn_like(head)
    exact = jsd(
        log_probabilities(hidden.double(), head.double(), 5000),
        log_probabilities(hidden.double(), other.double(), 5000),
    )
    low = [log_probabilities(hidden.bfloat16(), h.bfloat16(), 5000) for h in (head, other)]
    assert low[0].dtype == torch.float32
    assert (jsd(*low) > 0).all()
    assert jsd(*low).mean().item() == pytest.approx(exact.mean().item(), rel=0.1)
