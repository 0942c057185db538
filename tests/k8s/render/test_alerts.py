"""The rendered alerts on series as Prometheus scrapes them: promtool evaluates when each fires."""

import shutil
import subprocess

import pytest
import yaml

HERE = 'namespace="masters", masters_release="lab", ray_io_cluster="{}"'
STALLED, RESTARTED, PENDING = "MastersStageStalled", "MastersHeadRestarted", "MastersWorkerPending"

pytestmark = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not on PATH; Debian's package prometheus has it"
)


@pytest.fixture
def fires(rendered, tmp_path):
    """fires(alert, {series: values, one each half minute}, minute, labels or None): promtool agrees."""
    (rules,) = rendered("gke").of("PrometheusRule")
    said = {
        rule["alert"]: (rule["labels"], rule["annotations"])
        for group in rules["spec"]["groups"]
        for rule in group["rules"]
    }
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules["spec"]))

    def expect(alert: str, series: dict[str, str], minute: int, **labels: str) -> None:
        severity, notes = said[alert]
        for key, value in labels.items():
            here = "{{ $labels." + key + " }}"
            notes = {name: text.replace(here, value) for name, text in notes.items()}
        wanted = [{"exp_labels": labels | severity, "exp_annotations": notes}] if labels else []
        test = {
            "interval": "30s",
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "alert_rule_test": [{"eval_time": f"{minute}m", "alertname": alert, "exp_alerts": wanted}],
        }
        file = {"rule_files": ["rules.yaml"], "evaluation_interval": "30s", "tests": [test]}
        (tmp_path / "test.yaml").write_text(yaml.safe_dump(file))
        done = subprocess.run(["promtool", "test", "rules", tmp_path / "test.yaml"], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    return expect


def stage(done: str, cluster: str = "lab") -> dict[str, str]:
    """What the driver of a stage with 100 rows shows for an hour and a half."""
    name = 'ray_masters_stage_rows{%s, stage="score", state="%s"}'
    return {name % (HERE.format(cluster), "wanted"): "100x180", name % (HERE.format(cluster), "done"): done}


def test_a_stage_that_finishes_nothing_is_stalled_after_half_an_hour(fires):
    still = stage("0+1x20 20x160")  # ten minutes of work, then none
    fires(STALLED, still, 40)
    fires(STALLED, still, 50, ray_io_cluster="lab", stage="score")


def test_a_stage_that_never_began_to_work_is_stalled_too(fires):
    fires(STALLED, stage("0x180"), 29)
    fires(STALLED, stage("0x180"), 31, ray_io_cluster="lab", stage="score")


def test_a_slow_stage_is_not_stalled(fires):
    every_quarter = " ".join(f"{rows}x29" for rows in range(6))
    fires(STALLED, stage(every_quarter), 80)


def test_a_stage_that_ended_is_not_stalled(fires):
    fires(STALLED, stage("0+5x20 100x160"), 80)
    fires(STALLED, {name: "100x20" if "wanted" in name else "7x20" for name in stage("")}, 80)  # its driver died


def test_one_cluster_works_and_another_stands(fires):
    series = stage("0+1x90", "lab") | stage("7x180", "mine-x7k2p")
    fires(STALLED, series, 40, ray_io_cluster="mine-x7k2p", stage="score")


def head(pod: str, values: str, cluster: str = "lab", session: str = "s1") -> dict[str, str]:
    """A head's own series."""
    labels = f'{HERE.format(cluster)}, pod="{pod}", IsHeadNode="true", SessionName="{session}"'
    return {f"ray_node_cpu_count{{{labels}}}": values}


def test_a_second_head_pod_is_a_restart_though_the_session_goes_on(fires):
    two = head("lab-head-a", "2x40") | head("lab-head-b", "_x42 2x60")
    fires(RESTARTED, two, 19)
    fires(RESTARTED, two, 25, ray_io_cluster="lab")


def test_half_an_hour_later_it_is_forgotten(fires):
    fires(RESTARTED, head("lab-head-a", "2x40") | head("lab-head-b", "_x42 2x160"), 60)


def test_heads_of_two_clusters_are_no_restart(fires):
    fires(RESTARTED, head("lab-head-a", "2x80") | head("mine-head-b", "2x80", "mine-x7k2p", "s2"), 30)


def pending(values: str) -> dict[str, str]:
    """What the autoscaler says of a group."""
    return {f'autoscaler_pending_nodes{{{HERE.format("lab")}, NodeType="generate", SessionName="s1"}}': values}


def test_a_worker_is_pending_though_its_pod_was_given_up_and_made_anew(fires):
    fires(PENDING, pending("1x29 0 1x60"), 20, ray_io_cluster="lab", NodeType="generate")
    fires(PENDING, pending("1x29 0x60"), 20)
