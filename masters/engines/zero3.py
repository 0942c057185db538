"""Student, teacher and reference under DeepSpeed ZeRO-3: every weight is split over the ranks and gathered where it is used.

The student's weights are only touched inside a module's forward, where ZeRO-3's hooks have gathered them: its loss is computed
inside the forward of its output head. Frozen models are asked once a step, for all of its micro-batches, and their output
heads stay gathered while the student goes through these.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from masters.algo.terms import Head
from masters.engines.sharding import NodeGroups, gathered, initialize, load_split
from masters.engines.universal import TAG, load_cut_anew, ranks_of
from masters.families import Family, Piece
from masters.models.checkpoint import write_like
from masters.models.folder import family_of
from masters.models.joining import in_pieces
from masters.models.packing import Packed, hidden_states
from masters.models.thresholds import UNMASKED, ThresholdsFile

MakeOptimizer = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]
WithHead = Callable[[Tensor, Tensor], Tensor]


class _GatheringHead(nn.Linear):
    """An output head whose forward hands its gathered weight [V, H] to a function."""

    def forward(self, input: Tensor, use: WithHead) -> Tensor:  # type: ignore[override]  # noqa: A002
        return use(input, self.weight)


class _StudentModel(nn.Module):
    """A function of the hidden states, called at the output head."""

    def __init__(self, vlm: Any):
        super().__init__()
        vlm.lm_head.__class__ = _GatheringHead  # names of parameters and ties stay what they were
        self.vlm = vlm

    def forward(self, packed: Packed, media: dict[str, Tensor], use: WithHead) -> Tensor:
        return self.vlm.lm_head(hidden_states(self.vlm, packed, media), use)


class _FrozenModel(nn.Module):
    """Hidden states. The output head is no part of it: every forward goes through the same modules in the same order."""

    def __init__(self, vlm: Any):
        super().__init__()
        in_pieces(vlm)
        self.vlm = vlm

    def forward(self, packed: Packed, media: dict[str, Tensor]) -> Tensor:
        return hidden_states(self.vlm, packed, media)


class Zero3Student:
    """The model that learns.

    Args:
        folder: checkpoint to start from.
        precision: `bf16` (the optimiser keeps fp32 copies) or `fp32`.
        gradient_clip: largest global norm.
        make_optimizer: from parameter groups; `decay` in a group says whether weight decay belongs there.
        gradient_checkpointing: recompute activations in backward.
        lr_factors: of the learning rate of `tower` and `projector`; 0 freezes one.
        offload_optimizer: the optimiser's states lie in CPU memory, and it steps there.
    """

    def __init__(
        self,
        folder: Path,
        precision: str,
        *,
        gradient_clip: float,
        make_optimizer: MakeOptimizer,
        gradient_checkpointing: bool = False,
        lr_factors: Mapping[str, float] | None = None,
        offload_optimizer: bool = False,
    ):
        config = _config(precision, edited=True, gradient_clip=gradient_clip, offload_optimizer=offload_optimizer)
        self.folder = folder
        self._dtype, model = load_split(folder, precision, config)
        if gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        groups = _groups(model, family_of(folder), lr_factors or {})
        self.engine = initialize(_StudentModel(model.train()), config, make_optimizer(groups))

    @property
    def vlm(self) -> Any:
        """The Hugging Face model; its weights are split over the ranks."""
        return self.engine.module.vlm

    def forward(self, packed: Packed, media: dict[str, Tensor], use: WithHead) -> Tensor:
        """The loss that `use` makes of the hidden states [T, H] and the output head [V, H]."""
        return self.engine(packed, media, use)

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Add gradients to those of the step; DeepSpeed averages over the ranks. `last`: the step's update comes next."""
        self.engine.set_gradient_accumulation_boundary(is_boundary=last)
        self.engine.backward(loss)

    def step(self, lr: float) -> float | None:
        """Behind the last backward of a step: clip and update; the gradient's norm before clipping. Else None."""
        for group in self.engine.optimizer.param_groups:
            group["lr"] = lr * group["lr_factor"]
        boundary = self.engine.is_gradient_accumulation_boundary()
        self.engine.step()
        return float(self.engine.get_global_grad_norm()) if boundary else None

    def save(self, folder: Path, state: Mapping[str, Any]) -> None:
        """Write this rank's part of a checkpoint, with some state of the caller's."""
        self.engine.save_checkpoint(str(folder), tag=TAG, client_state=dict(state), exclude_frozen_parameters=True)

    def load(self, folder: Path, scratch: Path) -> dict[str, Any]:
        """Read a checkpoint back, bit for bit, into a student that has not learnt yet; the caller's state.

        Args:
            folder: the whole checkpoint, with the parts of all ranks. One of another number of ranks is cut anew.
            scratch: folder of this machine to do that in.

        Raises:
            ValueError: where there is no checkpoint.
        """
        if ranks_of(folder) != self.engine.world_size:
            return load_cut_anew(self.engine, folder, scratch)
        # Not strict: weights that are frozen are not in it, and those that learn come from the optimiser's part in any case.
        _, state = self.engine.load_checkpoint(str(folder), tag=TAG, load_module_strict=False)
        return dict(state)

    def export(self, target: Path) -> None:
        """All ranks: gather the weights, one at a time; rank 0 writes them as the original's files, names and dtypes are."""
        state = {name: weight.to(self._dtype) for name, weight in gathered(self.vlm) if self.engine.global_rank == 0}
        if self.engine.global_rank == 0:
            if self.vlm.config.tie_word_embeddings:
                embeddings = self.vlm.get_input_embeddings().weight
                state["lm_head.weight"] = next(state[n] for n, p in self.vlm.named_parameters() if p is embeddings)
            write_like(self.folder, state, target)


class Zero3Frozen:
    """A model that is only asked: the reference, and the base of the teacher.

    Args:
        folder: its checkpoint.
        precision: `bf16` or `fp32`.
        groups: each node holds the whole model, split over its own ranks; None splits it over all ranks.
        edited: its weights will be changed; small ones must not stay gathered then, or the change would not be seen.
        offload: each rank's part lies in CPU memory.
    """

    def __init__(
        self,
        folder: Path,
        precision: str,
        groups: NodeGroups | None = None,
        *,
        edited: bool = False,
        offload: bool = False,
    ):
        config = _config(precision, edited=edited, offload_weights=offload)
        _, model = load_split(folder, precision, config, groups)
        self.folder = folder
        self.engine = initialize(_FrozenModel(model.eval().requires_grad_(False)), config)
        self.engine.eval()

    @property
    def vlm(self) -> Any:
        """The Hugging Face model; its weights are split over the ranks."""
        return self.engine.module.vlm

    @contextmanager
    def asked(self, packed: Packed, media: dict[str, Tensor]) -> Iterator[Head]:
        """The states [T, H] that predict the targets, and the output head [V, H] as long as this lasts.

        Weights are gathered once, layer by layer, so a step's batches should come joined. All ranks must take part.
        """
        import deepspeed

        with torch.no_grad():
            states_TH = self.engine(packed, media)
        weight_VH = self.vlm.lm_head.weight
        with deepspeed.zero.GatheredParameters([weight_VH]):
            yield Head(states_TH, weight_VH.detach())

    def close(self) -> None:
        """Free the memory: shard by shard, since caches inside DeepSpeed keep the parameters themselves."""
        self.engine.destroy()
        for parameter in self.vlm.parameters():
            parameter.ds_tensor.data = parameter.ds_tensor.new_empty(0)
        del self.engine


class Zero3Teacher(Zero3Frozen):
    """A frozen model whose masks are taken from a thresholds file, applied to each rank's shards and taken back.

    Originals are kept in CPU memory, pinned where there is a GPU. Small weights must not stay gathered between forwards
    (persistence threshold 0), nor copies of shards be kept for gathering (zero_hpz_partition_size), or the edit of a shard
    would silently not be seen: after each edit the zeros of the gathered weights are counted.

    Attributes:
        ratio: of the mask, as written in level names.
        sparsity: share of zeros among the weights in scope, as the forward will see them; in [0, 1].

    Raises:
        ValueError: where a tensor with thresholds is no parameter of the model, or has another size.
    """

    def __init__(
        self,
        folder: Path,
        precision: str,
        thresholds: ThresholdsFile,
        groups: NodeGroups | None = None,
        *,
        offload: bool = False,
    ):
        super().__init__(folder, precision, groups, edited=True, offload=offload)
        self._thresholds, self._within = thresholds, groups and groups.within
        self.ratio, self.sparsity = UNMASKED, 0.0
        self._pieces = _pieces(self.vlm, thresholds, family_of(folder))
        self._parameters = {piece.parameter: parameter for piece, parameter in self._pieces.values()}
        self._originals = {name: _kept(parameter.ds_tensor) for name, parameter in self._parameters.items()}
        own = [(self._valid(name, kept) == 0).sum() for name, kept in self._originals.items()]
        self._own_zeros = self._sums(own)

    def set_ratio(self, ratio: str) -> None:
        """All ranks: restore all weights, then mask at `ratio`.

        Raises:
            ValueError: where others are masked than were counted, or forwards would not see the mask.
        """
        self._thresholds.check_ratio(ratio)
        for name, parameter in self._parameters.items():
            parameter.ds_tensor.data.copy_(self._originals[name])
        if ratio != UNMASKED:
            counts = [self._mask(name, ratio) for name in self._pieces]
            for name, below in zip(self._pieces, self._sums(counts), strict=True):
                self._thresholds.check_count(name, ratio, below)
        self._measure(ratio)
        self.ratio = ratio

    def _mask(self, name: str, ratio: str) -> Tensor:
        """Mask what this rank's shard holds of a file's tensor; how many of its weights fell below the threshold."""
        piece, parameter = self._pieces[name]
        shard = self._valid(piece.parameter, parameter.ds_tensor.data)
        start = self._rank * parameter.ds_tensor.numel()
        first, end = max(start, piece.start), min(start + shard.numel(), piece.start + piece.numel)
        if first >= end:
            return torch.zeros((), dtype=torch.int64)
        entry = self._thresholds.tensors[name]
        return entry.apply_(shard[first - start : end - start], ratio, first - piece.start)

    def _measure(self, ratio: str) -> None:
        """Count the zeros of the gathered weights: those below the threshold, and where it is 0 the tensor's own."""
        import deepspeed

        zeros, weights = 0, 0
        expected = dict.fromkeys(self._parameters, 0)
        for name, (piece, _) in self._pieces.items():
            expected[piece.parameter] += 0 if ratio == UNMASKED else self._thresholds.tensors[name].masked[ratio]
        for (name, parameter), own in zip(self._parameters.items(), self._own_zeros, strict=True):
            with deepspeed.zero.GatheredParameters([parameter]):
                found = parameter.numel() - int(parameter.detach().count_nonzero())
            masked = expected[name]
            if not max(masked, own) <= found <= masked + own:
                raise ValueError(
                    f"{name}: {found} weights are 0 where forwards gather it, of {masked} that ratio {ratio} masks: the mask was "
                    "not applied. DeepSpeed keeps copies of weights that it must not keep (persistence, secondary partitions)."
                )
            zeros, weights = zeros + found, weights + parameter.ds_numel
        self.sparsity = zeros / weights

    @property
    def _rank(self) -> int:
        return dist.get_rank(self._within)

    def _valid(self, name: str, shard: Tensor) -> Tensor:
        """A parameter's shard without what fills up the last one."""
        left = self._parameters[name].ds_numel - self._rank * shard.numel()
        return shard[: max(0, min(shard.numel(), left))]

    def _sums(self, counts: Sequence[Tensor]) -> list[int]:
        """Counts over the ranks that share the model."""
        total = torch.stack([count.to(self.engine.device) for count in counts])
        dist.all_reduce(total, group=self._within)
        return [int(count) for count in total.tolist()]

    def close(self) -> None:
        """Free the memory, the kept originals included."""
        self._pieces.clear()
        self._parameters.clear()
        self._originals.clear()
        super().close()


def _kept(shard: Tensor) -> Tensor:
    copy = shard.detach().to("cpu", copy=True)
    return copy.pin_memory() if shard.is_cuda else copy


def _config(
    precision: str,
    *,
    gradient_clip: float = 0.0,
    edited: bool = False,
    offload_weights: bool = False,
    offload_optimizer: bool = False,
) -> dict[str, Any]:
    """DeepSpeed's configuration.

    Small weights stay gathered, as DeepSpeed has it, but for a model that is `edited`: masks would not be seen, and after each
    update of the student they would be gathered again, one by one.
    """
    zero: dict[str, Any] = {"stage": 3}
    if edited:
        zero["stage3_param_persistence_threshold"] = 0
    for name, offloaded in {"offload_param": offload_weights, "offload_optimizer": offload_optimizer}.items():
        if offloaded:
            zero[name] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    return {
        "train_micro_batch_size_per_gpu": 1,  # DeepSpeed wants numbers; what a step holds is the caller's, step by step
        "gradient_accumulation_steps": 1,
        "gradient_clipping": gradient_clip,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": precision == "bf16"},
        "data_types": {"grad_accum_dtype": "fp32"},  # sums over micro-batches
        "communication_data_type": "fp32",  # and over ranks
        "steps_per_print": 1 << 30,
    }


def _groups(model: nn.Module, family: Family, factors: Mapping[str, float]) -> list[dict[str, Any]]:
    """Parameters of each part of the model that learns; those of two or more dimensions decay, the others do not."""
    groups: dict[tuple[float, bool], list[Any]] = {}
    for name, parameter in cast("Iterable[tuple[str, Any]]", model.named_parameters()):
        factor = factors.get(family.part(name), 1.0)
        parameter.requires_grad_(factor > 0)
        if factor > 0:
            groups.setdefault((factor, len(parameter.ds_shape) >= 2), []).append(parameter)
    return [{"params": params, "decay": decay, "lr_factor": factor} for (factor, decay), params in groups.items()]


def _pieces(model: nn.Module, thresholds: ThresholdsFile, family: Family) -> dict[str, tuple[Piece, Any]]:
    """By its name in the checkpoint file, the parameter that a masked tensor is, or is a piece of."""
    parameters: dict[str, Any] = dict(model.named_parameters())
    found, covered = {}, Counter[str]()
    for name, entry in thresholds.tensors.items():
        piece = family.piece(name, entry.numel)
        if piece.parameter not in parameters:
            raise ValueError(f"{name}: has thresholds, but the model has no parameter {piece.parameter}")
        found[name] = piece, parameters[piece.parameter]
        covered[piece.parameter] += entry.numel
    for name, (piece, parameter) in found.items():
        if covered[piece.parameter] != parameter.ds_numel:
            raise ValueError(
                f"{name}: {parameter.ds_numel} weights, thresholds are of {covered[piece.parameter]}: another checkpoint"
            )
    return found
