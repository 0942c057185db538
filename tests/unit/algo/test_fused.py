"""The fused objective against the plain one in float64, over random cases; its precision, its ways through, its limits.

Measured: over all random cases the largest relative error in float64 is 3e-12 (head's gradient); see PRECISION.
"""

import math
import random
from dataclasses import replace

import pytest
import torch

from masters.algo import fused, sweep
from masters.algo.terms import Divergence, Head, Objective, Responses
from tests.unit.algo import plain

NAN = float("nan")
KINDS = ("jsd", "forward_kl", "reverse_kl", "skew_kl", "skew_reverse_kl")
WEIGHTS = {"jsd": 0.5, "skew_kl": 0.1, "skew_reverse_kl": 0.1}
PER_RESPONSE = ("divergence_J", "kl_J", "log_probability_J", "distill_reward_J", "advantage_J")


def heads(tokens, widths, rows, scale=1.0, dtype=torch.float64):
    return [
        Head(torch.randn(tokens, h, dtype=dtype), scale * torch.randn(v, h, dtype=dtype) / h**0.5)
        for h, v in zip(widths, rows, strict=True)
    ]


def responses(lengths, groups, accuracy, vocabulary):
    return Responses(
        target_T=torch.randint(0, vocabulary, (sum(lengths),)),
        response_T=torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)),
        group_J=torch.tensor(groups),
        accuracy_J=torch.tensor(accuracy, dtype=torch.float64),
    )


def random_case(seed):
    """Models, responses and objective: every choice in turn or at random."""
    torch.manual_seed(seed)
    pick = random.Random(seed)
    vocabulary, kind = pick.randint(3, 40), KINDS[seed % 5]
    sizes = [pick.randint(1, 8) for _ in range(pick.randint(1, 4))]
    groups = [g for g, size in enumerate(sizes) for _ in range(size)]
    lengths = [pick.choice([0, 1, 1, 2, 3, 6, 11]) for _ in groups]
    lengths[pick.randrange(len(lengths))] = 4
    accuracy = [pick.choice([1.0, 0.0, 1.0, 0.0, NAN]) for _ in groups]
    student_rows = vocabulary + pick.choice([0, 0, 1, 9])
    models = heads(
        sum(lengths), (7, pick.choice([7, 12]), 7), (student_rows, vocabulary + pick.choice([0, 3, 11]), student_rows),
        scale=pick.choice([0.3, 1.0, 4.0, 12.0]),
    )  # fmt: skip
    if pick.random() < 0.3:
        models[2] = None
    objective = Objective(
        policy_weight=pick.choice([0.0, 0.3, 1.0, 1.0]),
        kl_weight=pick.choice([0.1, 2.0]),
        kl=("exact", "k3")[seed // 5 % 2],
        clamp_advantages=pick.random() < 0.3,
        vocabulary=vocabulary,
        tie=pick.choice([1e-4, 0.5]),
        divergence=Divergence(kind, pick.choice([0.1, 0.5, 0.9])),
        budget=pick.choice([1, 3000, 10_000, 1 << 24]),
    )
    batch = responses(lengths, groups, accuracy, vocabulary)
    if pick.random() < 0.4:  # some responses of the same tokens
        batch.target_T.fill_(1)
    return models, batch, objective


def evaluate(module, models, batch, objective, norms=True, groups=2.3):
    student = Head(*(part.clone().requires_grad_() for part in models[0]))
    loss, terms = module.masters_objective(student, *models[1:], batch, objective, groups=groups, norms=norms)
    (1.7 * loss).backward()
    found = {"loss": loss.detach(), "hidden": student.hidden_TH.grad, "weight": student.weight_VH.grad}
    found |= {name: getattr(terms, name) for name in ("policy", "kl", "distill", *PER_RESPONSE)}
    return found | {f"norm {name}": value for name, value in terms.gradient_norms.items()}


def error(found, expected):
    return ((found.double() - expected.double()).abs().max() / expected.double().abs().max().clamp_min(1e-12)).item()


def errors(found, expected):
    """Relative errors; of the policy term's value, a sum of advantages that is about 0, the absolute one."""
    return {
        name: (found[name] - expected[name]).abs().item() if name == "policy" else error(found[name], expected[name])
        for name in found
    }


@pytest.mark.parametrize("seed", range(400))
def test_values_and_gradients_are_those_of_the_plain_objective(seed):
    case = random_case(seed)
    found, expected = evaluate(fused, *case), evaluate(plain, *case)
    assert found.keys() == expected.keys()
    assert {name: e for name, e in errors(found, expected).items() if e > 1e-9} == {}


@pytest.mark.parametrize("seed", range(40))
def test_without_norms_the_gradients_are_the_same(seed):
    models, batch, objective = random_case(seed)
    found, expected = (evaluate(fused, models, batch, objective, norms=norms) for norms in (False, True))
    assert max(errors(found, expected).values()) < 1e-12
    assert not any(name.startswith("norm") for name in found)


@pytest.mark.parametrize("seed", range(20))
def test_cross_entropy_over_the_whole_head(seed):
    models, batch, objective = random_case(seed)
    results = []
    for compute in (
        lambda student: plain.sft_objective(student, batch, groups=2.3),
        lambda student: fused.sft_objective(student, batch, groups=2.3, budget=objective.budget),
    ):
        student = Head(*(part.clone().requires_grad_() for part in models[0]))
        loss, log_probability_J = compute(student)
        (1.7 * loss).backward()
        results.append((loss.detach(), log_probability_J, student.hidden_TH.grad, student.weight_VH.grad))
    assert all(error(found, expected) < 1e-9 for expected, found in zip(*results, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_finite_differences_with_the_rewards_held_fixed(kind):
    """A is a constant of the loss, and with policy_weight 0 the loss's value has no other part that its gradient lacks."""
    torch.manual_seed(0)
    batch = responses([2, 3], [0, 0], [1, 0], 9)
    models = heads(5, (7, 11, 7), (11, 9, 11))
    objective = Objective(0.0, 0.1, "exact", False, 9, divergence=Divergence(kind, 0.3), budget=1)
    gradient = evaluate(fused, models, batch, objective, groups=1)
    for name, place in (("hidden", 0), ("weight", 1)):
        direction, values = torch.randn_like(models[0][place]), []
        for sign in (1, -1):
            student = models[0]._replace(**{Head._fields[place]: models[0][place] + sign * 1e-6 * direction})
            values.append(fused.masters_objective(student, *models[1:], batch, objective, groups=1)[0].item())
        slope = (values[0] - values[1]) / 2e-6
        assert 1.7 * slope == pytest.approx((gradient[name] * direction).sum().item(), rel=1e-6)


@pytest.mark.parametrize(
    ("policy_weight", "budget", "products"),
    [
        pytest.param(1.0, 1 << 24, 3, id="group: each logit once"),
        pytest.param(1.0, 3 * 40 * 8 * 5, 5, id="two-pass: student and teacher twice"),
        pytest.param(0.0, 3 * 40 * 8 * 5, 3, id="direct: once, whatever the budget"),
    ],
)
def test_the_budget_chooses_the_way_and_bounds_the_chunk(monkeypatch, policy_weight, budget, products):
    torch.manual_seed(0)
    batch, models = responses([9, 9], [0, 0], [1, 0], 40), heads(18, (7, 7, 7), (40, 40, 40))
    sizes = []

    def counted(hidden_TH, weight_VH, rows):
        sizes.append(len(hidden_TH))
        return product(hidden_TH, weight_VH, rows)

    product = sweep.logits
    monkeypatch.setattr(sweep, "logits", counted)
    evaluate(fused, models, batch, Objective(policy_weight, 0.1, "exact", False, 40, budget=budget), norms=False)
    assert sum(sizes) == products * 18
    assert max(sizes) == min(18, budget // (3 * 40 * 8))


@pytest.mark.parametrize(
    ("counts", "groups", "capacity", "expected"),
    [
        ([3, 1, 4], [0, 0, 1], 8, [((0, 3), (0, 8))]),
        ([3, 1, 4], [0, 0, 1], 7, [((0, 2), (0, 4)), ((2, 3), (4, 8))]),
        ([3, 1, 4], [0, 0, 1], 1, [((0, 2), (0, 4)), ((2, 3), (4, 8))]),
        ([1, 1, 1, 1], [0, 1, 2, 3], 2, [((0, 2), (0, 2)), ((2, 4), (2, 4))]),
        ([9, 1, 1], [0, 1, 2], 2, [((0, 1), (0, 9)), ((1, 3), (9, 11))]),
        ([0, 2], [0, 0], 2, [((0, 2), (0, 2))]),
        ([5], [0], 2, [((0, 1), (0, 5))]),
        ([], [], 2, []),
    ],
)
def test_spans_are_whole_groups_up_to_the_capacity(counts, groups, capacity, expected):
    found = [((a.start, a.stop), (b.start, b.stop)) for a, b in sweep.spans(counts, groups, capacity)]
    assert found == expected


@pytest.mark.parametrize("kind", KINDS)
def test_budgets_agree(kind):
    torch.manual_seed(0)
    batch = responses([3, 5, 1, 8, 2, 2], [0, 0, 0, 1, 1, 2], [1, 0, 1, 0, 1, 1], 40)
    models = heads(21, (7, 9, 7), (44, 40, 44))
    objective = Objective(1.0, 0.1, "exact", False, 40, divergence=Divergence(kind, 0.3))
    whole = evaluate(fused, models, batch, objective)
    for budget in (1, 3000, 10_000, 30_000):
        found = evaluate(fused, models, batch, replace(objective, budget=budget))
        assert max(errors(found, whole).values()) < 1e-12


PRECISION = {torch.float32: 2e-4, torch.bfloat16: 1e-2}
"""Bounds of the gradients' relative error. Measured: fp32 4e-5 at most (the rewards' part: values alone 4e-7), bf16 4e-3."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", PRECISION, ids=str)
def test_precision_of_narrow_inputs(dtype, kind):
    """Against float64 on the same, rounded inputs; in bf16 only the gradients' last rounding is to bf16."""
    torch.manual_seed(0)
    batch = responses([16] * 8, [0] * 8, [1, 0, 1, 0, 0, 1, 1, 0], 4000)
    exact = heads(128, (64, 96, 64), (4008, 4000, 4008), scale=6.0)
    models = [Head(*(part.to(dtype) for part in head)) for head in exact]
    objective = Objective(1.0, 0.1, "exact", False, 4000, divergence=Divergence(kind, WEIGHTS.get(kind, 0.5)))
    found = evaluate(fused, models, batch, objective)
    assert found["hidden"].dtype == found["weight"].dtype == dtype
    assert found["loss"].dtype == found["divergence_J"].dtype == torch.float32
    expected = evaluate(fused, [Head(*(part.double() for part in head)) for head in models], batch, objective)
    found_errors = errors(found, expected)
    assert {name: e for name, e in found_errors.items() if e > PRECISION[dtype]} == {}
    assert max(e for name, e in found_errors.items() if name not in ("hidden", "weight")) < 2e-4


def test_in_bf16_responses_whose_jsds_are_a_tenth_apart_are_ranked_as_in_float64():
    torch.manual_seed(1)
    vocabulary, lengths = 4000, [32] * 8
    states, noise = torch.randn(32, 64).repeat(8, 1), torch.randn(32, 64).repeat(8, 1)
    steps = (1.1 ** (0.5 * torch.arange(-4, 4)))[torch.randperm(8)].repeat_interleave(32)[:, None]
    student = Head(states, 6 * torch.randn(vocabulary, 64) / 8)
    teacher = Head(states + 0.02 * steps * noise, student.weight_VH)
    models = [Head(*(part.bfloat16() for part in head)) for head in (student, teacher)]
    batch, objective = responses(lengths, [0] * 8, [1.0] * 8, vocabulary), Objective(1, 0.1, "exact", False, vocabulary)
    low, exact = (
        fused.masters_objective(*cast, None, batch, objective, groups=1)[1]
        for cast in (models, [Head(*(part.double() for part in head)) for head in models])
    )
    ordered = exact.divergence_J.sort().values
    assert ordered.mean().item() == pytest.approx(1e-3, rel=0.2)
    assert ((ordered[1:] / ordered[:-1] - 1.1).abs() < 0.03).all()
    assert low.divergence_J.argsort().tolist() == exact.divergence_J.argsort().tolist()
    assert torch.allclose(low.divergence_J.double(), exact.divergence_J, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_no_divergence_is_below_zero_and_the_jsd_is_at_most_ln_2(dtype, kind):
    torch.manual_seed(0)
    batch, objective = responses([64], [0], [1.0], 424), Objective(0, 1, "exact", False, 424)
    objective = replace(objective, divergence=Divergence(kind, WEIGHTS.get(kind, 0.5)), budget=1)
    for distance in (0.0, 1e-6, 1e-4, 1e-2):
        for scale in (0.3, 3.0, 30.0, 400.0):
            student = Head(torch.randn(64, 16), scale * torch.randn(424, 16))
            other = Head(student.hidden_TH + distance * torch.randn(64, 16), student.weight_VH)
            models = [Head(*(part.to(dtype) for part in head)) for head in (student, other, other)]
            found = evaluate(fused, models, batch, objective)
            assert all(value.isfinite().all() for value in found.values())
            assert 0 <= found["distill"] <= (math.log(2) * 1.0001 / 2.3 if kind == "jsd" else math.inf)
            assert found["kl"] >= 0


@pytest.mark.parametrize("kind", KINDS)
def test_mass_outside_the_common_vocabulary_costs_and_is_pushed_down(kind):
    """Logits are hidden states here: the last two of six ids are the student's alone."""
    batch = Responses(torch.tensor([0]), torch.tensor([0]), torch.tensor([0]), torch.tensor([1.0]))
    objective = Objective(0.0, 0.1, "exact", False, 4, divergence=Divergence(kind, WEIGHTS.get(kind, 0.5)))
    inside, costs = torch.tensor([[0.3, 1.0, -0.5, 0.2]]), []
    for outside in (-20.0, -2.0, 0.0, 5.0, 200.0):
        student = Head(torch.cat([inside, torch.full((1, 2), outside)], 1).requires_grad_(), torch.eye(6))
        teacher = Head(inside, torch.eye(4))
        loss, terms = fused.masters_objective(student, teacher, None, batch, objective, groups=1)
        loss.backward()
        assert student.hidden_TH.grad.isfinite().all()
        costs.append(terms.divergence_J.item())
        if -20 < outside < 100:
            assert (student.hidden_TH.grad[0, 4:] > 0).all()
        if kind == "jsd":  # M = S / 2 there, and T inside against what the student has left
            mass = torch.tensor([2 * math.exp(outside) / (inside.exp().sum().item() + 2 * math.exp(outside))]).double()
            by_hand = (mass * math.log(2) + torch.special.xlogy(1 - mass, 2 * (1 - mass) / (2 - mass))
                       + torch.log(2 / (2 - mass))) / 2  # fmt: skip
            assert costs[-1] == pytest.approx(by_hand.item(), rel=1e-4, abs=1e-7)
    assert costs == sorted(costs)
    assert costs[0] < 1e-6 < costs[1]
    assert math.isfinite(costs[-1])


def test_the_exact_kl_to_the_reference_makes_mass_outside_cost_about_20_nats():
    batch = Responses(torch.tensor([0]), torch.tensor([0]), torch.tensor([0]), torch.tensor([1.0]))
    inside = torch.tensor([[0.3, 1.0, -0.5, 0.2]]).double()
    mass = 2 / (inside.exp().sum().item() + 2)
    student, other = (
        Head(torch.cat([inside, torch.zeros(1, 2).double()], 1), torch.eye(6).double()),
        Head(inside, torch.eye(4).double()),
    )
    objective = Objective(1.0, 1.0, "exact", False, 4)
    _, terms = fused.masters_objective(student, other, other, batch, objective, groups=1)
    expected = mass * (20 + math.log(2) + math.log(mass / 2)) + (1 - mass) * math.log(1 - mass)
    assert terms.kl_J.item() == pytest.approx(expected, rel=1e-12)


def test_gradients_are_handed_out_once_and_only_where_asked_for():
    torch.manual_seed(0)
    models, batch = heads(5, (7, 7, 7), (9, 9, 9)), responses([2, 3], [0, 0], [1, 0], 9)
    objective = Objective(1.0, 0.1, "exact", False, 9)
    student = models[0]._replace(hidden_TH=models[0].hidden_TH.requires_grad_())
    loss, terms = fused.masters_objective(student, *models[1:], batch, objective, groups=1)
    assert terms.gradient_norms == {}
    loss.backward(retain_graph=True)
    assert student.weight_VH.grad is None
    with pytest.raises(RuntimeError, match="compute the objective again"):
        loss.backward()
    with torch.no_grad():
        silent, same = fused.masters_objective(student, *models[1:], batch, objective, groups=1, norms=True)
    assert not silent.requires_grad
    assert silent.item() == pytest.approx(loss.item(), rel=1e-12)
    assert same.gradient_norms == {}
    assert torch.equal(same.advantage_J, terms.advantage_J)


def test_a_head_tied_to_the_embedding_gets_both_gradients():
    torch.manual_seed(0)
    models, batch = heads(5, (7, 7, 7), (9, 9, 9)), responses([2, 3], [0, 0], [1, 0], 9)
    objective, gradients = Objective(1.0, 0.1, "exact", False, 9), []
    for module in (plain, fused):
        weight = models[0].weight_VH.clone().requires_grad_()
        hidden = torch.nn.functional.embedding(batch.target_T, weight).tanh()
        loss, _ = module.masters_objective(Head(hidden, weight), *models[1:], batch, objective, groups=1, norms=False)
        loss.backward()
        gradients.append(weight.grad)
    assert error(gradients[1], gradients[0]) < 1e-12


def test_a_response_without_tokens_is_left_out_of_its_group():
    torch.manual_seed(0)
    models = heads(6, (7, 7, 7), (9, 9, 9))
    objective = Objective(1.0, 0.1, "exact", False, 9)
    with_empty = responses([2, 0, 4], [0, 0, 0], [1, 1, 0], 9)
    without = replace(
        with_empty,
        response_T=with_empty.response_T.clamp_max(1),
        group_J=torch.tensor([0, 0]),
        accuracy_J=torch.tensor([1.0, 0.0]),
    )
    found, expected = (evaluate(fused, models, batch, objective) for batch in (with_empty, without))
    assert all(error(found[name], expected[name]) < 1e-12 for name in ("loss", "hidden", "weight"))
    assert found["advantage_J"][[0, 2]].tolist() == pytest.approx(expected["advantage_J"].tolist())
    assert found["advantage_J"][1] == 0
