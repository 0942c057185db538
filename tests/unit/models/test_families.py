"""Every family, by a tiny model of its real architecture: names, scopes, image tokens, packed rows."""

import re

import pytest
import torch
from PIL import Image, ImageDraw

from masters.models.chat import ChatProcessor
from masters.models.checkpoint import load_model
from masters.models.folder import family_of, shapes
from masters.models.packing import Branch, Row, hidden_states, pack_rows, prompt_positions
from masters.models.prompts import PromptCounter
from masters.models.tiny_families import KINDS

pytestmark = pytest.mark.parametrize("kind", KINDS)

UNMASKED = {
    "qwen": r"embed_tokens|lm_head|patch_embed|pos_embed|mlp\.gate\.",
    "internvl": r"embed_tokens|lm_head|patch_embeddings|position_embeddings|cls_token|mlp\.gate\.",
}


def picture(seed, width, height):
    image = Image.new("RGB", (width, height), (40 * seed % 256, 90, 200))
    ImageDraw.Draw(image).ellipse((width // 4, height // 4, width // 2, height // 2), fill=(250, 30 * seed % 256, 20))
    return image


def question(images, text):
    return [{"role": "user", "content": [{"type": "image"}] * images + [{"type": "text", "text": text}]}]


def test_every_tensor_of_the_files_is_a_parameter_or_a_piece_of_one(make_family, kind):
    folder = make_family(kind)
    family, model = family_of(folder), load_model(folder, torch.float32)
    assert model.config.architectures == [family.architecture]
    covered = {name: [] for name, _ in model.named_parameters()}
    for name, shape in shapes(folder).items():
        piece = family.piece(name, torch.Size(shape).numel())
        covered[piece.parameter].append((piece.start, piece.start + piece.numel))
    for name, parameter in model.named_parameters():
        end = 0
        for start, stop in sorted(covered[name]):
            assert start == end, name
            end = stop
        assert end == parameter.numel(), name


def test_pieces_hold_what_transformers_puts_there(make_family, kind):
    from masters.models.checkpoint import tensors

    folder = make_family(kind)
    family = family_of(folder)
    parameters = dict(load_model(folder, torch.bfloat16).named_parameters())
    turned = family.experts.turned and family.experts.stacked
    for name, weight in tensors(folder, "model.safetensors"):
        piece = family.piece(name, weight.numel())
        part = parameters[piece.parameter].detach().flatten()[piece.start : piece.start + piece.numel]
        if turned and re.search(turned, name):
            weight = weight.transpose(1, 2)
        assert torch.equal(part, weight.flatten()), name


def test_scope_linear_leaves_out_embeddings_heads_and_routers(make_family, kind):
    folder = make_family(kind, "teacher")
    family = family_of(folder)
    out = re.compile(UNMASKED["internvl" if kind.startswith("internvl") else "qwen"])
    for name, shape in shapes(folder).items():
        expected = len(shape) >= 2 and not out.search(name)
        assert family.in_scope(name, shape, "linear") == expected, name
        tower = re.search(r"visual\.|vision_tower|multi_modal_projector", name)
        assert family.in_scope(name, shape, "language_model") == (expected and not tower), name


def test_packed_rows_are_rows_of_their_own(make_family, kind):
    """Rows with 2, 0 and 1 images; the reference is the library's own forward of what its processor makes."""
    folder = make_family(kind)
    chat, model = ChatProcessor(folder, family_of(folder)), load_model(folder, torch.float32).train()
    asked = [(2, "What are these?"), (0, "What is red?"), (1, "What is it?")]
    prompts, rows = [], []
    for number, (images, text) in enumerate(asked):
        shown = [picture(number + i, 90 + 30 * i, 120 - 20 * i) for i in range(images)]
        prompts.append(chat.encode(question(images, text), shown))
        branches = [Branch([11 + number, 20, 21, 30]), Branch([40, 41]), Branch([50, 51, 52, 53, 54, 55 + number])]
        rows.append(
            Row(prompts[-1].input_ids, prompt_positions(model, prompts[-1].input_ids, prompts[-1].media), branches)
        )
    media = [prompt.media for prompt in prompts if prompt.media]
    joined = {name: torch.cat([m[name] for m in media]) for name in media[0]}
    states = hidden_states(model, pack_rows(rows), joined)
    own = gradients(model, states)
    expected = by_the_library(folder, prompts, rows)
    scale = expected[0].abs().max()
    assert (states - expected[0]).abs().max() <= 1e-5 * scale
    largest = max(gradient.abs().max() for gradient in expected[1].values())
    assert own.keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        assert (own[name] - gradient).abs().max() <= 1e-5 * largest, name


def gradients(model, states):
    weights = torch.randn(states.shape, generator=torch.Generator().manual_seed(7))
    model.zero_grad(set_to_none=True)
    (states * weights).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def by_the_library(folder, prompts, rows):
    """States and gradients, one forward for each branch of each row."""
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa").train()
    states = []
    for prompt, row in zip(prompts, rows, strict=True):
        for branch in row.branches:
            ids = torch.cat([prompt.input_ids, torch.tensor(branch.ids)])[None]
            kinds = {}
            if "image_grid_thw" in prompt.media:
                kinds["mm_token_type_ids"] = (ids == model.config.image_token_id).int()
            if hasattr(model.model, "rope_deltas"):
                model.model.rope_deltas = None
            output = model.model(
                input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, **prompt.media, **kinds
            )
            states.append(output.last_hidden_state[0, len(prompt.input_ids) - 1 : -1])
    states = torch.cat(states)
    return states.detach(), gradients(model, states)


def test_tokens_of_prompts_are_counted_from_sizes(make_family, kind):
    folder = make_family(kind)
    chat, counter = ChatProcessor(folder, family_of(folder)), PromptCounter(folder, family_of(folder))
    sample = {"system": "Be brief.", "history": ["Hello?", "Yes."], "question": "What is <image> here?"}
    for width, height in [(1, 1), (40, 40), (56, 56), (57, 56), (300, 40), (40, 300), (112, 112), (640, 480), (199, 1)]:
        from masters.models.prompts import messages

        one = {**sample, "image_ids": ["a"]}
        encoded = chat.encode(messages(one), [picture(1, width, height)])
        assert counter.prompt(one, [(width, height)]) == len(encoded.input_ids), (width, height)
