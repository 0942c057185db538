import math

import pytest
import torch

from masters.algo.divergence import K3_LARGEST, jsd, log_probabilities, reverse_kl, reverse_kl_k3


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
        assert (divergence >= 0).all()
        assert (divergence <= math.log(2) + 2e-5).all()
        assert jsd(p, p).abs().max() < 1e-7


def test_k3_estimates_kl_on_samples_of_the_student():
    torch.manual_seed(0)
    student, reference = (torch.log_softmax(torch.randn(1, 6, dtype=torch.float64), -1) for _ in range(2))
    taken = torch.multinomial(student.exp(), 200_000, replacement=True)[0]
    estimate = reverse_kl_k3(student[0, taken], reference[0, taken])
    assert (estimate >= 0).all()
    assert estimate.mean().item() == pytest.approx(reverse_kl(student, reference).item(), rel=0.02)


def k3_in_float64(d: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Value and derivative at d: exp(d) - d - 1, behind K3_LARGEST with the tangent of exp."""
    slope = d.clamp_max(K3_LARGEST).exp()
    return slope * (1 + (d - K3_LARGEST).clamp_min(0)) - d - 1, slope - 1


@pytest.mark.parametrize(
    "d", [0.0, 1e-6, 1e-4, 0.3, -0.3, 5.0, -5.0, 19.99, K3_LARGEST, 20.01, 40.0, 88.0, 90.0, 1e4, -1e4]
)
def test_k3_is_bounded_and_exact_below_the_bound(d):
    difference = torch.tensor([d], dtype=torch.float64)
    student = (-difference).float().requires_grad_()
    value = reverse_kl_k3(student, torch.zeros(1))
    value.sum().backward()
    expected, slope = k3_in_float64(-student.detach().double())
    assert value.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-11)
    assert student.grad.item() == pytest.approx(-slope.item(), rel=1e-5, abs=2e-7)
    if d <= K3_LARGEST:
        assert expected.item() == pytest.approx(math.exp(-student.item()) + student.item() - 1, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("function", [jsd, reverse_kl])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_no_divergence_below_zero_and_gradients_of_float64(function, dtype):
    """Nearly equal distributions: rounding puts a part of the plain sums below 0, where gradients still mean something."""
    generator, plain = torch.Generator().manual_seed(0), 0
    for distance in (0.0, 1e-6, 1e-5, 1e-4, 1e-3):
        for scale in (0.3, 3.0, 30.0):
            logits = scale * torch.randn(64, 424, generator=generator, dtype=torch.float64)
            other = torch.log_softmax(logits + distance * torch.randn(64, 424, generator=generator), -1)
            gradients = []
            for kind in (dtype, torch.float64):
                leaf = logits.to(kind, copy=True).requires_grad_()
                student = torch.log_softmax(leaf, -1)
                divergence = function(student, other.to(kind))
                assert (divergence >= 0).all()
                divergence.sum().backward()
                gradients.append(leaf.grad.double())
            plain += int(((student.exp() * (student - other)).sum(-1) < 0).sum())
            assert torch.allclose(*gradients, rtol=1e-2, atol=3e-6)
            if distance == 1e-3 and scale < 30:  # the gradient of every token is far above rounding
                assert (gradients[0].abs().amax(-1) > 1e-7).all()
    assert function is jsd or plain > 0


def test_a_divergence_that_rounds_below_zero_keeps_its_gradient():
    generator = torch.Generator().manual_seed(0)
    leaf = torch.randn(512, 424, generator=generator).requires_grad_()
    student = torch.log_softmax(leaf, -1)
    teacher = torch.log_softmax(leaf.detach() + 1e-4 * torch.randn(512, 424, generator=generator), -1)
    mixture = torch.logaddexp(student, teacher) - math.log(2)
    plain = 0.5 * (student.exp() * (student - mixture)).sum(-1) + 0.5 * (teacher.exp() * (teacher - mixture)).sum(-1)
    below = plain < 0
    assert below.any()
    (gradient,) = torch.autograd.grad(plain.sum(), leaf, retain_graph=True)
    divergence = jsd(student, teacher)
    assert torch.equal(divergence, plain.clamp_min(0))
    assert torch.equal(torch.autograd.grad(divergence.sum(), leaf)[0], gradient)
    assert (gradient[below].abs().amax(-1) > 0).all()


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
