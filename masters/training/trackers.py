"""Weights & Biases and MLflow, where they are installed and the recipe asks for them: every step, on rank 0, while it trains.

They are told what metrics.jsonl holds. A run keeps its id over resumes, and a step that a tracker has is not told again.
"""

import os
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from masters.config.run import RunConfig
from masters.data.metrics import read_metrics, scalars
from masters.data.storage import Storage

_ID = "train/trackers.json"
_LONGEST = 500  # characters of a parameter that every MLflow server takes


class Tracker(Protocol):
    """A run in a service. `next` is the first step that it has not."""

    next: int

    def tell(self, step: int, values: Mapping[str, float], seconds: float) -> None:
        """Log one step that ended at a Unix time."""

    def close(self) -> None:
        """Send what is left."""


class Trackers:
    """All that the recipe names.

    Args:
        config: the recipe.
        run: the run directory; holds the id, which goes with the training when it is set aside.
        first: steps that are done. They are told to a tracker that does not have them, as one that was added later.

    Raises:
        ValueError: where a service cannot be reached as things are set.
    """

    def __init__(self, config: RunConfig, run: Storage, first: int):
        names = sorted(set(config.train.trackers))
        if names and not run.exists(_ID):
            run.write_json(_ID, {"id": f"{config.name}-{uuid.uuid4().hex[:8]}"})
        self._trackers: list[Tracker] = [_KINDS[name](config, run, run.read_json(_ID)["id"]) for name in names]
        if first and names:
            for row in read_metrics(run):
                if row["step"] < first:
                    self.tell(row)

    def tell(self, row: Mapping[str, Any]) -> None:
        """A row of metrics.jsonl."""
        for tracker in self._trackers:
            if row["step"] >= tracker.next:
                tracker.tell(row["step"], scalars(row), row["time_unix"])

    def close(self) -> None:
        """Training is done."""
        for tracker in self._trackers:
            tracker.close()


class _Wandb:
    """Project and entity are those of WANDB_PROJECT and WANDB_ENTITY; the project is `masters` if none is named."""

    def __init__(self, config: RunConfig, run: Storage, run_id: str):
        import wandb

        try:
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", "masters"),
                id=run_id,
                name=config.name,
                resume="allow",
                config=config.model_dump(mode="json"),
                allow_val_change=True,  # fields that do not matter to the result may change at a resume
                dir=f"{run.local_path}/train" if run.local_path else None,  # else with the worker's logs
                settings=wandb.Settings(console="off"),
            )
        except wandb.Error as error:
            raise ValueError(
                f"train.trackers = wandb: {error}. Set WANDB_API_KEY in the environment of the train workers, or "
                "WANDB_MODE=offline to send it later with `wandb sync`."
            ) from error
        self.next = self._run.step

    def tell(self, step: int, values: Mapping[str, float], seconds: float) -> None:
        self._run.log({**values, "_timestamp": seconds}, step=step)

    def close(self) -> None:
        self._run.finish()


class _MLflow:
    """The experiment is that of MLFLOW_EXPERIMENT_NAME. A run is found again by its tag `masters_id`."""

    def __init__(self, config: RunConfig, run: Storage, run_id: str):
        if not os.environ.get("MLFLOW_TRACKING_URI"):
            raise ValueError(
                "train.trackers = mlflow: MLFLOW_TRACKING_URI is not set, so that nobody would find what is logged. "
                "Set it in the environment of the train workers: the address of your server, or sqlite:////a/file.db"
            )
        import mlflow

        self._mlflow = mlflow
        try:
            found = mlflow.search_runs(filter_string=f"tags.masters_id = '{run_id}'", output_format="list")
            if found:
                mlflow.start_run(run_id=found[0].info.run_id)
            else:
                mlflow.start_run(run_name=config.name, tags={"masters_id": run_id})
                fields = config.train.model_dump(mode="json")
                mlflow.log_params({f"train.{name}": str(value)[:_LONGEST] for name, value in fields.items()})
        except mlflow.MlflowException as error:
            raise ValueError(
                f"train.trackers = mlflow: {error}. Is MLFLOW_TRACKING_URI {os.environ['MLFLOW_TRACKING_URI']} right?"
            ) from error
        self.next = int(found[0].data.metrics.get("step", -1)) + 1 if found else 0

    def tell(self, step: int, values: Mapping[str, float], seconds: float) -> None:
        told = {**values, "step": float(step)}
        self._mlflow.log_metrics(told, step=step, timestamp=int(1000 * seconds), synchronous=False)

    def close(self) -> None:
        self._mlflow.flush_async_logging()
        self._mlflow.end_run()


_KINDS: dict[str, Callable[[RunConfig, Storage, str], Tracker]] = {"wandb": _Wandb, "mlflow": _MLflow}
