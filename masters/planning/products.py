"""Which GPU the nodes of a worker group have: by what selects the nodes, else by Ray's name for the accelerator."""

import re
from collections.abc import Mapping
from dataclasses import replace

from masters.config.placement import Group
from masters.planning.throughputs import ACCELERATORS, DEFAULT, Accelerator, accelerator

_TYPES = {  # as the providers' pages list them; one whose GPU is not in the table, or is a part of one, is not here
    r"p4d\.": "A100-40G",
    r"p4de\.": "A100-80G",
    r"p5\.": "H100",
    r"p5en?\.": "H200",
    r"p6-b200\.": "B200",
    r"g5\.": "A10G",
    r"g6\.": "L4",
    r"g6e\.": "L40S",
    r"a2-(high|mega)gpu-": "A100-40G",
    r"a2-ultragpu-": "A100-80G",
    r"a3-(high|mega|edge)gpu-": "H100",
    r"a3-ultragpu-": "H200",
    r"a4-highgpu-": "B200",
    r"g2-standard-": "L4",
    r"standard_nd96asr_v4": "A100-40G",
    r"standard_nd96amsr_a100_v4": "A100-80G",
    r"standard_nc\d+ads_a100_v4": "A100-80G",
    r"standard_nd96isr_h100_v5": "H100",
    r"standard_nd96isr_h200_v5": "H200",
}
_LABELS: Mapping[str, Mapping[str, str]] = {
    "node.kubernetes.io/instance-type": _TYPES,
    "beta.kubernetes.io/instance-type": _TYPES,
    "cloud.google.com/gke-accelerator": {
        r"nvidia-tesla-a100$": "A100-40G",
        r"nvidia-a100-80gb": "A100-80G",
        r"nvidia-h100-(mega-)?80gb": "H100",
        r"nvidia-h200-141gb": "H200",
        r"nvidia-b200": "B200",
        r"nvidia-l4$": "L4",
    },
    "nvidia.com/gpu.product": {
        r"nvidia-a100-(sxm4|pcie)-40gb": "A100-40G",
        r"nvidia-a100-(sxm4-80gb|80gb-pcie)": "A100-80G",
        r"nvidia-h100-(80gb-hbm3|pcie)": "H100",
        r"nvidia-h200(-|$)": "H200",
        r"nvidia-b200(-|$)": "B200",
        r"nvidia-l4(-|$)": "L4",
        r"nvidia-l40s(-|$)": "L40S",
        r"nvidia-a10g(-|$)": "A10G",
    },
    "karpenter.k8s.aws/instance-gpu-name": {
        r"h100$": "H100",
        r"h200$": "H200",
        r"b200$": "B200",
        r"a10g$": "A10G",
        r"l4$": "L4",
        r"l40s$": "L40S",
    },
}
_SLICE = re.compile(r"/mig-(\d+)g\.(\d+)gb")
_SLICES = 7  # of the processors of a GPU


def accelerator_of(group: Group) -> Accelerator | None:
    """The GPU of a group's nodes, or the slice of one that its pods ask for; None where nothing names one in the table."""
    found = next(filter(None, (_selected(key, value) for key, value in group.selector.items())), None)
    whole = found or accelerator(group.labels.get("ray.io/accelerator-type", ""))
    cut = _SLICE.search(group.gpu_resource)
    if cut is None:
        return whole
    whole = whole or ACCELERATORS[DEFAULT]
    memory = int(cut[2]) * 79.1 / 80
    return replace(
        whole,
        name=f"{cut[0].removeprefix('/')} of {whole.name}",
        tflops=whole.tflops * int(cut[1]) / _SLICES,
        bandwidth=whole.bandwidth * min(1.0, memory / whole.memory_gib),
        memory_gib=memory,
    )


def by_selector(group: Group) -> bool:
    """Whether it is the nodes' own labels that tell."""
    return any(_selected(key, value) for key, value in group.selector.items())


def _selected(key: str, value: str) -> Accelerator | None:
    kinds = _LABELS.get(key, {})
    return next((ACCELERATORS[name] for start, name in kinds.items() if re.match(start, str(value).lower())), None)
