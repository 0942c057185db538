"""Batches joined for a model that is only asked, against each batch on its own."""

import pytest
import torch

from masters.families.qwen2_5_vl import QWEN2_5_VL
from masters.models.chat import ChatProcessor
from masters.models.checkpoint import load_model
from masters.models.joining import in_pieces, join, join_media
from masters.models.packing import hidden_states, pack_rows
from tests.unit.models.test_packing import BATCHES, joined, rows_of


@pytest.fixture(scope="module")
def batches(make_model):
    """(folder, packed batches, media of each): every batch holds an image, as a collator sees to it."""
    folder = make_model("student", 5)
    model, chat = load_model(folder, torch.float64), ChatProcessor(folder, QWEN2_5_VL)
    made = [rows_of(chat, model, batch) for batch in BATCHES.values()]
    return folder, [pack_rows(rows) for rows, _ in made], [joined(media) for _, media in made]


@torch.no_grad()
@pytest.mark.parametrize("tokens", [1 << 14, 7])
def test_joined_batches_have_the_states_of_each(batches, tokens):
    """However many tokens an MLP takes at once."""
    folder, packs, media = batches
    model = load_model(folder, torch.float64)
    each = [hidden_states(model, pack, pixels) for pack, pixels in zip(packs, media, strict=True)]
    in_pieces(model, tokens)
    seen = []
    layer = model.model.language_model.layers[0].mlp
    layer.register_forward_hook(lambda *_: seen.append("once"))
    layer.gate_proj.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[-2]))
    together = hidden_states(model, join(packs), join_media(media))
    assert seen.count("once") == 1  # all batches went through at once, in pieces
    assert max(size for size in seen if size != "once") <= tokens
    assert torch.allclose(together, torch.cat(each), atol=5e-7)


def test_joined_batches_say_what_was_packed_together(batches):
    _, packs, _ = batches
    whole = join(packs)
    start = branch = token = 0
    for pack in packs:
        length, count = pack.input_ids.shape[1], len(pack.target_T)
        assert torch.equal(whole.input_ids[:, start : start + length], pack.input_ids)
        assert torch.equal(whole.position_ids[..., start : start + length], pack.position_ids)
        assert torch.equal(whole.state_T[token : token + count] - start, pack.state_T)
        assert torch.equal(whole.branch_T[token : token + count] - branch, pack.branch_T)
        start, token, branch = start + length, token + count, int(whole.branch_T[token + count - 1]) + 1
