"""What every pod of every scenario must be, whatever the values."""

import inspect
import json
import re

from tests.k8s.render.pods import quantity

SECRET_LIKE = re.compile(r"token|password|secret|credential|api_?key|access_key", re.IGNORECASE)
OURS = ("/dev/shm", "/tmp", "/home/masters")


def test_every_container_has_limits_and_asks_for_no_more(scenario):
    for pod in scenario.pods():
        for container in pod.containers:
            asked, limits = (container["resources"][key] for key in ("requests", "limits"))
            for name in ("cpu", "memory"):
                assert 0 < quantity(asked[name]) <= quantity(limits[name]), (pod.name, container["name"], name)
            assert asked.get("nvidia.com/gpu") == limits.get("nvidia.com/gpu")


def test_requests_up_to_the_limits_are_taken(rendered):
    for cpu, memory in (
        ("4", "16Gi"),
        ("4000m", "16384Mi"),
        ("3.9", "17G"),
        ("0.5", "17179869184"),
        ("1", "17179869k"),
    ):
        given = json.dumps({"cpu": cpu, "memory": memory})
        pod = rendered(None, "--set-json", f"workerGroups.judge.requests={given}").workers["judge"]
        asked = pod.ray["resources"]["requests"]
        assert (asked["cpu"], str(asked["memory"])) == (cpu, memory)


def test_every_pod_meets_the_restricted_standard_but_for_what_the_values_name(scenario):
    volumes = {"emptyDir", "persistentVolumeClaim", "secret", "configMap"} | (
        {"hostPath", "nfs"} & set(scenario.allowed)
    )
    for pod in scenario.pods():
        assert pod.spec["securityContext"]["runAsNonRoot"] is True
        assert pod.spec["securityContext"]["runAsUser"] > 0
        assert pod.spec["securityContext"]["fsGroup"] > 0  # else a claim cannot be written
        assert pod.spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not ({"hostNetwork", "hostPID", "hostIPC"} - set(scenario.allowed)) & pod.spec.keys()
        assert all(volume.keys() - {"name"} <= volumes for volume in pod.spec["volumes"])
        for container in pod.containers:
            security = container["securityContext"]
            assert security["runAsNonRoot"] is True, (pod.name, container["name"])
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"]["drop"] == ["ALL"]
            assert set(security["capabilities"].get("add", [])) <= {"IPC_LOCK"} & set(scenario.allowed)
            assert security["seccompProfile"] == {"type": "RuntimeDefault"}
            assert "privileged" not in security
            assert all("hostPort" not in port for port in container.get("ports", []))


def test_a_read_only_root_leaves_what_ray_writes_to(rendered):
    for pod in rendered("aks").pods():
        for container in pod.containers:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            mounted = [mount["mountPath"] for mount in container["volumeMounts"]]
            (home,) = (one["value"] for one in container["env"] if one["name"] == "HOME")
            assert home in mounted
            assert "/tmp" in mounted


def test_shared_memory_is_sized_and_counted(scenario):
    spec = scenario.cluster["spec"]
    started = {group["groupName"]: group["rayStartParams"] for group in spec["workerGroupSpecs"]}
    started["headgroup"] = spec["headGroupSpec"]["rayStartParams"]
    for pod in (scenario.head, *scenario.workers.values()):
        shm = pod.volume("shm")["emptyDir"]
        size = quantity(shm["sizeLimit"])
        assert shm["medium"] == "Memory"
        assert size < quantity(pod.ray["resources"]["limits"]["memory"]), pod.name
        assert 0 < int(started[pod.name]["object-store-memory"]) < size, pod.name
        assert {"name": "shm", "mountPath": "/dev/shm"} in pod.ray["volumeMounts"]


def test_grace_is_the_drain_and_ten_seconds(scenario):
    for pod in (scenario.head, *scenario.workers.values()):
        drain = int(pod.env("RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"))
        assert drain > 0
        assert pod.spec["terminationGracePeriodSeconds"] == drain + 10, pod.name
    assert scenario.head.spec["terminationGracePeriodSeconds"] <= 30


def test_the_drain_is_one_value(rendered):
    for pod in rendered(None, "--set", "drainSeconds=77").workers.values():
        assert pod.env("RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S") == "77"
        assert pod.spec["terminationGracePeriodSeconds"] == 87


def test_a_stopped_driver_has_time_to_end_its_stages_and_its_log(rendered):
    """Read by Ray's job supervisor, which is on the head."""
    from ray.dashboard.modules.job.job_supervisor import JobSupervisor

    name = "RAY_JOB_STOP_WAIT_TIME_S"
    assert rendered().head.env(name) == "15" != str(JobSupervisor.DEFAULT_RAY_JOB_STOP_WAIT_TIME_S)
    assert rendered(None, "--set-string", f"head.env.{name}=60").head.env(name) == "60"
    assert {pod.env(name) for pod in rendered().workers.values()} == {None}
    assert name in inspect.getsource(JobSupervisor)


def test_no_secret_is_rendered(scenario):
    assert not scenario.of("Secret")
    for pod in scenario.pods():
        for container in pod.containers:
            for one in container.get("env", []):
                if SECRET_LIKE.search(one["name"]) and not one.get("value", "").startswith(
                    "/"
                ):  # a path of a key is none
                    assert one.keys() == {"name", "valueFrom"}, one["name"]


def test_secrets_come_by_reference(rendered):
    def reference(pod, name):
        (found,) = (one["valueFrom"]["secretKeyRef"] for one in pod.ray["env"] if one["name"] == name)
        return found["name"], found["key"]

    for pod in (rendered("s3").head, *rendered("s3").workers.values()):
        assert reference(pod, "AWS_SECRET_ACCESS_KEY") == ("s3-keys", "AWS_SECRET_ACCESS_KEY")
        assert pod.env("AWS_ENDPOINT_URL") == "https://objects.example.com"
    for pod in rendered("gke").workers.values():
        assert reference(pod, "HF_TOKEN") == ("hugging-face", "token")
    for pod in rendered("gcs").workers.values():
        assert reference(pod, "JUDGE_API_KEY") == ("judge", "api-key")
        assert pod.volume("gcs-key")["secret"] == {"secretName": "gcs-key"}
        assert pod.env("GOOGLE_APPLICATION_CREDENTIALS").startswith("/var/run/masters/gcs/")


def test_words_that_only_sound_like_secrets_are_taken(rendered):
    some = rendered(None, "--set-string", "env.TOKENIZERS_PARALLELISM=false,env.MAX_TOKENS=16,head.env.MAX_TOKENS=8")
    assert some.workers["judge"].env("TOKENIZERS_PARALLELISM") == "false"
    assert some.workers["judge"].env("MAX_TOKENS") == "16"
    assert some.head.env("MAX_TOKENS") == "8"  # the head's and a group's own come before everybody's


def test_environment_names_are_unique_and_statistics_off(scenario):
    for pod in scenario.pods():
        names = [one["name"] for one in pod.ray.get("env", [])]
        assert len(names) == len(set(names)), pod.name
    for pod in (scenario.head, *scenario.workers.values()):
        assert pod.env("RAY_USAGE_STATS_ENABLED") == "0"


def test_only_the_autoscalers_pod_has_a_token_of_the_api_server(scenario):
    head = scenario.head
    assert head.spec["automountServiceAccountToken"] is scenario.cluster["spec"]["enableInTreeAutoscaling"]
    for pod in scenario.pods():
        if pod.name != "headgroup":
            assert pod.spec["automountServiceAccountToken"] is False, pod.name
            assert pod.spec["serviceAccountName"] != head.spec["serviceAccountName"] != "default", pod.name
    for account in scenario.of("ServiceAccount"):
        assert account["automountServiceAccountToken"] is False


def test_images_have_a_tag(scenario):
    for pod in scenario.pods():
        for container in pod.containers:
            assert re.search(r":(?!latest$)[\w][\w.-]*$|@sha256:", container["image"]), pod.name


def test_mounts_have_volumes_and_paths_of_their_own(scenario):
    for pod in scenario.pods():
        names = [volume["name"] for volume in pod.spec["volumes"]]
        paths = [mount["mountPath"] for mount in pod.ray.get("volumeMounts", [])]
        assert len(names) == len(set(names))
        assert len(paths) == len(set(paths))
        for container in pod.containers:
            assert {mount["name"] for mount in container.get("volumeMounts", [])} <= set(names)
    for pod in (scenario.head, *scenario.workers.values()):
        assert set(OURS) <= {mount["mountPath"] for mount in pod.ray["volumeMounts"]}


def test_the_cluster_asks_for_tokens_and_scales_by_version_2(scenario):
    spec = scenario.cluster["spec"]
    assert spec["authOptions"]["mode"] == "token"
    assert spec["rayVersion"] == "2.60.0"
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    if spec["enableInTreeAutoscaling"]:
        assert spec["autoscalerOptions"]["version"] == "v2"
    for pod in (scenario.head, *scenario.workers.values()):
        assert pod.spec["restartPolicy"] == "Never"  # any other is refused with version 2


def test_groups_carry_rays_labels(rendered):
    groups = rendered("gke").groups
    assert groups["generate"]["labels"] == {
        "ray.io/node-group": "generate", "ray.io/market-type": "spot", "ray.io/accelerator-type": "L4"
    }  # fmt: skip
    assert groups["generate-ondemand"]["labels"]["ray.io/node-group"] == "generate"
    assert groups["generate-ondemand"]["labels"]["ray.io/market-type"] == "on-demand"
    assert groups["generate-ondemand"]["priority"] < groups["generate"]["priority"]
    assert groups["train"]["labels"]["ray.io/accelerator-type"] == "A100"
    assert groups["judge"]["labels"] == {"ray.io/node-group": "judge", "ray.io/market-type": "on-demand"}


def test_gpus_decide_the_image(rendered):
    workers = rendered("gke").workers
    assert workers["judge"].ray["image"].endswith("-cpu")
    assert workers["generate"].ray["image"].endswith("-gpu")
    assert workers["train"].ray["resources"]["limits"]["nvidia.com/gpu"] == 8


def test_large_numbers_stay_numbers(rendered, tmp_path):
    """Helm reads numbers of a file as floats, and prints those from a million on with an exponent."""
    file, large = tmp_path / "values.yaml", 1000680001
    file.write_text(
        f"podSecurity: {{runAsUser: {large}, fsGroup: {large}}}\npriorityClass: {{create: true, value: 12345678}}\n"
    )
    some = rendered(None, "--values", str(file), "--set-json", f"autoscaling.idleTimeoutSeconds={large}")
    found = [
        some.head.spec["securityContext"]["runAsUser"],
        some.head.spec["securityContext"]["fsGroup"],
        some.head.ray["securityContext"]["runAsUser"],
        some.cluster["spec"]["autoscalerOptions"]["idleTimeoutSeconds"],
    ]
    assert found == [large] * 4
    (priority,) = some.of("PriorityClass")
    assert priority["value"] == 12345678
    assert all(isinstance(number, int) for number in (*found, priority["value"]))
