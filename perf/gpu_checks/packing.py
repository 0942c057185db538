"""Packed rows and windows of the tower against the library's own model, which is given one row per answer."""

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from masters.models.checkpoint import attach
from masters.models.packing import Row, hidden_states
from perf.gpu_checks.lines import Line, check, timing
from perf.gpu_checks.machine import DEVICE, difference, distance, seconds, sized
from perf.gpu_checks.models import QWEN_3B, Grid, Shape, build, joined, packed, prompt

SHAPE = sized(
    Shape(512, 4, 4, 2, 1024, 2048, 2000, True, 320, 4, 4, 640, (1, 3), init=0.05),
    Shape(64, 2, 2, 1, 128, 512, 500, True, 64, 3, 2, 96, (1,), head=32, init=0.1),
)
BATCH: Sequence[tuple[Sequence[Grid], Sequence[int]]] = sized(
    [([(23, 17)], (200, 64, 150, 1)), ([], (90, 90)), ([(16, 16), (9, 30)], (128, 2)), ([(5, 40)], (77, 33, 64))],
    [([(6, 7)], (30, 9, 5, 1)), ([], (4, 4)), ([(4, 4), (3, 9)], (60, 2))],
)
"""Of each row: grids of its images, and lengths of its answers."""
BOUND_FP32 = 1e-4
"""Of each parameter's gradient, relative to its largest number."""
BOUND_BF16, BOUND_BF16_EACH = 1.5, 3.0
"""How much further from fp32 than the library's bf16 ours may be: all gradients together, and each parameter's."""
BOUND_TOWER = 0.04
"""Of the features as a whole: 0.011 through 32 narrow layers with gains of a 3B's, on a CPU; 0.2 with wrong windows."""
TOWER = sized((QWEN_3B, [(32, 32)] * 4), (SHAPE, [(12, 12)] * 2))


def library(model: Any, rows: Sequence[Row], media: Sequence[dict[str, Tensor]]) -> Tensor:
    """States that predict the answers, one row per answer."""
    states = []
    for row, pixels in zip(rows, media, strict=True):
        for branch in row.branches:
            ids = torch.cat([row.prefix, torch.tensor(branch.ids)])[None].to(DEVICE)
            output = model.model(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                mm_token_type_ids=(ids == model.config.image_token_id).int(),
                use_cache=False,
                **pixels,
            )
            states.append(output.last_hidden_state[0, len(row.prefix) - 1 : -1])
    return torch.cat(states)


def backward(model: Any, states: Tensor) -> dict[str, Tensor]:
    """The states, and gradients of every parameter, of some weighted sum of them."""
    weights = torch.linspace(-1, 1, states.numel(), device=DEVICE).view_as(states)
    (states.float() * weights).sum().backward()
    found = {n: p.grad for n, p in model.model.named_parameters() if p.grad is not None}
    model.zero_grad()  # they are no longer the model's, which may be cast
    return {"states": states.detach()} | found


def pair(dtype: torch.dtype, shape: Shape = SHAPE) -> tuple[Any, Any]:
    """(the library's model, ours with its activations recomputed), with the same weights."""
    plain = build(shape, dtype, 1)
    ours = copy.deepcopy(plain)
    attach(ours)
    ours.gradient_checkpointing_enable({"use_reentrant": False})
    return plain, ours


def compared() -> Iterator[Line]:
    """In fp32, every parameter; in bf16, how far from the library's fp32 ours is and the library's bf16 is."""
    plain, ours = pair(torch.float32)
    rows, media = zip(*(prompt(plain, grids, 11, answers) for grids, answers in BATCH), strict=True)
    exact = backward(plain, library(plain, rows, media))
    found = backward(ours, hidden_states(ours, packed(rows), joined(media)))
    largest = max(float(gradient.abs().max()) for gradient in exact.values())
    used = {name for name, gradient in exact.items() if gradient.abs().max() > 1e-6 * largest}  # biases of keys are not
    yield check(
        "packed rows, fp32, recomputed activations",
        "one row per answer, library",
        states=(difference(found["states"], exact["states"]), BOUND_FP32),
        worst_gradient=(max(difference(found[name], exact[name]) for name in used), BOUND_FP32),
        missing=(len(exact.keys() - found.keys()), 0),
    )
    plain, ours = (model.bfloat16() for model in (plain, ours))
    _restore_rotations(plain, ours)
    halves = [{name: v.bfloat16() if v.is_floating_point() else v for name, v in m.items()} for m in media]
    rough = backward(plain, library(plain, rows, halves))
    found = backward(ours, hidden_states(ours, packed(rows), joined(halves)))
    states = [distance({"": one["states"]}, {"": exact["states"]}) for one in (found, rough)]
    gradients = [distance(_gradients(one, used), _gradients(exact, used)) for one in (found, rough)]
    each = [distance({"": found[n]}, {"": exact[n]}) / distance({"": rough[n]}, {"": exact[n]}) for n in used]
    yield check(
        f"packed rows, bf16, times the library's error ({states[1]:.2g}, {gradients[1]:.2g})",
        "fp32",
        states=(states[0] / states[1], BOUND_BF16),
        gradients=(gradients[0] / gradients[1], BOUND_BF16),
        worst=(max(each), BOUND_BF16_EACH),
    )


def _gradients(found: dict[str, Tensor], names: set[str]) -> dict[str, Tensor]:
    return {name: found[name] for name in names if name != "states"}


def _restore_rotations(*models: Any) -> None:
    """Rotary frequencies stay fp32, as they do in a model that is loaded in bf16."""
    fresh = build(SHAPE, torch.float32, 1)
    for model in models:
        for name, buffer in fresh.named_buffers():
            owner, _, leaf = name.rpartition(".")
            model.get_submodule(owner)._buffers[leaf] = buffer


def tower() -> Iterator[Line]:
    """The tower alone, forward and backward in bf16, at a 3B's shape on a GPU."""
    shape, grids = TOWER
    small = Shape(**{**vars(shape), "layers": 1, "intermediate": 256, "rows": 512, "ids": 500})
    plain, ours = (model.model.visual for model in pair(torch.bfloat16, small))
    ours.gradient_checkpointing_disable()
    _, media = prompt(build(small, torch.bfloat16, 1), grids, 1, ())
    given = media["pixel_values"].bfloat16(), media["image_grid_thw"]

    def of(model: Any) -> Callable[[], Tensor]:
        def forward_and_backward() -> Tensor:
            output = model(*given)
            features = getattr(output, "pooler_output", output)
            features.float().square().mean().backward()
            return features

        return forward_and_backward

    yield check(
        "image tower, windows in one call, bf16",
        "library, a call per window",
        features=(distance({"": of(ours)()}, {"": of(plain)()}), BOUND_TOWER),
    )
    taken, other = seconds(of(ours)), seconds(of(plain))
    images = f"{len(grids)} images of {grids[0][0] * grids[0][1]} tokens"
    yield timing(
        f"image tower, {images}, {1000 * taken:.0f} ms", "library, sdpa", f"it takes {other / taken:.1f} times as long"
    )


def run() -> Iterator[Line]:
    """All lines of this part."""
    yield from compared()
    yield from tower()
