"""The fused objective against the same losses written op by op: memory beyond the inputs, and CPU time, one thread.

    python perf/objective.py [CASE]

Eight responses of 64 tokens, a vocabulary of 152,000, hidden size 1024, fp32, forward and backward, each case once in a
process of its own. `naive` is the whole objective on logits as lean as torch's own functions make it. `plain` is what training
used before there was a fused one: it found the norms of its terms by a backward for each, at every step. `trl` is the loss of
TRL's GKDTrainer on the same tensors, a JSD alone: no KL to a reference, no rewards, no policy term.

Time is also counted in products: of hidden states with a head, timed in the same process before and after, so that a busy
machine matters less. The whole objective cannot do with fewer than five, and naive and plain have no more: they are slower by
the new memory that they take from the system tensor by tensor, which on a virtual machine varies twofold from run to run. Where
all memory is there already (MALLOC_MMAP_MAX_=0 and a second run), naive takes 1.2 times as long as group, plain 1.06 times.
With CASE: one line, MiB, CPU-seconds, products, loss.
"""

import math
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax

from masters.algo.fused import masters_objective
from masters.algo.reward import advantages, distill_reward
from masters.algo.terms import Head, Objective, Responses

Kl = Callable[[Tensor, Tensor], Tensor]
TOKENS, VOCABULARY, HIDDEN, RESPONSES = 512, 152_000, 1024, 8
MIB = 1 << 20
BUDGETS = {"group": 1 << 30, "two-pass": 192 * MIB}
PLAIN_NORMS, GROUP_NORMS = "plain, norms", "group, norms"


def trl(student: Tensor, teacher: Tensor) -> Tensor:
    """Per token, as `generalized_jsd_loss` computes it from logits, with beta 1/2."""
    student_TV, teacher_TV = log_softmax(student, -1), log_softmax(teacher, -1)
    half = torch.tensor(0.5, dtype=student_TV.dtype)
    mixture_TV = torch.logsumexp(torch.stack([student_TV + torch.log(1 - half), teacher_TV + torch.log(half)]), dim=0)
    kl_teacher = kl_div(mixture_TV, teacher_TV, reduction="none", log_target=True)
    kl_student = kl_div(mixture_TV, student_TV, reduction="none", log_target=True)
    return (half * kl_teacher + (1 - half) * kl_student).sum(-1)


def lean_kl(p_TV: Tensor, q_TV: Tensor) -> Tensor:
    """Per token, from log-probabilities, in a kernel of torch's."""
    return kl_div(q_TV, p_TV, reduction="none", log_target=True).sum(-1)


def plain_kl(p_TV: Tensor, q_TV: Tensor) -> Tensor:
    """The same op by op."""
    return (p_TV.exp() * (p_TV - q_TV)).sum(-1)


def naive(student: Head, teacher: Head, reference: Head, responses: Responses, kl: Kl, norms: bool) -> Tensor:
    """The whole objective with beta 0.1; all responses have the same length and belong to one group."""
    student_TV = log_softmax(student.hidden_TH @ student.weight_VH.T, -1)
    teacher_TV = log_softmax(teacher.hidden_TH @ teacher.weight_VH.T, -1)
    reference_TV = log_softmax(reference.hidden_TH @ reference.weight_VH.T, -1)
    mixture_TV = torch.logaddexp(student_TV, teacher_TV) - math.log(2)
    jsd_J = (0.5 * (kl(student_TV, mixture_TV) + kl(teacher_TV, mixture_TV))).view(RESPONSES, -1).mean(1)
    kl_T = kl(student_TV, reference_TV)
    judged_J = torch.ones(RESPONSES, dtype=torch.bool)
    distill_J = distill_reward(jsd_J.detach(), responses.group_J, judged_J)
    advantage_J = advantages(responses.accuracy_J + distill_J, responses.group_J, judged_J)
    taken_T = student_TV.gather(1, responses.target_T[:, None])[:, 0]
    ratio_J = (taken_T - taken_T.detach()).exp().view(RESPONSES, -1).mean(1)
    terms = (-ratio_J * advantage_J).mean(), 0.1 * kl_T.mean(), jsd_J.mean()
    for term in terms if norms else ():
        torch.autograd.grad(term, student.hidden_TH, retain_graph=True)[0].square().sum()
    return torch.stack(terms).sum()


def measured(case: str) -> tuple[float, float, float, float]:
    """MiB of the peak beyond the inputs, CPU-seconds, the same in products with a head, and loss of a forward and backward."""
    torch.manual_seed(0)
    heads = [Head(torch.randn(TOKENS, HIDDEN), torch.randn(VOCABULARY, HIDDEN) / HIDDEN**0.5) for _ in range(3)]
    student = Head(*(part.requires_grad_() for part in heads[0]))
    responses = Responses(
        target_T=torch.randint(0, VOCABULARY, (TOKENS,)),
        response_T=torch.arange(TOKENS) // (TOKENS // RESPONSES),
        group_J=torch.zeros(RESPONSES, dtype=torch.long),
        accuracy_J=torch.arange(RESPONSES) % 2.0,
    )
    product = _product(heads[1])
    before, began = _memory("VmRSS"), time.process_time()
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak begins here
    if case == "trl":
        with torch.no_grad():
            teacher_TV = heads[1].hidden_TH @ heads[1].weight_VH.T
        loss = trl(student.hidden_TH @ student.weight_VH.T, teacher_TV).mean()
    elif case in ("naive", "plain", PLAIN_NORMS):
        loss = naive(student, *heads[1:], responses, lean_kl if case == "naive" else plain_kl, case == PLAIN_NORMS)
    else:
        objective = Objective(1.0, 0.1, "exact", False, VOCABULARY, budget=BUDGETS.get(case, 3 << 29))
        loss, _ = masters_objective(*heads, responses, objective, groups=1, norms=case == GROUP_NORMS)
    loss.backward()
    peak, seconds = _memory("VmHWM") - before, time.process_time() - began
    return peak, seconds, 2 * seconds / (product + _product(heads[1])), loss.item()


def _product(head: Head) -> float:
    began = time.process_time()
    torch.mm(head.hidden_TH, head.weight_VH.T)
    return time.process_time() - began


def _memory(name: str) -> float:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name)) / 1024


def main() -> None:
    """Every case in turn, and ratios to the naive one."""
    found = {}
    for case in ("naive", "plain", "trl", *BUDGETS, PLAIN_NORMS, GROUP_NORMS):
        line = subprocess.run([sys.executable, __file__, case], capture_output=True, text=True, check=True).stdout
        found[case] = tuple(float(word) for word in line.split())
    naive_mib, _, naive_products, naive_loss = found["naive"]
    print(f"{TOKENS} tokens, vocabulary {VOCABULARY:,}, hidden size {HIDDEN}, fp32")
    print(f"{'':<14}{'MiB':>8}{'less':>8}{'CPU-s':>8}{'products':>10}{'faster':>8}   (less, faster: times, than naive)")
    for case, (mib, seconds, products, loss) in found.items():
        assert case == "trl" or math.isclose(loss, naive_loss, rel_tol=1e-5), found
        print(
            f"{case:<14}{mib:8.0f}{naive_mib / mib:8.2f}{seconds:8.1f}{products:10.1f}{naive_products / products:8.2f}"
        )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        torch.set_num_threads(1)
        print(*measured(sys.argv[1]))
    else:
        main()
