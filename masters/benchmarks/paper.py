"""What the paper prints (tables 1 to 3) of models before and after its training: to be shown beside ours, not compared."""

import re
from pathlib import PurePosixPath

from masters.benchmarks.facts import COLUMNS, Benchmark

AS_IT_IS = {
    "Qwen2.5-VL-7B": (83.9, 87.3, 67.8, 83.5, 83.4, 71.8, 55.0, 38.3, 63.9, 56.4, 77.0, 70.4, 68.5),
    "Qwen2.5-VL-3B": (81.6, 84.0, 61.2, 79.1, 78.1, 61.8, 51.2, 31.6, 55.9, 47.6, 74.0, 67.6, 65.4),
    "Qwen3-VL-8B": (85.7, 88.4, 77.2, 86.8, 86.5, 74.5, 69.6, 55.9, 70.9, 69.1, 78.5, 70.8, 69.9),
    "Qwen3-VL-4B": (84.1, 87.4, 73.7, 84.6, 84.3, 71.0, 67.4, 53.2, 69.8, 65.8, 78.4, 70.2, 70.6),
    "Qwen3-VL-2B": (76.9, 81.2, 61.3, 81.9, 81.4, 61.4, 53.4, 36.5, 58.3, 53.8, 76.0, 66.4, 63.9),
    "InternVL3-8B": (85.2, 86.6, 71.6, 83.4, 82.2, 78.5, 62.7, 41.3, 68.2, 55.5, 77.1, 69.7, 70.8),
    "InternVL3-2B": (78.7, 80.2, 57.0, 81.1, 78.4, 62.2, 48.6, 24.9, 60.7, 47.0, 75.0, 64.6, 64.3),
    "InternVL3.5-8B": (84.0, 86.7, 78.4, 86.5, 85.9, 83.1, 73.4, 57.2, 69.3, 59.5, 77.4, 70.8, 67.5),
    "InternVL3.5-4B": (82.6, 86.0, 77.1, 86.9, 86.1, 76.6, 66.6, 51.4, 65.0, 58.1, 75.2, 69.4, 66.3),
    "InternVL3.5-2B": (78.8, 80.7, 71.8, 82.3, 81.8, 71.7, 59.0, 46.3, 62.7, 51.3, 75.2, 68.0, 62.0),
}
"""In percent, in the order of `COLUMNS`."""

TRAINED = {
    "Qwen2.5-VL-7B": (88.6, 95.6, 78.8, 89.1, 89.5, 81.7, 71.3, 60.6, 74.9, 67.2, 81.8, 75.9, 77.3),
    "Qwen2.5-VL-3B": (85.4, 95.6, 75.6, 85.9, 86.3, 78.3, 61.2, 51.0, 68.9, 53.0, 78.8, 72.1, 70.7),
    "Qwen3-VL-8B": (88.5, 95.9, 81.8, 89.5, 89.9, 79.4, 72.9, 61.4, 79.7, 72.3, 81.7, 75.1, 77.5),
    "Qwen3-VL-4B": (88.0, 94.7, 79.6, 88.7, 89.3, 79.4, 70.3, 57.0, 75.3, 69.1, 81.5, 72.9, 77.8),
    "Qwen3-VL-2B": (82.1, 94.1, 70.4, 84.2, 84.1, 71.3, 55.8, 39.5, 66.1, 62.3, 78.3, 69.4, 69.0),
    "InternVL3-8B": (88.9, 94.8, 82.3, 90.1, 91.0, 83.8, 74.0, 58.8, 82.0, 68.0, 82.6, 75.0, 74.8),
    "InternVL3-2B": (82.1, 93.5, 66.5, 85.9, 85.2, 77.0, 59.6, 40.1, 66.7, 53.1, 78.5, 67.8, 68.4),
    "InternVL3.5-8B": (87.2, 95.1, 85.0, 88.2, 88.3, 85.6, 72.7, 58.1, 80.8, 67.8, 81.4, 75.5, 74.9),
    "InternVL3.5-4B": (83.3, 94.9, 78.8, 86.1, 86.0, 79.5, 63.2, 52.7, 70.5, 62.5, 79.1, 71.4, 68.1),
    "InternVL3.5-2B": (83.0, 94.8, 77.5, 85.9, 86.3, 81.4, 64.6, 52.4, 70.7, 61.1, 79.0, 71.6, 68.1),
}
"""Its best student of each: with all its teachers, and its own data."""

UNKNOWN = (
    "The paper names no harness, prompt, decoding, image size, judge, nor which part and version of MMBench it reports; its "
    "baselines are figures from several sources. Only differences within one harness can be compared with it."
)

_ENDINGS = re.compile(r"(-Instruct)?(-hf|-HF)?$")


def printed(benchmark: Benchmark, path: str, *, trained: bool = False) -> float | None:
    """What the paper prints for a model in the benchmark's column, in [0, 1]; None for a model that it does not show.

    Args:
        benchmark: any.
        path: of the model, untrained: its name on the hub, or a folder of that name.
        trained: what the paper made of it, rather than the model as it is.
    """
    name = PurePosixPath(path.partition("@")[0].rstrip("/")).name
    name = _ENDINGS.sub("", name).replace("InternVL3_5", "InternVL3.5")
    shown = (TRAINED if trained else AS_IT_IS).get(name)
    return shown[COLUMNS.index(benchmark.column)] / 100 if shown else None
