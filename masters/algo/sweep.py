"""One sweep over the response tokens: from hidden states and heads to what each token costs and to the student's gradients.

No [T, V] tensor outlives a chunk of tokens, and a chunk is as large as the budget allows. The policy term needs the advantages,
these need the D of all responses of a group, and a JSD needs both distributions whole. So there are three ways through:

- direct: the gradient needs no advantages (no policy term, cross-entropy): each chunk is done with at once.
- group: whole groups fit into a chunk; their logits are kept while advantages are computed. Five products with a head: student,
  teacher, reference, and two for the gradient, which is the least there is.
- two-pass: a group is larger than a chunk. The logits of student and teacher are computed again: seven products.
"""

from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from masters.algo import gradients
from masters.algo.divergence import K3_LARGEST, reverse_kl_k3
from masters.algo.gradients import Pull, Softmax
from masters.algo.products import add_head_gradient_, hidden_gradient, logits
from masters.algo.terms import BUDGET, JSD, Divergence, Head, Responses

TERMS = ("policy", "kl", "distill")
_REVERSE_KL = Divergence("reverse_kl")

Gains = Callable[[slice, Tensor], Tensor]
"""From a range of responses and their token means of D [J] to how much each is to be raised [J]: its weighted advantage."""


_Look = tuple[Softmax, Pull | None]
"""The student's distribution over a chunk, and what pulls it to the teacher's."""


class _Part(NamedTuple):
    """What a term asks of the student: divergences to lower, and how much to raise the taken tokens."""

    pulls: list[Pull]
    gain_T: Tensor


class Sweep:
    """Values per token and gradients of a batch, filled by `run`.

    Args:
        student: gradients are computed where its tensors require them, while torch records gradients.
        teacher: None for cross-entropy: D stays 0.
        reference: None leaves KL at 0.
        responses: see there; one without tokens has no part in anything.
        weight_T: of each token in the mean over tokens, responses and groups.
        vocabulary: rows of the teacher's and the reference's head that count.
        divergence: between student and teacher.
        kl_weight: of KL, beside the divergence's 1.
        exact: KL over the vocabulary, not k3.
        budget: bytes for buffers over the vocabulary.
        norms: whether the squared norm of each term's gradient at the hidden states is wanted: two more products.

    Attributes:
        log_probability_T, divergence_T, kl_T: per token, fp32 or float64.
        hidden_gradient_TH, head_gradient_VH: of the loss, fp32 or float64; None where the student's tensor asks for none.
        squared_norms: of each of TERMS, if wanted.
    """

    def __init__(
        self,
        student: Head,
        teacher: Head | None,
        reference: Head | None,
        responses: Responses,
        weight_T: Tensor,
        *,
        vocabulary: int = 0,
        divergence: Divergence = JSD,
        kl_weight: float = 0.0,
        exact: bool = True,
        budget: int = BUDGET,
        norms: bool = False,
    ):
        self._student, self._teacher, self._reference = student, teacher, reference
        self._responses, self._weight_T, self._kl_weight = responses, weight_T, kl_weight
        self._vocabulary, self._divergence, self._exact = vocabulary, divergence, exact
        self._elementwise = elementwise(student.hidden_TH.device)
        hidden, weight = (torch.is_grad_enabled() and part.requires_grad for part in student)
        self.differentiated, self._norms = hidden or weight, norms and hidden
        self.log_probability_T, self.divergence_T, self.kl_T = (torch.zeros_like(weight_T) for _ in range(3))
        self._gain_T = torch.zeros_like(weight_T)
        self.hidden_gradient_TH = weight_T.new_zeros(student.hidden_TH.shape) if hidden else None
        self.head_gradient_VH = weight_T.new_zeros(student.weight_VH.shape) if weight else None
        self.squared_norms = {name: weight_T.new_zeros(()) for name in TERMS} if self._norms else {}
        self._columns = student.weight_VH.shape[0]
        buffers = 1 + self._norms + sum(head is not None for head in (teacher, reference))
        self.capacity = max(1, budget // (self._columns * buffers * weight_T.dtype.itemsize))

    @torch.no_grad()
    def run(self, gains: Gains | float) -> None:
        """Go through all tokens; `gains` is a number where it is the same for all of them."""
        if isinstance(gains, float):
            self._gain_T = gains * self._weight_T
            for chunk in _chunks(slice(0, self._weight_T.numel()), self.capacity):
                self._finish(chunk, self._look(chunk))
            return
        response_T, group_J = self._responses.response_T, self._responses.group_J
        counts_J = torch.bincount(response_T, minlength=group_J.numel())
        for members, tokens in spans(counts_J.tolist(), group_J.tolist(), self.capacity):
            place_T = response_T[tokens] - members.start
            chunks = list(_chunks(tokens, self.capacity))
            kept = [self._look(tokens)] if len(chunks) == 1 else []
            if not kept:
                for chunk in chunks:
                    self._look(chunk)
            gain_J = gains(members, token_means(self.divergence_T[tokens], place_T, counts_J[members]))
            self._gain_T[tokens] = gain_J[place_T] * self._weight_T[tokens]
            for chunk in chunks:
                self._finish(chunk, kept.pop() if kept else self._look(chunk))

    def _distribution(self, head: Head, rows: int, tokens: slice) -> Softmax:
        """Of a model whose first `rows` rows count."""
        logits_TV = logits(head.hidden_TH[tokens], head.weight_VH, self._columns)
        return Softmax(logits_TV, self._elementwise.normaliser(logits_TV, rows), rows)

    def _look(self, tokens: slice) -> _Look:
        """D of a chunk, and the log-probability of what was taken."""
        student = self._distribution(self._student, self._columns, tokens)
        self.log_probability_T[tokens] = student.taken(self._responses.target_T[tokens])
        if self._teacher is None:
            return student, None
        teacher = self._distribution(self._teacher, self._vocabulary, tokens)
        self.divergence_T[tokens], slope_T = self._elementwise.measure(student, teacher, self._divergence)
        return student, Pull(teacher.logits_TV, slope_T, self._weight_T[tokens])

    def _finish(self, tokens: slice, look: _Look) -> None:
        """KL of a chunk, and its share of the gradients; overwrites the student's logits."""
        student, pull = look
        nothing_T = torch.zeros_like(self._weight_T[tokens])
        parts = {name: _Part([], nothing_T) for name in TERMS}
        parts["policy"] = _Part([], self._gain_T[tokens])
        if pull is not None:
            parts["distill"] = _Part([pull], nothing_T)
        if self._reference is not None:
            parts["kl"] = self._to_reference(self._reference, student, tokens)
        if not self.differentiated:
            return
        target_T, weight_VH = self._responses.target_T[tokens], self._student.weight_VH
        if self._norms:
            self._term_by_term(tokens, student, parts)
        pulls = [pull for part in parts.values() for pull in part.pulls]
        gain_T = torch.stack([part.gain_T for part in parts.values()]).sum(0)
        gradient_TV = student.logits_TV
        self._elementwise.gradient(student, pulls, gain_T, target_T, gradient_TV)
        if self.hidden_gradient_TH is not None and not self._norms:
            self.hidden_gradient_TH[tokens] = hidden_gradient(gradient_TV, weight_VH)
        if self.head_gradient_VH is not None:
            add_head_gradient_(self.head_gradient_VH, gradient_TV, self._student.hidden_TH[tokens])

    def _term_by_term(self, tokens: slice, student: Softmax, parts: dict[str, _Part]) -> None:
        """The gradient at the hidden states and its norms, each term on its own."""
        assert self.hidden_gradient_TH is not None
        gradient_TV = torch.empty_like(student.logits_TV)
        for name, part in parts.items():
            self._elementwise.gradient(student, part.pulls, part.gain_T, self._responses.target_T[tokens], gradient_TV)
            share_TH = hidden_gradient(gradient_TV, self._student.weight_VH)
            self.squared_norms[name] += share_TH.square().sum()
            self.hidden_gradient_TH[tokens] += share_TH

    def _to_reference(self, head: Head, student: Softmax, tokens: slice) -> _Part:
        """KL(student || reference) of a chunk, and what lowers it."""
        weight_T = self._kl_weight * self._weight_T[tokens]
        reference = self._distribution(head, self._vocabulary, tokens)
        if self._exact:
            self.kl_T[tokens], slope_T = self._elementwise.measure(student, reference, _REVERSE_KL)
            return _Part([Pull(reference.logits_TV, slope_T, weight_T)], torch.zeros_like(weight_T))
        before_T, now_T = reference.taken(self._responses.target_T[tokens]), self.log_probability_T[tokens]
        self.kl_T[tokens] = reverse_kl_k3(now_T, before_T)
        return _Part([], weight_T * (before_T - now_T).clamp_max(K3_LARGEST).expm1())


def elementwise(device: torch.device) -> ModuleType:
    """The module with `normaliser`, `measure` and `gradient` for a device: Triton kernels on GPUs, plain torch elsewhere."""
    if device.type != "cuda" or find_spec("triton") is None:
        return gradients
    from masters.algo import kernels

    return kernels


def spans(counts: Sequence[int], groups: Sequence[int], capacity: int) -> Iterator[tuple[slice, slice]]:
    """Cut a batch into runs of whole groups of at most `capacity` tokens, or of one group: (responses, tokens) of each.

    Args:
        counts: tokens of each response.
        groups: the question of each response, ascending.
        capacity: tokens.
    """
    first = start = position = 0
    tokens = begin = 0
    while position < len(groups):
        end = position
        while end < len(groups) and groups[end] == groups[position]:
            end += 1
        size = sum(counts[position:end])
        if first < position and tokens + size > capacity:
            yield slice(first, position), slice(start, begin)
            first, start, tokens = position, begin, 0
        tokens, begin, position = tokens + size, begin + size, end
    if first < position:
        yield slice(first, position), slice(start, begin)


def token_means(values_T: Tensor, response_T: Tensor, counts_J: Tensor) -> Tensor:
    """(1/T_j) sum_t of a quantity per token: [J]; 0 for a response without tokens."""
    return values_T.new_zeros(counts_J.numel()).index_add_(0, response_T, values_T) / counts_J.clamp_min(1)


def _chunks(tokens: slice, capacity: int) -> Iterator[slice]:
    return (slice(start, min(tokens.stop, start + capacity)) for start in range(tokens.start, tokens.stop, capacity))
