"""report: one self-contained page about the run."""

from typing import Any

from masters.config.run import RunConfig
from masters.data.storage import Storage
from masters.reporting.progress import Screen
from masters.stages.base import Stage

REPORT = "report.html"


def parts(config: RunConfig) -> dict[str, Any]:
    """What the page depends on beside its inputs."""
    return {"name": config.name}


def execute(config: RunConfig, run: Storage, screen: Screen) -> tuple[dict[str, Any], str]:
    """Write the page."""
    from masters.reporting.page import build_page

    run.write(REPORT, build_page(config, run).encode())
    return {}, f"{run.uri}/{REPORT}"


STAGE = Stage("report", ("prepare", "mask", "generate", "score", "train", "evaluate"), (REPORT,), parts, execute)
