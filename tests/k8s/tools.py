"""Where the Kubernetes command-line tools are: on PATH, or under .build/tools where `get_tools.py` puts them."""

import shutil
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / ".build" / "tools"


def find(name: str) -> str | None:
    """The path of a tool; the project's own copy, which is pinned, comes first."""
    own = TOOLS / name
    return str(own) if own.is_file() else shutil.which(name)
