"""train: the gang. Ray Train keeps it together and brings it back from its last checkpoint; DeepSpeed ZeRO-3 computes."""

import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from masters.config.run import RunConfig
from masters.data.manifests import read_manifest
from masters.data.metrics import each_step
from masters.data.storage import Storage
from masters.data.students import check_choice
from masters.models.folder import fingerprint, resolve
from masters.reporting.progress import Screen, Tracker
from masters.stages import metrics
from masters.stages.base import Stage
from masters.stages.fetch import Need
from masters.stages.mask import thresholds_name
from masters.training.space import CHECKPOINTS, checkpoint_bytes, space_problems

_TELL_SECONDS = 0.5
_SAME_UP_TO_ROUNDING = {
    "gradient_checkpointing", "teacher_sharding", "offload_teacher", "offload_optimizer", "objective_gib", "metrics_every",
}  # fmt: skip
_CHECKPOINTS_ONLY = {"checkpoint_every", "checkpoint_minutes", "keep_checkpoints", "scratch"}


def parts(config: RunConfig) -> dict[str, Any]:
    """What the trained student depends on."""
    without = {"keep", "trackers"} | _CHECKPOINTS_ONLY | _SAME_UP_TO_ROUNDING
    if not config.train.students_by_level:
        without.add("students_by_level")
    if config.train.reward == "both":
        without.add("reward")
    return {
        "seed": config.seed,
        "train": config.train.model_dump(mode="json", exclude=without),
        "curriculum": [teacher.alias for teacher in config.curriculum],
        "student": fingerprint(config.student.path, config.hub_token_env),
        **config.images.parts,
    }


def execute(config: RunConfig, run: Storage, screen: Screen) -> tuple[dict[str, Any], str]:
    """Run the gang to the end; Ray Train finds the checkpoints of an earlier attempt by the run's name."""
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    from masters.engines.sharding import TIMEOUT
    from masters.stages.cluster import connect
    from masters.training.curriculum import steps
    from masters.training.loop import TrainTask, train_on_worker

    connect()
    prepared = read_manifest(run, "prepare")
    assert prepared is not None
    check_choice(config, prepared.counts)
    total, resources = prepared.counts["train"], config.resources.train
    names = tuple(thresholds_name(teacher.alias) for teacher in config.curriculum)
    planned, (folder, name) = steps(config, total), CHECKPOINTS.split("/")
    _check_space(config)
    with screen.track("train", len(planned), "steps") as tracker, _progress_queue(screen, tracker) as report:
        task = TrainTask(config, run, total, names, report)
        sizes = {"CPU": resources.cpus, "GPU": resources.gpus, "memory": resources.memory_gib * 2**30}
        trainer = TorchTrainer(
            lambda settings: train_on_worker(settings["task"]),
            train_loop_config={"task": task},
            torch_config=TorchConfig("nccl" if resources.gpus else "gloo", timeout_s=int(TIMEOUT.total_seconds())),
            scaling_config=ray.train.ScalingConfig(
                num_workers=resources.workers,
                use_gpu=resources.gpus > 0,
                resources_per_worker={name: size for name, size in sizes.items() if size},
                label_selector=resources.labels or None,
            ),
            run_config=ray.train.RunConfig(
                name=name,
                storage_path=run.folder(folder).uri,
                failure_config=ray.train.FailureConfig(max_failures=resources.max_failures),
                checkpoint_config=ray.train.CheckpointConfig(num_to_keep=config.train.keep_checkpoints),
            ),
        )
        fit(trainer)
    return _summary(run, len(planned))


def _models(config: RunConfig) -> list[Need]:
    teachers = () if config.train.objective == "sft" else config.curriculum
    return [Need(model.path, config.resources.train) for model in (config.student, *teachers)]


STAGE = Stage(
    "train", ("prepare", "mask", "generate", "score"), ("train",), parts, execute, _models, continuing=(CHECKPOINTS,)
)


def _check_space(config: RunConfig) -> None:
    """On a node where a worker may be, before all of them are asked for. Raises ValueError where checkpoints have no room."""
    import ray

    from masters.stages.cluster import remote_options

    resources = config.resources.train
    look = ray.remote(**remote_options(resources, resources.gpus))(_look_for_space)
    problems: list[str] = ray.get(look.remote(config))
    if problems:
        raise ValueError("\n".join(problems))


def _look_for_space(config: RunConfig) -> list[str]:
    folder = resolve(config.student.path, config.hub_token_env, mirror=config.hub_mirror)
    size = checkpoint_bytes(folder, config.train)
    return [str(problem) for problem in space_problems(config, size)]


def fit(trainer: Any) -> None:
    """Train. Ray Train takes Ctrl-C over, for good, and would end the driver with status 0.

    Raises:
        KeyboardInterrupt: where training was interrupted.
    """
    on_interrupt = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit()
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGINT, on_interrupt)


class _Report:
    """What a worker calls after every step. The driver hears of some, twice a second at most, and of the last."""

    def __init__(self, tell: Callable[[Any], None], total: int):
        self._tell, self._total, self._told = tell, total, 0.0

    def __call__(self, done: int, words: str, row: dict[str, Any]) -> None:
        now = time.monotonic()
        if not row or done == self._total or now - self._told >= _TELL_SECONDS:
            self._told = now
            self._tell((done, words, row))


@contextmanager
def _progress_queue(screen: Screen, tracker: Tracker) -> Iterator[Any]:
    """A function that workers call; what it is told is shown here, on the driver, while the gang runs."""
    from masters.stages.cluster import heard

    with metrics.showing("train", tracker) as show_terms:

        def show(item: tuple[int, str, dict[str, Any]]) -> None:
            done, words, row = item
            if not row:
                screen.line("train", f"continues behind step {done}")
            tracker.advance(done - tracker.done, words)
            show_terms(row)

        with heard(show) as tell:
            yield _Report(tell, tracker.total)


def _summary(run: Storage, steps: int) -> tuple[dict[str, Any], str]:
    tenth = max(1, steps // 10)
    first: list[dict[str, Any]] = []
    last: deque[dict[str, Any]] = deque(maxlen=tenth)
    dropped = 0
    for row in each_step(run):
        dropped += int(row.get("n_dropped", 0))
        last.append(row)
        if len(first) < tenth:
            first.append(row)
    words = [f"{steps} steps"]
    for name, key in (("jsd", "divergence"), ("kl", "kl_nats"), ("nll", "loss_sft")):
        values = [[row[key] for row in part if key in row] for part in (first, last)]
        if all(values):
            words.append(f"{name} {_mean(values[0]):.3f} -> {_mean(values[1]):.3f}")
    if dropped:
        words.append(f"{dropped:,} responses dropped: they hold token ids that no tokenizer knows")
    return {"steps": steps, "dropped": dropped}, ", ".join(words)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
