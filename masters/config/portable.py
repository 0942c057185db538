"""What a recipe says that holds on this machine only: a job of a cluster starts in an empty folder of another one."""

import os
from collections.abc import Iterator
from typing import Any

from masters.config.load import PATHS
from masters.config.problems import Problem


def storage_problems(data: dict[str, Any]) -> Iterator[Problem]:
    """Results and mirrored models must outlive the job: a relative folder ends with its pod, and no worker sees it."""
    for field, folder in (("storage", str(data.get("storage", "runs"))), ("hub_mirror", data.get("hub_mirror"))):
        if folder is not None and "://" not in str(folder) and not os.path.isabs(str(folder)):
            yield Problem(
                field,
                folder,
                "is relative: on a cluster it would be a folder of one pod, and end with it",
                "Use s3://, gs://, or the absolute path of a volume that all pods mount.",
            )


def local_paths(data: Any, where: str = "") -> Iterator[str]:
    """A line for each path that is there on this machine: it is not uploaded, and must be there on the cluster too."""
    if isinstance(data, dict):
        for key, value in data.items():
            place = f"{where}.{key}" if where else str(key)
            if key in PATHS and isinstance(value, str) and value and os.path.exists(value):
                how = "" if os.path.isabs(value) else ", by an absolute path"
                yield f"{place} = {value}: is on this machine and not uploaded; it must be on the cluster{how}"
            else:
                yield from local_paths(value, place)
    elif isinstance(data, list):
        for index, item in enumerate(data):
            yield from local_paths(item, f"{where}[{index}]")
