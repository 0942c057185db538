"""Shared-prefix packing: one row holds a prompt once and, behind it, several branches that do not see each other.

    row = [prompt and image | branch 1 | branch 2 | ...]

Positions restart behind the prompt for every branch, and a branch attends to the prompt and to itself, so hidden states are
those of one row per branch, at a fraction of the work (the prompt and the image tower run once). Rows lie one behind the
other, so that nothing is filled up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from masters.models.attention import check_attached, plan_of
from masters.models.varlen import Plan


@dataclass(frozen=True)
class Branch:
    """Tokens behind the prefix; those from `first_target` on are predicted, each from the state before it."""

    ids: Sequence[int]
    first_target: int = 0


@dataclass(frozen=True)
class Row:
    """A prefix with its branches.

    Attributes:
        prefix: [P] token ids, image tokens expanded.
        positions: [A, P] position ids of the prefix; A axes (3 for M-RoPE).
        branches: each at least one token.
    """

    prefix: Tensor
    positions: Tensor
    branches: Sequence[Branch]


@dataclass(frozen=True)
class Packed:
    """Rows as model inputs, one behind the other in L tokens, and where the state that predicts each target lies.

    Attributes:
        input_ids: [1, L].
        position_ids: [A, 1, L].
        plan: which tokens attend to which.
        state_T: index in L of the hidden state that predicts target t.
        target_T: token ids.
        branch_T: running number of the branch over all rows, ascending.
    """

    input_ids: Tensor
    position_ids: Tensor
    plan: Plan
    state_T: Tensor
    target_T: Tensor
    branch_T: Tensor


def pack_rows(rows: Sequence[Row]) -> Packed:
    """Lay rows out one behind the other."""
    ids: list[Tensor] = []
    positions: list[Tensor] = []
    states: list[Tensor] = []
    targets: list[int] = []
    counts: list[int] = []
    start = 0
    for row in rows:
        ids.append(row.prefix)
        positions.append(row.positions)
        start += len(row.prefix)
        before, restart = start - 1, int(row.positions.max()) + 1
        for branch in row.branches:
            length = len(branch.ids)
            ids.append(torch.tensor(branch.ids, dtype=torch.long))
            positions.append((restart + torch.arange(length)).expand(len(row.positions), -1))
            places = torch.arange(start - 1, start + length - 1)
            places[0] = before
            states.append(places[branch.first_target :])
            targets.extend(branch.ids[branch.first_target :])
            counts.append(length - branch.first_target)
            start += length
    return Packed(
        input_ids=torch.cat(ids)[None],
        position_ids=torch.cat(positions, dim=1)[:, None],
        plan=plan_of([(len(row.prefix), [len(branch.ids) for branch in row.branches]) for row in rows]),
        state_T=torch.cat(states) if states else torch.empty(0, dtype=torch.long),
        target_T=torch.tensor(targets, dtype=torch.long),
        branch_T=torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts, dtype=torch.long)),
    )


def prompt_positions(model: Any, input_ids: Tensor, media: dict[str, Tensor]) -> Tensor:
    """Position ids [A, P] of one prompt as the model itself computes them: M-RoPE where it has that, else 0, 1, 2, ..."""
    core = model.model
    if not hasattr(core, "get_rope_index"):
        return torch.arange(len(input_ids))[None]
    kinds = (input_ids == model.config.image_token_id).int()
    positions, _ = core.get_rope_index(
        input_ids[None], mm_token_type_ids=kinds[None], image_grid_thw=media.get("image_grid_thw")
    )
    return positions[:, 0]


def hidden_states(model: Any, packed: Packed, media: dict[str, Tensor]) -> Tensor:
    """The states [T, H] that predict the targets, of a model from `load_model`; raises ValueError for another."""
    check_attached(model)
    positions = packed.position_ids
    output = model.model(
        input_ids=packed.input_ids,
        position_ids=positions[0] if len(positions) == 1 else positions,  # models of one axis want none
        plan=packed.plan,
        use_cache=False,
        **media,
    )
    return output.last_hidden_state[0, packed.state_T]
