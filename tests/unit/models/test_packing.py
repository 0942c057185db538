"""Packed rows against one row per branch with the image repeated, as the library's own model runs them."""

from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForImageTextToText

from masters.data.sources.charts import scene
from masters.families.qwen2_5_vl import QWEN2_5_VL
from masters.models import varlen, vision
from masters.models.chat import ChatProcessor
from masters.models.checkpoint import load_model
from masters.models.packing import Branch, Row, hidden_states, pack_rows, prompt_positions
from tests.unit.models import flash_stand_in

BATCHES = {  # of each row: images of its prompt, lengths of its branches in tokens
    "two rows of two lengths": [(1, (3, 9, 5)), (1, (4,))],
    "the second without an image": [(1, (3, 9, 5)), (0, (4, 4))],
    "the first without an image": [(0, (2, 7)), (1, (4,))],
    "two images": [(2, (6, 6, 6)), (1, (60, 2))],
    "branches of one token": [(1, (1, 1, 1)), (0, (1,))],
    "a row without branches": [(1, ()), (1, (3, 2)), (0, ())],
    "longer than can be filled up": [(1, (120, 90, 40, 33, 2, 1))],
}
TOLERANCE = {torch.float32: 1e-5, torch.float64: 5e-7}  # norms and rotations run in fp32 inside transformers


@pytest.fixture(scope="module", params=TOLERANCE, ids=str)
def models(make_model, request):
    """(the library's model, ours, chat)."""
    folder, dtype = make_model("student", 5), request.param
    plain = AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa")
    return plain, load_model(folder, dtype), ChatProcessor(folder, QWEN2_5_VL)


def rows_of(chat, model, batch):
    """(rows, media of each) with random answers."""
    draw, rows, media = torch.Generator().manual_seed(3), [], []
    for index, (images, lengths) in enumerate(batch):
        content = [{"type": "image"}] * images + [{"type": "text", "text": "What is it? " * (index + 1)}]
        prompt = chat.encode([{"role": "user", "content": content}], [scene(0, index + k).image for k in range(images)])
        branches = [Branch(torch.randint(10, 300, (length,), generator=draw).tolist()) for length in lengths]
        rows.append(Row(prompt.input_ids, prompt_positions(model, prompt.input_ids, prompt.media), branches))
        media.append({k: v.to(model.dtype) if v.is_floating_point() else v for k, v in prompt.media.items()})
    return rows, media


def joined(media):
    some = [m for m in media if m]
    return {key: torch.cat([m[key] for m in some]) for key in some[0]} if some else {}


def apart(model, rows, media):
    """What the library computes of one row per branch."""
    states = []
    for row, pixels in zip(rows, media, strict=True):
        for branch in row.branches:
            ids = torch.cat([row.prefix, torch.tensor(branch.ids)])[None]
            output = model.model(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                mm_token_type_ids=(ids == model.config.image_token_id).int(),
                use_cache=False,
                **pixels,
            )
            states.append(output.last_hidden_state[0, len(row.prefix) - 1 : -1])
    return torch.cat(states)


def backward(model, states):
    """Gradients of every parameter, of some weighted sum of the states."""
    model.zero_grad()
    (states * torch.linspace(-1, 1, states.numel(), dtype=states.dtype).view_as(states)).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@torch.no_grad()
def difference(found, expected):
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_states_and_gradients_are_those_of_one_row_per_branch(models, batch, checkpointing):
    plain, ours, chat = models
    rows, media = rows_of(chat, plain, batch)
    tolerance = TOLERANCE[ours.dtype]
    (ours.gradient_checkpointing_enable if checkpointing else ours.gradient_checkpointing_disable)()
    together = hidden_states(ours.train(checkpointing), pack_rows(rows), joined(media))
    expected = apart(plain, rows, media)
    assert difference(together, expected) < tolerance
    found, wanted = backward(ours, together), backward(plain, expected)
    largest = max(float(gradient.abs().max()) for gradient in wanted.values())
    used = {name for name, gradient in wanted.items() if gradient.abs().max() > 1e-9 * largest}
    assert set(found) >= set(wanted)
    assert len(used) >= 0.9 * len(wanted)  # biases of keys cannot matter
    for name, gradient in wanted.items():
        scale = gradient.abs().max() if name in used else largest
        assert float((found[name] - gradient).abs().max() / scale) < tolerance, name


def test_with_a_kernel_for_unequal_lengths_they_are_too(models, monkeypatch):
    plain, ours, chat = models
    flash_stand_in.put(monkeypatch)
    monkeypatch.setattr(varlen, "fused", lambda q: True)
    monkeypatch.setattr(vision, "fused", lambda q: True)
    rows, media = rows_of(chat, plain, BATCHES["a row without branches"])
    together, expected = hidden_states(ours, pack_rows(rows), joined(media)), apart(plain, rows, media)
    assert difference(together, expected) < TOLERANCE[ours.dtype]
    found, wanted = backward(ours, together), backward(plain, expected)
    assert (
        difference(*(torch.cat([g.flatten() for g in part.values()]) for part in (found, wanted)))
        < TOLERANCE[ours.dtype]
    )


def test_positions_that_do_not_restart_are_told_apart(models):
    """The comparison is one that can fail."""
    plain, ours, chat = models
    rows, media = rows_of(chat, plain, BATCHES["two rows of two lengths"])
    packed = pack_rows(rows)
    length = packed.input_ids.shape[1]
    wrong = replace(packed, position_ids=torch.arange(length).expand(3, 1, -1))
    expected = apart(plain, rows, media)
    assert difference(hidden_states(ours, wrong, joined(media)), expected) > 1e-2


def test_in_bf16_states_and_gradients_are_as_near_as_the_library_s(make_model):
    """Both against fp32: neither way of summing rounds more than the other."""
    folder = make_model("student", 5)
    chat = ChatProcessor(folder, QWEN2_5_VL)
    exact, plain = (
        AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa")
        for dtype in (torch.float32, torch.bfloat16)
    )
    rows, media = rows_of(chat, exact, BATCHES["two rows of two lengths"])
    ours = load_model(folder, torch.bfloat16)
    halves = [{k: v.bfloat16() if v.is_floating_point() else v for k, v in m.items()} for m in media]
    computed = {
        "fp32": (exact, apart(exact, rows, media)),
        "ours": (ours, hidden_states(ours, pack_rows(rows), joined(halves))),
        "library": (plain, apart(plain, rows, halves)),
    }
    found = {
        name: [states.detach().float().flatten(), torch.cat([g.float().flatten() for g in backward(*made).values()])]
        for name, made in computed.items()
        for states in [made[1]]
    }
    for part in (0, 1):
        errors = {name: float((found[name][part] - found["fp32"][part]).norm()) for name in ("ours", "library")}
        print(errors)
        assert 0 < errors["ours"] < 1.25 * errors["library"], (part, errors)


def test_a_loaded_model_neither_convolves_nor_loops_over_windows(models, monkeypatch):
    plain, ours, chat = models
    rows, media = rows_of(chat, plain, [(1, (2,)), (2, (3, 1))])
    called, attend = [], vision.attend
    monkeypatch.setattr(vision, "attend", lambda *given: called.append(1) or attend(*given))
    monkeypatch.setattr(torch.nn.Conv3d, "forward", lambda *_: pytest.fail("convolved"))
    with torch.no_grad():
        hidden_states(ours, pack_rows(rows), joined(media))
    assert len(called) == len(ours.model.visual.blocks)


def test_recomputed_activations_change_no_bit(models):
    plain, ours, chat = models
    rows, media = rows_of(chat, plain, BATCHES["two images"])
    gradients = []
    for switch in (ours.gradient_checkpointing_disable, ours.gradient_checkpointing_enable):
        switch()
        gradients.append(backward(ours, hidden_states(ours.train(), pack_rows(rows), joined(media))))
    assert all(torch.equal(gradients[0][name], gradient) for name, gradient in gradients[1].items())


def test_what_is_saved_says_nothing_of_how_it_was_trained(models, tmp_path):
    _, ours, _ = models
    ours.save_pretrained(tmp_path)
    assert "masters" not in (tmp_path / "config.json").read_text()


def test_a_model_that_was_not_prepared_is_refused(models):
    plain, _, chat = models
    rows, media = rows_of(chat, plain, [(1, (2, 2))])
    with pytest.raises(ValueError, match="not prepared for packed rows"):
        hidden_states(plain, pack_rows(rows), joined(media))


def test_a_model_that_attends_in_windows_is_refused(models):
    plain, ours, chat = models
    rows, media = rows_of(chat, plain, [(1, (2, 2))])
    layer = ours.model.language_model.layers[0].self_attn
    layer.sliding_window = 16
    try:
        with pytest.raises(ValueError, match="sliding_window"):
            hidden_states(ours, pack_rows(rows), joined(media))
    finally:
        layer.sliding_window = None


def test_targets_and_the_states_that_predict_them():
    positions = torch.arange(3)[None]
    rows = [
        Row(torch.tensor([7, 8, 9]), positions, [Branch([1, 2]), Branch([3, 4, 5], first_target=2)]),
        Row(torch.tensor([7, 8]), positions[:, :2], [Branch([6])]),
    ]
    packed = pack_rows(rows)
    assert packed.input_ids.tolist() == [[7, 8, 9, 1, 2, 3, 4, 5, 7, 8, 6]]
    assert packed.target_T.tolist() == [1, 2, 5, 6]
    assert packed.state_T.tolist() == [2, 3, 6, 9]
    assert packed.branch_T.tolist() == [0, 0, 1, 2]
    assert packed.position_ids.tolist() == [[[0, 1, 2, 3, 4, 3, 4, 5, 0, 1, 2]]]


def test_a_row_without_branches_has_no_target():
    packed = pack_rows([Row(torch.tensor([7, 8]), torch.arange(2)[None], [])])
    assert packed.target_T.numel() == packed.state_T.numel() == packed.branch_T.numel() == 0
