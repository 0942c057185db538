"""Bytes of a GPU: of a worker that trains, by what they are for, and of an engine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from masters.config.train import TrainConfig
from masters.families.sizes import Decoder, ModelSize, Tower
from masters.planning.flops import GroupShape
from masters.planning.throughputs import ENGINE_WORKSPACE_GIB

GIB = 2**30
MARGIN = 1.1
"""Of what is computed here: fragments of the allocator, the CUDA context, buffers of collectives."""
CHECKPOINT_BYTES = 12
"""Of each weight that learns: fp32 weight and both moments of Adam."""

_LIVE = 1_000_000_000  # weights of a model that lie gathered at a time, or two layers and the head where these are more
_PIECE = 16_384  # tokens that an MLP of a frozen model takes at once
_ADAM = {"bf16": 12, "fp32": 8}
_WEIGHT = {"bf16": 2, "fp32": 4}


@dataclass(frozen=True)
class TrainMemory:
    """Of one worker, in bytes.

    Attributes:
        static: split over the workers and there all the time.
        frozen: beside it while teacher and reference compute.
        learning: beside it while the student does.
        host: of CPU memory: the teacher's unmasked weights, and what is offloaded.
    """

    static: Mapping[str, float]
    frozen: Mapping[str, float]
    learning: Mapping[str, float]
    host: Mapping[str, float] = field(default_factory=dict)

    @property
    def parts(self) -> dict[str, float]:
        """What adds up to the peak."""
        phases = sorted((self.frozen, self.learning), key=lambda part: sum(part.values()))
        return {**self.static, **phases[-1]}

    @property
    def peak(self) -> float:
        """The most at a time, without the margin."""
        return sum(self.parts.values())


def learning_parameters(student: ModelSize, train: TrainConfig) -> int:
    """Weights that an update changes."""
    tower = student.tower
    frozen = (tower.parameters - tower.projector) * (train.tower_lr_factor == 0)
    return student.parameters - frozen - tower.projector * (train.projector_lr_factor == 0)


def checkpoint_bytes(student: ModelSize, train: TrainConfig) -> int:
    """Of one checkpoint, over all workers."""
    return CHECKPOINT_BYTES * learning_parameters(student, train)


def train_memory(
    train: TrainConfig,
    student: ModelSize,
    teachers: Sequence[ModelSize],
    shape: GroupShape,
    workers: int,
    workers_per_node: int,
) -> TrainMemory:
    """Of each worker; of several teachers the one that takes most counts.

    Args:
        train: the recipe's section.
        student: also the reference.
        teachers: of the curriculum; empty for the control `sft`.
        shape: of a group.
        workers: of the gang.
        workers_per_node: of them.
    """
    weight, learning = _WEIGHT[train.precision], learning_parameters(student, train)
    sharers = workers_per_node if train.teacher_sharding == "node" else workers
    teacher = max(teachers, key=lambda size: size.parameters, default=None)
    reference = student if train.kl_weight > 0 and teacher else None
    adam, kept = _ADAM[train.precision] * learning / workers, _of(teacher, weight) / sharers
    static = {
        "student": weight * student.parameters / workers,
        "gradients": 4 * learning / workers,
        "Adam": 0.0 if train.offload_optimizer else adam,
        "teacher": 0.0 if train.offload_teacher else kept,
        "reference": _of(reference, weight) / sharers,
    }
    in_step = shape.tokens * max(1.0, train.groups_per_step / workers)
    images = shape.image * shape.towers * max(1.0, train.groups_per_step / workers)
    biggest = teacher or student
    frozen = {
        "gathered": weight * _live(biggest),
        "activations": _passing(biggest.decoder, in_step, weight) + _seeing(biggest.tower, images, weight),
    }
    host = {"unmasked teacher": kept}
    if train.offload_teacher:
        host["teacher"] = kept
    if train.offload_optimizer:
        host["Adam"] = adam
    parts = _while_learning(train, student, [size for size in (teacher, reference) if size], shape)
    return TrainMemory(static, frozen if teacher else {}, parts, host)


def _of(size: ModelSize | None, weight: int) -> float:
    return weight * size.parameters if size else 0.0


def _live(size: ModelSize) -> int:
    """Weights that ZeRO-3 holds gathered: what is used, and the next layer."""
    return min(size.parameters, max(_LIVE, 2 * size.decoder.layer + size.decoder.head))


def _while_learning(
    train: TrainConfig, student: ModelSize, frozen: Sequence[ModelSize], shape: GroupShape
) -> dict[str, float]:
    weight, decoder, tower = _WEIGHT[train.precision], student.decoder, student.tower
    groups = train.groups_per_micro_batch
    if train.tokens_per_micro_batch:
        groups = max(1, min(groups, int(train.tokens_per_micro_batch / shape.tokens)))
    tokens, patches = groups * shape.tokens, groups * shape.image * shape.towers * tower.patches
    layer, block = tokens * decoder_activation(decoder, weight), patches * tower_activation(tower, weight)
    if train.gradient_checkpointing:
        kept = weight * (decoder.layers * tokens * decoder.hidden + tower.layers * patches * tower.hidden)
        activations = kept + max(layer, block)
    else:
        activations = decoder.layers * layer + tower.layers * block
    states = shape.trained * train.groups_per_step / max(1, train.groups_per_step / groups)
    return {
        "gathered": weight * (_live(student) + sum(size.decoder.head for size in frozen)),
        "activations": activations,
        "objective": train.objective_gib * GIB
        + (4 + weight) * decoder.head
        + weight * states * sum(size.decoder.hidden for size in (student, *frozen)),
    }


def decoder_activation(decoder: Decoder, weight: int) -> int:
    """Bytes that a layer keeps of a token for backward: inputs of products in `weight` bytes, of norms in fp32."""
    attention = 6 * decoder.hidden + 2 * decoder.kv_heads * decoder.head_size
    return (
        weight * (attention + decoder.active_mlps * 4 * decoder.intermediate + _sorted(decoder)) + 12 * decoder.hidden
    )


def tower_activation(tower: Tower, weight: int) -> int:
    """The same of a patch."""
    return weight * (8 * tower.hidden + (tower.matrices + 1) * tower.intermediate) + 12 * tower.hidden


def _passing(decoder: Decoder, tokens: float, weight: int) -> float:
    """Of a forward that keeps nothing: states, a norm of them in fp32, and a piece of an MLP."""
    mlp = decoder.active_mlps * 3 * decoder.intermediate + _sorted(decoder)
    return tokens * decoder.hidden * (2 * weight + 4) + weight * min(tokens, _PIECE) * mlp


def _sorted(decoder: Decoder) -> int:
    """Numbers of a token that lie in a layer sorted by expert: one state before and one behind each that is active."""
    return 2 * decoder.active_experts * decoder.hidden


def _seeing(tower: Tower, image_tokens: float, weight: int) -> float:
    patches = tower.patches * image_tokens
    return patches * tower.hidden * (2 * weight + 4) + 3 * weight * min(patches, _PIECE) * tower.intermediate


@dataclass(frozen=True)
class EngineMemory:
    """Of one GPU of a vLLM engine, in bytes; `room` is what is left for keys and values of all sequences."""

    weights: float
    workspace: float
    longest: float
    room: float

    @property
    def fits(self) -> bool:
        """Whether the longest sequence has room."""
        return self.longest <= self.room


def engine_memory(
    size: ModelSize, gpus: int, memory_gib: float, utilization: float, max_model_len: int, weight: int = 2
) -> EngineMemory:
    """Of an engine on `gpus` GPUs of `memory_gib`; each weight has 2 bytes, quantised ones 1."""
    weights, workspace = weight * size.parameters / gpus, ENGINE_WORKSPACE_GIB * GIB
    longest = max_model_len * size.decoder.kv_bytes / min(gpus, size.decoder.kv_heads)
    return EngineMemory(weights, workspace, longest, utilization * memory_gib * GIB - weights - workspace)
