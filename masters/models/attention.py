"""Attention of packed rows without a mask over all pairs of tokens, as an implementation that transformers calls.

Every segment (a prefix, or a branch behind it) is causal in itself; branches see their prefix as well, whole.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from masters.models.varlen import Part, Plan, Span, attend

NAME = "masters_shared_prefix"


def plan_of(rows: Sequence[tuple[int, Sequence[int]]]) -> Plan:
    """How packed rows attend.

    Args:
        rows: lengths of each row's prefix and of its branches, at least 1 each; rows lie one behind the other.
    """
    segments: list[Span] = []
    branches: list[Span] = []
    prefixes: list[Span] = []
    start = 0
    for prefix, lengths in rows:
        segments.append((start, prefix))
        behind = start + prefix
        if lengths:
            prefixes.append((start, prefix))
            branches.append((behind, sum(lengths)))
        start = behind
        for length in lengths:
            segments.append((start, length))
            start += length
    own = Part(tuple(segments), tuple(segments), causal=True)
    return Plan((own, Part(tuple(branches), tuple(prefixes), causal=False)) if branches else (own,))


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    dropout: float = 0.0,
    plan: Plan | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention [1, T, heads, D] of packed rows; without a plan (the model generates, say) that of torch.

    Args:
        module: the attention layer.
        query: [1, heads, T, D].
        key: [1, fewer or as many heads, T, D].
        value: as key.
        attention_mask: None where there is a plan.
        scaling: of the scores.
        dropout: of weights; 0 where there is a plan.
        plan: of the rows that lie in T.
        others: what transformers hands to every implementation.

    Raises:
        ValueError: for what a plan does not know: masks, dropout and windows.
    """
    if plan is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **others
        )
    for name, value_given in {
        "attention_mask": attention_mask,
        "attention_dropout": dropout or None,
        "sliding_window": others.get("sliding_window"),
    }.items():
        if value_given is not None:
            raise ValueError(f"{name}: packed rows are trained without it; take it out of the model's config.json")
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    return attend(q, k, v, plan.calls(q), scaling)[None], None


def padding_mask(*sizes: Any, attention_mask: Tensor | None = None, **others: Any) -> Tensor | None:
    """What transformers asks for before the first layer: a mask where a batch is filled up (the model generates), else None.

    Packed rows go by their plan. transformers would take positions that begin anew for packing of its own, and make a mask.
    """
    from transformers.masking_utils import sdpa_mask

    return None if attention_mask is None else sdpa_mask(*sizes, attention_mask=attention_mask, **others)


def attach(model: Any) -> None:
    """Let the language model of a loaded model attend by plans."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, padding_mask)
    model.config.get_text_config()._attn_implementation = NAME


def check_attached(model: Any) -> None:
    """Raise ValueError for a model that would pass over plans in silence, and let branches see each other."""
    if model.config.get_text_config()._attn_implementation != NAME:
        raise ValueError(
            "the model was not prepared for packed rows: load it with masters.models.checkpoint.load_model"
        )
