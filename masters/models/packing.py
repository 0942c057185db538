"""Shared-prefix packing: one row holds a prompt once and, behind it, several branches that do not see each other.

    row = [prompt and image | branch 1 | branch 2 | ...]

Positions restart behind the prompt for every branch, and a branch attends to the prompt and to itself, so hidden states are
those of one row per branch, at a fraction of the work (the prompt and the image tower run once).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


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
    """Rows as model inputs, and where the state that predicts each target lies.

    Attributes:
        input_ids: [B, L], filled up on the right.
        attention_mask: [B, 1, L, L] bool, true where the row's token attends to the column's.
        position_ids: [A, B, L].
        state_row_T, state_column_T: place of the hidden state that predicts target t.
        target_T: token ids.
        branch_T: running number of the branch over all rows, ascending.
    """

    input_ids: Tensor
    attention_mask: Tensor
    position_ids: Tensor
    state_row_T: Tensor
    state_column_T: Tensor
    target_T: Tensor
    branch_T: Tensor


def pack_rows(rows: Sequence[Row], pad: int) -> Packed:
    """Lay rows out side by side, filled up with the token `pad` to the longest."""
    lengths = [len(row.prefix) + sum(len(branch.ids) for branch in row.branches) for row in rows]
    size, axes = max(lengths), rows[0].positions.shape[0]
    ids = torch.full((len(rows), size), pad)
    positions = torch.zeros(axes, len(rows), size, dtype=torch.long)
    segments = torch.full((len(rows), size), -1)
    states: list[Tensor] = []
    targets: list[int] = []
    counts: list[int] = []
    for index, row in enumerate(rows):
        start = len(row.prefix)
        ids[index, :start], segments[index, :start] = row.prefix, 0
        positions[:, index, :start] = row.positions
        restart = int(row.positions.max()) + 1
        for number, branch in enumerate(row.branches, 1):
            end = start + len(branch.ids)
            ids[index, start:end], segments[index, start:end] = torch.tensor(branch.ids), number
            positions[:, index, start:end] = restart + torch.arange(end - start)
            columns = torch.arange(start - 1, end - 1)
            columns[0] = len(row.prefix) - 1
            columns = columns[branch.first_target :]
            states.append(torch.stack([torch.full_like(columns, index), columns]))
            targets.extend(branch.ids[branch.first_target :])
            counts.append(len(columns))
            start = end
    place = torch.cat(states, dim=1) if states else torch.empty(2, 0, dtype=torch.long)
    return Packed(
        input_ids=ids,
        attention_mask=_mask(segments),
        position_ids=positions,
        state_row_T=place[0],
        state_column_T=place[1],
        target_T=torch.tensor(targets, dtype=torch.long),
        branch_T=torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts, dtype=torch.long)),
    )


def _mask(segments_BL: Tensor) -> Tensor:
    """Causal, and to the prefix or to the own branch only; a filled-up place sees itself, so that no row is empty."""
    size = segments_BL.shape[1]
    keys, queries = segments_BL[:, None, :], segments_BL[:, :, None]
    causal = torch.ones(size, size, dtype=torch.bool).tril()
    return (causal & ((keys == 0) | (keys == queries)))[:, None]


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
    """The states [T, H] that predict the targets."""
    output = model.model(
        input_ids=packed.input_ids,
        attention_mask=packed.attention_mask,
        position_ids=packed.position_ids,
        use_cache=False,
        **media,
    )
    return output.last_hidden_state[packed.state_row_T, packed.state_column_T]
