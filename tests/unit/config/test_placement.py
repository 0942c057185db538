"""Recipes on worker groups: what fits is accepted, what does not is said with stage, group and number."""

import json
from pathlib import Path

import pytest

from masters.config.load import load_recipe
from masters.config.placement import CHART, check_placement, load_groups
from masters.config.problems import RecipeError

ROOT = Path(__file__).parents[3]

GROUPS = {
    "judge": {"enabled": True, "maxReplicas": 2, "cpus": 4, "memoryGi": 16, "shmGi": 4, "gpusPerPod": 0},
    "generate": {"enabled": True, "maxReplicas": 4, "cpus": 8, "memoryGi": 64, "shmGi": 8, "gpusPerPod": 2, "spot": True},
    "train": {"enabled": True, "maxReplicas": 2, "cpus": 32, "memoryGi": 256, "shmGi": 64, "gpusPerPod": 4, "acceleratorType": "A100"},
    "off": {"enabled": False, "maxReplicas": 9, "cpus": 99, "memoryGi": 999, "shmGi": 1, "gpusPerPod": 9},
}  # fmt: skip
RECIPE = {
    "name": "x",
    "student": {"path": "s", "gpus_per_engine": 1},
    "curriculum": [
        {"alias": "mid", "path": "m", "gpus_per_engine": 1},
        {"alias": "big", "path": "t", "gpus_per_engine": 2},
    ],
    "prepare": {"sources": [{"type": "charts"}]},
    "score": {"judge": {"type": "rule"}},
    "resources": {
        "prepare": {"cpus": 1, "labels": {"ray.io/node-group": "judge"}},
        "mask": {"cpus": 1, "labels": {"ray.io/node-group": "judge"}},
        "generate": {"min_actors": 1, "max_actors": 4, "cpus": 4, "labels": {"ray.io/node-group": "generate"}},
        "score": {"max_actors": 4, "cpus": 2, "memory_gib": 4, "labels": {"ray.io/node-group": "judge"}},
        "evaluate": {"max_actors": 2, "cpus": 4, "labels": {"ray.io/node-group": "generate"}},
        "train": {"workers": 8, "gpus": 1, "cpus": 8, "memory_gib": 40, "labels": {"ray.io/accelerator-type": "A100"}},
    },
}

UNPLACEABLE = {
    "teacher larger than a pod": (
        {"curriculum[1].gpus_per_engine": 4}, {},
        'curriculum[1].gpus_per_engine = 4: stage generate: group "generate" has 2 GPUs a pod. Use 2, or set workerGroups.generate.gpusPerPod: 4.',
    ),
    "student larger than a pod": (
        {"student.gpus_per_engine": 8}, {}, 'student.gpus_per_engine = 8: stage evaluate: group "generate" has 2 GPUs a pod',
    ),
    "engines with GPUs on CPU pods": (
        {"resources.generate.labels": {"ray.io/node-group": "judge"}}, {}, 'stage generate: group "judge" has 0 GPUs a pod',
    ),
    "judge by teacher on CPU pods": (
        {"score.judge": {"type": "teacher"}}, {}, 'curriculum[1].gpus_per_engine = 2: stage score: group "judge" has 0 GPUs a pod',
    ),
    "the student's own engines on CPU pods": (
        {"resources.student": {"labels": {"ray.io/node-group": "judge"}}}, {}, 'stage student: group "judge" has 0 GPUs a pod',
    ),
    "more of the student's own engines than pods hold": (
        {"resources.student": {"max_actors": 9, "labels": {"ray.io/node-group": "generate"}}}, {},
        'resources.student.max_actors = 9: stage student: group "generate" holds at most 8 actors of 1 GPUs',
    ),
    "more half GPUs than pods have": (
        {"student.gpus_per_engine": 0.5, "resources.student": {"max_actors": 17, "labels": {"ray.io/node-group": "generate"}}}, {},
        'resources.student.max_actors = 17: stage student: group "generate" holds at most 16 actors of 0.5 GPUs',
    ),
    "no such group": (
        {"resources.score.labels": {"ray.io/node-group": "judges"}}, {}, "ray.io/node-group=judges: stage score: no group carries these labels (judge: ",
    ),
    "group is off": (
        {"resources.mask.labels": {"ray.io/node-group": "off"}}, {}, "ray.io/node-group=off: stage mask: no group carries",
    ),
    "on-demand engines where only spot is": (
        {"resources.generate.labels": {"ray.io/node-group": "generate", "ray.io/market-type": "on-demand"}}, {}, "stage generate: no group carries",
    ),
    "another accelerator": (
        {"resources.train.labels": {"ray.io/accelerator-type": "H100"}}, {}, "ray.io/accelerator-type=H100: stage train: no group carries",
    ),
    "everything excluded": (
        {"resources.evaluate.labels": {"ray.io/node-group": "!in(judge, generate, train)"}}, {}, "stage evaluate: no group carries",
    ),
    "too many CPUs": (
        {"resources.evaluate.cpus": 9}, {}, 'resources.evaluate.cpus = 9: stage evaluate: group "generate" has 8 CPUs a pod',
    ),
    "reader with too many CPUs": (
        {"resources.prepare.cpus": 5}, {}, 'resources.prepare.cpus = 5: stage prepare: group "judge" has 4 CPUs a pod',
    ),
    "memory that is shared memory": (
        {"resources.score.memory_gib": 14}, {}, 'resources.score.memory_gib = 14: stage score: group "judge" has 12 GiB beside /dev/shm a pod',
    ),
    "gang with too much memory": (
        {"resources.train.memory_gib": 200}, {}, 'resources.train.memory_gib = 200: stage train: group "train" has 192 GiB beside',
    ),
    "gang too large": (
        {"resources.train.workers": 16, "train.groups_per_step": 64}, {},
        'resources.train.workers = 16: stage train: group "train" holds at most 8 workers of 1 GPUs (train: 2 pods x 4)',
    ),
    "gang larger by CPUs": (
        {"resources.train.cpus": 16}, {}, "resources.train.workers = 8: stage train: group \"train\" holds at most 4 workers of 1 GPUs (train: 2 pods x 2)",
    ),
    "gang on spot": (
        {"resources.train.labels": {"ray.io/market-type": "spot"}, "resources.train.workers": 2, "resources.train.memory_gib": 20}, {},
        'stage train: group "generate" is on spot nodes, and the gang of 2',
    ),
    "more engines than pods, at least": (
        {"resources.generate.min_actors": 6, "resources.generate.max_actors": 6}, {}, "resources.generate.min_actors = 6: stage generate: group",
    ),
    "more engines than pods, at most": (
        {"resources.generate.max_actors": 9}, {}, 'resources.generate.max_actors = 9: stage generate: group "generate" holds at most 8 actors of 1 GPUs',
    ),
    "judges beyond the group": (
        {"resources.score.max_actors": 5}, {}, 'resources.score.max_actors = 5: stage score: group "judge" holds at most 4 actors',
    ),
    "a group of no pods": (
        {}, {"judge": {"maxReplicas": 0}}, 'resources.mask = 1: stage mask: group "judge" holds at most 0 actors',
    ),
    "a group that was switched off": (
        {}, {"train": {"enabled": False}}, "stage train: no group carries these labels",
    ),
}  # fmt: skip


@pytest.fixture
def check(tmp_path):
    def run(recipe_changes, group_changes=None):
        merged = {name: {**group, **(group_changes or {}).get(name, {})} for name, group in GROUPS.items()}
        hidden = {
            name: merged.get(name) for name in (*merged, "generate-ondemand")
        }  # null removes a group of the chart's own
        (tmp_path / "values.yaml").write_text(json.dumps({"workerGroups": hidden}))
        (tmp_path / "x.yaml").write_text(json.dumps(RECIPE))
        overrides = [f"{path}={json.dumps(value)}" for path, value in recipe_changes.items()]
        return check_placement(load_recipe(tmp_path / "x.yaml", overrides), [tmp_path / "values.yaml"])

    return run


def test_what_fits_is_accepted(check):
    assert [group.name for group in check({})] == ["judge", "generate", "train"]
    check({"resources.mask.labels": {}, "resources.prepare.labels": {"ray.io/node-group": "in(judge, other)"}})


@pytest.mark.parametrize("name", UNPLACEABLE)
def test_what_cannot_be_placed_is_said_with_stage_group_and_number(check, name):
    recipe_changes, group_changes, message = UNPLACEABLE[name]
    with pytest.raises(RecipeError) as caught:
        check(recipe_changes, group_changes)
    assert message in str(caught.value)
    assert "nothing was started" in str(caught.value)


def test_all_problems_at_once(check):
    with pytest.raises(RecipeError) as caught:
        check({"resources.score.max_actors": 5, "resources.train.cpus": 99, "curriculum[1].gpus_per_engine": 3})
    assert {p.path for p in caught.value.problems} == {
        "resources.score.max_actors", "resources.train.cpus", "curriculum[1].gpus_per_engine",
    }  # fmt: skip


def test_a_pool_of_several_models_says_once_what_none_of_them_fits(check):
    with pytest.raises(RecipeError) as caught:
        check({"resources.evaluate.cpus": 99})
    assert [p.path for p in caught.value.problems] == ["resources.evaluate.cpus"]


def test_values_files_that_are_none(tmp_path):
    with pytest.raises(RecipeError, match="No such file"):
        load_groups([tmp_path / "none.yaml"])
    (tmp_path / "list.yaml").write_text("[1]")
    with pytest.raises(RecipeError, match="is not a mapping"):
        load_groups([tmp_path / "list.yaml"])
    (tmp_path / "values.yaml").write_text("workerGroups: {new: {enabled: true, cpus: 1}}")
    with pytest.raises(RecipeError, match=r"workerGroups.new: lacks a usable 'memoryGi'"):
        load_groups([tmp_path / "values.yaml"])


SIZES = {"enabled": True, "maxReplicas": 1, "cpus": 4, "memoryGi": 16, "shmGi": 4}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("workerGroups: {generate: 3}", "workerGroups.generate = 3: is not a mapping."),
        ("workerGroups: [a]", "workerGroups = ['a']: is not a mapping."),
        (json.dumps({"workerGroups": {"x": {**SIZES, "cpus": "500m"}}}), "workerGroups.x.cpus = 500m: is not a number. Write it without quotes and units"),
        (json.dumps({"workerGroups": {"x": {**SIZES, "gpusPerPod": "two"}}}), "workerGroups.x.gpusPerPod = two: is not a number."),
        (json.dumps({"workerGroups": {"x": {**SIZES, "labels": "a"}}}), "workerGroups.x.labels = a: is not a mapping."),
        ("workerGroups: {x: {enabled: true, maxReplicas: .inf, cpus: 1, memoryGi: 1, shmGi: 1}}", "workerGroups.x.maxReplicas = inf: is not a number."),
        ("a: \udcff", "file: is not UTF-8 at byte 3."),
        ("a: b\x07", "file: is not YAML: unacceptable character #x0007"),
        ("a: &a [*a]", "file: cannot be used: Circular reference"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_values_file_is_one_line_with_its_name(tmp_path, text, message):
    path = tmp_path / "values.yaml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(RecipeError) as caught:
        load_groups([path])
    assert f"{path}: {message}" in str(caught.value)


def test_a_values_file_lies_over_the_charts_own(tmp_path):
    (tmp_path / "values.yaml").write_text("workerGroups: {generate: {gpusPerPod: 4}, judge: {enabled: false}}")
    groups = {group.name: group for group in load_groups([tmp_path / "values.yaml"])}
    assert groups["generate"].gpus == 4
    assert groups["generate"].max_pods == 4
    assert "judge" not in groups


SHIPPED = [*sorted((ROOT / "recipes").glob("[!_]*.yaml")), ROOT / "masters" / "config" / "templates" / "recipe.yaml"]


@pytest.mark.parametrize("recipe", SHIPPED, ids=lambda p: p.stem)
def test_shipped_recipes_fit_on_the_charts_own_groups(recipe):
    """Those at the paper's scale have values of their own: tests/unit/planning/test_paper_recipes.py."""
    assert check_placement(load_recipe(recipe), [CHART / "values.yaml"])


def test_the_fallback_group_carries_the_label_of_the_group_it_stands_in_for(tmp_path):
    (tmp_path / "values.yaml").write_text("workerGroups: {generate-ondemand: {enabled: true}}")
    fallback = next(group for group in load_groups([tmp_path / "values.yaml"]) if group.name == "generate-ondemand")
    assert fallback.has({"ray.io/node-group": "generate", "ray.io/market-type": "on-demand"})
