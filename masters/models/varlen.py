"""Attention over sequences of different lengths that lie one behind another, in parts whose softmaxes are joined.

A query may attend to several parts, say to a prompt and to its own answer. Each part is computed apart by a fused kernel
that keeps the logarithm of its softmax's denominator; with those the parts are joined exactly, and the kernels' backwards
are given the joined output and denominator. So no mask over all pairs is made, no key is copied beside its queries, and
keys and values stay as few as their own heads.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Span = tuple[int, int]
"""Where a sequence starts, and how many tokens it has."""
Tokens = slice | Tensor
_SHORT, _FILL = 32, 0.75
"""Sequences are filled up to the longest of those beside them where they have this share of it, or it is short."""


class Call(Protocol):
    """One kernel call: out [Q, heads, D] and log-denominators [Q, heads] of some queries over some keys, and gradients."""

    @property
    def queries(self) -> Tokens:
        """Places of the queries, each once."""
        ...

    @property
    def keys(self) -> Tokens:
        """Places of the keys, each once."""
        ...

    def forward(self, q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """From all queries, keys and values [T, heads, D]."""
        ...

    def backward(
        self, out_gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, log_sum: Tensor, scale: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients at this call's queries, keys and values; out and log-denominators [T, heads, ...] are the joined ones."""
        ...


@dataclass(frozen=True)
class Part:
    """The queries of each sequence attend to the keys of the sequence beside it; lengths are at least 1.

    Attributes:
        queries: no token is in two of them.
        keys: as many; no token is in two of them.
        causal: to those up to its own place only; `keys` are then `queries`.
    """

    queries: tuple[Span, ...]
    keys: tuple[Span, ...]
    causal: bool

    def calls(self, device: torch.device, fused: bool) -> list[Call]:
        """How it is computed: at once where the device has a kernel for unequal lengths (`fused`), else length by length."""
        if fused:
            return [_Varlen.of_spans(self, device)]
        pairs = sorted(zip(self.queries, self.keys, strict=True), key=lambda pair: (-pair[1][1], -pair[0][1], pair))
        return [_Padded.of_pairs(group, self.causal, device) for group in _alike(pairs, self.causal)]


@dataclass(frozen=True)
class Plan:
    """Parts, and the kernel calls that they become on each device. Every token is a query of the first part."""

    parts: tuple[Part, ...]
    _made: dict[tuple[torch.device, bool], list[list[Call]]] = field(default_factory=dict, compare=False, repr=False)

    def calls(self, q: Tensor) -> list[list[Call]]:
        """For queries of this device and precision; made once, so layers share the indices and none waits for the device."""
        key = (q.device, fused(q))
        if key not in self._made:
            self._made[key] = [part.calls(*key) for part in self.parts]
        return self._made[key]


def fused(q: Tensor) -> bool:
    """Whether the device has a kernel for unequal lengths in the precision and head size of `q` [..., D]."""
    return (
        q.is_cuda
        and q.dtype in (torch.bfloat16, torch.float16)
        and q.shape[-1] % 8 == 0
        and q.shape[-1] <= 256
        and torch.cuda.get_device_capability(q.device) >= (8, 0)
    )


def attend(q: Tensor, k: Tensor, v: Tensor, calls: Sequence[Sequence[Call]], scale: float) -> Tensor:
    """Attention [T, heads, D] of queries [T, heads, D] to keys and values [T, fewer or as many heads, D].

    Args:
        q: queries.
        k: keys.
        v: values.
        calls: of each part; those of the first cover every query once.
        scale: of the scores.
    """
    return _Attend.apply(q, k, v, calls, scale)


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, calls: Sequence[Sequence[Call]], scale: float) -> Tensor:
        wide = torch.promote_types(q.dtype, torch.float32)
        out, log_sum = q.new_empty(q.shape, dtype=wide), q.new_empty(q.shape[:2], dtype=wide)
        first, *rest = calls
        for call in first:
            part_out, part_sum = call.forward(q, k, v, scale)
            out[call.queries], log_sum[call.queries] = part_out.to(wide), part_sum
        for call in (call for part in rest for call in part):
            part_out, part_sum = call.forward(q, k, v, scale)
            before = log_sum[call.queries]
            joined = torch.logaddexp(before, part_sum)
            out[call.queries] = (
                out[call.queries] * (before - joined).exp()[..., None] + part_out * (part_sum - joined).exp()[..., None]
            )
            log_sum[call.queries] = joined
        out = out.to(q.dtype)
        ctx.save_for_backward(q, k, v, out, log_sum)
        ctx.calls, ctx.scale = calls, scale
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, out_gradient: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, log_sum = ctx.saved_tensors
        gradients = [torch.zeros(x.shape, dtype=log_sum.dtype, device=x.device) for x in (q, k, v)]
        for call in (call for part in ctx.calls for call in part):
            found = call.backward(out_gradient, q, k, v, out, log_sum, ctx.scale)
            for total, share, places in zip(gradients, found, (call.queries, call.keys, call.keys), strict=True):
                total[places] += share
        return (*(total.to(x.dtype) for total, x in zip(gradients, (q, k, v), strict=True)), None, None)


def _alike(pairs: Iterable[tuple[Span, Span]], causal: bool) -> Iterator[list[tuple[Span, Span]]]:
    """Pairs in one call: keys of equal length, or causal ones not much shorter than the longest.

    What causal queries are filled up with lies behind them, out of their sight; other queries would see keys that are none.
    """
    group: list[tuple[Span, Span]] = []
    for pair in pairs:
        if group:
            (_, longest), (_, keys) = group[0]
            (_, queries), (_, own_keys) = pair
            near = longest <= _SHORT or queries >= _FILL * longest
            if not near or (not causal and own_keys != keys):
                yield group
                group = []
        group.append(pair)
    if group:
        yield group


@dataclass(frozen=True)
class _Places:
    """Tokens of S sequences laid out as [S, heads, N, D]; `real` says which of the S * N are not filled up, None for all."""

    tokens: Tokens
    sequences: int
    real: Tensor | None

    @classmethod
    def of_spans(cls, spans: Sequence[Span], device: torch.device) -> "_Places":
        longest = max(length for _, length in spans)
        if all(span == (spans[0][0] + i * longest, longest) for i, span in enumerate(spans)):
            return cls(slice(spans[0][0], spans[0][0] + len(spans) * longest), len(spans), None)
        starts, lengths = torch.tensor(spans).T
        inside = torch.arange(longest)
        real = (inside < lengths[:, None]).flatten()
        tokens = torch.where(inside < lengths[:, None], starts[:, None] + inside, starts[:, None]).flatten()
        return cls(tokens.to(device), len(spans), None if bool(real.all()) else real.nonzero()[:, 0].to(device))

    def own(self) -> Tokens:
        """The tokens, each once."""
        return self.tokens if self.real is None else self.tokens[self.real]  # type: ignore[index]  # filled up: a tensor

    def take(self, x: Tensor) -> Tensor:
        """[S, heads, N, D] of [T, heads, D]."""
        return x[self.tokens].unflatten(0, (self.sequences, -1)).transpose(1, 2)

    def take_log_sum(self, x: Tensor) -> Tensor:
        """[S, heads, N] of [T, heads]; infinite where filled up, so that nothing there has any weight."""
        taken = x[self.tokens]
        if self.real is not None:
            kept = torch.full_like(taken, torch.inf)
            kept[self.real] = taken[self.real]
            taken = kept
        return taken.unflatten(0, (self.sequences, -1)).transpose(1, 2).contiguous()

    def give(self, x: Tensor) -> Tensor:
        """[Q, heads, ...] of [S, heads, N, ...], what was filled up left out."""
        flat = x.transpose(1, 2).flatten(0, 1)
        return flat if self.real is None else flat[self.real]


@dataclass(frozen=True)
class _Padded:
    """Sequences of like lengths in one batch."""

    places: tuple[_Places, _Places]
    queries: Tokens
    keys: Tokens
    causal: bool

    @classmethod
    def of_pairs(cls, pairs: Sequence[tuple[Span, Span]], causal: bool, device: torch.device) -> "_Padded":
        queries, keys = (_Places.of_spans([pair[side] for pair in pairs], device) for side in (0, 1))
        return cls((queries, keys), queries.own(), keys.own(), causal)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        at, of = self.places
        out, log_sum = _kernel(q)[0](at.take(q), of.take(k), of.take(v), self.causal, scale)
        return at.give(out), at.give(log_sum)

    def backward(
        self, out_gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, log_sum: Tensor, scale: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        at, of = self.places
        taken = (at.take(out_gradient), at.take(q), of.take(k), of.take(v), at.take(out), at.take_log_sum(log_sum))
        dq, dk, dv = _kernel(q)[1](*taken, self.causal, scale)
        return at.give(dq), of.give(dk), of.give(dv)


@dataclass(frozen=True)
class _Varlen:
    """All sequences in one call of a kernel that is told where each begins [S + 1, int32]."""

    queries: Tokens
    keys: Tokens
    query_starts: Tensor
    key_starts: Tensor
    longest: tuple[int, int]
    causal: bool

    @classmethod
    def of_spans(cls, part: Part, device: torch.device) -> "_Varlen":
        sides = []
        for spans in (part.queries, part.keys):
            lengths = torch.tensor([0, *(length for _, length in spans)])
            sides.append((_tokens(spans, device), lengths.cumsum(0).int().to(device), int(lengths.max())))
        (queries, query_starts, query_longest), (keys, key_starts, key_longest) = sides
        return cls(queries, keys, query_starts, key_starts, (query_longest, key_longest), part.causal)

    def _lengths(self) -> tuple[Any, ...]:
        return (self.query_starts, self.key_starts, *self.longest, self.causal)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        out, log_sum = _flash_forward(q[self.queries], k[self.keys], v[self.keys], *self._lengths(), scale=scale)
        return out, log_sum.T

    def backward(
        self, out_gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, log_sum: Tensor, scale: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        at, of = self.queries, self.keys
        taken = (out_gradient[at].contiguous(), q[at], k[of], v[of], out[at], log_sum[at].T.contiguous())
        return _flash_backward(*taken, *self._lengths(), scale=scale)


def whole(starts: Tensor, longest: int) -> list[list[Call]]:
    """Each sequence attends to itself, all of it; `starts` [S + 1, int32] are on the device and are not waited for."""
    return [[_Varlen(slice(None), slice(None), starts, starts, (longest, longest), False)]]


def _tokens(spans: Sequence[Span], device: torch.device) -> Tokens:
    ends = [start + length for start, length in spans]
    if [start for start, _ in spans[1:]] == ends[:-1]:
        return slice(spans[0][0], ends[-1])
    return torch.cat([torch.arange(start, end) for (start, _), end in zip(spans, ends, strict=True)]).to(device)


def _flash_forward(*taken: Any, scale: float) -> tuple[Tensor, Tensor]:
    *tensors_and_lengths, causal = taken
    out, log_sum, *_ = torch.ops.aten._flash_attention_forward(*tensors_and_lengths, 0.0, causal, False, scale=scale)
    return out, log_sum


def _flash_backward(*taken: Any, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    *tensors_and_lengths, causal = taken
    # The state of dropout, of which there is none, and what torch leaves unused.
    state, unused = (tensors_and_lengths[0].new_zeros(n, dtype=torch.uint64) for n in (2, 0))
    return torch.ops.aten._flash_attention_backward(*tensors_and_lengths, 0.0, causal, state, unused, scale=scale)


def _kernel(q: Tensor) -> tuple[Any, Any]:
    """Forward and backward of a batch [S, heads, N, D]: torch's fused kernel on a CPU, elsewhere plain operations."""
    return (_cpu_forward, _cpu_backward) if q.device.type == "cpu" else (plain_forward, plain_backward)


def _cpu_forward(q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float) -> tuple[Tensor, Tensor]:
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, causal, scale=scale)


def _cpu_backward(*taken: Any) -> tuple[Tensor, Tensor, Tensor]:
    *tensors, causal, scale = taken
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(*tensors, 0.0, causal, scale=scale)


def plain_forward(q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float) -> tuple[Tensor, Tensor]:
    """Attention [S, heads, Q, D] and log-denominators [S, heads, Q], by matrix products in at least fp32."""
    q, k, v = _wide(q, k, v)
    scores = _scores(q, k, causal, scale)
    log_sum = scores.logsumexp(-1)
    out = (scores - log_sum[..., None]).exp() @ v[:, :, None]
    return out.flatten(1, 2), log_sum.flatten(1, 2)


def plain_backward(
    out_gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, log_sum: Tensor, causal: bool, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v, where `out` and `log_sum` may be of more keys than these."""
    out_gradient, q, k, v, out = _wide(out_gradient, q, k, v, out)
    out_gradient, out, log_sum = (x.unflatten(1, (k.shape[1], -1)) for x in (out_gradient, out, log_sum))
    weights = (_scores(q, k, causal, scale) - log_sum[..., None]).exp()
    at_weights = out_gradient @ v[:, :, None].mT - (out_gradient * out).sum(-1, keepdim=True)
    at_scores = weights * at_weights * scale
    dk = at_scores.mT @ q.unflatten(1, (k.shape[1], -1))
    return (at_scores @ k[:, :, None]).flatten(1, 2), dk.sum(2), (weights.mT @ out_gradient).sum(2)


def _wide(*tensors: Tensor) -> Iterator[Tensor]:
    return (x.to(torch.promote_types(x.dtype, torch.float32)) for x in tensors)


def _scores(q: Tensor, k: Tensor, causal: bool, scale: float) -> Tensor:
    """[S, key heads, query heads of each, Q, K]."""
    scores = q.unflatten(1, (k.shape[1], -1)) @ k[:, :, None].mT * scale
    if causal:
        scores = scores.masked_fill(torch.ones(scores.shape[-2:], device=q.device).triu(1).bool(), -torch.inf)
    return scores
