"""Scores of one model: clustered by image, overall and by type."""

import pyarrow as pa

from masters.data.tables import PREDICTIONS
from masters.reporting.statistics import accuracy_interval, paired_interval
from masters.stages import evaluate


def table(answers):
    rows = [
        {"sample_id": key, "question_type": "t", "text": "", "correct": correct} for key, correct in answers.items()
    ]
    return pa.Table.from_pylist(rows, schema=PREDICTIONS)


def test_intervals_are_clustered_by_image():
    """Four questions about each of ten images, in two types; those about an image are all right or all wrong."""
    samples = [
        {"sample_id": f"{image}-{n}", "question_type": ["even", "odd"][n % 2], "image_ids": [f"image {image}", "other"]}
        for image in range(10)
        for n in range(4)
    ]  # fmt: skip
    samples.append({"sample_id": "text only", "question_type": "none", "image_ids": []})
    keys = [sample["sample_id"] for sample in samples]
    before, after = ({key: key[0] in right for key in keys} for right in ("012", "0123457"))
    del after["1-0"]  # unanswered is wrong
    scores = evaluate._score(samples, table(after), table(before))
    correct, clusters = [after.get(key, False) for key in keys], [*(i // 4 for i in range(40)), "own"]
    assert scores["accuracy"] == vars(accuracy_interval(correct, clusters))
    assert scores["gain"] == vars(paired_interval([before[key] for key in keys], correct, clusters))
    for kind, first in (("even", 0), ("odd", 1)):
        assert scores["by_type"][kind] == vars(accuracy_interval(correct[first:40:2], clusters[first:40:2]))
    width = scores["accuracy"]["high"] - scores["accuracy"]["low"]
    alone = accuracy_interval(correct)
    assert width > 1.5 * (alone.high - alone.low)
    assert scores["answered"] == 40
    assert scores["by_type"]["none"]["n"] == 1
