"""The report's section on the data: its table and its plot, from what prepare counted."""

import pytest

from masters.reporting import plots
from masters.reporting.mix import rows_of


def item(source, split="train", rows=100, **fields):
    default = {
        "imageless": 0,
        "prompt_tokens": 5000,
        "answer_types": {"text": rows},
        "question": [10, 20, 30, 40, 1500],
        "images": [1] * 5,
        "side": [200, 300, 400, 500, 1600],
    }
    return {"source": source, "split": split, "rows": rows, **default, **fields}


def source(**fields):
    return {"skipped": 0, "thinned": 0, "duplicates": 0, "over_limit": 0, "rejects": {}, **fields}


MIX = [
    item("docs", rows=900, answer_types={"text": 600, "choice": 300}),
    item("docs", "test", rows=50, side=[], images=[0] * 5, imageless=50),
    item("more", rows=300, images=[0, 1, 1, 1, 4], imageless=20, prompt_tokens=600_000),
]
SOURCES = {
    "docs": source(skipped=5, thinned=12_345, rejects={"image is corrupt": 2, "answer is missing": 1}),
    "more": source(over_limit=7000, duplicates=3),
}
ROWS = [
    ("docs", "train", "900", "75.0 %", "5 by its split, 12,345 by weight, 3 rejected", "30 (10 to 1,500)", "6", "1",
     "400 (200 to 1,600)", "67 % text, 33 % choice"),
    ("docs", "test", "50", "", "", "30 (10 to 1,500)", "100", "0, 50 rows without", "", "100 % text"),
    ("more", "train", "300", "25.0 %", "3 duplicates, 7,000 over the limit", "30 (10 to 1,500)", "2,000", "1 (0 to 4), 20 rows without",
     "400 (200 to 1,600)", "100 % text"),
]  # fmt: skip


def test_the_table():
    found = list(rows_of({"mix": MIX, "sources": SOURCES}))
    assert [tuple(vars(row).values()) for row in found] == ROWS
    assert list(rows_of({"sources": SOURCES})) == []  # of an older Masters


DRAWN = {
    "three": (MIX, 2),
    "one": (MIX[:1], 2),
    "no image anywhere": (MIX[1:2], 1),
    "one value": ([item("a", rows=1, question=[7] * 5, side=[64] * 5)], 2),
    "twelve": ([item(f"source-{number}", rows=10**number) for number in range(6)] * 2, 2),
}


@pytest.mark.parametrize("name", DRAWN)
def test_the_plot(name):
    items, boxes = DRAWN[name]
    drawn = plots.mix(items)
    assert drawn == plots.mix(items)
    for one in items:
        assert f">{one['source']}, {one['split']}<" in drawn
        assert f"{one['rows']:,}<" in drawn
    assert drawn.count("characters of a question") == 1
    assert drawn.count("longer side of an image") == boxes - 1
    assert len(drawn) < 60_000 + 6_000 * len(items)
