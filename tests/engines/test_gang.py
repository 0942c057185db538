"""Ray Train's own machinery around checkpoints: a drained node, a worker that dies while it uploads, the clock."""

import json
import threading
import time
from pathlib import Path

import pytest

from masters.data.metrics import REWARDS_FOLDER, read_metrics
from masters.data.storage import Storage
from masters.data.tables import REWARDS
from masters.training.space import CHECKPOINTS
from tests.engines.gang import work

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("default")]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def nodes():
    """A cluster of three small nodes: two for a gang, one in reserve; none of them can be drained twice."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    environment = {"PYTHONPATH": str(ROOT), "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "0.3", "OMP_NUM_THREADS": "1"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S", "0.3")
        for _ in range(3):
            cluster.add_node(num_cpus=1, resources={"gang": 1})
        ray.init(address=cluster.address, runtime_env={"env_vars": environment}, log_to_driver=False)
        yield
        ray.shutdown()
        cluster.shutdown()


def train(folder, *, meanwhile=None, **settings):
    """(run directory, what rank 0 did) of a gang of two; `meanwhile` is called beside it."""
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    defaults = {"run": str(folder / "run"), "events": str(folder / "events"), "steps": 12, "seconds": 0.2, "cut": 0, "upload_seconds": 0}  # fmt: skip
    options = {**defaults, **settings}
    scratch = folder / "scratch"
    options["train"] = {"scratch": str(scratch), **options["train"]}
    trainer = TorchTrainer(
        work,
        train_loop_config=options,
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=ray.train.ScalingConfig(num_workers=2, resources_per_worker={"CPU": 1, "gang": 1}),
        run_config=ray.train.RunConfig(
            name="checkpoints",
            storage_path=str(folder / "run" / "train"),
            failure_config=ray.train.FailureConfig(max_failures=1),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=options["train"].get("keep_checkpoints", 2)),
        ),
    )
    beside = threading.Thread(target=meanwhile or (lambda: None), daemon=True)
    beside.start()
    trainer.fit()
    beside.join(10)
    assert [path for path in scratch.rglob("*") if path.is_file()] == []
    return Storage(str(folder / "run")), events_of(folder)


def events_of(folder):
    file = folder / "events"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return [(line["what"], line["number"]) for line in lines]


def check_log(run, steps):
    """Each step is there once, for both ranks, whatever was cut off."""
    assert [row["step"] for row in read_metrics(run)] == list(range(steps))
    rows = run.read_tables(run.names(REWARDS_FOLDER, ".parquet"), REWARDS)
    found = sorted(zip(rows["step"].to_pylist(), rows["index"].to_pylist(), strict=True))
    assert found == [(step, rank) for step in range(steps) for rank in (0, 1)]


def stored(run):
    return {name.split("/")[2] for name in run.names(CHECKPOINTS) if name.count("/") > 2}


def test_a_worker_that_dies_while_it_uploads_costs_no_row_of_the_log(nodes, tmp_path):
    """Every 4 steps, and in the second upload rank 1 dies: what rank 0 stored of it is no checkpoint."""
    run, events = train(tmp_path, train={"checkpoint_every": 4}, cut=2, upload_seconds=0.5)
    begins = [number for what, number in events if what == "begins"]
    assert begins == [0, 4]
    assert max(number for what, number in events[: events.index(("begins", 4))] if what == "step") >= 8
    check_log(run, 12)
    assert len(stored(run)) == 2


def test_training_goes_on_while_a_checkpoint_is_uploaded_and_n_are_kept(nodes, tmp_path):
    train_config = {"checkpoint_every": 1000, "checkpoint_minutes": 0.5 / 60, "keep_checkpoints": 1}
    run, events = train(tmp_path, train=train_config, upload_seconds=1.0)
    begin, end = events.index(("upload begins", 0)), events.index(("upload ends", 0))
    assert [what for what, _ in events[begin:end]].count("step") >= 2
    assert (
        2 <= [what for what, _ in events].count("upload ends") <= 6
    )  # by the clock, one at a time, and behind the last step
    check_log(run, 12)
    assert len(stored(run)) == 1


def test_a_node_that_is_drained_costs_at_most_the_step_under_way(nodes, tmp_path):
    """Without a checkpoint by steps or by the clock: all that is kept is kept because of the notice."""
    seen = {}

    def tell():
        while ("step", 4) not in events_of(tmp_path):
            time.sleep(0.1)
        seen["told"] = max(number for what, number in events_of(tmp_path) if what == "step")
        drain((tmp_path / "events.node-1").read_text(), seconds=6)

    run, events = train(tmp_path, meanwhile=tell, train={"checkpoint_every": 1000}, steps=60)
    begins = [place for place, (what, _) in enumerate(events) if what == "begins"]
    assert len(begins) == 2
    reached = max(number for what, number in events[: begins[1]] if what == "step")
    resumed = events[begins[1]][1]
    assert seen["told"] <= reached - 1 <= resumed <= reached
    check_log(run, 60)


def drain(node, seconds):
    """What `ray drain-node` does."""
    import ray
    from ray._raylet import GcsClient
    from ray.core.generated import autoscaler_pb2

    reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    client = GcsClient(address=ray.get_runtime_context().gcs_address)
    accepted, why = client.drain_node(node, reason, "maintenance", int((time.time() + seconds) * 1000))
    assert accepted, why
