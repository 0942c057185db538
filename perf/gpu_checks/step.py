"""One optimiser step of a random pair: packed groups against one row per answer, and against its matrix products alone."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from masters.algo.fused import masters_objective
from masters.algo.terms import Head, Objective, Responses, Terms
from masters.models.checkpoint import attach
from masters.models.packing import Packed, Row, hidden_states
from perf.gpu_checks.lines import Line, check, timing
from perf.gpu_checks.machine import DEVICE, GB, GPU, clock, difference, held_gb, peak_gb, seconds, sized, squared
from perf.gpu_checks.models import QWEN_3B, QWEN_7B, Grid, Shape, build, joined, one_row_each, packed, prompt

SMALL = Shape(128, 4, 4, 2, 384, 2048, 2000, True, 64, 2, 2, 128, (1,), head=32)
QUESTION = 32
GROUPS: Sequence[tuple[Grid, Sequence[int]]] = sized(
    [
        ((16, 16), (64, 200, 100, 80, 150, 64, 120, 96)),
        ((32, 32), (90, 70, 180, 64, 64, 110, 140, 200)),
        ((20, 28), (120, 64, 64, 75, 160, 180, 90, 100)),
    ],
    [((8, 8), (16, 20, 12, 10, 9, 16, 12, 14)), ((5, 9), (10, 16, 8, 14, 9, 11, 20, 12))],
)
"""Of each group: the grid of its image, and lengths of its answers."""
OBJECTIVE = Objective(1.0, 0.1, "exact", False, 0, tie=1.0)
"""All of a group are tied: with random weights D hardly differs within a group, and its order would be that of roundings."""
BOUNDS = {"values": 3e-2, "gradients": 0.2}
"""Both ways round in bf16, through every layer: 0.005 and 0.07 in a narrow model of 36 layers with gains of a 3B's, on a CPU."""


def shapes() -> tuple[Shape, Shape, str]:
    """Of student and teacher as the memory allows, and what they are called."""
    if not GPU:
        return SMALL, replace(SMALL, hidden=160, heads=5, kv_heads=1, rows=2112, tied=False), "tiny <- tiny"
    memory = torch.cuda.get_device_properties(0).total_memory / GB
    if memory > 76:
        return QWEN_3B, QWEN_7B, "3B <- 7B"
    if memory > 60:
        return QWEN_3B, QWEN_3B, "3B <- 3B"
    part = replace(QWEN_3B, layers=9, vision_layers=8, whole=(3, 7))
    return part, part, "a quarter of a 3B's layers <- the same"


@dataclass(frozen=True)
class Layout:
    """The tokens of a step as they lie in rows, for models that work as ours do."""

    packed: Packed
    media: dict[str, Tensor]

    @property
    def tokens(self) -> int:
        """Images expanded."""
        return self.packed.input_ids.shape[1]

    def states(self, model: "Model") -> Tensor:
        """That predict the answers: [T, H]."""
        return hidden_states(model.ours, self.packed, self.media)


@dataclass(frozen=True)
class Library:
    """A batch of padded rows for each group, as trainers that know nothing of groups give them to the library's model."""

    rows: Sequence[Row]
    media: Sequence[dict[str, Tensor]]

    def states(self, model: "Model") -> Tensor:
        """As above."""
        return torch.cat([self._of_group(model.plain, *group) for group in zip(self.rows, self.media, strict=True)])

    def _of_group(self, model: Any, row: Row, media: dict[str, Tensor]) -> Tensor:
        answers = [torch.tensor(branch.ids) for branch in row.branches]
        ids = pad_sequence([torch.cat([row.prefix, answer]) for answer in answers], True, 0).to(DEVICE)
        lengths = torch.tensor([len(row.prefix) + len(answer) for answer in answers], device=DEVICE)
        states = model.model(
            input_ids=ids,
            attention_mask=(torch.arange(ids.shape[1], device=DEVICE) < lengths[:, None]).long(),
            mm_token_type_ids=(ids == model.config.image_token_id).int(),
            use_cache=False,
            **{name: torch.cat([value] * len(answers)) for name, value in media.items()},
        ).last_hidden_state
        before = len(row.prefix) - 1
        return torch.cat([states[i, before : before + len(answer)] for i, answer in enumerate(answers)])


@dataclass(frozen=True)
class Model:
    """A model as it is trained here and as the library has it; their weights are the same tensors."""

    plain: Any
    ours: Any

    @classmethod
    def built(cls, shape: Shape, seed: int) -> "Model":
        """In bf16, its activations recomputed."""
        return cls._both(build(shape, torch.bfloat16, seed))

    def frozen_copy(self) -> "Model":
        """With weights of its own."""
        return self._both(copy.deepcopy(self.plain)).freeze()

    def freeze(self) -> "Model":
        """Without gradients."""
        for model in (self.plain, self.ours):
            model.eval().requires_grad_(False)
        return self

    @classmethod
    def _both(cls, plain: Any) -> "Model":
        ours = copy.deepcopy(plain, {id(parameter): parameter for parameter in plain.parameters()})
        attach(ours)
        for model in (plain, ours):
            model.gradient_checkpointing_enable({"use_reentrant": False})
        return cls(plain, ours)

    @property
    def head(self) -> Tensor:
        """[V, H]."""
        return self.ours.lm_head.weight


@dataclass
class Trio:
    """Student, teacher and reference; the optimiser is torch's, all in bf16: one GPU has no room for a 3B's fp32 states."""

    student: Model
    teacher: Model
    reference: Model
    objective: Objective
    responses: Responses
    optimizer: torch.optim.Optimizer | None = None

    @torch.no_grad()
    def frozen(self, layout: Layout | Library) -> list[Head]:
        """What teacher and reference make of it."""
        return [Head(layout.states(model), model.head) for model in (self.teacher, self.reference)]

    def learn(self, layout: Layout | Library, frozen: list[Head]) -> Terms:
        """Forward, objective and backward of the student."""
        student = Head(layout.states(self.student), self.student.head)
        loss, terms = masters_objective(student, *frozen, self.responses, self.objective, groups=len(GROUPS))
        loss.backward()
        return terms

    def update(self) -> None:
        """The step of the optimiser, which is made when it is first wanted."""
        if self.optimizer is None:
            self.optimizer = torch.optim.AdamW(self.student.ours.parameters(), lr=1e-6, fused=True)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def step(self, layout: Layout | Library) -> None:
        """All of it."""
        self.learn(layout, self.frozen(layout))
        self.update()


def prepared(student_shape: Shape, teacher_shape: Shape) -> tuple[Trio, dict[str, Layout | Library]]:
    """(models, layouts: packed, one row per answer with our models and with the library's)."""
    student, teacher = Model.built(student_shape, 1), Model.built(teacher_shape, 2).freeze()
    reference = student.frozen_copy()
    with torch.no_grad():  # KL is 0 where the student is its reference
        for parameter in student.ours.parameters():
            if parameter.dim() > 1:
                parameter.add_(torch.randn_like(parameter), alpha=0.3 * student_shape.init)
    drawn = [prompt(student.plain, [grid], QUESTION, answers) for grid, answers in GROUPS]
    rows = [row for row, _ in drawn]
    media = [{n: v.bfloat16() if v.is_floating_point() else v for n, v in m.items()} for _, m in drawn]
    shared = Layout(packed(rows), joined(media))
    responses = Responses(
        shared.packed.target_T,
        shared.packed.branch_T,
        torch.tensor([group for group, row in enumerate(rows) for _ in row.branches], device=DEVICE),
        torch.arange(sum(len(row.branches) for row in rows), device=DEVICE) % 3 % 2.0,
    )
    trio = Trio(student, teacher, reference, replace(OBJECTIVE, vocabulary=student_shape.ids), responses)
    layouts = {
        "packed": shared,
        "one row per answer": Layout(*one_row_each(rows, media)),
        "one row per answer, library": Library(rows, media),
    }
    return trio, layouts


def compared(trio: Trio, layouts: dict[str, Layout | Library], name: str) -> Line:
    """Terms and gradients, packed and by the library."""
    values, kept, parameters = [], {}, dict(trio.student.ours.named_parameters())
    for layout in ("packed", "one row per answer, library"):
        terms = trio.learn(layouts[layout], trio.frozen(layouts[layout]))
        values.append([terms.divergence_J, terms.kl_J, terms.log_probability_J])
        if not kept:
            kept = {n: p.grad.cpu() for n, p in parameters.items() if p.grad is not None}
            trio.student.ours.zero_grad()
    apart = sum(squared(parameters[n].grad - gradient.to(DEVICE)) for n, gradient in kept.items())
    whole = sum(squared(parameters[n].grad) for n in kept)
    trio.student.ours.zero_grad()
    return check(
        f"step of {name}, bf16, recomputed activations",
        "one row per answer, library",
        values=(max(difference(*both) for both in zip(*values, strict=True)), BOUNDS["values"]),
        gradients=((apart / whole) ** 0.5, BOUNDS["gradients"]),
        without_gradient=(len(parameters) - len(kept), 0),
    )


def operations(model: Model, layout: Layout) -> float:
    """Floating-point operations of all linear layers in a forward; attention is not counted."""
    total = 0.0

    def count(module: nn.Module, _: Any, output: Tensor) -> None:
        nonlocal total
        total += 2.0 * output.numel() * module.weight[0].numel()

    linear = [module for module in model.ours.modules() if isinstance(module, nn.Linear | nn.Conv3d)]
    hooks = [module.register_forward_hook(count) for module in linear]
    with torch.no_grad():
        layout.states(model)
    for hook in hooks:
        hook.remove()
    return total


def products(trio: Trio, layout: Layout, shape: Shape) -> tuple[float, float]:
    """(seconds that the matrix products of a step take at the pace of a layer's largest one, that pace in TFLOP/s)."""
    tokens, hidden, wide = layout.tokens, shape.hidden, shape.intermediate
    left, right = (torch.randn(size, device=DEVICE).bfloat16() for size in ((tokens, hidden), (hidden, wide)))
    pace = 2.0 * tokens * hidden * wide * 8 / seconds(lambda: [left @ right for _ in range(8)])
    models = (trio.student, trio.teacher, trio.reference)
    student, teacher, reference = (operations(model, layout) for model in models)
    heads = [2.0 * len(trio.responses.target_T) * model.head.numel() for model in models]
    # Forward, the same again as activations are recomputed, and twice that for gradients; of the head logits and gradients.
    return (4 * student + teacher + reference + 3 * heads[0] + heads[1] + heads[2]) / pace, pace / 1e12


def times(trio: Trio, layouts: dict[str, Layout | Library], shape: Shape, name: str) -> Iterator[Line]:
    """A step of each layout, its memory, its parts, and its matrix products."""
    shared, *rivals = layouts.values()
    assert isinstance(shared, Layout)
    taken, peak, held = seconds(lambda: trio.step(shared), 2), peak_gb(lambda: trio.step(shared)), held_gb()
    label = f"step of {name}, {shared.tokens:,} tokens, {taken:.2f} s"
    if GPU:
        yield timing(label, "models and optimiser at rest", f"peak {peak:.1f} GB, at rest {held:.1f}")
    for rival, layout in zip(list(layouts)[1:], rivals, strict=True):
        try:
            found = f"it takes {seconds(lambda chosen=layout: trio.step(chosen), 1) / taken:.2f} times as long"
            if GPU:
                found += f", peak {peak_gb(lambda chosen=layout: trio.step(chosen)):.1f} GB"
        except torch.OutOfMemoryError:
            found = "it does not fit"
            trio.student.ours.zero_grad()
        yield timing(label, rival, found)
    least, pace = products(trio, shared, shape)
    yield timing(label, f"its matrix products at {pace:.3g} TFLOP/s", f"they take {least / taken:.2f} of it")
    heads, shares = trio.frozen(shared), []
    parts = {
        "frozen models": lambda: trio.frozen(shared),
        "student and objective": lambda: trio.learn(shared, heads),
        "optimiser": trio.update,
    }
    for part, function in parts.items():
        began = clock()
        function()
        shares.append(f"{part} {(clock() - began) / taken:.2f}")
    yield timing(label, "its parts", ", ".join(shares))


def run() -> Iterator[Line]:
    """All lines of this part."""
    student_shape, teacher_shape, name = shapes()
    trio, layouts = prepared(student_shape, teacher_shape)
    yield compared(trio, layouts, name)
    yield from times(trio, layouts, student_shape, name)
