"""Which ids no answer may hold, and that both of vLLM's model runners keep them out."""

from types import SimpleNamespace

import pytest
import torch
from vllm.v1.sample import logits_processor as v1
from vllm.v1.worker.gpu.sample.logits_processor import loader as v2

from masters.engines.allowed_tokens import PROCESSOR, excluded_ids, excluded_of

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("default")]


class Tokenizer:
    """As much of one as is asked."""

    def __init__(self, words, special=(), added=None, eos=None):
        self._words, self.all_special_ids, self.eos_token_id = words, list(special), eos
        self.added_tokens_decoder = {index: SimpleNamespace(special=is_) for index, is_ in (added or {}).items()}

    def get_vocab(self):
        return self._words


QWEN = {
    "a": 0,
    "b": 1,
    "<|endoftext|>": 4,
    "<|im_end|>": 5,
    "<|image_pad|>": 6,
    "<|video_pad|>": 7,
    "<think>": 8,
    "<|im_start|>": 9,
}


@pytest.mark.parametrize(
    ("words", "special", "ends", "rows", "excluded"),
    [
        ({0, 1, 2, 3}, (), (3,), 4, []),
        ({0, 1, 2, 3}, (), (3,), 6, [4, 5]),  # rows behind the last token
        ({0, 1, 3, 5}, (), (3,), 7, [2, 4, 6]),  # and between tokens
        ({0, 1, 2, 3}, (2, 3), (3,), 6, [2, 4, 5]),  # special ones, but the one that ends an answer
        ({0, 1, 2, 3, 9}, (9,), (3,), 4, []),  # a special token that the head has no row for
    ],
)
def test_ids_without_a_token_and_special_tokens_are_excluded(words, special, ends, rows, excluded):
    assert excluded_ids(words, special, ends, rows) == excluded


@pytest.mark.parametrize(
    ("tokenizer", "kind", "ends", "excluded"),
    [
        # vision tokens are special in any case, and the end of a turn ends an answer in any case
        (Tokenizer(QWEN, (5,), {4: True, 9: True, 8: False}, eos=5), "qwen2_5_vl", (), [2, 3, 4, 6, 7, 9, 10, 11]),
        (Tokenizer(QWEN, (4, 5, 9), eos=4), "qwen2_5_vl", (), [2, 3, 6, 7, 9, 10, 11]),
        (
            Tokenizer(QWEN, (4, 5, 9), eos=5),
            "qwen2_5_vl",
            (4, 5),
            [2, 3, 6, 7, 9, 10, 11],
        ),  # two ends, by the generation config
        (Tokenizer(QWEN, (4, 9), eos=4), "llama", (), [2, 3, 9, 10, 11]),  # of a family that is not known
    ],
)
def test_of_a_tokenizer(tokenizer, kind, ends, excluded):
    assert excluded_of(tokenizer, kind, ends, 12) == excluded


def test_the_shipped_pair(trained):
    from transformers import AutoTokenizer

    for folder in trained:
        excluded = excluded_of(AutoTokenizer.from_pretrained(folder), "qwen2_5_vl", (), 448)
        assert excluded == [0, 1, *range(3, 8), *range(424, 448)]


@pytest.fixture
def settings(trained, monkeypatch):
    """As much of vLLM's configuration as a processor reads."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(trained[0])
    monkeypatch.setattr("vllm.tokenizers.cached_tokenizer_from_config", lambda _: tokenizer)
    model = SimpleNamespace(
        hf_config=SimpleNamespace(model_type="qwen2_5_vl"),
        get_vocab_size=lambda: 448,
        try_get_generation_config=lambda: {"eos_token_id": 2},
    )
    return SimpleNamespace(model_config=model, speculative_config=None)


@pytest.mark.parametrize("runner", ["first", "second"])
def test_both_of_vllms_runners_take_it(settings, runner):
    device = torch.device("cpu")
    if runner == "first":
        (kind,) = v1._load_logitsprocs_by_fqcns([PROCESSOR])
        processor, more = kind(settings, device, False), ()
        assert not processor.is_argmax_invariant()
        processor.update_state(None)
    else:
        (kind,) = v2._load_v2_logitsprocs_by_fqcns([PROCESSOR])
        processor, more = kind(settings, SimpleNamespace(device=device)), (object(),)
        assert processor.add_request(0, None)
    logits = torch.randn(3, 448)
    changed = processor.apply(logits.clone(), *more)
    kept = torch.ones(448, dtype=torch.bool)
    kept[[0, 1, *range(3, 8), *range(424, 448)]] = False
    assert torch.equal(changed[:, kept], logits[:, kept])
    assert (changed[:, ~kept] == -torch.inf).all()
