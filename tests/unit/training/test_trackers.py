"""W&B and MLflow are told every step once. Both are stand-ins here that keep what they are told: they are not in the locks."""

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from masters.config import train as train_config
from masters.config.load import load_recipe
from masters.config.train import TrainConfig, check_trackers
from masters.data.metrics import METRICS, scalars
from masters.data.storage import Storage
from masters.training.trackers import Trackers

ROOT = Path(__file__).parents[3]


class Server:
    """What lies in the services, and survives workers."""

    def __init__(self):
        self.runs = {"wandb": {}, "mlflow": {}}
        self.inits = []

    def steps(self, service):
        (steps,) = self.runs[service].values()
        return steps


def make_wandb(server):
    module = ModuleType("wandb")
    module.Error = type("Error", (Exception,), {})
    module.Settings = SimpleNamespace

    def init(**options):
        server.inits.append(options)
        if server.refuses:
            raise module.Error("no API key")
        steps = server.runs["wandb"].setdefault(options["id"], [])
        assert not steps or options["resume"] == "allow"

        def log(values, step):
            values.pop("_timestamp")
            steps.append((step, values))

        return SimpleNamespace(
            step=steps[-1][0] + 1 if steps else 0, log=log, finish=lambda: server.closed.append("wandb")
        )

    module.init = init
    return module


def make_mlflow(server):
    module, runs = ModuleType("mlflow"), server.runs["mlflow"]
    module.MlflowException = type("MlflowException", (Exception,), {})
    active = []

    def search_runs(filter_string, output_format):
        assert output_format == "list"
        if server.refuses:
            raise module.MlflowException("connection refused")
        found = [run_id for run_id in runs if filter_string == f"tags.masters_id = '{run_id}'"]
        last = [{"step": runs[run_id][-1][0]} if runs[run_id] else {} for run_id in found]
        return [
            SimpleNamespace(info=SimpleNamespace(run_id=run_id), data=SimpleNamespace(metrics=metrics))
            for run_id, metrics in zip(found, last, strict=True)
        ]

    def start_run(run_id=None, run_name=None, tags=None):
        active[:] = [run_id or tags["masters_id"]]
        assert (active[0] in runs) == (run_id is not None)
        runs.setdefault(active[0], [])

    def log_metrics(values, step, timestamp, synchronous):
        assert timestamp == 1000 * (10**9 + step)  # milliseconds
        assert synchronous is False  # a server that is slow or away does not hold up the gang
        assert values.pop("step") == step
        runs[active[0]].append((step, values))

    module.search_runs, module.start_run, module.log_metrics = search_runs, start_run, log_metrics
    module.log_params = server.parameters.append
    module.flush_async_logging = lambda: server.closed.append("flushed")
    module.end_run = lambda: server.closed.append("mlflow")
    return module


@pytest.fixture
def server(monkeypatch):
    server = Server()
    server.refuses, server.closed, server.parameters = False, [], []
    monkeypatch.setitem(sys.modules, "wandb", make_wandb(server))
    monkeypatch.setitem(sys.modules, "mlflow", make_mlflow(server))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://somewhere")
    return server


def config_with(*trackers):
    config = load_recipe(ROOT / "recipes/tiny.yaml", [])
    return config.model_copy(update={"train": config.train.model_copy(update={"trackers": trackers})})


def row(step):
    return {"step": step, "level": "big@r0.20", "loss_kl": step / 8, "time_unix": 1e9 + step}


def attempt(run, first, last, *trackers):
    """Train from `first` until `last` steps were taken; the log is that of a checkpoint behind `first`."""
    run.write(METRICS, "".join(json.dumps(row(step)) + "\n" for step in range(first)).encode())
    told = Trackers(config_with(*trackers), run, first)
    for step in range(first, last):
        told.tell(row(step))
    return told


ATTEMPTS = {
    "one": [(0, 5)],
    "killed behind its checkpoint": [(0, 4), (2, 5)],
    "killed at once": [(0, 0), (0, 5)],
    "killed again and again": [(0, 3), (0, 2), (2, 4), (4, 5)],
    "asked for later": [(3, 5)],
}


@pytest.mark.parametrize("service", ["wandb", "mlflow"])
@pytest.mark.parametrize("name", ATTEMPTS)
def test_every_step_is_told_once_to_one_run(server, tmp_path, service, name):
    run = Storage(str(tmp_path))
    for first, last in ATTEMPTS[name]:
        attempt(run, first, last, service)
    assert server.steps(service) == [(step, scalars(row(step))) for step in range(5)]


def test_both_have_one_id_and_are_closed(server, tmp_path):
    run = Storage(str(tmp_path))
    attempt(run, 0, 2, "mlflow", "wandb", "mlflow").close()
    assert server.closed == ["flushed", "mlflow", "wandb"]
    assert list(server.runs["wandb"]) == list(server.runs["mlflow"]) == [run.read_json("train/trackers.json")["id"]]
    (init,) = server.inits
    assert (init["name"], init["project"], init["dir"]) == ("tiny", "masters", f"{tmp_path}/train")
    assert server.parameters[0]["train.trackers"] == "['mlflow', 'wandb', 'mlflow']"


def test_a_training_that_begins_anew_is_another_run(server, tmp_path):
    run = Storage(str(tmp_path))
    attempt(run, 0, 3, "wandb")
    run.move("train", "superseded/train-1")
    attempt(run, 0, 3, "wandb")
    assert [[step for step, _ in steps] for steps in server.runs["wandb"].values()] == [[0, 1, 2], [0, 1, 2]]


def test_nothing_is_imported_or_written_for_a_recipe_without_trackers(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    Trackers(config_with(), Storage(str(tmp_path)), 0).tell(row(0))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("service", "address", "says"),
    [
        ("wandb", "http://somewhere", "train.trackers = wandb: no API key. Set WANDB_API_KEY"),
        ("mlflow", "http://somewhere", "connection refused. Is MLFLOW_TRACKING_URI http://somewhere right?"),
        ("mlflow", "", "train.trackers = mlflow: MLFLOW_TRACKING_URI is not set"),
    ],
)
def test_a_service_that_cannot_be_reached_is_said_before_the_first_step(server, monkeypatch, tmp_path, service, address, says):  # fmt: skip
    server.refuses = True
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with pytest.raises(ValueError) as error:
        attempt(Storage(str(tmp_path)), 0, 1, service)
    assert says in str(error.value)


def test_a_package_that_is_missing_is_said_with_the_command(monkeypatch):
    monkeypatch.setattr(train_config, "find_spec", lambda name: None if name == "mlflow" else object())
    check_trackers(TrainConfig(trackers=("wandb",)))
    with pytest.raises(ValueError, match=r"train.trackers = mlflow: is not installed here.*uv pip install mlflow`"):
        check_trackers(TrainConfig(trackers=("wandb", "mlflow")))


def test_a_run_is_refused_before_anything_is_started(monkeypatch, tmp_path):
    from masters.pipeline import run_stages

    monkeypatch.setattr(train_config, "find_spec", lambda name: None)
    config = config_with("wandb").model_copy(update={"storage": str(tmp_path)})
    with pytest.raises(ValueError, match=r"train.trackers = wandb: is not installed here"):
        run_stages(config, None)
    assert list(tmp_path.iterdir()) == []
