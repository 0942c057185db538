"""A vLLM logits processor for all requests of an engine: ids that no answer may hold are never sampled.

vLLM makes one in every worker process, since `PROCESSOR` names it. It is written for both of vLLM's model runners: the older
one, which CPUs have, and the newer one (V2), which GPUs have by default; each has an interface of its own.
"""

from collections.abc import Collection, Iterable
from typing import Any

import torch
from torch import Tensor
from vllm.v1.sample.logits_processor import BatchUpdate
from vllm.v1.sample.logits_processor import LogitsProcessor as FirstProcessor
from vllm.v1.worker.gpu.sample.logits_processor.interface import LogitsProcessor as SecondProcessor

from masters.families import FAMILIES

PROCESSOR = "masters.engines.allowed_tokens:AllowedTokens"


def excluded_ids(words: Collection[int], special: Iterable[int], ends: Iterable[int], rows: int) -> list[int]:
    """Ids that are never sampled: rows of the head that no token stands for, and special tokens but those that end an answer.

    Training drops responses with ids behind the tokenizer's last one; these are among them.

    Args:
        words: ids of all tokens of the tokenizer, added ones included.
        special: of those, the ones that no text is made of. Added tokens that are not special, as `<think>`, are words.
        ends: ids that end an answer.
        rows: of the output head.
    """
    outside = set(range(rows)).difference(words)
    return sorted(outside | {index for index in special if index < rows}.difference(ends))


def excluded_of(tokenizer: Any, kind: str, ends: Iterable[int], rows: int) -> list[int]:
    """The same of a Hugging Face tokenizer.

    Args:
        tokenizer: of the model.
        kind: the model's `model_type`. Image tokens of a family that Masters knows are special in any case.
        ends: ids that end an answer as the model's generation config has them, beside the tokenizer's and the family's.
        rows: of the output head.
    """
    words = tokenizer.get_vocab()
    special, last = {*tokenizer.all_special_ids}, {*ends, tokenizer.eos_token_id}
    special |= {index for index, token in getattr(tokenizer, "added_tokens_decoder", {}).items() if token.special}
    if family := FAMILIES.get(kind):
        last.add(words.get(family.end_of_turn))
        special |= {words[token] for token in family.vision_tokens if token in words}
    return excluded_ids(set(words.values()), special, last, rows)


class AllowedTokens(FirstProcessor, SecondProcessor):
    """Sets the logits of excluded ids to -inf, in place and for the whole batch: a few columns of [B, V]."""

    def __init__(self, vllm_config: Any, device_or_requests: Any, is_pin_memory: bool = False):
        from vllm.tokenizers import cached_tokenizer_from_config

        device = getattr(device_or_requests, "device", device_or_requests)
        model = vllm_config.model_config
        ends = model.try_get_generation_config().get("eos_token_id") or ()
        excluded = excluded_of(
            cached_tokenizer_from_config(model),
            model.hf_config.model_type,
            [ends] if isinstance(ends, int) else ends,
            model.get_vocab_size(),
        )
        self._excluded = torch.tensor(excluded, dtype=torch.int64, device=device)

    def apply(self, logits: Tensor, *_: Any) -> Tensor:
        """Of all rows [B, V], whatever was asked."""
        return logits.index_fill_(1, self._excluded, -torch.inf)

    def is_argmax_invariant(self) -> bool:
        """Greedy answers are made of real tokens, too."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Requests do not differ."""
