"""Which GPU a group's nodes have: what selects the nodes tells it before the group's own word does."""

import pytest

from masters.config.placement import Group
from masters.planning.places import kind_of
from masters.planning.products import accelerator_of

TYPE, GKE = "node.kubernetes.io/instance-type", "cloud.google.com/gke-accelerator"
PRODUCT, KARPENTER = "nvidia.com/gpu.product", "karpenter.k8s.aws/instance-gpu-name"
FOUND = [  # acceleratorType, nodeSelector, resource -> name
    ("H100", {}, "", "H100"),
    ("A100", {}, "", "A100-80G"),
    ("A100", {TYPE: "p4d.24xlarge"}, "", "A100-40G"),
    ("A100", {TYPE: "p4de.24xlarge"}, "", "A100-80G"),
    ("", {TYPE: "p5.48xlarge"}, "", "H100"),
    ("", {TYPE: "p5en.48xlarge"}, "", "H200"),
    ("", {TYPE: "g6e.12xlarge"}, "", "L40S"),
    ("", {TYPE: "g6.4xlarge"}, "", "L4"),
    ("A100-80G", {TYPE: "Standard_ND96asr_v4"}, "", "A100-40G"),
    ("", {TYPE: "Standard_NC24ads_A100_v4"}, "", "A100-80G"),
    ("", {TYPE: "a2-megagpu-16g"}, "", "A100-40G"),
    ("A100", {GKE: "nvidia-tesla-a100"}, "", "A100-40G"),
    ("A100", {GKE: "nvidia-a100-80gb"}, "", "A100-80G"),
    ("", {GKE: "nvidia-h100-mega-80gb"}, "", "H100"),
    ("", {PRODUCT: "NVIDIA-A100-SXM4-40GB"}, "", "A100-40G"),
    ("", {PRODUCT: "NVIDIA-L40S"}, "", "L40S"),
    ("", {PRODUCT: "NVIDIA-L4"}, "", "L4"),
    ("", {KARPENTER: "a10g"}, "", "A10G"),
    ("", {"pool": "gpu", TYPE: "g5.xlarge"}, "", "A10G"),
    ("A100-80G", {"pool": "gpu"}, "nvidia.com/mig-3g.40gb", "mig-3g.40gb of A100-80G"),
    ("", {}, "", None),
    ("Gaudi3", {TYPE: "dl2q.24xlarge"}, "", None),
    ("", {TYPE: "Standard_NC40ads_H100_v5"}, "", None),  # 94 GB: not in the table
]


@pytest.mark.parametrize(("kind", "selector", "resource", "name"), FOUND)
def test_the_gpu_of_a_group(kind, selector, resource, name):
    labels = {"ray.io/accelerator-type": kind} if kind else {}
    group = Group("g", labels, 8, 64, 1, 1, False, selector, resource or Group.gpu_resource)
    found = accelerator_of(group)
    assert (found.name if found else None) == name
    assert kind_of(group).name == (name or "A100-80G")


def test_a_slice_has_its_part_of_the_gpu():
    whole, part = (
        accelerator_of(Group("g", {"ray.io/accelerator-type": "A100-80G"}, 8, 64, 1, 1, False, {}, resource))
        for resource in ("nvidia.com/gpu", "nvidia.com/mig-3g.40gb")
    )
    assert part.memory_gib == pytest.approx(whole.memory_gib / 2)
    assert part.tflops == pytest.approx(whole.tflops * 3 / 7)
    assert part.bandwidth == pytest.approx(whole.bandwidth / 2)
