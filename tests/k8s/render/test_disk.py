"""Disk: what a pod asks of its node, where models lie, and who fetches them beforehand."""

import ast

import pytest

from masters.config.placement import read_values
from masters.planning.disk import CACHE, SCRATCH, VOLUME
from masters.planning.volumes import cache_kind, sizes_of_volumes
from tests.k8s.chart import SCENARIOS
from tests.k8s.render.pods import quantity

GI = 2**30


@pytest.mark.parametrize(
    ("options", "group", "wanted"),
    [
        ("", "train", 150 + 64),  # scratch, and what Ray may spill
        ("", "generate", 20 + 8),
        ("", "judge", 20 + 2),
        ("modelCache.kind=emptyDir,modelCache.sizeGi=300", "generate", 20 + 8 + 300),
        ("storage.kind=s3", "judge", 20 + 2 + 200),
        ("workerGroups.judge.scratchGi=5", "judge", 5 + 2),
        ("workerGroups.judge.scratchGi=0", "judge", 2),
        ("workerGroups.train.requests.ephemeral-storage=7Gi", "train", 7),
    ],
)
def test_a_pod_asks_for_the_disk_that_it_may_fill(rendered, options, group, wanted):
    some = rendered(None, "--set", options) if options else rendered()
    assert some.workers[group].request("ephemeral-storage") == wanted * GI


def test_every_ray_pod_asks_for_disk(scenario):
    for pod in (scenario.head, *scenario.workers.values()):
        assert pod.request("ephemeral-storage") > 0, pod.name
    assert scenario.head.request("ephemeral-storage") <= 11 * GI  # drivers hold no models


@pytest.mark.parametrize(
    ("scenario", "options", "kind"),
    [
        (None, "", "pvc"),  # groups with GPUs, and a claim whose class the chart knows
        ("minimal", "", "emptyDir"),  # no GPU
        (None, "storage.pvc.existingClaim=runs", "emptyDir"),  # its class is not known
        (None, "storage.pvc.existingClaim=runs,modelCache.storageClassName=nfs", "pvc"),
        ("s3", "", "emptyDir"),
        ("s3", "modelCache.existingClaim=hub", "pvc"),
        ("minimal", "modelCache.storageClassName=nfs", "pvc"),
        (None, "modelCache.kind=emptyDir", "emptyDir"),
        ("gke-h100", "", "hostPath"),
    ],
)
def test_where_the_models_lie(rendered, scenario, options, kind):
    some = rendered(scenario, "--set", options) if options else rendered(scenario)
    key = {"pvc": "persistentVolumeClaim"}.get(kind, kind)
    for pod in (some.head, *some.workers.values()):
        assert pod.volume("models").keys() == {"name", key}
    claims = {one["metadata"]["name"] for one in some.of("PersistentVolumeClaim")}
    assert ("lab-models" in claims) is (kind == "pvc" and "existingClaim=hub" not in options)


def test_the_claim_of_the_models_is_of_the_class_of_the_runs(rendered):
    claims = {one["metadata"]["name"]: one["spec"] for one in rendered("gke").of("PersistentVolumeClaim")}
    for key in ("storageClassName", "accessModes"):
        assert claims["lab-models"][key] == claims["lab-runs"][key]
    assert claims["lab-models"]["resources"]["requests"]["storage"] == "204800Mi"


def test_a_job_fetches_into_the_claim_with_the_programs_own_code(rendered):
    some = rendered("karpenter-pools")
    (job,) = some.of("Job")
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    source, *models = container["args"]
    assert models == ["Qwen/Qwen2.5-VL-3B-Instruct", "Qwen/Qwen2.5-VL-7B-Instruct"]
    tree = ast.parse(source)
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    from masters.models import folder

    assert [(node.module, [name.name for name in node.names]) for node in imported] == [
        ("masters.models.folder", ["resolve"])
    ]
    assert callable(folder.resolve)
    volume = next(one for one in pod["volumes"] if one["name"] == "models")
    assert volume["persistentVolumeClaim"] == {"claimName": "lab-models"}
    env = {one["name"]: one for one in container["env"]}
    assert env["HF_HOME"]["value"] == "/models"
    assert "secretKeyRef" in env["HF_TOKEN"]["valueFrom"]
    assert pod["restartPolicy"] == "OnFailure"
    assert pod["nodeSelector"] == some.head.spec["nodeSelector"]  # on demand, as the head


def test_other_models_are_another_job(rendered):
    """A Job's pods never change: with the same name an upgrade would be refused."""
    name = rendered("karpenter-pools").of("Job")[0]["metadata"]["name"]
    more = rendered("karpenter-pools", "--set", "prefetch.models={a/b}").of("Job")[0]["metadata"]["name"]
    image = rendered("karpenter-pools", "--set", "images.cpu=masters:2").of("Job")[0]["metadata"]["name"]
    assert len({name, more, image}) == 3
    assert rendered("karpenter-pools", "--set", "images.gpu=masters:2").of("Job")[0]["metadata"]["name"] == name


def test_a_daemonset_goes_where_the_group_goes(rendered):
    some = rendered("gke-h100")
    made = {one["metadata"]["name"]: one["spec"] for one in some.of("DaemonSet")}
    assert made.keys() == {"lab-prefetch-generate", "lab-prefetch-train"}  # the judges have no GPU
    for name in ("generate", "train"):
        spec = made[f"lab-prefetch-{name}"]
        pod, ray = spec["template"]["spec"], some.workers[name].spec
        assert pod["tolerations"] == ray["tolerations"]
        assert pod["nodeSelector"] == ray["nodeSelector"]
        assert "podAffinity" not in pod.get("affinity", {})
        (fetch,), (wait,) = pod["initContainers"], pod["containers"]
        assert wait["image"] == fetch["image"] == ray["containers"][0]["image"]
        assert not {"nvidia.com/gpu"} & wait["resources"]["limits"].keys()
        assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()
        assert "ray.io/is-ray-node" not in spec["template"]["metadata"]["labels"]
    assert not rendered().of("DaemonSet")
    assert not rendered().of("Job")


def test_a_daemonset_without_folders_of_nodes_pulls_the_image_alone(rendered):
    some = rendered("gke", "--set", "prefetch.kind=daemonset")
    assert len(some.of("DaemonSet")) == 3
    assert all("initContainers" not in one["spec"]["template"]["spec"] for one in some.of("DaemonSet"))


@pytest.mark.parametrize("file", SCENARIOS, ids=lambda file: file.stem)
def test_check_and_plan_read_the_disks_as_the_chart_renders_them(rendered, file):
    values = read_values([file])
    sizes, some = sizes_of_volumes(values), rendered(file.stem)
    kinds = {"pvc": "persistentVolumeClaim"}
    assert some.head.volume("models").keys() == {"name", kinds.get(cache_kind(values), cache_kind(values))}
    own = sizes.get(CACHE, 0) if cache_kind(values) == "emptyDir" else 0
    for name, pod in some.workers.items():
        rest = pod.request("ephemeral-storage") - values["workerGroups"][name]["shmGi"] * GI - own
        assert sizes[SCRATCH.format(name)] == pytest.approx(max(0, rest), abs=2**20), name
    claims = {
        one["metadata"]["name"]: quantity(one["spec"]["resources"]["requests"]["storage"])
        for one in some.of("PersistentVolumeClaim")
    }
    found = {"lab-runs": sizes.get(VOLUME), "lab-models": sizes.get(CACHE) if cache_kind(values) == "pvc" else None}
    assert {name: size for name, size in found.items() if size is not None} == pytest.approx(claims)
