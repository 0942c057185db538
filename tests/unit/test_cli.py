"""The command line, in the process of the test: messages and exit codes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from masters import cli
from masters.cli import guarded, main
from masters.config.load import read_recipe

ROOT = Path(__file__).parents[2]


@pytest.fixture
def masters(monkeypatch, capsys):
    def masters(*arguments: object) -> tuple[int, str]:
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr(sys, "argv", ["masters", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out + captured.err

    return masters


def test_check_takes_several_values_files_and_the_last_wins(masters, tmp_path):
    values, over = tmp_path / "values.yaml", tmp_path / "over.yaml"
    values.write_text("workerGroups: {generate: null, train: null, judge: {maxReplicas: 1, cpus: 4}}")
    over.write_text("workerGroups: {judge: {cpus: 0.5}}\n")
    recipe = ("recipes/tiny.yaml", "--set", "storage=/runs")
    status, said = masters("check", *recipe, "--values", values)
    assert status == 0, said
    assert f"{values}: every stage fits on its groups: judge" in said
    status, said = masters("check", *recipe, "--values", values, "--values", over)
    assert status == 1
    assert 'recipes/tiny.yaml: resources.train.cpus = 1: stage train: group "judge" has 0.5 CPUs a pod.' in said


def test_submit_prints_a_manifest_that_holds_the_charts_cluster(masters, monkeypatch, tmp_path):
    from masters.cluster import kuberay, rayjob

    pod = {"template": {"spec": {"containers": [{"name": "ray"}]}}}
    cluster = {"metadata": {"name": "r", "namespace": "ns"}, "spec": {"headGroupSpec": pod, "workerGroupSpecs": []}}
    asked = []
    monkeypatch.setattr(rayjob, "render_cluster", lambda *arguments: asked.append(arguments) or cluster)
    values = tmp_path / "v.yaml"
    values.write_text("storage: {kind: s3}\nworkerGroups: {judge: {cpus: 4}}\n")
    options = (
        "--manifest",
        "--stage",
        "mask",
        "-n",
        "ns",
        "--release",
        "r",
        "--values",
        values,
        "--set",
        "storage=s3://b/runs",
    )
    status, said = masters("submit", "recipes/tiny.yaml", *options)
    assert status == 0, said
    assert asked == [("r", "ns", [values])]
    (job,) = yaml.safe_load_all(said)
    assert job["metadata"]["name"] == "tiny-mask"
    assert job["spec"]["entrypoint"] == "python -m ray_jobs.mask /etc/masters/recipe/tiny.yaml storage=s3://b/runs"

    def carried(job):
        head = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]
        return head["metadata"]["annotations"]["masters/recipe"]

    assert carried(job) == (ROOT / "recipes/tiny.yaml").read_text()
    over = ROOT / "recipes/paper/qwen3-vl-8b-from-32b.yaml"
    (job,) = yaml.safe_load_all(masters("submit", over, *options)[1])
    (tmp_path / over.name).write_text(carried(job))  # the job finds no base beside it
    assert read_recipe(tmp_path / over.name) == read_recipe(over)
    monkeypatch.setattr(kuberay, "impatience", lambda values, namespace: f"{values['storage']['kind']} {namespace}")
    assert masters("submit", "recipes/tiny.yaml", *options)[1].endswith("\nnote      s3 ns\n")


def test_submit_refuses_storage_that_would_end_with_the_pod(masters):
    status, said = masters("submit", "recipes/tiny.yaml", "--address", "http://127.0.0.1:9")
    assert status == 1
    assert "recipes/tiny.yaml: storage = runs: is relative" in said


def test_a_cluster_is_named_once(masters):
    options = ("--set", "storage=/r", "--address", "http://127.0.0.1:9", "--release", "x")
    status, said = masters("submit", "recipes/tiny.yaml", *options)
    assert status == 1
    assert "--address and --release name a cluster twice" in said


RAY_DATA = """\
Failed to apply UDF transform after 1/1 attempts (total backoff 0.0s).
To change retry attempts, backoff, or which errors are retried, configure `ray.data.DataContext.get_current()` \
(`retried_io_errors` for I/O; `retried_map_errors` and `max_map_retries` for any task) if you believe this to be transient."""
WRAPPED = f"""\x1b[36mray::ReadRange->Map(f)()\x1b[39m (pid=11310, ip=192.0.2.2)
  File "/tmp/task.py", line 5, in f
    raise KeyError("boom")
%s

The above exception was the direct cause of the following exception:

\x1b[36mray::ReadRange->Map(f)()\x1b[39m (pid=11310, ip=192.0.2.2)
ray.exceptions.UserCodeException: UDF failed to process a data block.
{RAY_DATA}"""
CHAIN = """KeyError: 'boom'

The above exception was the direct cause of the following exception:

\x1b[36mray::f()\x1b[39m (pid=15276, ip=192.0.2.2)
RuntimeError: the engine died"""


class TaskError(Exception):
    """As Ray raises it: the trace of another process, and what was raised there."""

    def __init__(self, text, cause):
        super().__init__(text)
        self.cause = cause


class TaskValueError(TaskError, ValueError):
    pass


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (TaskError(WRAPPED % "KeyError: 'boom'", None), "KeyError: 'boom'"),
        (TaskError("a trace\nKeyError: " + repr(f"boom\n{RAY_DATA}"), None), "KeyError: 'boom'"),
        (TaskError(WRAPPED % CHAIN, None), "RuntimeError: the engine died"),
        (TaskError(CHAIN, None), "RuntimeError: the engine died"),
        (TaskValueError("a trace", ValueError(f"x.jsonl: no images.\nGive image_root.\n{RAY_DATA}")), "x.jsonl: no images.\nGive image_root."),
        (ValueError("x.yaml: lr = 0.\n1 problem; nothing was started."), "x.yaml: lr = 0.\n1 problem; nothing was started."),
        (RuntimeError("first\nCUDA error: out of memory"), "RuntimeError: CUDA error: out of memory"),
    ],
)  # fmt: skip
def test_an_error_inside_a_task_shows_its_cause_and_not_rays_settings(error, line, capsys):
    def fail():
        raise error

    with pytest.raises(SystemExit):
        guarded(fail)
    assert capsys.readouterr().err == f"error    {line}\n"


@pytest.mark.parametrize(
    ("command", "again"),
    [
        (["run", "recipes/tiny.yaml"], "masters run recipes/tiny.yaml"),
        (["prepare", "recipes/tiny.yaml", "--set", "train.betas=[0.9, 0.99]"], "masters prepare recipes/tiny.yaml --set 'train.betas=[0.9, 0.99]'"),
    ],
)  # fmt: skip
def test_ctrl_c_names_the_command_that_goes_on(masters, monkeypatch, tmp_path, command, again):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("masters.pipeline.run_stages", interrupt)
    storage = f"storage={tmp_path}"
    status, said = masters(*command, "--set", storage)
    assert status == 130
    assert f"Continue: {again} --set {storage}\n" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--export", "new"], "--ratio: is required with --export. Ratios of big: 0.20, 0.15, 0.10, 0.05, 0.00."),
        (["--export", "new", "--ratio", "0.3"], "--ratio 0.3: big's thresholds were made for 0.20, 0.15"),
        (["--export", "new", "--ratio", "nan"], "--ratio nan: big's thresholds were made for 0.20, 0.15"),
        (["--export", "new", "--ratio", "0.2", "--teacher", "nope"], "--teacher nope: no such teacher. Teachers: big."),
        (["--export", "recipes", "--ratio", "0.2"], "--export recipes: is there already, and is no empty folder."),
        (["--export", "README.md", "--ratio", "0.2"], "--export README.md: is there already, and is no empty folder."),
        (["--ratio", "0.2"], "Add --export FOLDER."),
        (["--teacher", "big"], "Add --export FOLDER."),
    ],
)  # fmt: skip
def test_what_cannot_be_exported_is_refused_before_the_stage(masters, monkeypatch, options, message):
    monkeypatch.setattr(cli, "run_recipe", lambda *_, **__: pytest.fail("the stage was run"))
    status, said = masters("mask", "recipes/tiny.yaml", *options)
    assert status == 1
    assert message in said


def test_a_model_is_not_trained_for_fewer_than_no_steps(masters, tmp_path):
    status, said = masters("tiny", "train", "student", tmp_path / "model", "--steps", "-5")
    assert status == 2
    assert "--steps" in said
    assert not (tmp_path / "model").exists()


def test_init_into_a_folder_that_is_not_there(masters, tmp_path):
    status, said = masters("init", tmp_path / "none" / "x.yaml")
    assert status == 1
    assert "x.yaml: cannot be written: No such file or directory. Name a file in a folder of yours." in said


def test_a_new_recipe_is_fine_once_its_files_are_there(masters, tmp_path):
    recipe, data = tmp_path / "x.yaml", tmp_path / "data.jsonl"
    masters("init", recipe)
    status, said = masters("check", recipe)
    assert status == 1
    assert "prepare.sources[mydata]: data/train.jsonl: no such file or folder. Name a file of data" in said
    data.write_text('{"question": "How many?", "answer": 2}\n')
    places = (f"prepare.sources[{place}].path={data}" for place in range(2))
    status, said = masters("check", recipe, *(word for place in places for word in ("--set", place)))
    assert status == 0, said


def test_a_stage_that_is_refused_leaves_the_record_of_the_run(masters, tmp_path):
    record = tmp_path / "tiny" / "run.json"
    record.parent.mkdir()
    record.write_text("{}")
    status, said = masters("score", "recipes/tiny.yaml", "--set", f"storage={tmp_path}", "--set", "seed=9")
    assert status == 1
    assert "score needs prepare, which is not done" in said
    assert record.read_text() == "{}"


HELP = """
import sys
sys.argv[0] = "masters"
from masters.cli import main
try: main()
except SystemExit: print([m for m in ("torch", "ray", "vllm", "pyarrow", "numpy", "PIL") if m in sys.modules])
"""


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ((), "Masking teacher"),
        (("data",), "Your data, before a run"),
        (("data", "show"), "Show what is understood"),
        (("check",), "Check a recipe"),
        (("show",), "Tell the whole story"),
    ],
)
def test_help_is_instant(command, words):
    def seconds() -> float:
        """Of the processor, which other work on the machine does not lengthen much."""
        before = os.times()
        arguments = [sys.executable, "-c", HELP, *command, "--help"]
        said = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
        after = os.times()
        assert words in said
        assert said.endswith("[]\n")
        return after.children_user + after.children_system - before.children_user - before.children_system

    assert min(seconds() for _ in range(2)) < 1
