"""The objective against a reference written down anew, response by response, in float64."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from masters.algo.fused import masters_objective, sft_objective
from masters.algo.terms import Head, Objective, Responses

NAN = float("nan")


def _heads(tokens: int, vocabulary: int, dtype: torch.dtype = torch.float64, scale: float = 1.0) -> list[Head]:
    """Student, teacher and reference with other widths and paddings; the student's whole head is the common vocabulary."""
    sizes = [(7, vocabulary), (11, vocabulary + 5), (7, vocabulary + 2)]
    return [Head(torch.randn(tokens, h, dtype=dtype), scale * torch.randn(v, h, dtype=dtype)) for h, v in sizes]


def _responses(lengths: list[int], groups: list[int], accuracy: list[float], vocabulary: int) -> Responses:
    return Responses(
        target_T=torch.randint(0, vocabulary, (sum(lengths),)),
        response_T=torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)),
        group_J=torch.tensor(groups),
        accuracy_J=torch.tensor(accuracy, dtype=torch.float64),
    )


def _reference(
    heads: list[Head], responses: Responses, objective: Objective, groups: float
) -> tuple[Tensor, list[float]]:
    """Loops over groups, responses and tokens; probabilities, not log-probabilities, where that is possible."""
    p, q, r = (torch.softmax(h.hidden_TH @ h.weight_VH[: objective.vocabulary].T, -1) for h in heads)
    total, found = torch.zeros((), dtype=torch.float64), []
    for group in responses.group_J.unique():
        members = [j for j in range(len(responses.group_J)) if responses.group_J[j] == group]
        divergence, rewards = {}, {}
        for j in members:
            mine = responses.response_T == j
            m = (p[mine] + q[mine]) / 2
            token = 0.5 * (p[mine] * (p[mine] / m).log()).sum(-1) + 0.5 * (q[mine] * (q[mine] / m).log()).sum(-1)
            divergence[j] = token.mean()
        judged = [j for j in members if not math.isnan(responses.accuracy_J[j])]
        low, high = (f((divergence[j].item() for j in judged), default=0.0) for f in (min, max))
        for j in judged:
            distill = 1.0 if high - low <= 1e-4 * high else (high - divergence[j].item()) / (high - low)
            right = responses.accuracy_J[j].item()
            rewards[j] = {
                "both": right + distill,
                "accuracy": right,
                "distill": distill,
                "unnormalised": right - divergence[j].item(),
            }[objective.reward]
        mean = sum(rewards.values()) / max(1, len(rewards))
        std = math.sqrt(sum((x - mean) ** 2 for x in rewards.values()) / max(1, len(rewards) - 1))
        for j in members:
            mine = responses.response_T == j
            advantage = (rewards[j] - mean) / std if j in rewards and len(rewards) > 1 and std > 1e-12 else 0.0
            if objective.clamp_advantages:
                advantage = max(0.0, advantage)
            taken = p[mine].gather(1, responses.target_T[mine, None])[:, 0]
            before = r[mine].gather(1, responses.target_T[mine, None])[:, 0]
            ratio = (taken.log() - taken.log().detach()).exp()
            if objective.kl == "exact":
                kl = (p[mine] * (p[mine] / r[mine]).log()).sum(-1)
            else:
                kl = before / taken - (before / taken).log() - 1
            token = -objective.policy_weight * ratio * advantage + objective.kl_weight * kl
            total = total + (token.mean() + divergence[j]) / (groups * len(members))
            found.append(advantage if objective.policy_weight else 0.0)
    return total, found


CASES = {
    "one group": ([3, 1, 4, 2], [0, 0, 0, 0], [1, 0, 1, 0]),
    "two groups": ([3, 1, 4, 2, 5, 1], [0, 0, 0, 1, 1, 1], [1, 0, 0, 1, 1, 0]),
    "groups of one": ([3, 2], [0, 1], [1, 0]),
    "nulls": ([3, 1, 4, 2, 2], [0, 0, 0, 1, 1], [1, NAN, 0, NAN, 1]),
    "all null": ([3, 1], [0, 0], [NAN, NAN]),
    "all right": ([3, 1, 2], [0, 0, 0], [1, 1, 1]),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    ("policy", "kl", "clamp", "reward"),
    [
        *itertools.product([0.0, 0.3, 1.0], ["exact", "k3"], [False, True], ["both"]),
        *((1.0, "exact", False, reward) for reward in ("accuracy", "distill", "unnormalised")),
    ],
)
def test_value_gradient_and_advantages(case, policy, kl, clamp, reward):
    torch.manual_seed(3)
    lengths, groups, accuracy = CASES[case]
    objective = Objective(
        policy_weight=policy, kl_weight=0.1, kl=kl, clamp_advantages=clamp, vocabulary=19, reward=reward
    )
    responses = _responses(lengths, groups, accuracy, 19)
    heads = _heads(sum(lengths), 19)
    gradients = []
    for compute in (
        lambda h: masters_objective(h[0], h[1], h[2], responses, objective, groups=2.5),
        lambda h: _reference(h, responses, objective, 2.5),
    ):
        student = Head(*(t.clone().requires_grad_() for t in heads[0]))
        loss, extra = compute([student, *heads[1:]])
        loss.backward()
        gradients.append((loss.detach(), student.hidden_TH.grad, student.weight_VH.grad, extra))
    (loss, hidden, weight, terms), (loss_2, hidden_2, weight_2, advantage) = gradients
    assert loss.item() == pytest.approx(loss_2.item(), rel=1e-10, abs=1e-12)
    assert torch.allclose(hidden, hidden_2, rtol=1e-8, atol=1e-12)
    assert torch.allclose(weight, weight_2, rtol=1e-8, atol=1e-12)
    assert terms.advantage_J.tolist() == pytest.approx(advantage, abs=1e-9)
    assert (terms.policy + terms.kl + terms.distill).item() == pytest.approx(loss.item(), rel=1e-10, abs=1e-12)


def test_gradient_of_each_term_at_the_hidden_states():
    torch.manual_seed(0)
    responses = _responses([3, 2, 4], [0, 0, 0], [1, 0, 1], 19)
    heads = _heads(9, 19)
    student = Head(heads[0].hidden_TH.requires_grad_(), heads[0].weight_VH)
    objective = Objective(1.0, 0.1, "exact", False, 19)
    loss, terms = masters_objective(student, heads[1], heads[2], responses, objective, groups=1, norms=True)
    (whole,) = torch.autograd.grad(loss, student.hidden_TH)
    only = {"policy": Objective(1.0, 0.0, "exact", False, 19), "none": Objective(0.0, 0.0, "exact", False, 19)}
    parts = {}
    for name, part in only.items():
        loss, _ = masters_objective(student, heads[1], heads[2], responses, part, groups=1)
        (parts[name],) = torch.autograd.grad(loss, student.hidden_TH)
    assert terms.gradient_norms["distill"].item() == pytest.approx(parts["none"].square().sum().item(), rel=1e-9)
    assert terms.gradient_norms["policy"].item() == pytest.approx(
        (parts["policy"] - parts["none"]).square().sum().item(), rel=1e-9
    )
    assert terms.gradient_norms["kl"].item() == pytest.approx((whole - parts["policy"]).square().sum().item(), rel=1e-9)


def test_without_a_reference_there_is_no_kl():
    responses = _responses([2, 3], [0, 0], [1, 0], 9)
    heads = _heads(5, 9)
    _, terms = masters_objective(heads[0], heads[1], None, responses, Objective(1.0, 0.1, "exact", False, 9), groups=1)
    assert terms.kl == 0
    assert terms.kl_J.tolist() == [0, 0]


def test_the_policy_term_has_value_zero_and_a_gradient():
    torch.manual_seed(1)
    responses = _responses([2, 3, 1], [0, 0, 0], [1, 0, 0], 9)
    heads = _heads(6, 9)
    student = Head(heads[0].hidden_TH.requires_grad_(), heads[0].weight_VH)
    _, terms = masters_objective(
        student, heads[1], heads[2], responses, Objective(1.0, 0.1, "exact", False, 9), groups=1, norms=True
    )
    assert terms.policy.item() == pytest.approx(0, abs=1e-12)
    assert terms.gradient_norms["policy"] > 0


def test_scaling_the_denominator_scales_the_loss():
    responses = _responses([2, 3], [0, 1], [1, 0], 9)
    heads = _heads(5, 9)
    objective = Objective(1.0, 0.1, "exact", False, 9)
    one, four = (masters_objective(*heads, responses, objective, groups=n)[0].item() for n in (1, 4))
    assert one == pytest.approx(4 * four)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_everything_is_fp32_for_smaller_dtypes(dtype):
    responses = _responses([2, 3], [0, 0], [1, 0], 9)
    loss, terms = masters_objective(*_heads(5, 9, dtype), responses, Objective(1.0, 0.1, "exact", False, 9), groups=1)
    assert loss.dtype == terms.divergence_J.dtype == terms.log_probability_J.dtype == torch.float32
    assert loss.isfinite()


def test_extreme_logits_stay_finite():
    responses = _responses([2, 3], [0, 0], [1, 0], 9)
    heads = _heads(5, 9, torch.float32, scale=400.0)
    student = Head(heads[0].hidden_TH.requires_grad_(), heads[0].weight_VH)
    loss, _ = masters_objective(student, *heads[1:], responses, Objective(1.0, 0.1, "exact", False, 9), groups=1)
    loss.backward()
    assert loss.isfinite()
    assert student.hidden_TH.grad.isfinite().all()


@pytest.mark.parametrize("kl", ["exact", "k3"])
def test_a_token_that_the_student_lost_leaves_loss_and_gradients_finite(kl):
    """Logit -90 at a taken token: exp(90) is no fp32 number."""
    student_logits, other_logits = torch.zeros(3, 9), torch.zeros(3, 9)
    student_logits[1, 4] = -90.0
    identity = torch.eye(9)
    student = Head(student_logits.requires_grad_(), identity)
    others = Head(other_logits, identity)
    responses = Responses(torch.full((3,), 4), torch.tensor([0, 0, 1]), torch.tensor([0, 0]), torch.tensor([1.0, 0.0]))
    objective = Objective(1.0, 0.1, kl, False, 9)
    loss, terms = masters_objective(student, others, others, responses, objective, groups=1, norms=True)
    loss.backward()
    assert loss.isfinite()
    assert all(norm.isfinite() for norm in terms.gradient_norms.values())
    assert student.hidden_TH.grad.isfinite().all()
    if kl == "k3":
        assert student.hidden_TH.grad[1, 4] < -1e6  # the token is pulled back


def test_equal_responses_share_one_divergence_and_one_reward():
    """Given other hidden states, as roundings at another place of a row would be, only larger."""
    torch.manual_seed(0)
    heads = _heads(10, 9)
    responses = _responses([2, 2, 4, 2], [0, 0, 0, 0], [1, 1, 1, 1], 9)
    responses.target_T[[2, 3, 8, 9]] = responses.target_T[[0, 1, 0, 1]]
    _, terms = masters_objective(*heads, responses, Objective(1.0, 0.1, "exact", False, 9), groups=1)
    for values in (terms.divergence_J, terms.distill_reward_J, terms.advantage_J):
        assert values[0] == values[1] == values[3] != values[2]


@pytest.mark.parametrize(("tie", "expected"), [(1e-4, [1.0, 0.0]), (0.99, [1.0, 1.0])])
def test_the_objective_says_what_is_tied(tie, expected):
    torch.manual_seed(1)
    heads, responses = _heads(6, 9), _responses([3, 3], [0, 0], [1, 1], 9)
    _, terms = masters_objective(*heads, responses, Objective(1.0, 0.1, "exact", False, 9, tie), groups=1)
    assert sorted(terms.distill_reward_J.tolist(), reverse=True) == expected


def test_sft_is_cross_entropy_token_mean_then_response_mean():
    torch.manual_seed(0)
    responses = _responses([3, 1, 2], [0, 0, 1], [1, 1, 1], 9)
    student = _heads(6, 9)[0]
    loss, log_p = sft_objective(student, responses, groups=2)
    logits = student.hidden_TH @ student.weight_VH[:9].T
    by_token = torch.nn.functional.cross_entropy(logits, responses.target_T, reduction="none")
    per_response = [by_token[responses.response_T == j].mean() for j in range(3)]
    assert loss.item() == pytest.approx(((per_response[0] + per_response[1]) / 2 + per_response[2]).item() / 2)
    assert log_p.tolist() == pytest.approx([-x.item() for x in per_response])


def test_in_bf16_the_ranking_of_a_group_is_that_of_float64():
    """Logits of a real model reach 30, where neighbours in bf16 are 0.25 apart."""
    torch.manual_seed(1)
    vocabulary, lengths = 4000, [32] * 8
    weight = 6 * torch.randn(vocabulary, 64) / 8
    heads = [Head((hidden := torch.randn(sum(lengths), 64)).bfloat16(), weight.bfloat16())]
    for noise in (0.06, 0.05):
        heads.append(Head((hidden + noise * torch.randn_like(hidden)).bfloat16(), weight.bfloat16()))
    responses = _responses(lengths, [0] * 8, [1.0] * 8, vocabulary)
    objective = Objective(1.0, 0.1, "exact", False, vocabulary)
    _, low = masters_objective(*heads, responses, objective, groups=1)
    _, exact = masters_objective(
        *(Head(*(part.double() for part in head)) for head in heads), responses, objective, groups=1
    )
    logits = heads[0].hidden_TH.double() @ heads[0].weight_VH.double().T
    assert logits.max() > 20
    assert torch.allclose(low.divergence_J.double(), exact.divergence_J, rtol=1e-4)
    assert torch.allclose(low.advantage_J.double(), exact.advantage_J, atol=1e-3)


@pytest.mark.parametrize(("student_rows", "teacher_rows"), [(305, 320), (320, 305)])
def test_a_pair_of_305_and_320_rows(student_rows, teacher_rows):
    """The teacher is cut to what both have; the student's mass on rows that only it has meets none of the teacher's."""
    torch.manual_seed(1)
    lengths, common = [4, 2, 7], min(student_rows, teacher_rows)
    student = Head(torch.randn(13, 7, dtype=torch.float64), torch.randn(student_rows, 7, dtype=torch.float64))
    teacher = Head(torch.randn(13, 11, dtype=torch.float64), torch.randn(teacher_rows, 11, dtype=torch.float64))
    batch = _responses(lengths, [0, 0, 0], [1, 0, 1], common)
    _, terms = masters_objective(student, teacher, None, batch, Objective(0, 0, "exact", False, common), groups=1)
    p = torch.softmax(student.hidden_TH @ student.weight_VH.T, -1)
    q = torch.softmax(teacher.hidden_TH @ teacher.weight_VH[:common].T, -1)
    both, alone = p[:, :common], p[:, common:].sum(-1)
    middle = (both + q) / 2
    token = 0.5 * (both * (both / middle).log() + q * (q / middle).log()).sum(-1) + 0.5 * alone * math.log(2)
    expected = [part.mean().item() for part in token.split(lengths)]
    assert terms.divergence_J.tolist() == pytest.approx(expected, rel=1e-10)
