"""The mix of the data as people read it: a row of the report's table for each source and split, from what prepare counted."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """Some rows of a source, in words; `left_out` counts rows of all its splits and stands in the first of them."""

    source: str
    split: str
    rows: str
    share: str
    left_out: str
    question: str
    prompt: str
    images: str
    side: str
    answers: str


def rows_of(counts: Mapping[str, Any]) -> Iterator[Row]:
    """Sources in the recipe's order, splits in each; nothing for a run that an older Masters prepared."""
    mix, told = counts.get("mix", []), set[str]()
    total = sum(item["rows"] for item in mix if item["split"] == "train")
    for item in mix:
        source, rows = item["source"], item["rows"]
        yield Row(
            source,
            item["split"],
            f"{rows:,}",
            f"{100 * rows / total:.1f} %" if item["split"] == "train" else "",
            "" if source in told else _left_out(counts["sources"][source]),
            _middle(item["question"]),
            f"{item['prompt_tokens'] / rows:,.0f}",
            _middle(item["images"]) + (f", {item['imageless']:,} rows without" if item["imageless"] else ""),
            _middle(item["side"]),
            ", ".join(f"{100 * of_kind / rows:.0f} % {kind}" for kind, of_kind in item["answer_types"].items()),
        )
        told.add(source)


def _left_out(source: Mapping[str, Any]) -> str:
    """What the recipe and the checks took out of a source."""
    words = {
        "by its split": source["skipped"],
        "by weight": source["thinned"],
        "duplicates": source["duplicates"],
        "over the limit": source["over_limit"],
        "rejected": sum(source["rejects"].values()),
    }
    return ", ".join(f"{rows:,} {why}" for why, rows in words.items() if rows)


def _middle(percentiles: list[int]) -> str:
    """The median, and in brackets where 90 % are."""
    if not percentiles:
        return ""
    low, *_, high = percentiles
    middle = f"{percentiles[len(percentiles) // 2]:,}"
    return middle if low == high else f"{middle} ({low:,} to {high:,})"
