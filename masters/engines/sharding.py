"""Models whose weights are split over ranks: how they are read, over which ranks, and how much is gathered ahead."""

import os
from collections import defaultdict
from collections.abc import Iterable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from masters.models.checkpoint import load_model

TIMEOUT = timedelta(hours=2)
"""How long ranks wait for each other: one of them reads a large teacher from a slow volume while the others wait."""

_DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
_LIVE = 1_000_000_000
"""Weights of a model that may lie gathered at a time, or more where two layers have more."""


class NodeGroups(NamedTuple):
    """Who shares what where each node holds the whole model.

    Attributes:
        within: the ranks of this one's node, over which weights are split.
        across: the ranks at this one's place on every node: all hold the same part.
        first: the one of them on the first node.
    """

    within: Any
    across: Any
    first: int


def init_process_group(local_rank: int, gpu: bool) -> torch.device:
    """Join this process to the gang; the device it computes on. MASTER_ADDR, RANK and WORLD_SIZE are set by Ray Train."""
    os.environ["LOCAL_RANK"] = str(local_rank)
    os.environ["DS_ACCELERATOR"] = "cuda" if gpu else "cpu"
    import deepspeed
    import deepspeed.ops

    # Collectives over shared memory would be compiled here at the first start. A worker killed meanwhile leaves torch's build
    # lock behind, and every later gang waits on it for ever; on CPU plain gloo is fast enough.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed("nccl" if gpu else "gloo", auto_mpi_discovery=False, timeout=TIMEOUT, verbose=False)
    # fp32 means fp32, whatever the environment or another library has chosen: TF32 keeps ten bits.
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda", local_rank) if gpu else torch.device("cpu")


def node_groups(node: int) -> NodeGroups:
    """All ranks, once: the groups of this one, which is on the node of that number.

    Raises:
        ValueError: where nodes have unequal numbers of ranks.
    """
    nodes_R: list[int] = [0] * dist.get_world_size()
    dist.all_gather_object(nodes_R, node)
    members = defaultdict(list)
    for rank, place in enumerate(nodes_R):
        members[place].append(rank)
    sizes = sorted({len(ranks) for ranks in members.values()})
    if len(sizes) > 1:
        raise ValueError(
            f"train.teacher_sharding = node: nodes have {' and '.join(map(str, sizes))} workers, and each must hold the whole "
            "teacher in as many parts. Give every node as many workers, or set it to world."
        )
    peers = [list(ranks) for ranks in zip(*members.values(), strict=True)]
    within, across = (
        [(ranks, dist.new_group(ranks, timeout=TIMEOUT)) for ranks in parts] for parts in (members.values(), peers)
    )
    own, rank = [], dist.get_rank()
    for parts in (within, across):
        own += [(ranks[0], group) for ranks, group in parts if rank in ranks]
    return NodeGroups(own[0][1], own[1][1], own[1][0])


def load_split(
    folder: Path, precision: str, config: dict[str, Any], groups: NodeGroups | None = None
) -> tuple[torch.dtype, Any]:
    """The dtype of the checkpoint, and the model in `precision` with its weights split while they are read.

    Args:
        folder: the checkpoint.
        precision: `bf16` or `fp32`.
        config: DeepSpeed's.
        groups: None splits over all ranks.
    """
    import deepspeed
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForImageTextToText
    from transformers.integrations import HfDeepSpeedConfig, unset_hf_deepspeed_config

    original = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    with init_empty_weights():
        # Whatever transformers imports for a model is imported here: a class that is made while zero.Init lasts loses what
        # decorators have put around its __init__ when that ends (experts lose their config).
        AutoModelForImageTextToText.from_config(original)
    splitting, split = HfDeepSpeedConfig(config), deepspeed.zero.Init  # from_pretrained looks for a living config
    deepspeed.zero.Init = partial(split, data_parallel_group=groups and groups.within)  # and knows no group
    try:
        model = load_model(folder, _DTYPES[precision])
    finally:
        deepspeed.zero.Init = split
        del splitting
        unset_hf_deepspeed_config()
    if groups is not None:  # transformers reads weights on rank 0 alone; other nodes have split what was never read
        for parameter in model.parameters():
            dist.broadcast(parameter.ds_tensor.data, groups.first, group=groups.across)
    return original.dtype or torch.float32, model


def initialize(model: Any, config: dict[str, Any], optimizer: torch.optim.Optimizer | None = None) -> Any:
    """A DeepSpeed engine around a module whose `vlm` was loaded by `load_split`.

    Weights are gathered by whole layers, as few collectives as can be: hooks on every small module cost more than they save.

    zero.Init creates, and DeepSpeed casts, buffers in the precision of the weights; rotary frequencies in bf16 would turn by
    wrong angles. They are computed anew and put back in the precision that the model asks for.
    """
    import deepspeed
    from accelerate import init_empty_weights
    from transformers import AutoModelForImageTextToText

    layers = [module for module in model.modules() if type(module).__name__ in model.vlm._no_split_modules]
    deepspeed.utils.set_z3_leaf_modules(model, list({type(layer) for layer in layers}))
    config = {**config, "zero_optimization": {**config["zero_optimization"], **buckets(model, layers)}}
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config, dist_init_required=False)
    with init_empty_weights():
        plain = AutoModelForImageTextToText.from_config(model.vlm.config, dtype=torch.float32)
    for name, buffer in plain.named_buffers():
        owner, _, leaf = name.rpartition(".")
        place = model.vlm.get_submodule(owner)._buffers
        place[leaf] = buffer.to(place[leaf].device)
    return engine


def buckets(model: nn.Module, layers: Iterable[nn.Module]) -> dict[str, int]:
    """How much DeepSpeed gathers ahead: the next layer while one computes, which its own defaults are too small for."""

    def sizes(module: nn.Module) -> list[int]:
        parameters: set[Any] = set(module.parameters())
        return [parameter.ds_numel for parameter in parameters]

    layer, alone = max(sum(sizes(layer)) for layer in layers), max(sizes(model))
    return {
        "stage3_prefetch_bucket_size": max(layer, alone),
        "stage3_max_live_parameters": max(_LIVE, 2 * layer + alone),
    }


def gathered(model: nn.Module) -> Iterable[tuple[str, Tensor]]:
    """(name, CPU copy) of every parameter, gathered one at a time; every rank must go through all of them."""
    import deepspeed

    for name, parameter in model.named_parameters():
        with deepspeed.zero.GatheredParameters([parameter]):
            yield name, parameter.detach().cpu().clone()
