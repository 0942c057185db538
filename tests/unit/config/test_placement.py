"""Recipes against worker groups: each pair that cannot be placed is refused with stage, group and number."""

import copy
from pathlib import Path

import pytest

from masters.config.load import load_recipe, validate
from masters.config.placement import demands, placement_problems, placements, selects
from masters.config.values import merge_values, read_values, worker_groups

ROOT = Path(__file__).parents[3]
NODE = "ray.io/node-group"
VALUES = {
    "workerGroups": {
        "judge": {"enabled": True, "minReplicas": 0, "maxReplicas": 2, "cpus": 8, "memoryGi": 32, "shmGi": 8},
        "generate": {
            "maxReplicas": 8, "cpus": 32, "memoryGi": 256, "shmGi": 64, "gpusPerPod": 4, "acceleratorType": "A100", "spot": True,
        },
        "train": {
            "maxReplicas": 2, "cpus": 64, "memoryGi": 512, "shmGi": 128, "gpusPerPod": 8, "acceleratorType": "A100", "spot": False,
        },
    }
}  # fmt: skip
RECIPE = {
    "name": "x",
    "student": {"path": "a/student", "gpus_per_engine": 1},
    "curriculum": [
        {"alias": "mid", "path": "a/mid", "gpus_per_engine": 2},
        {"alias": "big", "path": "a/big", "gpus_per_engine": 4},
    ],
    "prepare": {"sources": [{"type": "charts"}]},
    "resources": {
        "prepare": {"labels": {NODE: "judge"}},
        "mask": {"labels": {NODE: "judge"}},
        "generate": {"min_actors": 2, "max_actors": 8, "cpus": 4, "memory_gib": 40, "labels": {NODE: "generate"}},
        "score": {"max_actors": 8, "cpus": 4, "labels": {NODE: "generate"}},
        "train": {"workers": 16, "gpus": 1, "cpus": 8, "memory_gib": 40, "labels": {NODE: "train"}},
        "evaluate": {"max_actors": 2, "cpus": 4, "labels": {NODE: "generate"}},
    },
    "train": {"groups_per_step": 64},
}


def told(recipe=None, values=None, base=RECIPE):
    config = validate(merge_values(copy.deepcopy(base), recipe or {}))
    groups, problems = worker_groups(merge_values(copy.deepcopy(VALUES), values or {}))
    return [str(problem) for problem in [*problems, *placement_problems(config, groups)]]


def test_what_fits_is_accepted():
    assert told() == []


def group(name, **values):
    return {"workerGroups": {name: values}}


def stage(name, **resources):
    return {"resources": {name: resources}}


UNPLACEABLE = {
    "an engine over two pods": (
        {}, group("generate", gpusPerPod=2),
        ["curriculum[1].gpus_per_engine = 4", "generate", '"generate" has 2 GPUs a pod', "gpusPerPod: 4"],
    ),
    "a judge that is larger than a pod": (
        stage("score", labels={NODE: "judge"}), {},
        ["curriculum[0].gpus_per_engine = 2", "stage score", '"judge" has 0 GPUs a pod', "Set workerGroups.judge.gpusPerPod: 2"],
    ),
    "an examined engine that is larger than a pod": (
        {"curriculum": [{"alias": "big", "path": "a/big", "gpus_per_engine": 8}], **stage("generate", labels={NODE: "train"}),
         "score": {"judge": {"type": "rule"}}}, {},
        ["gpus_per_engine = 8", "stage evaluate", '"generate" has 4 GPUs a pod', "gpusPerPod: 8"],
    ),
    "no such group": (
        stage("generate", labels={NODE: "genrate"}), {},
        ["ray.io/node-group: genrate", "stage generate", "among 3", '"generate" has', "Use ray.io/node-group: judge or"],
    ),
    "another market": (
        stage("score", labels={NODE: "generate", "ray.io/market-type": "on-demand"}), {},
        ["resources.score.labels", "stage score", "among 3", '"generate" has ray.io/node-group: generate, ray.io/market-type: spot'],
    ),
    "another accelerator": (
        stage("train", labels={NODE: "train", "ray.io/accelerator-type": "H100"}), {},
        ["resources.train.labels", "stage train", "among 3", "ray.io/accelerator-type: A100"],
    ),
    "a group that is switched off": (
        {}, group("train", enabled=False),
        ["resources.train.labels", "stage train needs 16 worker", '"train" is not enabled', "workerGroups.train.enabled: true"],
    ),
    "a group without pods": (
        {}, group("train", maxReplicas=0),
        ["stage train needs 16 worker", '"train" has 0 pods at most', "workerGroups.train.maxReplicas: 2"],
    ),
    "a gang that is larger than the group": (
        stage("train", workers=32), {},
        ["resources.train.workers = 32", "stage train", '"train" holds 8 a pod x 2 pods = 16', "all at once", "maxReplicas: 4"],
    ),
    "a gang that is short of CPUs": (
        {}, group("train", cpus=32),
        ["resources.train.workers = 16", '"train" holds 4 a pod x 2 pods = 8', "for want of CPUs, 4 of 8 GPUs", "maxReplicas: 4"],
    ),
    "a gang that is short of memory": (
        stage("train", memory_gib=100), {},
        ["resources.train.workers = 16", '"train" holds 3 a pod x 2 pods = 6', "for want of memory, 5 of 8", "maxReplicas: 6"],
    ),
    "a worker with more CPUs than a pod": (
        stage("train", cpus=128), {},
        ["resources.train.cpus = 128", "stage train", '"train" has 64 CPUs a pod', "workerGroups.train.cpus: 128"],
    ),
    "memory that /dev/shm takes": (
        stage("generate", memory_gib=200), {},
        ["resources.generate.memory_gib = 200", "stage generate", '"generate" has 192 GiB a pod (memoryGi 256 less shmGi 64)', "memoryGi: 264"],
    ),
    "more actors to wait for than fit": (
        stage("generate", min_actors=12, max_actors=12), {},
        ["resources.generate.min_actors = 12", "stage generate", '"generate" holds 1 a pod x 8 pods = 8', "maxReplicas: 12"],
    ),
    "judges to wait for on a small group": (
        {"score": {"judge": {"type": "rule"}}, **stage("score", min_actors=6, max_actors=8, labels={NODE: "judge"})}, {},
        ["resources.score.min_actors = 6", "stage score", '"judge" holds 2 a pod x 2 pods = 4', "maxReplicas: 3"],
    ),
    "a task with more memory than a pod": (
        stage("mask", memory_gib=30), {},
        ["resources.mask.memory_gib = 30", "stage mask", '"judge" has 24 GiB a pod', "workerGroups.judge.memoryGi: 38"],
    ),
    "rows checked by more CPUs than a pod": (
        stage("prepare", cpus=16), {},
        ["resources.prepare.cpus = 16", "stage prepare", '"judge" has 8 CPUs a pod', "workerGroups.judge.cpus: 16"],
    ),
    "a gang on spot by its label": (
        stage("train", labels={NODE: "generate"}), {},
        ["resources.train.labels", "stage train", "16 workers", '"generate"', "are spot", "on-demand"],
    ),
    "a gang that may land on spot": (
        stage("train", labels=None), {},
        ["resources.train.labels = none", "stage train", "16 workers", '"generate"', "are spot"],
    ),
    "a training group that became spot": (
        {}, group("train", spot=True),
        ["stage train", "16 workers", '"train"', "are spot"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", UNPLACEABLE)
def test_what_does_not_fit_is_said_with_stage_group_and_number(case):
    recipe, values, words = UNPLACEABLE[case]
    problems = told(recipe, values)
    assert any(all(word in problem for word in words) for problem in problems), problems


@pytest.mark.parametrize(
    "case", ["a gang that is larger than the group", "a training group that became spot", "memory that /dev/shm takes"]
)
def test_one_mistake_is_one_problem(case):
    recipe, values, _ = UNPLACEABLE[case]
    assert len(told(recipe, values)) == 1


def test_all_problems_are_told_at_once():
    problems = told(stage("mask", cpus=99), group("train", maxReplicas=1) | {})
    assert [problem.split(" = ")[0] for problem in problems] == ["resources.mask.cpus", "resources.train.workers"]
    both = told(stage("generate", cpus=99, memory_gib=999))
    assert [problem.split(" = ")[0] for problem in both] == ["resources.generate.cpus", "resources.generate.memory_gib"]


@pytest.mark.parametrize("case", UNPLACEABLE)
def test_the_remedy_that_is_offered_in_the_values_works(case):
    """Where a remedy says `set workerGroups.G.field: N`, that removes the problem."""
    recipe, values, _ = UNPLACEABLE[case]
    values = copy.deepcopy(values)
    for _round in range(5):
        offered = [p.rsplit("workerGroups.", 1)[1].rstrip(".") for p in told(recipe, values) if "et workerGroups." in p]
        if not offered:
            break
        place, _, value = offered[0].partition(": ")
        name, field = place.split(".")
        values = merge_values(values, group(name, **{field: value == "true" or int(value)}))
    assert not [p for p in told(recipe, values) if "et workerGroups." in p]


def test_a_gang_goes_to_spot_where_the_recipe_says_so():
    labels = {NODE: "train", "ray.io/market-type": "spot"}
    assert told(stage("train", labels=labels), group("train", spot=True)) == []


def test_a_fallback_group_counts_where_the_labels_name_it():
    values = {
        "workerGroups": {
            "generate": {"maxReplicas": 1},
            "generate-ondemand": {**VALUES["workerGroups"]["generate"], "spot": False},
        }
    }
    wanted = {"min_actors": 4, "max_actors": 8}
    assert "x 1 pods = 2" in told(stage("generate", **wanted), values)[0]
    assert told(stage("generate", **wanted, labels={NODE: "in(generate, generate-ondemand)"}), values) == []


def test_who_asks_for_what():
    config = validate(copy.deepcopy(RECIPE))
    assert [(d.stage, d.who, d.count, d.gpus) for d in demands(config)] == [
        ("prepare", "task", 1, 0), ("mask", "task", 1, 0),
        ("generate", "engine of mid", 2, 2), ("generate", "engine of big", 2, 4), ("generate", "engine of the student", 2, 1),
        ("score", "engine of mid", 1, 2), ("score", "engine of big", 1, 4),
        ("train", "worker", 16, 1),
        ("evaluate", "engine of mid", 1, 2), ("evaluate", "engine of big", 1, 4), ("evaluate", "engine of the student", 1, 1),
    ]  # fmt: skip
    groups, _ = worker_groups(VALUES)
    assert "train     16 workers (1 GPU each) on train (8 a pod)" in placements(config, groups)


@pytest.mark.parametrize(
    ("selector", "yes", "no"),
    [
        ("spot", ["spot"], ["on-demand", None]),
        ("!spot", ["on-demand", None], ["spot"]),
        ("in(a, b)", ["a", "b"], ["c", None]),
        ("!in(a,b)", ["c", None], ["a"]),
        ("inference", ["inference"], ["ference"]),
        ("in(", [], ["in(", "in", None]),
    ],
)
def test_label_selectors_are_rays(selector, yes, no):
    for value in yes:
        assert selects({"k": selector}, {"k": value} if value else {})
    for value in no:
        assert not selects({"k": selector}, {"k": value} if value else {})


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (group("train", maxReplicas="2"), ["workerGroups.train.maxReplicas = 2", "whole number"]),
        (group("train", gpusPerPod=-1), ["workerGroups.train.gpusPerPod = -1", "not below 0"]),
        (group("train", memoryGi=64, shmGi=64), ["workerGroups.train.shmGi = 64", "nothing of memoryGi 64"]),
        (group("train", minReplicas=3), ["workerGroups.train.minReplicas = 3", "above maxReplicas 2"]),
        ({"workerGroups": {"train": 3}}, ["workerGroups.train = 3", "is not a mapping"]),
        ({"workerGroups": None}, ["workerGroups:", "missing"]),
    ],
)
def test_values_that_make_no_sense(values, words):
    _, problems = worker_groups(merge_values(copy.deepcopy(VALUES), values))
    assert all(word in str(problems[0]) for word in words), problems


def test_values_merge_as_helm_merges_them():
    base = {"a": {"b": 1, "c": [1, 2]}, "d": 4}
    assert merge_values(base, {"a": {"b": 2, "c": [3]}, "d": None, "e": {"f": None}}) == {
        "a": {"b": 2, "c": [3]},
        "e": {},
    }
    assert base == {"a": {"b": 1, "c": [1, 2]}, "d": 4}


def test_values_files_that_cannot_be_read_are_named(tmp_path):
    for text, words in (("a: [", "is not YAML"), ("- 1", "is not a mapping")):
        (tmp_path / "values.yaml").write_text(text)
        with pytest.raises(ValueError, match=words):
            read_values(tmp_path / "values.yaml")
    with pytest.raises(ValueError, match="No such file"):
        read_values(tmp_path / "none.yaml")


SHIPPED = sorted((ROOT / "recipes").rglob("*.yaml"))


@pytest.mark.parametrize(
    "recipe", [*SHIPPED, ROOT / "masters/config/templates/recipe.yaml"], ids=lambda path: path.stem
)
def test_shipped_recipes_fit_these_groups(recipe, monkeypatch):
    monkeypatch.chdir(ROOT)
    config = load_recipe(recipe)
    values = merge_values(VALUES, group("judge", gpusPerPod=4, cpus=16))  # the template's judges are teachers
    groups, problems = worker_groups(values)
    assert [*problems, *placement_problems(config, groups)] == []
