"""The report's section on benchmarks: a row for each, gains that are read without colour, the paper's figures, answers that changed."""

import html
import io
import re

import pyarrow as pa
import pytest
from PIL import Image

from masters.data.storage import Storage
from masters.data.tables import BENCHMARK_CHANGES
from masters.reporting import plots
from masters.reporting.benchmark_section import section
from masters.reporting.benchmarks import CHANGED, RESULTS, lines_of
from masters.reporting.statistics import Interval


def interval(value, half=0.02, n=40):
    return {"value": value, "low": value - half, "high": value + half, "n": n}


def score(value, gain=None, **counts):
    counted = {"rows": 40, "answered": 40, "failed": 0, "quarantined": 0, "judged": 4, "unresolved": 2, "truncated": 0}
    found = {"value": value, "interval": None if value is None else interval(value), "remarks": []}
    return found | counted | counts | {"gain": gain}


def results():
    """Two benchmarks; the second has no score of the student."""
    shared = {"md5": "x", "prompt": "generic", "max_tokens": 9, "rows": 40, "quarantined": 0, "remarks": ["odd file"]}
    star = {
        "baseline": score(0.5, interval(0.0, 0)),
        "big": score(0.9, interval(0.4)),
        "student": score(0.6, interval(0.1)),
    }
    blink = {
        "baseline": score(0.3, interval(0.0, 0)),
        "big": score(0.4, interval(0.1)),
        "student": score(None, failed=2, answered=38),
    }
    return {
        "judge": "",
        "decoding": {"temperature": 0.0},
        "models": ["baseline", "big", "student"],
        "benchmarks": [
            {**shared, "name": "MMStar", "title": "MMStar <all>", "column": "MMStar", "scores": star,
             "unverified": ["number of rows: from documentation"], "paper": {"baseline": 0.639, "student": 0.749}},
            {**shared, "name": "BLINK", "title": "BLINK", "column": "BLINK", "scores": blink, "unverified": [], "paper": {}},
        ],
        "mean_of": ["MMStar"],
        "mean": {name: {"interval": interval(found["value"]), "gain": found["gain"]} for name, found in star.items()},
        "paper_unknown": "The paper names no harness.",
    }  # fmt: skip


def picture():
    sink = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(sink, "JPEG")
    return sink.getvalue()


@pytest.fixture
def run(tmp_path):
    run = Storage(str(tmp_path))
    run.write_json(RESULTS, results())
    rows = [
        {"benchmark": "MMStar", "sample_id": str(place), "won": bool(place), "question": "Which <b>?\nA. x", "answer": "B",
         "baseline": "<script>", "student": "B & C", "baseline_value": 1.0 - place, "student_value": 0.4 if place else 0.0,
         "images": [picture()]}
        for place in range(2)
    ]  # fmt: skip
    run.write_table(CHANGED, pa.Table.from_pylist(rows, schema=BENCHMARK_CHANGES))
    return run


def cells(page, first):
    """Of the table row that begins with a text."""
    row = next(row for row in re.findall(r"<tr>(.*?)</tr>", page, re.S) if re.search(rf"^<td[^>]*>{first}<", row))
    return [html.unescape(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row)]


def test_one_row_for_each_benchmark_and_one_for_the_mean(run):
    table = section(run).partition("</table>")[0]
    assert table.count("<tr>") == 1 + 2 + 1
    assert cells(table, "MMStar") == [
        "MMStar", "40", "50.0 [48.0, 52.0]", "90.0 [88.0, 92.0]", "60.0 [58.0, 62.0]", "+10.0 [+8.0, +12.0]",
    ]  # fmt: skip
    assert cells(table, "BLINK")[-2:] == ["no score", ""]
    assert cells(table, "mean of 1")[-1] == "+10.0 [+8.0, +12.0]"
    assert 'title="MMStar &lt;all&gt;"' in table


def test_what_the_paper_prints_is_beside_ours_with_what_nobody_knows(run):
    page = section(run).partition("What the paper prints")[2]
    assert cells(page, "MMStar") == [
        "MMStar", "MMStar", "baseline", "63.9", "50.0 [48.0, 52.0]", "number of rows: from documentation",
    ]  # fmt: skip
    assert "student, as the paper trained it" in page
    assert "74.9" in page
    assert "The paper names no harness." in page
    assert "BLINK</td>" not in page


def test_answers_that_changed_are_cards_with_what_became_of_them(run):
    page = section(run).partition("Answers that training changed")[2]
    cards = page.split('<div class="card" ')[1:]
    assert [card.partition(">")[0] for card in cards] == ['data-kind="lost"', 'data-kind="won"']
    for card in cards:
        assert "data:image/jpeg;base64," in card
        assert "Which &lt;b&gt;?" in card
        assert "&lt;script&gt;" in card
    assert '<td class="right">&lt;script&gt;' in cards[0]
    assert '<td class="wrong">B &amp; C' in cards[0]
    assert '<td class="null">B &amp; C (0.4)' in cards[1]


def test_without_benchmarks_there_is_no_section_and_without_changes_no_card(run, tmp_path):
    assert section(Storage(str(tmp_path / "other"))) == ""
    run.delete(CHANGED)
    assert section(run).count("None.") == 1


GAINS = {
    "sure": (Interval(0.1, 0.05, 0.15, 40), True),
    "sure loss": (Interval(-0.1, -0.15, -0.05, 40), True),
    "unsure": (Interval(0.01, -0.05, 0.07, 40), False),
    "mean of 3": (Interval(0.003, -0.01, 0.02, 120), False),
}


@pytest.mark.parametrize("name", GAINS)
def test_a_gain_that_may_be_none_is_hollow(name):
    interval, full = GAINS[name]
    drawn = plots.gains({name: interval})
    assert f"{name} (n={interval.n})" in html.unescape(drawn)
    assert f"{100 * interval.value:+.1f} [{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]".replace(
        "-", "\u2212"
    ) in drawn or (f"{100 * interval.value:+.1f} [{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]" in drawn)
    fills = re.findall(r"fill: (#[0-9a-f]{6})[^\"]*stroke: #(?:2b5d8c|c8641e)", drawn)
    assert fills, "a mark is drawn"
    assert ("#ffffff" in fills) == (not full)


def test_equal_gains_are_equal_bytes():
    found = {name: interval for name, (interval, _) in GAINS.items()}
    assert plots.gains(found) == plots.gains(found)


def test_lines_follow_the_recipe():
    found = lines_of(results(), "student")
    assert [line.name for line in found] == ["MMStar", "BLINK", "mean of 1"]
    assert [line.gain is None for line in found] == [False, True, False]
    assert found[1].beside == "student: 2 failed"
