"""Eight responses to a question in one shared-prefix row, against one row per response with the image repeated: CPU time.

Forward and backward of the hidden states of a small Qwen2.5-VL with windows in its image tower, in fp32 on one thread. One row
per response is taken both through the library's own model, as trainers that know nothing of groups do, and through ours. All
hidden states and gradients are the same, which is checked.
"""

import copy
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from masters.models.checkpoint import attach
from masters.models.packing import Branch, Row, hidden_states, pack_rows, prompt_positions
from masters.models.tiny import MERGE, PATCH, TinySize, build_model, build_tokenizer

RESPONSES, QUESTION, ROUNDS = 8, 24, 3
SIZES = [(8, 16), (16, 16), (16, 64), (16, 256), (24, 32)]
"""Image tokens of a side, and tokens of each response."""
MODEL = TinySize(hidden=256, layers=4, vision_hidden=128, vision_layers=3, init=0.05)
"""An image token costs the tower nine tenths of what it costs the language model, as in a Qwen2.5-VL of 3B."""


def make_models() -> tuple[Any, Any]:
    """(the library's model, ours) with the same weights; layers of the tower but the last attend in windows of 8 x 8."""
    plain = build_model(MODEL, build_tokenizer(), 0).train()
    plain.model.visual.fullatt_block_indexes, plain.model.visual.window_size = [2], 8 * PATCH
    ours = copy.deepcopy(plain)
    attach(ours)
    return plain, ours


def seconds(models: tuple[Any, Any], side: int, length: int, rounds: int = ROUNDS) -> dict[str, list[float]]:
    """CPU seconds of each layout in each round, behind one that does not count.

    Args:
        models: of `make_models`.
        side: the image has side * side tokens.
        length: of each of eight responses, in tokens.
        rounds: all layouts in turn in each.
    """
    plain, ours = models
    prefix, media = _prompt(plain, side)
    draw = torch.Generator().manual_seed(1)
    branches = [Branch(torch.randint(10, 300, (length,), generator=draw).tolist()) for _ in range(RESPONSES)]
    repeated = {name: torch.cat([value] * RESPONSES) for name, value in media.items()}
    shared = pack_rows([replace(prefix, branches=branches)])
    rows = pack_rows([replace(prefix, branches=[branch]) for branch in branches])
    layouts: dict[str, tuple[Any, Callable[[], Tensor]]] = {
        "row per response, library": (plain, lambda: _library(plain, prefix, branches, repeated)),
        "row per response": (ours, lambda: hidden_states(ours, rows, repeated)),
        "shared prefix": (ours, lambda: hidden_states(ours, shared, media)),
    }
    spent: dict[str, list[float]] = {name: [] for name in layouts}
    for number in range(rounds + 1):
        found = []
        for name, (model, states) in layouts.items():
            model.zero_grad()
            began = time.process_time()
            result = states()
            (result * torch.linspace(-1, 1, result.numel()).view_as(result)).sum().backward()
            if number:
                spent[name].append(time.process_time() - began)
            found.append((result.detach(), {n: p.grad for n, p in model.model.named_parameters()}))
        for states_, gradients in found[1:]:
            torch.testing.assert_close(states_, found[0][0], rtol=1e-4, atol=1e-4)
            for name, gradient in found[0][1].items():
                atol = 1e-4 * float(gradient.abs().max())
                torch.testing.assert_close(gradients[name], gradient, rtol=0, atol=atol, msg=name)
    return spent


def ratios(spent: dict[str, list[float]], slow: str) -> list[float]:
    """How many times as long as the shared prefix another layout took, in each round."""
    return [one / other for one, other in zip(spent[slow], spent["shared prefix"], strict=True)]


def _prompt(model: Any, side: int) -> tuple[Row, dict[str, Tensor]]:
    config, draw = model.config, torch.Generator().manual_seed(0)
    grid = torch.tensor([[1, side * MERGE, side * MERGE]])
    media = {
        "pixel_values": torch.randn(int(grid.prod()), 3 * 2 * PATCH**2, generator=draw),
        "image_grid_thw": grid,
    }
    image = [config.vision_start_token_id, *[config.image_token_id] * side**2, config.vision_end_token_id]
    ids = torch.cat([torch.tensor(image), torch.randint(10, 300, (QUESTION,), generator=draw)])
    return Row(ids, prompt_positions(model, ids, media), ()), media


def _library(model: Any, prefix: Row, branches: Sequence[Branch], media: dict[str, Tensor]) -> Tensor:
    """As one would without packing: a batch of whole rows, positions and masks made by the model."""
    ids = torch.stack([torch.cat([prefix.prefix, torch.tensor(branch.ids)]) for branch in branches])
    output = model.model(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        mm_token_type_ids=(ids == model.config.image_token_id).int(),
        use_cache=False,
        **media,
    )
    return output.last_hidden_state[:, len(prefix.prefix) - 1 : -1].flatten(0, 1)


def main() -> None:
    """All sizes in turn."""
    torch.set_num_threads(1)
    models = make_models()
    for side, length in SIZES:
        spent = seconds(models, side, length)
        times = ", ".join(f"{name} {statistics.median(values):.2f}" for name, values in spent.items())
        found = [ratios(spent, slow) for slow in ("row per response, library", "row per response")]
        library, own = (f"{statistics.median(r):.1f} ({min(r):.1f} to {max(r):.1f})" for r in found)
        print(
            f"{side * side} image tokens, {RESPONSES} x {length}: {times} CPU-s; "
            f"one row per response takes {library} times as long in the library's model, {own} in ours"
        )


if __name__ == "__main__":
    main()
