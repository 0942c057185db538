"""report: one self-contained page about the run, and a model card beside each of its students."""

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
    """Write the page, and the cards, which know the scores now."""
    from masters.reporting.card import write_cards
    from masters.reporting.page import build_page

    run.write(REPORT, build_page(config, run).encode())
    write_cards(config, run)
    return {}, f"{run.uri}/{REPORT}"


STAGE = Stage("report", ("prepare", "mask", "generate", "score", "train", "evaluate"), (REPORT,), parts, execute)
