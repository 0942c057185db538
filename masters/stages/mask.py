"""mask: one thresholds file per teacher, from one streaming pass over its weights; never a masked copy."""

import json
from dataclasses import asdict
from decimal import Decimal
from typing import Any

from masters.algo.schedule import mask_ratios
from masters.config.models import TeacherConfig
from masters.config.run import RunConfig
from masters.data.storage import Storage
from masters.families import MaskScope
from masters.models.folder import check_experts, family_of, fingerprint, head_rows, resolve, tokens, weight_files
from masters.reporting.progress import Screen
from masters.stages.base import Stage
from masters.stages.fetch import Need


def parts(config: RunConfig) -> dict[str, Any]:
    """What the thresholds depend on."""
    return {
        "mask.scope": config.mask.scope,
        "teachers": {
            teacher.alias: {
                "ratios": teacher.ratio_keys,
                "fingerprint": fingerprint(teacher.path, config.hub_token_env),
            }
            for teacher in config.curriculum
        },
    }


def thresholds_name(alias: str) -> str:
    """Where the thresholds file of a teacher lies."""
    return f"thresholds/{alias}.json"


def execute(config: RunConfig, run: Storage, screen: Screen) -> tuple[dict[str, Any], str]:
    """One task per safetensors file of each teacher."""
    from masters.stages.cluster import connect

    connect()
    counts: dict[str, Any] = {}
    for teacher in config.curriculum:
        counts[teacher.alias] = _mask_teacher(teacher, config, run, screen)
    listed = ", ".join(f"{alias} {c['matrices']} matrices at {' '.join(c['ratios'])}" for alias, c in counts.items())
    return counts, listed


def _models(config: RunConfig) -> list[Need]:
    return [Need(teacher.path, config.resources.mask) for teacher in config.curriculum]


STAGE = Stage("mask", (), ("thresholds",), parts, execute, _models)


def _mask_teacher(teacher: TeacherConfig, config: RunConfig, run: Storage, screen: Screen) -> dict[str, Any]:
    import ray

    from masters.models.thresholds import ThresholdsFile
    from masters.stages.cluster import remote_options

    options = remote_options(config.resources.mask)
    list_files, read_file = (ray.remote(**options)(task) for task in (_list_files, _file_thresholds))
    hub = config.hub_token_env, config.hub_mirror
    family, files, notes = ray.get(list_files.remote(teacher.path, config.student.path, *hub))
    for note in notes:
        screen.line("mask", note)
    ratios = mask_ratios(teacher.r_max, teacher.mask_step)
    tensors: dict[str, Any] = {}
    with screen.track("mask", len(files), f"files of {teacher.alias}") as tracker:
        waiting = [read_file.remote(teacher.path, *hub, file, config.mask.scope, ratios) for file in files]
        while waiting:
            ready, waiting = ray.wait(waiting)
            for found in ray.get(ready):
                tensors.update(found)
                tracker.advance()
    _check_precision(teacher, tensors, config)
    keys = teacher.ratio_keys
    file = ThresholdsFile(
        family=family,
        scope=config.mask.scope,
        fingerprint=fingerprint(teacher.path, config.hub_token_env),
        ratios=keys,
        tensors=dict(sorted(tensors.items())),
    )
    run.write(thresholds_name(teacher.alias), json.dumps(asdict(file)).encode())
    weights = sum(entry.numel for entry in tensors.values())
    sparsity = {key: sum(entry.masked[key] for entry in tensors.values()) / max(1, weights) for key in keys}
    return {"matrices": len(tensors), "weights": weights, "ratios": list(keys), "sparsity": sparsity}


def _check_precision(teacher: TeacherConfig, tensors: dict[str, Any], config: RunConfig) -> None:
    """Masks are made for the checkpoint's own numbers: train must hold them exactly. Raises ValueError."""
    dtypes = sorted({entry.dtype for entry in tensors.values()})
    masked = teacher.r_max > 0 and config.train.objective == "masters"
    if masked and config.train.precision == "bf16" and dtypes != ["bfloat16"]:
        raise ValueError(
            f"train.precision = bf16: the weights of {teacher.alias} are {', '.join(dtypes)}, and rounded to bf16 other weights "
            "would be masked. Use fp32, or convert the checkpoint to bfloat16."
        )


def _list_files(path: str, student: str, token_env: str, mirror: str | None = None) -> tuple[str, list[str], list[str]]:
    """Family and weight files of a teacher, and what is odd about the two models' tokens.

    Raises:
        ValueError: where it is not of the student's family: train would find that, later.
    """
    from masters.models.chat import check_same_tokens

    folders = [resolve(student, token_env, weights=False, mirror=mirror), resolve(path, token_env, mirror=mirror)]
    known = [tokens(folder) for folder in folders]
    try:
        check_same_tokens(*known)
    except ValueError as error:
        raise ValueError(f"{student} and {path}: {error}. Take a teacher of the student's family.") from error
    check_experts(folders[1])
    notes = []
    for name, folder, ids in zip((student, path), folders, known, strict=True):
        if ids and (rows := head_rows(folder)) <= max(ids):
            left = ", ".join(ids[index] for index in sorted(ids) if index >= rows)
            notes.append(f"{name}: the head has {rows} rows, the tokenizer {max(ids) + 1} ids; never answered: {left}")
    return family_of(folders[1]).name, weight_files(folders[1]), notes


def _file_thresholds(
    path: str, token_env: str, mirror: str | None, file: str, scope: MaskScope, ratios: tuple[Decimal, ...]
) -> dict[str, Any]:
    from masters.models.thresholds import file_thresholds

    folder = resolve(path, token_env, mirror=mirror)
    return file_thresholds(folder, file, family_of(folder), scope, ratios)
