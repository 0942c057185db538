"""Names fit the limits of Kubernetes and of KubeRay, whatever the release is called, and never meet."""

import pytest

LONG = "distilling-qwen-three-vision-language-for-charts-team"
RELEASES = ["lab", LONG, LONG[:-1] + "x", "7b-students", "team.charts", "team-charts", "a", "0", "9-9", "true", "1e3"]
KUBERAY_CLIPS_AT = 50  # its CheckName, which names the head's service account


@pytest.fixture(params=RELEASES)
def release(request, rendered):
    return rendered("gke", "--set", "priorityClass.create=true,operator.enabled=true", release=request.param)


def test_the_longest_release_is_as_long_as_helm_allows():
    assert len(LONG) == 53


def test_names_are_labels_within_the_limits(release):
    cluster = release.cluster["metadata"]["name"]
    assert cluster[0].isalpha()  # KubeRay asks for a DNS-1035 label
    assert len(f"{cluster}-head-svc") <= KUBERAY_CLIPS_AT
    assert len(release.head.spec["serviceAccountName"]) <= KUBERAY_CLIPS_AT
    for one in release.objects:
        name = one["metadata"]["name"]
        limit = 253 if one["kind"] in ("PriorityClass", "PodDisruptionBudget", "PersistentVolumeClaim") else 63
        assert len(name) <= limit
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
        assert name[0].isalnum()
        assert name[-1].isalnum()


def test_values_of_labels_are_within_63(release):
    labelled = [one["metadata"].get("labels", {}) for one in release.objects]
    labelled += [pod.labels for pod in release.pods()]
    labelled += [group["labels"] for group in release.groups.values()]
    for labels in labelled:
        assert all(len(value) <= 63 for value in labels.values())


def test_names_are_unique(scenario):
    names = [(one["kind"], one["metadata"]["name"]) for one in scenario.objects]
    assert len(names) == len(set(names))


def test_two_releases_of_one_namespace_share_no_name(rendered):
    seen: dict[tuple[str, str], str] = {}
    for name in RELEASES:
        for one in rendered("gke", release=name).objects:
            key = one["kind"], one["metadata"]["name"]
            assert seen.setdefault(key, name) == name, key


def test_everything_of_a_release_names_it(scenario):
    for one in scenario.objects:
        if one["kind"] != "ConfigMap":  # extraObjects are the user's own
            assert one["metadata"]["labels"]["app.kubernetes.io/instance"] == "lab"


def test_selectors_name_this_release(release):
    instance = release.head.labels["app.kubernetes.io/instance"]
    for kind in ("NetworkPolicy", "PodDisruptionBudget", "PodMonitor"):
        for one in release.of(kind):
            selector = one["spec"].get("podSelector") or one["spec"].get("selector")
            assert selector["matchLabels"]["app.kubernetes.io/instance"] == instance
            assert selector["matchLabels"]["ray.io/is-ray-node"] == "yes"
