"""`masters plan`: what it says, how fast, and what it refuses."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.unit.planning.runs import RECIPE, write_run

ROOT = Path(__file__).parents[3]
PAPER = "recipes/paper/qwen2.5-vl-7b-from-72b.yaml"
VALUES = ("--values", "k8s/chart/ci/paper-qwen.yaml")


def masters(*arguments):
    """(exit status, what was printed)."""
    command = [str(Path(sys.executable).with_name("masters")), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)
    return done.returncode, done.stdout + done.stderr


def numbers(*arguments):
    status, said = masters("plan", *arguments, "--json")
    assert status == 0, said
    return json.loads(said)


def of(plan, stage):
    return next(found for found in plan["stages"] if found["stage"] == stage)


def values_with(tmp_path, **groups):
    """The values of the paper's recipe with other numbers in some groups; `storage` and `modelCache` beside them."""
    data = yaml.safe_load((ROOT / "k8s/chart/ci/paper-qwen.yaml").read_text())
    for name, change in groups.items():
        place = data if name in ("storage", "modelCache") else data["workerGroups"]
        place[name] = {**place[name], **change}
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(data))
    return "--values", tmp_path / "values.yaml"


def test_the_papers_recipe_is_planned_within_two_seconds():
    best = 99.0
    for _ in range(3):  # other tests may have the machine
        began = time.monotonic()
        status, said = masters("plan", PAPER, *VALUES, "--price", "train=32", "--price", "generate=12")
        best = min(best, time.monotonic() - began)
    assert status == 0
    assert best < 2
    table = said.split("\n\n")[1].splitlines()
    rows = {line.split()[0]: line for line in table}
    for stage, on in (
        ("prepare", "judge: 32 CPUs"),
        ("score", "generate: 16 A100-80G"),
        ("train", "train: 16 A100-80G"),
    ):
        assert on in rows[stage]
    assert len({line.index("judge: ") for line in table if "judge: " in line}) == 1
    for words in (
        "1,500,000 questions of 1,500 tokens, 8 answers of 200",
        "11,720 steps",
        "3 checkpoints 299 GB",
        "5 masked copies, 734 GB",
        "generate 17",
        "the paper's number of samples",
        "$ ",
    ):
        assert words in said, words
    assert max(map(len, said.splitlines())) <= 120


def test_nothing_heavy_is_imported():
    code = (
        "import sys; from masters.cli import main; sys.argv = ['masters', 'plan', *sys.argv[1:]]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = {'torch', 'ray', 'transformers', 'vllm', 'deepspeed', 'numpy'} & set(sys.modules)\nassert not heavy, heavy"
    )
    command = [sys.executable, "-c", code, PAPER, *VALUES]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr


def test_the_numbers_follow_from_each_other():
    plan = numbers(PAPER, *VALUES, "--price", "train=32", "--price", "generate=12")
    train = of(plan, "train")
    assert train["gpu_hours"] == pytest.approx(16 * train["seconds"] / 3600)
    assert train["price"] == pytest.approx(2 * 32 * train["seconds"] / 3600)
    assert plan["seconds"] == pytest.approx(sum(stage["seconds"] for stage in plan["stages"]))
    assert plan["price"] == pytest.approx(sum(stage["price"] or 0 for stage in plan["stages"]))
    (pool,) = train["pools"]
    details = pool["details"]
    assert details["computing"] == pytest.approx(
        pool["flops"] / details["steps"] / (16 * 312e12 * 0.27 * details["balance"])
    )
    assert details["gather_teacher"] == pytest.approx(2 * 73_410_777_344 * 15 / 16)
    generate = of(plan, "generate")
    assert [pool["rows"] for pool in generate["pools"]] == [6_000_000, 6_000_000]
    assert generate["seconds"] == max(pool["start"] + pool["work"] for pool in generate["pools"])
    half = numbers(PAPER, *VALUES, "--samples", "750000")
    assert of(half, "generate")["pools"][0]["work"] == pytest.approx(generate["pools"][0]["work"] / 2, rel=0.01)


@pytest.mark.parametrize(
    ("options", "stage", "low", "high"),
    [
        (["--response-tokens", "400"], "generate", 1.2, 2),
        (["--prompt-tokens", "3000"], "generate", 1.3, 2.2),
        (["--samples", "3000000"], "train", 1.99, 2.01),
        (["--set", "train.gradient_checkpointing=false"], "train", 0.9, 0.96),
        (["--set", "generate.mix.teacher=8"], "score", 1.49, 1.51),
        (["--set", "generate.coverage=all"], "generate", 4.9, 5.1),
        (["--set", "score.judge.type=rule"], "score", 0, 0.01),
        (["--set", "score.judge.second_prompt=unclear"], "score", 0.5, 0.9),
        (["--set", "train.groups_per_step=16"], "train", 1.7, 2),
        (["--set", "resources.engine.overlap=false"], "generate", 1.01, 1.5),
    ],
)
def test_what_a_field_costs(options, stage, low, high):
    before, after = (of(numbers(PAPER, *VALUES, *more), stage)["seconds"] for more in ([], options))
    assert low <= after / before <= high


UNFIT = [
    (["--set", "student.gpus_per_engine=1", "--set", "curriculum[0].gpus_per_engine=1"], {},
     "curriculum[0].gpus_per_engine = 1: stage generate: weights of 137 GiB a GPU leave no room", "Use 4."),
    ([], {"train": {"acceleratorType": "L4", "nodeSelector": {}}}, "resources.train.workers = 16: a worker takes", "Set "),
    (["--set", "train.gradient_checkpointing=false", "--set", "train.groups_per_micro_batch=2"], {},
     "resources.train.workers = 16: a worker takes", "Set train.gradient_checkpointing: true"),
    ([], {"storage": {"pvc": {"size": "200Gi"}}}, "storage.pvc.size = 200Gi: the run directory takes 666 GB, of which 3 "
     "checkpoints of 100 GB each", "Use 700Gi, or lower train.keep_checkpoints."),
    ([], {"modelCache": {"sizeGi": 100}}, "modelCache.sizeGi = 100: the models of the recipe take 163 GB", "Use 200."),
    ([], {"train": {"memoryGi": 100}}, "workerGroups.train.memoryGi = 36 beside /dev/shm: its workers keep 68 GiB", "Use 82."),
    ([], {"generate": {"gpusPerPod": 2}}, "curriculum[0].gpus_per_engine = 4: stage generate: group \"generate\" has 2 GPUs", ""),
]  # fmt: skip


@pytest.mark.parametrize(("options", "groups", "said", "remedy"), UNFIT)
def test_what_does_not_fit_is_an_error_with_the_field_to_change(tmp_path, options, groups, said, remedy):
    status, printed = masters("plan", PAPER, *values_with(tmp_path, **groups), *options)
    assert status == 1
    assert "in all" in printed  # the plan is there all the same
    line = next(line for line in printed.splitlines() if said in line)
    assert remedy in line
    assert "nothing was started" in printed


def test_what_is_advised_fits(tmp_path):
    recipe = (PAPER, *VALUES, "--set", "train.gradient_checkpointing=false", "--set", "train.groups_per_micro_batch=2")
    assert masters("plan", *recipe)[0] == 1
    status, printed = masters("plan", *recipe, "--set", "train.gradient_checkpointing=true")
    assert status == 0, printed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((PAPER, "--price", "train=32"), "--price train: no such group. Name one of --values"),
        ((PAPER, *VALUES, "--price", "train"), "--price train: must be GROUP=DOLLARS_PER_HOUR"),
        ((PAPER, "--set", "student.path=someone/else"), "someone/else: is no folder here, and not among the models"),
        ((PAPER, "--from", "no-such-run"), "--from no-such-run: no stage of a run is done there."),
        ((PAPER, "--set", "train.lr=0"), "train.lr = 0"),
    ],
)
def test_mistakes_are_one_line(arguments, said):
    status, printed = masters("plan", *arguments)
    assert status == 1
    assert said in printed
    assert "Traceback" not in printed


def test_a_vague_gpu_is_said(tmp_path):
    _, printed = masters("plan", PAPER, *values_with(tmp_path, train={"acceleratorType": "A100", "nodeSelector": {}}))
    assert '"A100" is taken for 80 GB' in printed
    _, printed = masters(
        "plan", PAPER, *values_with(tmp_path, generate={"acceleratorType": "Gaudi3", "nodeSelector": {}})
    )
    assert "Gaudi3 not in the table: A100-80G taken" in printed
    on_40 = {"cloud.google.com/gke-accelerator": "nvidia-tesla-a100"}
    _, told = masters("plan", PAPER, *values_with(tmp_path, train={"acceleratorType": "A100", "nodeSelector": on_40}))
    assert '"A100" is taken' not in told
    assert "train: 16 A100-40G" in told
    assert "no values file: A100-80G taken" in masters("plan", PAPER)[1]


JUDGES = {
    "model": ({"type": "model", "path": "Qwen/Qwen2.5-VL-7B-Instruct", "gpus_per_engine": 1}, 12_000_000),
    "endpoint": (
        {"type": "endpoint", "base_url": "http://127.0.0.1:9/v1", "model": "m", "requests_per_minute": 60_000,
         "prompt_price": 1.0, "answer_price": 2.0}, 12_000_000),
}  # fmt: skip


@pytest.mark.parametrize("kind", JUDGES)
def test_other_judges(tmp_path, kind):
    judge, rows = JUDGES[kind]
    recipe = {"extends": str(ROOT / PAPER), "score": {"judge": judge}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    plan = numbers(tmp_path / "recipe.yaml", *VALUES)
    (pool,) = of(plan, "score")["pools"]
    assert pool["rows"] == rows
    if kind == "model":
        teacher = of(numbers(PAPER, *VALUES), "score")["gpu_hours"]
        assert of(plan, "score")["gpu_hours"] < 0.25 * teacher
    else:
        assert pool["details"]["requests"] == 24_000_000
        assert pool["work"] == pytest.approx(24_000_000 * 5 / 32)  # its concurrency is the tighter limit
        assert of(plan, "score")["price"] == pytest.approx(12 * (735 * 1.0 + 100 * 2.0))


def test_rows_of_files_that_are_here_are_counted(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "train.jsonl").write_text('{"id": 1}\n' * 123)
    pq.write_table(pa.table({"id": list(range(45))}), tmp_path / "test.parquet")
    sources = [
        {"type": "files", "name": "a", "path": str(tmp_path / "train.jsonl")},
        {"type": "files", "name": "b", "path": str(tmp_path / "test.parquet"), "split": "test"},
        {"type": "charts", "train_images": 10, "test_images": 2},
    ]
    recipe = yaml.safe_load((ROOT / "recipes/tiny.yaml").read_text()) | {"prepare": {"sources": sources}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    lengths = numbers(tmp_path / "recipe.yaml")["lengths"]
    assert lengths["samples"] == {"train": 153, "validation": 0, "test": 51}
    assert lengths["source"].startswith("rows counted in the files")


def test_what_prepare_counted_is_used(tmp_path):
    """Of the run's own directory, without a word."""
    write_run(tmp_path / "tiny", RECIPE, stages=("prepare",))
    lengths = numbers("recipes/tiny.yaml", "--set", f"storage={tmp_path}")["lengths"]
    assert lengths["samples"] == {"train": 9600, "validation": 0, "test": 750}
    assert lengths["prompt_tokens"] == pytest.approx(218_175 / 10_350)
    assert str(tmp_path / "tiny") in lengths["source"]
    other = ("--set", f"storage={tmp_path}", "--set", "prepare.sources[0].train_images=10")
    assert numbers("recipes/tiny.yaml", *other)["lengths"]["samples"]["train"] == 30


def test_benchmarks_are_rows_of_every_model():
    wanted = "evaluate.benchmarks=[{name: MMStar, path: /d}, {name: MMBench_TEST_EN_V11, path: /d, max_tokens: 20}]"
    plans = [numbers(PAPER, *VALUES, *more) for more in ((), ("--set", wanted))]
    before, after = (of(plan, "evaluate") for plan in plans)

    def more(key):
        return sum(pool[key] for pool in after["pools"]) - sum(pool[key] for pool in before["pools"])

    assert more("rows") == 3 * (1500 + 7000)  # of the second about so many; baseline, student, teacher
    tokens = 1500 * (1500 + 200) + 7000 * (1500 + 20)  # as long as the recipe's own; a length cuts
    assert more("tokens") == 3 * tokens
    assert more("start") == 0
    assert after["seconds"] > before["seconds"]
    assert [of(plans[0], other) for other in ("generate", "train")] == [
        of(plans[1], other) for other in ("generate", "train")
    ]
    assert "8,500 rows of 2 benchmarks for every model" in masters("plan", PAPER, *VALUES, "--set", wanted)[1]


def test_labels_alone_are_planned_with_nothing_to_generate():
    options = ("generate.mix={teacher: 0, student: 0, label: 1}", "train.objective=sft")
    status, said = masters("plan", "recipes/tiny.yaml", *(part for option in options for part in ("--set", option)))
    assert status == 0, said
    table, *_, paper = (part for part in said.split("\n\n") if "train" in part)
    assert [line.split()[0] for line in table.splitlines()[1:5]] == ["prepare", "mask", "score", "train"]
    assert "the paper's way" in paper
    assert "generate" not in paper
