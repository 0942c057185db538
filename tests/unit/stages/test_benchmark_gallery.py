"""Answers that training changed: some are kept for the report, the same ones whenever evaluate is done again."""

import io

from PIL import Image

from masters.data.storage import Storage
from masters.reporting.benchmarks import CHANGED, read_changes
from tests.unit.benchmarks.tables import make
from tests.unit.stages.test_benchmarks import evaluated, gold, recipe


def won_and_lost(model, question):
    """The student loses the first question, wins the second and third, and says the same of the others; none can be told."""
    right = {"baseline": question.group in ("0", "3"), "student": question.group in ("1", "2", "3")}
    return gold(question) if right.get(model) else f"the model {model} has no idea"


def test_a_few_answers_that_training_changed_are_kept_with_their_images(tmp_path, monkeypatch):
    names = ["MMStar", "BLINK", "MMBench_DEV_EN"]
    for name in names:
        make(name, tmp_path)
    config, contents = recipe(tmp_path, names), []
    for attempt in ("a", "b"):
        run = Storage(str(tmp_path / attempt))
        evaluated(config, run, won_and_lost, monkeypatch)
        contents.append(run.read(CHANGED))
    assert contents[0] == contents[1]
    rows = read_changes(run)
    by_benchmark = {name: [row for row in rows if row["benchmark"] == name] for name in ("MMStar", "BLINK")}
    for name, found in by_benchmark.items():
        assert [(row["sample_id"], row["won"]) for row in found] == [("0", False), ("1", True), ("2", True)]
        assert [(row["baseline_value"], row["student_value"]) for row in found] == [(1, 0), (0, 1), (0, 1)]
        assert [len(row["images"]) for row in found] == ([1, 2, 2] if name == "BLINK" else [1, 1, 1])
        assert found[0]["student"] == "the model student has no idea"
        assert (found[0]["answer"], found[0]["question"].splitlines()[1:]) == ("B", ["A. green", "B. red"])
        shown = Image.open(io.BytesIO(found[0]["images"][0]))
        assert (shown.format, max(shown.size)) == ("JPEG", 56)
    rotated = [row for row in rows if row["benchmark"] == "MMBench_DEV_EN"]
    assert [row["won"] for row in rotated].count(True) == 3  # of eight rows
    assert [row["won"] for row in rotated].count(False) == 2  # of two
