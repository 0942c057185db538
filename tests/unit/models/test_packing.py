"""Packed rows against one row per branch with the image repeated, as the model itself would be run, in float64."""

import pytest
import torch

from masters.data.sources.charts import scene
from masters.families.qwen2_5_vl import QWEN2_5_VL
from masters.models.chat import ChatProcessor
from masters.models.checkpoint import load_model
from masters.models.packing import Branch, Row, hidden_states, pack_rows, prompt_positions


@pytest.fixture(scope="module")
def model_and_chat(make_model):
    folder = make_model("student", 5)
    return load_model(folder, torch.float64), ChatProcessor(folder, QWEN2_5_VL)


def prompts(chat, texts, with_images):
    encoded = []
    for index, (text, image) in enumerate(zip(texts, with_images, strict=True)):
        content = [{"type": "image"}] * image + [{"type": "text", "text": text}]
        encoded.append(
            chat.encode([{"role": "user", "content": content}], [scene(0, index + k).image for k in range(image)])
        )
    return encoded


def joined(media):
    some = [m for m in media if m]
    return {key: torch.cat([m[key] for m in some]) for key in some[0]} if some else {}


@pytest.mark.parametrize("with_images", [(1, 1), (1, 0), (0, 1), (2, 1)])
def test_hidden_states_and_gradients_equal_one_row_per_branch(model_and_chat, with_images):
    model, chat = model_and_chat
    asked = prompts(chat, ["What colour is the circle?", "How many?"], with_images)
    answers = [["red", "The circle is red.", "It is."], ["4"]]
    branches = [[Branch(chat.answer_ids(a)) for a in group] for group in answers]
    rows = [
        Row(p.input_ids, prompt_positions(model, p.input_ids, p.media), b) for p, b in zip(asked, branches, strict=True)
    ]
    packed = pack_rows(rows, chat.tokenizer.pad_token_id)
    media = joined([p.media for p in asked])

    model.zero_grad()
    together = hidden_states(model, packed, {k: v.double() if v.is_floating_point() else v for k, v in media.items()})
    weights = torch.linspace(-1, 1, together.numel(), dtype=torch.float64).view_as(together)
    (together * weights).sum().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    model.zero_grad()
    apart = []
    for prompt, group in zip(asked, branches, strict=True):
        for branch in group:
            ids = torch.cat([prompt.input_ids, torch.tensor(branch.ids)])[None]
            output = model.model(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                mm_token_type_ids=(ids == model.config.image_token_id).int(),
                use_cache=False,
                **{k: v.double() if v.is_floating_point() else v for k, v in prompt.media.items()},
            )
            apart.append(output.last_hidden_state[0, len(prompt.input_ids) - 1 : -1])
    apart = torch.cat(apart)
    (apart * weights).sum().backward()

    assert torch.allclose(together, apart, rtol=1e-5, atol=1e-6)  # norms and rotations run in fp32 inside transformers
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            scale = parameter.grad.abs().max().clamp_min(1e-9)
            assert ((gradients[name] - parameter.grad).abs().max() / scale) < 1e-4, name


def test_targets_and_the_states_that_predict_them():
    positions = torch.arange(3)[None]
    rows = [
        Row(torch.tensor([7, 8, 9]), positions, [Branch([1, 2]), Branch([3, 4, 5], first_target=2)]),
        Row(torch.tensor([7, 8]), positions[:, :2], [Branch([6])]),
    ]
    packed = pack_rows(rows, pad=0)
    assert packed.input_ids.tolist() == [[7, 8, 9, 1, 2, 3, 4, 5], [7, 8, 6, 0, 0, 0, 0, 0]]
    assert packed.target_T.tolist() == [1, 2, 5, 6]
    assert list(zip(packed.state_row_T.tolist(), packed.state_column_T.tolist(), strict=True)) == [
        (0, 2),
        (0, 3),
        (0, 6),
        (1, 1),
    ]
    assert packed.branch_T.tolist() == [0, 0, 1, 2]
    assert packed.position_ids[0].tolist() == [[0, 1, 2, 3, 4, 3, 4, 5], [0, 1, 2, 0, 0, 0, 0, 0]]


def test_branches_do_not_see_each_other():
    row = Row(torch.tensor([7, 8]), torch.arange(2)[None], [Branch([1, 2]), Branch([3])])
    mask = pack_rows([row], pad=0).attention_mask[0, 0].int().tolist()
    assert mask == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],
    ]


def test_a_row_without_branches_has_no_target():
    packed = pack_rows([Row(torch.tensor([7, 8]), torch.arange(2)[None], [])], pad=0)
    assert packed.target_T.numel() == packed.state_row_T.numel() == packed.branch_T.numel() == 0
