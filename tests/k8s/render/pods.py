"""Views of a rendered chart that the assertions share."""

from collections.abc import Iterator
from dataclasses import dataclass

UNITS = {"": 1, "m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def quantity(text: str | int) -> float:
    """A Kubernetes quantity as a number."""
    number = str(text).rstrip("mKiGTM")
    return float(number) * UNITS[str(text)[len(number) :]]


@dataclass(frozen=True)
class Pod:
    """The pod of the head, of a group, of the helm test or of a prefetch; Ray's container first, those before Ray last."""

    name: str
    labels: dict
    annotations: dict
    spec: dict
    containers: list[dict]

    @property
    def ray(self) -> dict:
        return self.containers[0]

    def env(self, name: str) -> str | None:
        return next((one.get("value") for one in self.ray["env"] if one["name"] == name), None)

    def request(self, name: str) -> float:
        return quantity(self.ray["resources"]["requests"][name])

    def volume(self, name: str) -> dict:
        (found,) = (one for one in self.spec["volumes"] if one["name"] == name)
        return found


@dataclass(frozen=True)
class Rendered:
    """All objects of one rendering; `allowed` is what its values let weaken the restricted standard."""

    objects: list[dict]
    allowed: tuple[str, ...] = ()

    def __hash__(self) -> int:
        return id(self)

    def of(self, kind: str) -> list[dict]:
        return [one for one in self.objects if one["kind"] == kind]

    @property
    def cluster(self) -> dict:
        (cluster,) = self.of("RayCluster")
        return cluster

    @property
    def groups(self) -> dict[str, dict]:
        return {group["groupName"]: group for group in self.cluster["spec"]["workerGroupSpecs"]}

    @property
    def head(self) -> Pod:
        spec = self.cluster["spec"]
        pod = _pod("headgroup", spec["headGroupSpec"]["template"])
        if spec["enableInTreeAutoscaling"]:  # the operator adds this container, from these options
            options = spec["autoscalerOptions"]
            fields = {key: options[key] for key in ("securityContext", "resources", "env", "volumeMounts")}
            pod.containers.append({"name": "autoscaler", "image": pod.ray["image"], **fields})
        return pod

    @property
    def workers(self) -> dict[str, Pod]:
        return {name: _pod(name, group["template"]) for name, group in self.groups.items()}

    def pods(self) -> Iterator[Pod]:
        """Every pod that comes of this rendering, the helm test's and those that prefetch too."""
        yield self.head
        yield from self.workers.values()
        for pod in self.of("Pod"):
            yield _pod(pod["metadata"]["name"], pod)
        for kind in ("Job", "DaemonSet"):
            for one in self.of(kind):
                yield _pod(one["metadata"]["name"], one["spec"]["template"])


def rays_pods(spec: dict, cluster: str) -> Iterator[dict]:
    """Labels of the pods that KubeRay makes of a RayCluster's spec: its labelPod, which keeps those of the template."""
    groups = [("head", "headgroup", spec["headGroupSpec"])]
    groups += [("worker", group["groupName"], group) for group in spec["workerGroupSpecs"]]
    for kind, name, group in groups:
        own = {
            "ray.io/is-ray-node": "yes",
            "app.kubernetes.io/name": "kuberay",
            "app.kubernetes.io/created-by": "kuberay-operator",
        }
        fixed = {"ray.io/cluster": cluster, "ray.io/node-type": kind, "ray.io/group": name}
        yield own | group["labels"] | group["template"]["metadata"]["labels"] | fixed


def _pod(name: str, template: dict) -> Pod:
    meta, spec = template["metadata"], template["spec"]
    containers = [*spec["containers"], *spec.get("initContainers", [])]
    return Pod(name, meta.get("labels", {}), meta.get("annotations", {}), spec, containers)
