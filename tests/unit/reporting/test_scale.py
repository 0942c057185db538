"""A fiftieth of a run of 1.5 million samples, reported by the command: what it costs beyond a small run is a fiftieth of what is
promised for the whole, 2 minutes and 2 GiB. perf/report.py does the whole."""

import html

import pytest

from masters.data.storage import Storage
from masters.stages import generate, score
from masters.stages.generate import author_shards, teacher_shards
from perf.report import PROMISED_GIB, PROMISED_SECONDS, command
from perf.synthetic_run import TOKENS, make_run

SMALL, LARGE = 8_000, 38_000  # from here on the gallery is of as many files as in any run
SHARE = (LARGE - SMALL) / 1_500_000


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A small run and one that is larger by a fiftieth of the whole: the run, and (wall seconds, CPU seconds, MiB) of its report."""
    made = [make_run(tmp_path_factory.mktemp(f"of-{samples}"), samples) for samples in (SMALL, LARGE)]
    return [(one, command("report", one.recipe)) for one in made]


def test_the_report_costs_its_share_of_what_is_promised(runs):
    (_, (_, small_seconds, small_peak)), (_, (_, seconds, peak)) = runs
    assert seconds - small_seconds <= SHARE * PROMISED_SECONDS
    assert peak - small_peak <= SHARE * PROMISED_GIB * 1024


def test_the_page_is_whole(runs):
    page = html.unescape(runs[1][0].run.read("report.html").decode())
    assert page.count("<svg") == 8
    assert "24 training questions from all over the curriculum" in page
    assert page.count("<td>big@r0.") >= 5 * 4 * 4
    assert page.count("(n=30,400)") == 5  # every reward of each level
    assert page.count("(n=152,000)") == 1
    assert "drawn evenly over training" not in page
    assert '<td>broken in way 0</td><td class="n">90</td>' in page
    assert '<td>the engine fails on this row</td><td class="n">1</td>' in page


def test_summaries_read_no_row(runs, monkeypatch):
    made = runs[1][0]
    shards = [*teacher_shards(made.config, 0, LARGE), *author_shards(made.config, "student", LARGE)]
    monkeypatch.setattr(Storage, "read_table", lambda *_: pytest.fail("a row was read"))
    counts, words = generate._summary(made.run, shards)
    assert counts["responses"] == dict.fromkeys(made.config.levels(0), 4 * LARGE // 5) | {"student": 4 * LARGE}
    assert counts["tokens"] == {name: TOKENS * rows for name, rows in counts["responses"].items()}
    assert words == f"{8 * LARGE:,} responses, {8 * LARGE * TOKENS:,} tokens by 6 authors, 1 rejects"
    counts, words = score._summary(made.run, shards, "rule")
    assert sum(sum(counts[name].values()) for name in ("right", "wrong", "null")) == 8 * LARGE
    assert words.startswith(f"rule judge: {8 * LARGE:,} verdicts, 4")
