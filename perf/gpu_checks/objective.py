"""The objective (on a GPU its Triton kernels) against float64 with all logits and torch's own gradients."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from masters.algo.divergence import K3_LARGEST
from masters.algo.fused import masters_objective
from masters.algo.reward import advantages, distill_reward
from masters.algo.terms import Divergence, Head, Objective, Responses
from perf.gpu_checks.lines import Line, check, timing
from perf.gpu_checks.machine import DEVICE, GPU, difference, held_gb, peak_gb, seconds, sized

IDS, STUDENT_ROWS, TEACHER_ROWS = sized((151_665, 151_936, 152_064), (1501, 1510, 1536))
STUDENT_HIDDEN, TEACHER_HIDDEN = sized((2048, 2560), (64, 96))
LENGTHS = sized([96, 64, 1, 40, 0, 80, 55, 30, 33, 21, 2, 90], [9, 6, 1, 4, 0, 8, 5, 3, 3, 2, 2, 5])
GROUPS = [0] * 8 + [1] * 4
ACCURACY = [1, 0, 1, 0, 1, math.nan, 0, 1, 1, 1, 0, 0]
DIVERGENCES = (
    Divergence("jsd", 0.5),
    Divergence("jsd", 0.1),
    Divergence("forward_kl"),
    Divergence("reverse_kl"),
    Divergence("skew_kl", 0.1),
    Divergence("skew_reverse_kl", 0.1),
)
MODES = {"group": 8 << 30, "two-pass": sized(128 << 20, 1 << 16)}
"""Budgets: all tokens at once, and fewer than the first group has."""
BOUNDS = {torch.float32: (1e-4, 2e-4), torch.bfloat16: (2e-4, 2e-2)}
"""Of values and of gradients. Of bf16 inputs the values are fp32's; gradients are bf16, and so are those at the logits."""
PER_RESPONSE = ("divergence_J", "kl_J", "log_probability_J", "distill_reward_J", "advantage_J")

Found = dict[str, Tensor]


def drawn(
    spread: float, lengths: list[int], groups: list[int], accuracy: list[float], alike: bool = False
) -> tuple[list[Head], Responses]:
    """(student, teacher, reference; responses).

    The teacher is as far from the student as `spread` says, at each response a twentieth further than at the one before it;
    responses that are `alike` start from the same states. Mass lies outside the common vocabulary, too, but for those.
    """
    tokens = sum(lengths)
    response_T = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)).to(DEVICE)
    step_T1 = spread * (1.05 ** response_T.float())[:, None]

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, device=DEVICE)

    hidden_TH, weight_VH = (
        normal(tokens, STUDENT_HIDDEN),
        4 * normal(STUDENT_ROWS, STUDENT_HIDDEN) / STUDENT_HIDDEN**0.5,
    )
    if alike:
        hidden_TH, weight_VH[IDS:] = hidden_TH[_place(lengths)], 0
    direction_TH = normal(max(lengths), STUDENT_HIDDEN)[_place(lengths)]
    more_TH = torch.zeros(tokens, TEACHER_HIDDEN - STUDENT_HIDDEN, device=DEVICE)
    teacher_VH = normal(TEACHER_ROWS, TEACHER_HIDDEN)
    teacher_VH[:STUDENT_ROWS, :STUDENT_HIDDEN] = weight_VH
    models = [
        Head(hidden_TH, weight_VH),
        Head(torch.cat([hidden_TH + step_T1 * direction_TH, more_TH], 1), teacher_VH),
        Head(hidden_TH + 0.1 * normal(tokens, STUDENT_HIDDEN), weight_VH),
    ]
    target_T = torch.randint(0, IDS, (tokens,), device=DEVICE)
    index_J, accuracy_J = torch.tensor(groups, device=DEVICE), torch.tensor(accuracy, device=DEVICE).float()
    return models, Responses(target_T, response_T, index_J, accuracy_J)


def _place(lengths: list[int]) -> Tensor:
    return torch.cat([torch.arange(length) for length in lengths]).to(DEVICE)


def plain(models: list[Head], responses: Responses, objective: Objective) -> tuple[Tensor, Found]:
    """Loss and values per response of the objective as Eq. 5-11 write it; the precision is the models'."""
    student, teacher, reference = models
    log_p, log_q, log_r = (
        torch.log_softmax(_at_least_fp32(head.hidden_TH @ head.weight_VH[:rows].T), -1)
        for head, rows in ((student, STUDENT_ROWS), (teacher, IDS), (reference, IDS))
    )
    taken_T = log_p.gather(1, responses.target_T[:, None])[:, 0]
    if objective.kl == "exact":
        kl_T = divergence(log_p, log_r, Divergence("reverse_kl"))
    else:
        gap_T = log_r.gather(1, responses.target_T[:, None])[:, 0] - taken_T
        kl_T = gap_T.exp() - gap_T - 1
    counts_J = torch.bincount(responses.response_T, minlength=len(responses.group_J))

    def mean(values_T: Tensor) -> Tensor:
        total_J = values_T.new_zeros(len(counts_J)).index_add(0, responses.response_T, values_T)
        return total_J / counts_J.clamp_min(1)

    divergence_J, present_J = mean(divergence(log_p, log_q, objective.divergence)), counts_J > 0
    judged_J = present_J & ~responses.accuracy_J.isnan()
    distill_J = distill_reward(divergence_J.detach(), responses.group_J, judged_J, objective.tie)
    reward_J = responses.accuracy_J.nan_to_num().to(distill_J.dtype) + distill_J
    advantage_J = advantages(reward_J, responses.group_J, judged_J) * bool(objective.policy_weight)
    sizes = torch.bincount(responses.group_J[present_J])
    weight_J = present_J.to(taken_T.dtype) / (len(sizes) * sizes[responses.group_J])
    ratio_J = mean((taken_T - taken_T.detach()).exp())
    policy_J, kl_J = -objective.policy_weight * ratio_J * advantage_J, mean(kl_T)
    loss = (weight_J * (policy_J + objective.kl_weight * kl_J + divergence_J)).sum()
    return loss, dict(zip(PER_RESPONSE, (divergence_J, kl_J, mean(taken_T), distill_J, advantage_J), strict=True))


def _at_least_fp32(logits_TV: Tensor) -> Tensor:
    return logits_TV.to(torch.promote_types(logits_TV.dtype, torch.float32))


def divergence(log_p: Tensor, log_q: Tensor, choice: Divergence) -> Tensor:
    """By its definition, of a student over its whole head from one over the common vocabulary: [T]."""
    outside = log_p.shape[1] - log_q.shape[1]
    p, q, w = log_p.exp(), pad(log_q.exp(), (0, outside)), choice.weight
    log_q = pad(log_q, (0, outside), value=-K3_LARGEST - math.log(max(1, outside)))

    def kl(of: Tensor, log_of: Tensor, log_from: Tensor) -> Tensor:
        return (of * (log_of - log_from)).sum(-1)

    def log_mixture(first: Tensor, second: Tensor) -> Tensor:
        return (w * first + (1 - w) * second).clamp_min(torch.finfo(p.dtype).tiny).log()

    forms: dict[str, Callable[[], Tensor]] = {
        "jsd": lambda: w * kl(q, log_q, log_mixture(q, p)) + (1 - w) * kl(p, log_p, log_mixture(q, p)),
        "forward_kl": lambda: kl(q, log_q, log_p),
        "reverse_kl": lambda: kl(p, log_p, log_q),
        "skew_kl": lambda: kl(q, log_q, log_mixture(q, p)),
        "skew_reverse_kl": lambda: kl(p, log_p, log_mixture(p, q)),
    }
    return forms[choice.kind]()


def ours(models: list[Head], responses: Responses, objective: Objective) -> tuple[Tensor, Found]:
    """The same of the fused objective."""
    groups = int(responses.group_J.max()) + 1
    loss, terms = masters_objective(*models, responses, objective, groups=groups)
    return loss, {name: getattr(terms, name) for name in PER_RESPONSE}


def evaluated(
    compute: Callable[..., tuple[Tensor, Found]], models: list[Head], responses: Responses, objective: Objective
) -> tuple[Found, Found]:
    """(values, gradients)."""
    student = Head(*(part.clone().requires_grad_() for part in models[0]))
    loss, values = compute([student, *models[1:]], responses, objective)
    loss.backward()
    gradients = {"hidden": student.hidden_TH.grad, "head": student.weight_VH.grad}
    return {name: value.detach() for name, value in (values | {"loss": loss}).items()}, gradients


def cast(models: list[Head], dtype: torch.dtype) -> list[Head]:
    """In another precision."""
    return [Head(*(part.to(dtype) for part in head)) for head in models]


def compared(dtype: torch.dtype, objective: Objective, models: list[Head], responses: Responses) -> Line:
    """Every way through against float64 on the same, rounded inputs; the direct one is that without a policy term."""
    models, bounds, errors = cast(models, dtype), BOUNDS[dtype], []
    for policy_weight, budgets in ((objective.policy_weight, MODES.values()), (0.0, [MODES["two-pass"]])):
        chosen = replace(objective, policy_weight=policy_weight)
        expected = evaluated(plain, cast(models, torch.float64), responses, chosen)
        for budget in budgets:
            found = evaluated(ours, models, responses, replace(chosen, budget=budget))
            pairs = zip(found, expected, strict=True)
            errors.append([max(difference(f[name], e[name]) for name in e) for f, e in pairs])
    values, gradients = (max(of_mode) for of_mode in zip(*errors, strict=True))
    kind, weight = objective.divergence
    weighted = f" {weight}" if kind not in ("forward_kl", "reverse_kl") else ""
    return check(
        f"objective, {kind}{weighted}, {objective.kl} KL, {str(dtype).removeprefix('torch.')}",
        "float64, torch's gradients",
        values=(values, bounds[0]),
        gradients=(gradients, bounds[1]),
    )


def ranked() -> Line:
    """Eight responses whose JSDs are a tenth apart around 1e-3, from bf16 inputs; and none is below 0."""
    length = sized(32, 16)
    models, responses = drawn(0.018, [length] * 8, [0] * 8, [1] * 8, alike=True)
    models, objective = cast(models, torch.bfloat16), Objective(1.0, 0.1, "exact", False, IDS)
    found, exact = (
        evaluated(compute, given, responses, objective)[0]["divergence_J"]
        for compute, given in ((ours, models), (plain, cast(models, torch.float64)))
    )
    misplaced = int((found.argsort() != exact.argsort()).sum())
    return check(
        f"ranking by JSDs from {exact.min():.1e} to {exact.max():.1e}, bfloat16",
        "float64",
        misplaced=(misplaced, 0),
        values=(difference(found, exact), 2e-4),
        below_0=(int((found < 0).sum()), 0),
    )


def times() -> Iterator[Line]:
    """Forward and backward of bf16 inputs, all responses at once."""
    models, responses = drawn(0.1, LENGTHS, GROUPS, ACCURACY)
    models, objective = cast(models, torch.bfloat16), Objective(1.0, 0.1, "exact", False, IDS, budget=MODES["group"])

    def products() -> None:
        for head in (models[0], *models):
            head.hidden_TH @ head.weight_VH.T
        models[0].hidden_TH.T @ torch.empty(len(models[0].hidden_TH), STUDENT_ROWS, dtype=torch.bfloat16, device=DEVICE)

    rivals = {
        "logits kept, torch's gradients": lambda: evaluated(plain, models, responses, objective),
        "two-pass": lambda: evaluated(ours, models, responses, replace(objective, budget=MODES["two-pass"])),
        "five products with a head": products,
    }
    own = lambda: evaluated(ours, models, responses, objective)  # noqa: E731
    base, taken, peak = held_gb(), seconds(own), peak_gb(own)
    name = f"objective, group mode, {sum(LENGTHS)} tokens, {1000 * taken:.1f} ms"
    for rival, run_rival in rivals.items():
        found = f"it takes {seconds(run_rival) / taken:.2f} times as long"
        if GPU:
            found += f"; beyond inputs {peak_gb(run_rival) - base:.1f} GB against {peak - base:.1f}"
        yield timing(name, rival, found)


def run() -> Iterator[Line]:
    """All lines of this part."""
    models, responses = drawn(0.1, LENGTHS, GROUPS, ACCURACY)
    for dtype in BOUNDS:
        for divergence_ in DIVERGENCES:
            objective = Objective(1.0, 0.1, "exact", False, IDS, divergence=divergence_)
            yield compared(dtype, objective, models, responses)
        yield compared(dtype, Objective(1.0, 0.1, "k3", False, IDS), models, responses)
    del models
    yield ranked()
    yield from times()
