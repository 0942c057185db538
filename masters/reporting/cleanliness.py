"""Duplicates and leakage as people read them, from what prepare counted and found."""

from collections.abc import Iterator, Mapping
from typing import Any

from masters.data.leakage import FOUND
from masters.data.storage import Storage

_EXAMPLES = 3


def duplicates_of(counts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of the table, the most first: kind, source, of, rows, other_answer. Empty where none was found or looked for."""
    return sorted(counts.get("duplicates", []), key=lambda case: -case["rows"])


def leaks_of(run: Storage) -> Iterator[dict[str, Any]]:
    """For each benchmark or split that was looked through: name, images, exact, perceptual, share and examples in words."""
    for one in run.read_json(FOUND)["found"] if run.exists(FOUND) else []:
        leaked = one["exact"] + one["perceptual"]
        yield {
            **one,
            "share": f"{100 * leaked / max(1, one['images']):.2f} %",
            "examples": "; ".join(f"{pair['evaluated']} is in {pair['train']}" for pair in one["examples"][:_EXAMPLES]),
        }
