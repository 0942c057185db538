"""`masters check --values` refuses what surely does not fit, by the rules of `masters plan`, and leaves the rest to that."""

import json
from pathlib import Path

import pytest
import yaml

from masters.cli_check import cluster_lines
from masters.config.load import load_recipe
from masters.config.placement import groups_of, read_values
from masters.config.problems import RecipeError
from masters.config.yaml_files import laid_over
from masters.models.sizes import recipe_sizes
from masters.planning.lengths import assumed
from masters.planning.plan import fit_problems
from masters.planning.volumes import sizes_of_volumes
from masters.planning.workload import Workload

ROOT = Path(__file__).parents[3]
PAPER = ROOT / "recipes/paper/qwen2.5-vl-7b-from-72b.yaml"
ON_80 = {"cloud.google.com/gke-accelerator": "nvidia-a100-80gb"}
UNSAID = {"cloud.google.com/gke-accelerator": None}
ON_40 = {"cloud.google.com/gke-accelerator": "nvidia-tesla-a100"}
TINY = ROOT / "models/tiny"
JUDGE = {"type": "model", "path": "Qwen/Qwen2.5-VL-72B-Instruct", "gpus_per_engine": 1}


@pytest.fixture
def case(tmp_path):
    """case(overrides, values over those of the paper's recipe) -> recipe, files of values."""

    def case(overrides, change):
        text = (ROOT / "k8s/chart/ci/paper-qwen.yaml").read_text()
        (tmp_path / "values.yaml").write_text(json.dumps(laid_over(yaml.safe_load(text), change)))
        return load_recipe(PAPER, overrides), [tmp_path / "values.yaml"]

    return case


def groups(**named):
    return {"workerGroups": named}


SURE = {  # overrides, change of values -> field, rule, remedy
    "an engine on GPUs too small, by the nodes' label": (
        [], groups(generate={"nodeSelector": ON_40}),
        "curriculum[0].gpus_per_engine = 4: stage generate: weights of 34 GiB a GPU leave no room for engine.max_model_len 8192 on a A100-40G", "of 40 GiB. Use 8.",
    ),
    "an engine with too few": (
        ["curriculum[0].gpus_per_engine=2"], {}, "curriculum[0].gpus_per_engine = 2: stage generate: weights of 68 GiB a GPU", "Use 4.",
    ),
    "an engine on a slice": (
        ["curriculum[0].path=Qwen/Qwen2.5-VL-32B-Instruct", "curriculum[0].gpus_per_engine=1"],
        groups(generate={"gpuResource": "nvidia.com/mig-3g.40gb"}),
        "curriculum[0].gpus_per_engine = 1: stage generate: weights of 62 GiB a GPU", "on a mig-3g.40gb of A100-80G of 40 GiB",
    ),
    "an engine on half a GPU": (
        ["student.gpus_per_engine=0.25"], {}, "student.gpus_per_engine = 0.25: stage generate: weights of 15 GiB a GPU", "on 0.25 of a A100-80G of 79 GiB. Use 1.",
    ),
    "a judge in whole numbers": (
        [f"score.judge={json.dumps(JUDGE)}"], groups(generate={"acceleratorType": "H200", "nodeSelector": UNSAID}),
        "score.judge.gpus_per_engine = 1: stage score: weights of 137 GiB a GPU leave no room", "on a H200 of 140 GiB. Use 2.",
    ),
    "a gang on GPUs too small": (
        [], groups(train={"nodeSelector": UNSAID | {"node.kubernetes.io/instance-type": "g6.48xlarge"}}),
        "resources.train.workers = 16: a worker takes at least", "of a L4's 22: ",
    ),
    "a gang whose CPU memory is too small": (
        [], groups(train={"memoryGi": 100}), "workerGroups.train.memoryGi = 36 beside /dev/shm: its workers keep 68 GiB", "Use 82.",
    ),
    "a claim without room for checkpoints": (
        [], {"storage": {"pvc": {"size": "290Gi"}}}, "storage.pvc.size = 290Gi: the run directory takes 315 GB, of which 3 checkpoints of 100 GB each and students of 17 GB", "Use 350Gi, or lower train.keep_checkpoints.",
    ),
    "a claim without room for students by level": (
        ["train.students_by_level=true"], {"storage": {"pvc": {"size": "350Gi"}}}, "students of 100 GB", "or lower train.keep_checkpoints.",
    ),
    "a claim without room for a mirror": (
        ["hub_mirror=/runs/models"], {"storage": {"pvc": {"size": "400Gi"}}}, "and hub_mirror 163 GB", "Use 500Gi",
    ),
    "a cache without room for models": (
        [], {"modelCache": {"sizeGi": 100}}, "modelCache.sizeGi = 100: the models of the recipe take 163 GB", "Use 200.",
    ),
    "a cache of each pod's own": (
        [], {"modelCache": {"kind": "emptyDir", "sizeGi": 100}}, "modelCache.sizeGi = 100: the models of the recipe take 163 GB", "Use 200.",
    ),
    "a pod's disk without room for a checkpoint": (
        [], groups(train={"scratchGi": 40}), "workerGroups.train.scratchGi = 40: a checkpoint of 100 GB, over the nodes of the gang, or a student lies there until it is stored: 50 GB on a node", "Use 100, and nodes with such disks.",
    ),
    "a request for the pod's disk without room for a checkpoint": (
        [], groups(train={"requests": {"ephemeral-storage": "100Gi"}}), "workerGroups.train.scratchGi = 36: a checkpoint of 100 GB", "Use 100",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SURE)
def test_what_surely_does_not_fit_is_refused_by_check_and_plan_alike(case, name):
    overrides, change, message, remedy = SURE[name]
    config, values = case(overrides, change)
    with pytest.raises(RecipeError) as caught:
        list(cluster_lines(config, "r", values, "", ""))
    (line,) = (line for line in str(caught.value).splitlines() if message in line)
    assert remedy in line
    written = read_values(values)
    load = Workload(config, recipe_sizes(config), assumed(config), groups_of(written, "v"))
    field = message.partition(" = ")[0] if " = " in message else "storage.pvc.size"
    assert field in {problem.path for problem in fit_problems(load, sizes_of_volumes(written))}


FITS = {  # the same, close to it
    "as it is": ([], {}),
    "two such GPUs more": (["curriculum[0].gpus_per_engine=4"], groups(generate={"nodeSelector": ON_80})),
    "half a GPU": (["student.gpus_per_engine=0.5"], {}),
    "a judge whose weights are compressed": (
        [f"score.judge={json.dumps(JUDGE | {'quantization': 'fp8_per_tensor'})}"], groups(generate={"acceleratorType": "H200", "nodeSelector": UNSAID}),
    ),
    "a claim that holds checkpoints and student": ([], {"storage": {"pvc": {"size": "310Gi"}}}),
    "a claim of one's own": ([], {"storage": {"pvc": {"size": "1Gi", "existingClaim": "mine", "storageClassName": None}}, "modelCache": {"storageClassName": "x"}}),
    "a cache of one's own": ([], {"modelCache": {"kind": "pvc", "sizeGi": 1, "existingClaim": "mine"}}),
    "a cache on the nodes": ([], {"modelCache": {"kind": "hostPath", "sizeGi": 1, "hostPath": "/m"}}),
    "scratch elsewhere": (["train.scratch=/runs/scratch"], groups(train={"scratchGi": 10})),
    "scratch that holds it": ([], groups(train={"scratchGi": 47})),
    "models in folders need no cache": (
        [f"student.path={TINY}/student", f"curriculum[0].path={TINY}/teacher"], {"modelCache": {"sizeGi": 0.0001}},
    ),
    "models on a volume need no cache": (["student.path=/runs/s", "curriculum[0].path=/runs/t"], {"modelCache": {"sizeGi": 1}}),
}  # fmt: skip


@pytest.mark.parametrize("name", FITS)
def test_what_fits_or_is_not_sure_passes(case, name):
    config, values = case(*FITS[name])
    assert next(
        cluster_lines(config, "r", values, "", "")
    ) == f"{values[0]}: every stage fits on its groups: " + ", ".join(
        group.name for group in groups_of(read_values(values), "v")
    )


def test_what_nobody_has_looked_at_is_left_to_the_plan(case):
    """1.5 million samples are assumed of data that are not here, and prompts of 1,500 tokens."""
    for overrides, change, field in (
        ([], {"storage": {"pvc": {"size": "500Gi"}}}, "storage.pvc.size"),
        (["train.gradient_checkpointing=false", "train.groups_per_micro_batch=2"], {}, "resources.train.workers"),
    ):
        config, values = case(overrides, change)
        written = read_values(values)
        load = Workload(config, recipe_sizes(config), assumed(config), groups_of(written, "v"))
        assert [problem.path for problem in fit_problems(load, sizes_of_volumes(written))] == [field]
        assert list(cluster_lines(config, "r", values, "", ""))


def test_what_could_not_be_compared_is_said(case):
    overrides = [
        "student.path=s3://bucket/student",
        "curriculum[0].path=/models-of-ours/t",
        "curriculum[0].gpus_per_engine=1",
    ]
    config, values = case(overrides, groups(generate={"acceleratorType": "", "nodeSelector": UNSAID}))
    _, *said = cluster_lines(config, "r", values, "", "")
    assert said == [
        f"r: curriculum[0].path = /models-of-ours/t: is on no volume of {values[0]}; it must be in the image",
        f"{values[0]}: nothing names the GPUs of generate, so models were not compared with their memory; set acceleratorType",
        "r: not compared with GPUs and disks, since their sizes are not known here: s3://bucket/student, /models-of-ours/t",
    ]


def test_a_gpu_that_nothing_names_is_never_too_small(case):
    overrides = ["curriculum[0].gpus_per_engine=1"]
    for change, refused in (({"acceleratorType": ""}, False), ({"acceleratorType": "L4"}, True)):
        config, values = case(overrides, groups(generate={"nodeSelector": UNSAID, **change}))
        if refused:
            with pytest.raises(RecipeError, match=r"curriculum\[0\]\.gpus_per_engine = 1"):
                list(cluster_lines(config, "r", values, "", ""))
        else:
            assert list(cluster_lines(config, "r", values, "", ""))


def test_a_folder_that_is_here_is_weighed_by_its_files(case):
    tiny = str(ROOT / "models/tiny/student")
    config, values = case([f"student.path={tiny}"], {"storage": {"pvc": {"size": "1Mi"}}})
    with pytest.raises(RecipeError, match=r"storage\.pvc\.size = 0\.000976562Gi: the run directory takes \d+\.\d MB"):
        list(cluster_lines(config, "r", values, "", ""))


ANYWHERE = ["resources.train.labels={}", "resources.train.workers=8"]
SEVERAL = {  # groups beside each other that the gang may take -> whether it is refused, since it fits on none of them
    "one is large enough": ({"generate": {"acceleratorType": "L4", "nodeSelector": UNSAID, "maxReplicas": 9}}, False),
    "none is": ({name: {"acceleratorType": "L4", "nodeSelector": UNSAID} for name in ("generate", "train")}, True),
    "one has no name": ({"train": {"acceleratorType": "L4", "nodeSelector": UNSAID}, "generate": {"acceleratorType": "", "nodeSelector": UNSAID}}, False),
    "one has the disk": ({"generate": {"scratchGi": 1, "maxReplicas": 9}}, False),
    "none has the disk": ({name: {"scratchGi": 1} for name in ("generate", "train")}, True),
    "one has the memory": ({"generate": {"memoryGi": 80, "maxReplicas": 9}}, False),
}  # fmt: skip


@pytest.mark.parametrize("name", SEVERAL)
def test_where_ray_may_choose_all_that_it_may_take_must_be_too_small(case, name):
    change, refused = SEVERAL[name]
    config, values = case(
        [
            *ANYWHERE,
            "curriculum[0].gpus_per_engine=4",
            "generate.mix.teacher=0",
            "evaluate.teachers=false",
            "score.judge={type: rule}",
        ],
        groups(**change),
    )
    if refused:
        with pytest.raises(RecipeError, match=r"resources\.train\.workers = 8|scratchGi = 1"):
            list(cluster_lines(config, "r", values, "", ""))
    else:
        assert list(cluster_lines(config, "r", values, "", ""))


def test_storage_of_another_kind_is_refused_with_the_rest(case):
    config, values = case(["storage=s3://bucket/runs"], {"modelCache": {"sizeGi": 100}})
    with pytest.raises(RecipeError) as caught:
        list(cluster_lines(config, "r", values, "", ""))
    assert [problem.path for problem in caught.value.problems] == ["storage", "modelCache.sizeGi"]
