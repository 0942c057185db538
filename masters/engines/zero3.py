"""Student, teacher and reference under DeepSpeed ZeRO-3: every weight is split over the ranks and gathered where it is used.

Three engines, one rule: weights are only touched inside a module's forward, where ZeRO-3's hooks have gathered them. So the
loss is computed inside the forward of the student's output head, nested in those of the teacher's and the reference's.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from masters.families import Family
from masters.models.checkpoint import load_model
from masters.models.folder import family_of
from masters.models.packing import Packed, hidden_states
from masters.models.thresholds import UNMASKED, ThresholdsFile

MakeOptimizer = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]
WithHead = Callable[[Tensor, Tensor], Tensor]
_DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def init_process_group(local_rank: int, gpu: bool) -> torch.device:
    """Join this process to the gang; the device it computes on. MASTER_ADDR, RANK and WORLD_SIZE are set by Ray Train."""
    os.environ["LOCAL_RANK"] = str(local_rank)
    os.environ["DS_ACCELERATOR"] = "cuda" if gpu else "cpu"
    import deepspeed
    import deepspeed.ops

    # Collectives over shared memory would be compiled here at the first start. A worker killed meanwhile leaves torch's build
    # lock behind, and every later gang waits on it for ever; on CPU plain gloo is fast enough.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend="nccl" if gpu else "gloo", auto_mpi_discovery=False, verbose=False)
    return torch.device("cuda", local_rank) if gpu else torch.device("cpu")


class _GatheringHead(nn.Linear):
    """An output head whose forward hands its gathered weight [V, H] to a function."""

    def forward(self, input: Tensor, use: WithHead) -> Tensor:  # type: ignore[override]  # noqa: A002
        return use(input, self.weight)


class _Model(nn.Module):
    """Hidden states on their own, or a function at the output head."""

    def __init__(self, vlm: Any):
        super().__init__()
        vlm.lm_head.__class__ = _GatheringHead  # names of parameters and ties stay what they were
        self.vlm = vlm


class _StudentModel(_Model):
    def forward(self, packed: Packed, media: dict[str, Tensor], use: WithHead) -> Tensor:
        return self.vlm.lm_head(hidden_states(self.vlm, packed, media), use)


class _FrozenModel(_Model):
    def forward(
        self, packed: Packed | None, media: dict[str, Tensor], hidden: Tensor | None, use: WithHead | None
    ) -> Any:
        if packed is not None:
            return hidden_states(self.vlm, packed, media)
        return self.vlm.lm_head(hidden, use)


class Zero3Student:
    """The model that learns.

    Args:
        folder: checkpoint to start from.
        precision: `bf16` (the optimiser keeps fp32 copies) or `fp32`.
        gradient_clip: largest global norm.
        make_optimizer: from parameter groups; `decay` in a group says whether weight decay belongs there.
        gradient_checkpointing: recompute activations in backward.
    """

    def __init__(
        self,
        folder: Path,
        precision: str,
        *,
        gradient_clip: float,
        make_optimizer: MakeOptimizer,
        gradient_checkpointing: bool = False,
    ):
        config = _config(precision, gradient_clip=gradient_clip)
        self.folder = folder
        self._dtype, model = _load(folder, precision, config)
        if gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        module = _StudentModel(model.train())
        self.engine = _initialize(module, config, make_optimizer(_groups(module)))

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
            group["lr"] = lr
        boundary = self.engine.is_gradient_accumulation_boundary()
        self.engine.step()
        return float(self.engine.get_global_grad_norm()) if boundary else None

    def save(self, folder: str, state: Mapping[str, Any]) -> None:
        """Write this rank's part of a checkpoint, with some state of the caller's."""
        self.engine.save_checkpoint(folder, tag="zero3", client_state=dict(state), exclude_frozen_parameters=True)

    def load(self, folder: str) -> dict[str, Any]:
        """Read it back; the caller's state. Raises ValueError for a checkpoint of another number of ranks."""
        path, state = self.engine.load_checkpoint(folder, tag="zero3")
        if path is None:
            raise ValueError(f"{folder}: holds no checkpoint of {self.engine.world_size} ranks")
        return state

    def export(self, target: Path) -> None:
        """All ranks: gather the weights, one at a time; rank 0 writes a Hugging Face folder in the dtype of the original."""
        state = {name: weight.to(self._dtype) for name, weight in gathered(self.vlm) if self.engine.global_rank == 0}
        if self.engine.global_rank == 0:
            self.vlm.save_pretrained(target, state_dict=state)
            # The same architecture; what is saved above names the precision of training as the dtype of the weights.
            shutil.copyfile(self.folder / "config.json", target / "config.json")


class Zero3Frozen:
    """A model that is only asked: the reference, and the base of the teacher."""

    def __init__(self, folder: Path, precision: str):
        config = _config(precision)
        _, model = _load(folder, precision, config)
        self.folder = folder
        self.engine = _initialize(_FrozenModel(model.eval().requires_grad_(False)), config)
        self.engine.eval()

    @property
    def vlm(self) -> Any:
        """The Hugging Face model; its weights are split over the ranks."""
        return self.engine.module.vlm

    @torch.no_grad()
    def hidden(self, packed: Packed, media: dict[str, Tensor]) -> Tensor:
        """The states [T, H] that predict the targets."""
        return self.engine(packed, media, None, None)

    def with_head(self, hidden_TH: Tensor, use: Callable[[Tensor], None]) -> None:
        """Call `use` with the output head [V, H] while it is gathered. A frozen engine must not return what has a gradient."""
        self.engine(None, {}, hidden_TH, lambda _, weight: use(weight))

    def close(self) -> None:
        """Free the memory: shard by shard, since caches inside DeepSpeed keep the parameters themselves."""
        self.engine.destroy()
        for parameter in self.vlm.parameters():
            parameter.ds_tensor.data = parameter.ds_tensor.new_empty(0)
        del self.engine


class Zero3Teacher(Zero3Frozen):
    """A frozen model whose masks are taken from a thresholds file, applied to each rank's shards and taken back.

    Originals are kept in CPU memory. Small weights must not stay gathered between forwards (persistence threshold 0), or
    the edit of a shard would silently not be seen.

    Raises:
        ValueError: where a tensor with thresholds is no parameter of the model, or has another size.
    """

    def __init__(self, folder: Path, precision: str, thresholds: ThresholdsFile):
        super().__init__(folder, precision)
        self._thresholds, self.ratio = thresholds, UNMASKED
        self._shards = dict(_shards(self.vlm, thresholds, family_of(folder)))
        self._originals = {
            name: parameter.ds_tensor.detach().to("cpu", copy=True) for name, parameter in self._shards.items()
        }

    def set_ratio(self, ratio: str) -> None:
        """All ranks: restore all weights, then mask at `ratio`. Raises ValueError where others are masked than were counted."""
        self._thresholds.check_ratio(ratio)
        counts = torch.zeros(len(self._shards), dtype=torch.int64)
        for number, (name, parameter) in enumerate(self._shards.items()):
            shard = parameter.ds_tensor
            shard.data.copy_(self._originals[name])
            start = self.engine.global_rank * shard.numel()
            valid = max(0, min(shard.numel(), parameter.ds_numel - start))
            if ratio != UNMASKED and valid:
                counts[number] = self._thresholds.tensors[name].apply_(shard.data[:valid], ratio, start)
        if ratio != UNMASKED:
            total = counts.to(self.engine.device)
            torch.distributed.all_reduce(total)
            for name, below in zip(self._shards, total.tolist(), strict=True):
                self._thresholds.check_count(name, ratio, below)
        self.ratio = ratio

    def close(self) -> None:
        """Free the memory, the kept originals included."""
        self._shards.clear()
        self._originals.clear()
        super().close()


def gathered(model: nn.Module) -> Iterable[tuple[str, Tensor]]:
    """(name, CPU copy) of every parameter, gathered one at a time; every rank must go through all of them."""
    import deepspeed

    for name, parameter in model.named_parameters():
        with deepspeed.zero.GatheredParameters([parameter]):
            yield name, parameter.detach().cpu().clone()


def _config(precision: str, *, gradient_clip: float = 0.0) -> dict[str, Any]:
    return {
        "train_micro_batch_size_per_gpu": 1,  # DeepSpeed wants numbers; what a step holds is the caller's, step by step
        "gradient_accumulation_steps": 1,
        "gradient_clipping": gradient_clip,
        "zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": precision == "bf16"},
        "data_types": {"grad_accum_dtype": "fp32"},  # sums over micro-batches
        "communication_data_type": "fp32",  # and over ranks
        "steps_per_print": 1 << 30,
    }


def _load(folder: Path, precision: str, config: dict[str, Any]) -> tuple[torch.dtype, Any]:
    """The dtype of the checkpoint, and the model in `precision` with its weights split while they are read."""
    from transformers import AutoConfig
    from transformers.integrations import HfDeepSpeedConfig, unset_hf_deepspeed_config

    splitting = HfDeepSpeedConfig(config)  # from_pretrained looks for a living one
    try:
        model = load_model(folder, _DTYPES[precision])
    finally:
        del splitting
        unset_hf_deepspeed_config()
    return AutoConfig.from_pretrained(folder).dtype or torch.float32, model


def _initialize(model: _Model, config: dict[str, Any], optimizer: torch.optim.Optimizer | None = None) -> Any:
    """A DeepSpeed engine around a model that `_load` made.

    Weights are gathered by whole layers, as few collectives as can be: hooks on every small module cost more than they save.

    zero.Init creates, and DeepSpeed casts, buffers in the precision of the weights; rotary frequencies in bf16 would turn by
    wrong angles. They are computed anew and put back in the precision that the model asks for.
    """
    import deepspeed
    from accelerate import init_empty_weights
    from transformers import AutoModelForImageTextToText

    layers = {type(module) for module in model.modules() if type(module).__name__ in model.vlm._no_split_modules}
    deepspeed.utils.set_z3_leaf_modules(model, list(layers))
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config, dist_init_required=False)
    with init_empty_weights():
        plain = AutoModelForImageTextToText.from_config(model.vlm.config, dtype=torch.float32)
    for name, buffer in plain.named_buffers():
        owner, _, leaf = name.rpartition(".")
        place = model.vlm.get_submodule(owner)._buffers
        place[leaf] = buffer.to(place[leaf].device)
    return engine


def _groups(module: nn.Module) -> list[dict[str, Any]]:
    """Parameters of two or more dimensions decay, the others do not."""
    trained: list[Any] = [p for p in module.parameters() if p.requires_grad]
    decayed = [p for p in trained if len(p.ds_shape) >= 2]
    others = [p for p in trained if len(p.ds_shape) < 2]
    return [{"params": decayed, "decay": True}, {"params": others, "decay": False}]


def _shards(model: nn.Module, thresholds: ThresholdsFile, family: Family) -> Iterable[tuple[str, Any]]:
    """(name in the checkpoint file, parameter) of everything that is masked."""
    parameters: dict[str, Any] = dict(model.named_parameters())
    for name, entry in thresholds.tensors.items():
        parameter = parameters.get(family.parameter_name(name))
        if parameter is None:
            raise ValueError(f"{name}: has thresholds, but the model has no parameter {family.parameter_name(name)}")
        if parameter.ds_numel != entry.numel:
            raise ValueError(
                f"{name}: {parameter.ds_numel} weights, thresholds are of {entry.numel}: another checkpoint"
            )
        yield name, parameter
