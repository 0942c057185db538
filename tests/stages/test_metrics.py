"""Every metric that alerts and dashboards name is exported by a real run."""

import pytest

from masters.data.metrics import read_metrics
from tests.k8s.promql import dashboard_expressions, metric_names, rule_expressions
from tests.stages.scraping import values

pytestmark = [pytest.mark.engine, pytest.mark.chain, pytest.mark.filterwarnings("default")]

NEEDS_MORE = {
    "ray_node_gpus_utilization": "a GPU",
    "ray_masters_lost_attempts_total": "an actor that died; tests/unit/stages counts one",
}


def test_a_run_exports_what_alerts_and_dashboards_name(finished):
    named = {
        name for expression in [*rule_expressions(), *dashboard_expressions()] for name in metric_names(expression)
    }
    assert named - finished.metrics.keys() <= NEEDS_MORE.keys()


def test_rows_tokens_switches_and_losses_of_every_stage_and_author(finished):
    seen = finished.metrics
    assert values(seen, "ray_masters_rows_total", "stage") == {"generate", "score", "evaluate"}
    assert values(seen, "ray_masters_rows_total", "outcome") == {"done"}
    assert values(seen, "ray_masters_tokens_total", "author") == {
        "big@r0.40",
        "big@r0.20",
        "big@r0.00",
        "student",
        "label",
    }
    assert "generate" in values(seen, "ray_masters_engine_switches_total", "stage")
    assert values(seen, "ray_masters_stage_rows", "stage") == {"generate", "score", "train", "evaluate"}
    assert values(seen, "ray_masters_stage_rows", "state") == {"done", "wanted"}
    terms = {name.removeprefix("loss_") for name in read_metrics(finished.run)[0] if name.startswith("loss_")}
    assert values(seen, "ray_masters_train_loss", "term") == terms
    assert {"data", "frozen", "student", "step"} <= values(seen, "ray_masters_train_seconds", "part")
    assert {"ray_masters_train_tokens_per_second", "ray_masters_train_peak_memory_gib"} <= seen.keys()
