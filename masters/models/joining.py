"""Many packed batches as one, for models that are only asked: one pass over all layers instead of one for each batch."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from masters.models.packing import Packed
from masters.models.varlen import Part, Plan, Span

_PIECE = 1 << 14
"""Tokens that go through a layer's MLP at once: wider than the states by far, it would need the most memory."""


def join(batches: Sequence[Packed]) -> Packed:
    """One behind the other, as if they had been packed together; a single one is itself."""
    if len(batches) == 1:
        return batches[0]
    lengths = [batch.input_ids.shape[1] for batch in batches]
    counts = [int(batch.branch_T[-1]) + 1 if batch.branch_T.numel() else 0 for batch in batches]
    starts, branches = ([sum(sizes[:place]) for place in range(len(sizes))] for sizes in (lengths, counts))
    return Packed(
        input_ids=torch.cat([batch.input_ids for batch in batches], 1),
        position_ids=torch.cat([batch.position_ids for batch in batches], 2),
        plan=_joined_plan([batch.plan for batch in batches], starts),
        state_T=torch.cat([batch.state_T + start for batch, start in zip(batches, starts, strict=True)]),
        target_T=torch.cat([batch.target_T for batch in batches]),
        branch_T=torch.cat([batch.branch_T + before for batch, before in zip(batches, branches, strict=True)]),
    )


def join_media(batches: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Pixel values and such of all batches; all have the same names."""
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


def _joined_plan(plans: Sequence[Plan], starts: Sequence[int]) -> Plan:
    """Parts of one kind become one part: causal ones first, as they hold every token."""
    parts = []
    for causal in (True, False):
        queries: list[Span] = []
        keys: list[Span] = []
        for plan, start in zip(plans, starts, strict=True):
            for part in (part for part in plan.parts if part.causal == causal):
                queries += [(place + start, length) for place, length in part.queries]
                keys += [(place + start, length) for place, length in part.keys]
        if queries:
            parts.append(Part(tuple(queries), tuple(keys), causal))
    return Plan(tuple(parts))


def in_pieces(model: Any, tokens: int = _PIECE) -> None:
    """Let every MLP of a model, which knows no neighbours, take at most so many tokens at once."""
    for name, module in model.named_modules():
        if name.rpartition(".")[2] == "mlp":
            module.forward = partial(_forward_in_pieces, module.forward, tokens)


def _forward_in_pieces(forward: Callable[[Tensor], Tensor], tokens: int, states: Tensor) -> Tensor:
    """Of states [..., T, H]."""
    if states.shape[-2] <= tokens:
        return forward(states)
    return torch.cat([forward(piece) for piece in states.split(tokens, -2)], -2)
