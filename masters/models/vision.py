"""The image tower as it is trained: windows of a layer in one batch, patches embedded by a matrix product.

transformers calls attention once per window and waits for the device in every layer, and embeds patches by a Conv3d whose
kernel is the whole patch, which is slow, and was reported broken in bf16 on the cuDNN of torch 2.13.
"""

import copy
import inspect
from itertools import pairwise
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from masters.models.varlen import Part, Plan, attend, fused, whole

NAME = "masters_flash_windows"
"""transformers hands all windows of a layer at once to implementations with "flash" in their names."""

_plans = WeakTensorKeyDictionary()
"""Plan of each tensor of window borders; the same two tensors go through all layers of a forward."""


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    cu_seq_lens_q: Tensor,
    max_length_q: int,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention [1, T, heads, D] within windows that lie one behind the other.

    Args:
        module: the attention layer.
        query: [1, heads, T, D].
        key: as query.
        value: as query.
        attention_mask: None.
        scaling: of the scores.
        cu_seq_lens_q: where windows begin and end, [W + 1] int32.
        max_length_q: of the longest window.
        others: what transformers hands to every implementation.
    """
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    if fused(q):
        calls = whole(cu_seq_lens_q, max_length_q)
    else:
        if cu_seq_lens_q not in _plans:
            borders = cu_seq_lens_q.tolist()
            windows = tuple((start, end - start) for start, end in pairwise(borders))
            _plans[cu_seq_lens_q] = Plan((Part(windows, windows, causal=False),))
        calls = _plans[cu_seq_lens_q].calls(q)
    return attend(q, k, v, calls, scaling)[None], None


class _PatchLinear(nn.Conv3d):
    """A Conv3d over patches of just its kernel's size, computed as the matrix product that it is."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """[N, out, 1, 1, 1] of [N, in, *kernel]; of larger inputs what a Conv3d makes of them."""
        if input.shape[2:] != self.kernel_size:
            return super().forward(input)
        out = F.linear(input.flatten(1), self.weight.flatten(1), self.bias)
        return out[..., None, None, None]


def attach(model: Any) -> None:
    """Let the image tower of a loaded model work so; weights, their names and shapes stay what they were.

    Towers without windows, which see equal tiles in a batch, attend as torch does.
    """
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attention)
    shared = model.config.vision_config
    # A copy: from a model's own config others are built, and transformers would look for a flash-attention package.
    own = copy.copy(shared)
    own._attn_implementation = NAME
    windows = any("cu_seqlens" in inspect.signature(module.forward).parameters for module in model.modules())
    for module in model.modules():
        if windows and getattr(module, "config", None) is shared:
            module.config = own
        if type(module) is nn.Conv3d and module.stride == module.kernel_size and module.groups == 1:
            module.__class__ = _PatchLinear
