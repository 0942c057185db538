"""Alerts, monitors and dashboards: what they watch exists, and is of this cluster only."""

import re
import shutil
import subprocess

import pytest
import yaml

from masters.stages.metrics import COUNTERS, GAUGES
from tests.k8s.promql import dashboard_expressions, dashboards, metric_names, rule_expressions


def exported() -> set[str]:
    """What we, Ray's dashboard agent, its GCS and its autoscaler export, read out of the code. tests/stages scrapes a run."""
    from prometheus_client import CollectorRegistry
    from ray.autoscaler._private.prom_metrics import AutoscalerPrometheusMetrics
    from ray.dashboard.modules.reporter.reporter_agent import METRICS_GAUGES

    registry = CollectorRegistry()
    metrics = AutoscalerPrometheusMetrics(session_name="s", registry=registry)
    metrics.pending_nodes.labels(SessionName="s", NodeType="generate").set(1)
    scraped = {sample.name for family in registry.collect() for sample in family.samples}
    ours = {f"ray_{name}_total" for name in COUNTERS} | {f"ray_{name}" for name in GAUGES}
    return scraped | ours | {f"ray_{name}" for name in METRICS_GAUGES} | {"ray_gcs_placement_group_count"}


def rules(rendered) -> list[dict]:
    (one,) = rendered("gke").of("PrometheusRule")
    return [rule for group in one["spec"]["groups"] for rule in group["rules"]]


def test_rules_and_dashboards_speak_of_metrics_that_are_exported(rendered):
    known = exported()
    for expression in [*(rule["expr"] for rule in rules(rendered)), *dashboard_expressions()]:
        names = metric_names(expression)
        assert names, expression
        assert names <= known, expression


def test_the_template_is_read_as_it_is_rendered(rendered):
    assert [metric_names(rule["expr"]) for rule in rules(rendered)] == [metric_names(e) for e in rule_expressions()]


def test_rules_are_about_one_release_and_panels_about_one_cluster_only(rendered):
    for rule in rules(rendered):
        for labels in re.findall(r"\{([^}]*)\}", rule["expr"]):
            assert labels.startswith('namespace="masters", masters_release="lab"'), rule["alert"]
    for board in dashboards().values():
        for panel in board["panels"]:
            for target in panel["targets"]:
                selectors = re.findall(r"\{([^}]*)\}", target["expr"])
                assert selectors
                assert all(s.startswith('namespace="$namespace", ray_io_cluster="$cluster"') for s in selectors), target


def test_an_alert_is_of_one_cluster_and_names_it(rendered):
    """A release has a cluster of its own, and one for each RayJob: no aggregation mixes them."""
    for rule in rules(rendered):
        assert all(by.startswith("ray_io_cluster") for by in re.findall(r"by \(([^)]*)\)", rule["expr"])), rule["alert"]
        assert len(re.findall(r"\b(?:sum|max|count)\b", rule["expr"])) == rule["expr"].count("by (ray_io_cluster")
        assert "{{ $labels.ray_io_cluster }}" in rule["annotations"]["summary"]


def test_dashboards_list_every_cluster_of_a_namespace():
    for board in dashboards().values():
        (variable,) = (one for one in board["templating"]["list"] if one["name"] == "cluster")
        assert variable["query"] == 'label_values(ray_node_cpu_count{namespace="$namespace"}, ray_io_cluster)'


def test_every_metric_of_ours_is_looked_at():
    seen = {name for e in [*dashboard_expressions(), *rule_expressions()] for name in metric_names(e)}
    assert {f"ray_{name}_total" for name in COUNTERS} | {f"ray_{name}" for name in GAUGES} <= seen


def test_dashboards_are_config_maps_that_grafana_finds(rendered):
    made = {o["metadata"]["name"]: o for o in rendered("gke").of("ConfigMap")}
    assert set(made) == {"lab-run-dashboard", "lab-cost-dashboard"}
    for one in made.values():
        assert one["metadata"]["labels"]["grafana_dashboard"] == "1"
        (text,) = one["data"].values()
        assert yaml.safe_load(text) in dashboards().values()
    assert rendered("minimal").of("ConfigMap") == []


def test_dashboards_are_laid_out_without_gaps_and_belong_to_no_installation():
    for board in dashboards().values():
        places = [tuple(panel["gridPos"].values()) for panel in board["panels"]]
        assert len(set(places)) == len(places)
        assert all(x + w <= 24 for x, _, w, _ in places)
        assert "id" not in board
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
        assert all(panel["datasource"]["uid"] == "${datasource}" for panel in board["panels"])


def test_monitors_scrape_ports_that_the_pods_have(rendered):
    some = rendered("gke")
    pods = {"head": [some.head], "worker": list(some.workers.values())}
    monitors = some.of("PodMonitor")
    assert len(monitors) == 2
    for one in monitors:
        assert one["metadata"]["labels"]["release"] == "prometheus"
        for endpoint in one["spec"]["podMetricsEndpoints"]:
            given = {one["targetLabel"]: one["sourceLabels"] for one in endpoint["relabelings"]}
            pod_label = "__meta_kubernetes_pod_label_"  # as Prometheus writes a label's key
            assert given == {
                "ray_io_cluster": [f"{pod_label}ray_io_cluster"],
                "ray_io_group": [f"{pod_label}ray_io_group"],
                "masters_release": [f"{pod_label}app_kubernetes_io_instance"],
            }
            for pod in pods[one["spec"]["selector"]["matchLabels"]["ray.io/node-type"]]:
                assert endpoint["port"] in [port["name"] for port in pod.ray["ports"]]


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not on PATH; Debian's package prometheus has it"
)
def test_promtool_accepts_the_rules_and_every_dashboard_expression(rendered, tmp_path):
    groups = rendered("gke").of("PrometheusRule")[0]["spec"]["groups"]
    records = [
        {"record": f"panel:{number}", "expr": re.sub(r"\$__range", "6h", re.sub(r"\$price_\w+", "1", e))}
        for number, e in enumerate(dashboard_expressions())
    ]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [*groups, {"name": "panels", "rules": records}]}))
    done = subprocess.run(["promtool", "check", "rules", tmp_path / "rules.yaml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
