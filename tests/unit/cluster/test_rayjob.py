"""RayJobs against KubeRay's own schema, and what KubeRay refuses beyond it."""

import copy
import stat
import sys
from pathlib import Path

import pytest
import yaml

from masters.cluster import rayjob
from masters.cluster.rayjob import Limits, cluster_of_a_job, job_name, manifests, render_cluster, to_yaml
from tests.k8s.render.strict import needs_crds, problems

RECIPE = "name: my.run\n# a comment with a \"quote\": and a colon\nscore: {judge: {type: rule}}\nnote: 'no'\n"
COMMAND = "python -m ray_jobs.pipeline /etc/masters/recipe/my.run.yaml train.lr=1e-5"
CONTAINER = {
    "image": "masters:1", "resources": {"limits": {"cpu": "2", "memory": "8Gi"}},
    "env": [{"name": "RAY_USAGE_STATS_ENABLED", "value": "0"}, {"name": "ANSWER", "value": "no"}],
    "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}],
}  # fmt: skip
SHM = [{"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}]
CLUSTER = {
    "apiVersion": "ray.io/v1", "kind": "RayCluster",
    "metadata": {"name": "masters", "namespace": "research", "labels": {"app.kubernetes.io/instance": "masters"}},
    "spec": {
        "rayVersion": "2.60.0", "authOptions": {"mode": "token"}, "enableInTreeAutoscaling": True, "suspend": False,
        "autoscalerOptions": {"version": "v2"},
        "gcsFaultToleranceOptions": {"redisAddress": "redis:6379", "externalStorageNamespace": "masters"},
        "headGroupSpec": {
            "rayStartParams": {"num-cpus": "0"}, "headService": {"metadata": {"name": "masters-head-svc"}},
            "template": {"spec": {"containers": [{"name": "ray-head", **CONTAINER}], "volumes": SHM}},
        },
        "workerGroupSpecs": [
            {
                "groupName": "generate", "replicas": 0, "minReplicas": 0, "maxReplicas": 4, "idleTimeoutSeconds": 300, "priority": 10,
                "labels": {"ray.io/node-group": "generate"}, "rayStartParams": {},
                "template": {"spec": {"containers": [{"name": "ray-worker", **CONTAINER}], "volumes": SHM}},
            }
        ],
    },
}  # fmt: skip


def render(cluster=CLUSTER, recipe=RECIPE, limits=None, stage=None):
    """The recipe as the head's annotation holds it, and the RayJob: nothing else is made."""
    (job,) = manifests(cluster, recipe, "my.run", COMMAND, limits or Limits(), stage)
    metadata = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["metadata"]
    return metadata["annotations"]["masters/recipe"], job


@needs_crds
@pytest.mark.parametrize("stage", [None, "generate"])
def test_kuberays_schema_accepts_it(stage):
    _, job = render(stage=stage)
    assert problems("RayJob", job) == []


def test_what_kuberay_refuses_beyond_its_schema():
    _, job = render()
    spec = job["spec"]
    assert not {"deletionStrategy", "clusterSelector"} & spec.keys()  # nothing with them can be suspended
    assert spec["backoffLimit"] >= 0
    assert spec["activeDeadlineSeconds"] > spec["preRunningDeadlineSeconds"] > 0
    with pytest.raises(ValueError, match="enableK8sTokenAuth"):
        cluster_of_a_job({**CLUSTER["spec"], "authOptions": {"mode": "token", "enableK8sTokenAuth": True}}, "x", "")


def test_no_idle_gpu_is_left_however_it_ends_and_it_can_be_suspended():
    """Rules for deletion know no job that was stopped; with them KubeRay refuses `suspend`, for good."""
    spec = render(limits=Limits(kept_seconds=90))[1]["spec"]
    assert (spec["shutdownAfterJobFinishes"], spec["ttlSecondsAfterFinished"], spec["suspend"]) == (True, 90, False)


def test_the_run_and_its_directory_are_known_by_name():
    made = manifests(CLUSTER, RECIPE, "my.run.", COMMAND, Limits(), None, "", "s3://bucket/runs/my.run.")
    told = made[0]["metadata"]["annotations"]
    assert told == {"masters/run": "my.run.", "masters/run-directory": "s3://bucket/runs/my.run."}
    assert "masters/run-directory" not in render()[1]["metadata"]["annotations"]


def test_retries_and_deadlines_are_the_limits():
    _, job = render(limits=Limits(retries=5, ready_seconds=600, total_seconds=7200))
    spec = job["spec"]
    assert (spec["backoffLimit"], spec["preRunningDeadlineSeconds"], spec["activeDeadlineSeconds"]) == (5, 600, 7200)
    assert spec["entrypoint"] == COMMAND


def test_the_head_finds_the_recipe_where_the_command_looks_and_cannot_write_it():
    recipe, job = render()
    pod = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    (volume,) = (volume for volume in pod["volumes"] if "downwardAPI" in volume)
    (mount,) = (mount for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == volume["name"])
    assert mount["readOnly"] is True
    (file,) = volume["downwardAPI"]["items"]
    assert file["fieldRef"] == {"fieldPath": "metadata.annotations['masters/recipe']"}
    assert f"{mount['mountPath']}/{file['path']}" == rayjob.recipe_place("my.run") == COMMAND.split()[3]
    assert recipe == RECIPE
    assert job["metadata"]["namespace"] == "research"
    workers = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert workers == CLUSTER["spec"]["workerGroupSpecs"]


def test_annotations_of_the_charts_head_stay():
    cluster = copy.deepcopy(CLUSTER)
    cluster["spec"]["headGroupSpec"]["template"]["metadata"] = {"annotations": {"a": "b"}, "labels": {"c": "d"}}
    metadata = render(cluster)[1]["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["metadata"]
    assert metadata == {"annotations": {"a": "b", "masters/recipe": RECIPE}, "labels": {"c": "d"}}


def test_nothing_is_made_that_would_stay_when_the_rayjob_is_deleted():
    assert [one["kind"] for one in manifests(CLUSTER, RECIPE, "my.run", COMMAND, Limits())] == ["RayJob"]
    assert "configMap" not in to_yaml([render()[1]])


def test_what_belongs_to_a_lasting_cluster_is_left_out_and_the_charts_object_is_not_changed():
    before = copy.deepcopy(CLUSTER)
    own = render()[1]["spec"]["rayClusterSpec"]
    assert not {"gcsFaultToleranceOptions", "suspend", "managedBy"} & own.keys()
    assert "headService" not in own["headGroupSpec"]
    assert before == CLUSTER


@needs_crds
def test_a_queue_of_kueue_is_kept_and_alone_says_when_it_is_suspended():
    cluster = copy.deepcopy(CLUSTER)
    cluster["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "team"
    cluster["metadata"]["annotations"] = {"kueue.x-k8s.io/elastic-job": "true", "other": "x"}
    _, job = render(cluster)
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team"
    assert job["metadata"]["annotations"] == {"kueue.x-k8s.io/elastic-job": "true", "masters/run": "my.run"}
    assert job["spec"]["shutdownAfterJobFinishes"] is True
    assert "suspend" not in job["spec"]
    assert problems("RayJob", job) == []


@pytest.mark.parametrize(
    ("run", "stage", "name"),
    [("tiny", None, "tiny"), ("tiny", "mask", "tiny-mask"), ("a" * 38, "evaluate", "a" * 38 + "-evaluate")],
)
def test_a_name_that_is_fine_stays(run, stage, name):
    assert job_name(run, stage) == name


def test_every_name_is_a_dns_label_of_47_characters_and_its_own():
    runs = ["qwen2.5-vl", "qwen2_5-vl", "3b", "a" * 40, "a" * 39 + "b", "x.", "9", "-x"]
    names = [job_name(run, stage) for run in runs for stage in (None, "evaluate")]
    assert len(set(names)) == len(names)
    for name in names:
        assert len(name) <= 47
        assert name[0].isalpha()
        assert name[-1].isalnum()
        assert not set(name) - set("abcdefghijklmnopqrstuvwxyz0123456789-")


def test_a_recipe_that_no_pods_annotations_hold_is_refused():
    """256 KiB of all annotations of a pod are what the API server takes; the chart's own are among them."""
    with pytest.raises(ValueError, match=r"the recipe has 300 kB; a RayJob holds 200 kB"):
        render(recipe="#" * 300_000)


@pytest.mark.parametrize(
    "recipe", [RECIPE, "a: 1\n", "a: |\n  x  \n\ty\n", "name: größer\n", "  a: 1\n", "a: 1", "\n\na: 1\n\n\n"]
)
def test_yaml_1_1_readers_get_the_same_objects(recipe):
    objects = [render(recipe=recipe)[1]]
    assert list(yaml.load_all(to_yaml(objects), yaml.CSafeLoader)) == objects


def test_the_recipe_can_be_read_in_the_manifest():
    text = to_yaml([render()[1]])
    assert '              # a comment with a "quote": and a colon\n' in text
    assert 'value: "no"' in text
    assert text.count("apiVersion") == 1


def helm(folder, monkeypatch, body):
    place = folder / "bin"
    place.mkdir()
    (place / "helm").write_text(f"#!{sys.executable}\nimport sys\n{body}\n")
    (place / "helm").chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", str(place))
    (folder / "Chart.yaml").touch()
    return folder


def test_the_cluster_is_what_helm_renders(tmp_path, monkeypatch):
    documents = f"---\nkind: Service\n---\n{yaml.safe_dump(CLUSTER)}\n---\n"
    chart = helm(
        tmp_path,
        monkeypatch,
        f"print({documents!r}); open({str(tmp_path / 'argv')!r}, 'w').write(' '.join(sys.argv[1:]))",
    )
    assert render_cluster("r", "ns", [Path("a.yaml"), Path("b.yaml")], chart) == CLUSTER
    assert (tmp_path / "argv").read_text() == f"template r {chart} --namespace ns --values a.yaml --values b.yaml"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("sys.exit('Error: values do not meet the schema')", "helm template: Error: values do not meet"),
        ("print('kind: Service')", "renders 0"),
    ],
)
def test_a_chart_that_does_not_render_is_said(tmp_path, monkeypatch, body, words):
    with pytest.raises(ValueError, match=words):
        render_cluster("r", chart=helm(tmp_path, monkeypatch, body))


def test_without_helm_or_chart_it_is_said(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="there is no Helm chart"):
        render_cluster("r", chart=tmp_path)
    helm(tmp_path, monkeypatch, "")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ValueError, match="helm is not on PATH"):
        render_cluster("r", chart=tmp_path)
