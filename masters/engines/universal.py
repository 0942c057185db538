"""A ZeRO-3 checkpoint that was cut for another number of ranks: made whole by DeepSpeed's converter, then cut anew."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

TAG = "zero3"
"""Name of the folder inside a checkpoint, as DeepSpeed writes and reads it."""

_WHOLE = "universal"
_CONVERTER = "deepspeed.checkpoint.ds_to_universal"


def ranks_of(folder: Path) -> int:
    """For how many ranks a checkpoint was cut. Raises ValueError where there is none."""
    parts = len(list((folder / TAG).glob("*_optim_states.pt")))
    if not parts:
        raise ValueError(f"{folder}: holds no checkpoint of ZeRO-3. Delete the folder, and training begins anew.")
    return parts


def load_cut_anew(engine: Any, folder: Path, scratch: Path) -> dict[str, Any]:
    """All ranks: load a checkpoint of any number of ranks into a fresh engine with an Adam; the caller's state.

    fp32 weights and both moments of Adam are bit for bit those of the checkpoint. What is learnt then differs by the order in
    which gradients are summed: behind 3 of 9 steps on another number, at a learning rate of 1e-3, weights by 1e-6 in fp32
    (1e-5 is allowed) and 4e-3 in bf16 (1e-2), losses by 1e-4 in bf16 (1e-3).

    Args:
        engine: of DeepSpeed.
        folder: the checkpoint, which all ranks of this machine see.
        scratch: a folder of this machine for the whole checkpoint; twice its size is needed meanwhile.

    Raises:
        ValueError: where it cannot be converted.
    """
    whole, converts = scratch / _WHOLE, os.environ["LOCAL_RANK"] == "0"
    if converts:
        _convert(folder / TAG, whole / TAG)
    torch.distributed.barrier()
    # DeepSpeed gives every group of parameters the settings of the first one: weights without decay would decay.
    settings = [
        {key: value for key, value in group.items() if key != "params"} for group in engine.optimizer.param_groups
    ]
    engine._config.load_universal_checkpoint = True  # a field of its configuration; here of this one load
    try:
        _, state = engine.load_checkpoint(str(whole), tag=TAG)
    finally:
        engine._config.load_universal_checkpoint = False
    for group, own in zip(engine.optimizer.param_groups, settings, strict=True):
        group.update(own)
    # It also gives all of them one tensor to count steps in, which every group's update would count up.
    for moments in engine.optimizer.optimizer.state.values():
        moments["step"] = moments["step"].clone()
    torch.distributed.barrier()
    if converts:
        shutil.rmtree(whole)
    return dict(state)


def _convert(source: Path, target: Path) -> None:
    """In a process of its own: the converter starts others, which must not inherit threads and GPUs."""
    need, free = 2 * sum(file.stat().st_size for file in source.iterdir()), _free(target)
    if free < need:
        raise ValueError(
            f"train.scratch = {target.parents[1]}: a checkpoint of another number of workers takes {need / 1e9:,.1f} GB "
            f"there while it is cut anew, and {free / 1e9:,.1f} GB are free. Name a folder with more room."
        )
    command = [sys.executable, "-m", _CONVERTER, "--input_folder", str(source), "--output_folder", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"{source}: DeepSpeed cannot make this checkpoint whole: {done.stderr.strip()[-2000:]}")


def _free(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    return shutil.disk_usage(folder).free
