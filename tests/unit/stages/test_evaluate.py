"""Scores of one model: clustered by image, overall and by type; who is asked what, and which student is the run's."""

import pyarrow as pa
import pytest

from masters.config.load import load_recipe
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


LEVELS = ("big@r0.10", "big@r0.05", "big@r0.00")


def recipe(*overrides):
    return load_recipe(
        "recipes/tiny.yaml", ["curriculum[0].r_max=0.1", "prepare.sources[0].validation_images=1", *overrides]
    )


BY_LEVEL = ["train.students_by_level=true"]
BEST = [*BY_LEVEL, "train.keep=best"]
BOTH = {f"student@{level}": ["validation 4", "test 9"] for level in LEVELS}
ASKED = {
    # name: (overrides, splits and questions of each model in order)
    "as ever": ([], {"baseline": ["test 9"], "big": ["test 9"], "student": ["test 9"]}),
    "by level": (BY_LEVEL, {"baseline": ["test 9"], "big": ["test 9"], **{key: ["test 9"] for key in BOTH}}),
    "the best of them": (BEST, {"baseline": ["test 9"], "big": ["test 9"], **BOTH}),
    "without teachers": ([*BEST, "evaluate.teachers=false"], {"baseline": ["test 9"], **BOTH}),
    "another split": (["evaluate.split=train"], {"baseline": ["train 8"], "big": ["train 8"], "student": ["train 8"]}),
}


@pytest.mark.parametrize("name", ASKED)
def test_who_is_asked_what(name):
    config = recipe("evaluate.shard_size=5", *ASKED[name][0])
    specs = evaluate.models(config)
    jobs = evaluate._jobs(config, specs, {"train": 8, "validation": 4, "test": 9})
    asked = {}
    for (model, split), job in jobs.items():
        assert {shard.split for shard in job.shards} == {split}
        assert job.spec == specs[model]
        asked.setdefault(model, []).append(f"{split} {sum(shard.stop - shard.start for shard in job.shards)}")
    assert asked == ASKED[name][1]
    assert list(asked) == list(ASKED[name][1])
    shards = [(shard.author, shard.start) for job in jobs.values() for shard in job.shards]
    assert len(shards) == len(set(shards))  # two that run at once must not share a table, rejects or a failure's record


def test_students_by_level_are_read_from_their_folders():
    stored = {name: spec.stored for name, spec in evaluate.models(recipe(*BEST)).items()}
    assert stored == {
        "baseline": None,
        "big": None,
        **{f"student@{level}": f"train/levels/{level}" for level in LEVELS},
    }
    assert evaluate.models(recipe())["student"].stored == "train/student"


CHOICES = {
    # name: (keep, right ones of 8 on validation by level, right ones of 10 on test, level, folder, gain over the last)
    "the last, whatever is better": ("last", None, (9, 9, 1), "big@r0.00", "train/student", 0.0),
    "by validation, not by test": ("best", (3, 7, 5), (9, 2, 6), "big@r0.05", "train/levels/big@r0.05", -0.4),
    "the last is best": ("best", (3, 4, 5), (9, 2, 6), "big@r0.00", "train/student", 0.0),
    "a tie goes to the later": ("best", (6, 6, 2), (1, 4, 2), "big@r0.05", "train/levels/big@r0.05", 0.2),
}


def answers(right, asked):
    return table({f"{number}": number < right for number in range(asked)})


@pytest.mark.parametrize("name", CHOICES)
def test_the_run_s_student(name):
    keep, validation, test, level, folder, gain = CHOICES[name]
    samples = {
        split: [{"sample_id": f"{number}", "question_type": "", "image_ids": []} for number in range(count)]
        for split, count in (("validation", 8), ("test", 10))
    }
    given = {(f"student@{key}", "test"): answers(right, 10) for key, right in zip(LEVELS, test, strict=True)}
    if validation:
        given |= {(f"student@{key}", "validation"): answers(r, 8) for key, r in zip(LEVELS, validation, strict=True)}
    chosen = evaluate.choose(recipe(*BY_LEVEL, f"train.keep={keep}"), samples, given)
    assert (chosen["keep"], chosen["level"], chosen["folder"]) == (keep, level, folder)
    assert {key: found["value"] * 8 for key, found in chosen["by_level"].items()} == dict(
        zip(LEVELS, validation or (), strict=False)
    )
    assert chosen["over_last"]["value"] == pytest.approx(gain)


def test_what_is_kept_belongs_to_the_scores_and_to_nothing_before():
    assert evaluate.parts(recipe()) == evaluate.parts(recipe(*BY_LEVEL))
    assert evaluate.parts(recipe(*BEST)) == {**evaluate.parts(recipe()), "keep": "best"}
