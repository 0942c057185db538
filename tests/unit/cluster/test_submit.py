"""What is uploaded, what is shown, and how a text that comes in pieces becomes lines."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from masters import pipeline
from masters.cluster import commands, submit
from masters.cluster.nodes import NodeLife
from masters.config.load import read_recipe
from masters.config.portable import local_paths, storage_problems
from masters.reporting.progress import Screen


def test_stages_are_the_pipelines():
    assert pipeline.NAMES == submit.STAGES


def test_the_command_of_a_job():
    assert submit.entrypoint("my.yaml") == "python -m ray_jobs.pipeline my.yaml"
    assert submit.entrypoint("a b.yaml", ["x=$HOME"], "mask") == "python -m ray_jobs.mask 'a b.yaml' 'x=$HOME'"
    with pytest.raises(ValueError, match=r"--stage masks: no such stage. Stages: prepare, mask,"):
        submit.entrypoint("my.yaml", stage="masks")


def test_the_recipe_is_uploaded_and_nothing_else(tmp_path):
    recipe = tmp_path / "my.yaml"
    recipe.write_text("name: x\n")
    (tmp_path / ".env").write_text("secret")
    with submit.upload_folder(recipe) as folder:
        assert [path.name for path in Path(folder).iterdir()] == ["my.yaml"]
    assert not Path(folder).exists()


def test_what_a_recipe_extends_is_uploaded_within_it(tmp_path):
    (tmp_path / "_base.yaml").write_text(
        "seed: 3\nstorage: s3://b/runs\ntrain: {lr: 1e-5, betas: [0.5, 0.75]}\nname: no\n"
    )
    recipe = tmp_path / "my.yaml"
    recipe.write_text("extends: _base.yaml\ntrain: {lr: 1e-6}\n")
    with submit.upload_folder(recipe) as folder:
        (uploaded,) = Path(folder).iterdir()
        assert read_recipe(uploaded) == read_recipe(recipe)
        assert read_recipe(uploaded)["train"] == {"lr": 1e-6, "betas": [0.5, 0.75]}
        assert read_recipe(uploaded)["name"] == "my"
        assert "extends:" not in uploaded.read_text()


def test_of_a_checkout_ray_uploads_code_and_recipes_only(tmp_path):
    """By Ray's own packaging, which reads .rayignore."""
    from ray._private.runtime_env.packaging import create_package
    from ray._private.runtime_env.working_dir import upload_working_dir_if_needed

    root, checkout, package = Path(__file__).parents[3], tmp_path / "checkout", tmp_path / "package.zip"
    tracked = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True, check=True).stdout.split()
    for name in [name for name in tracked if (root / name).is_file()]:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / name, checkout / name)
    for name in ("my.yaml", ".git/config", "runs/mine/run.json", "masters/__pycache__/x.pyc", ".env"):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text("x")

    def pack(folder, excludes):
        create_package(folder, package, include_gitignore=True, excludes=excludes)

    upload_working_dir_if_needed({"working_dir": str(checkout)}, include_gitignore=True, upload_fn=pack)
    names = set(zipfile.ZipFile(package).namelist())
    needed = {
        name for name in tracked if name.startswith(("masters/", "ray_jobs/", "recipes/")) and (root / name).is_file()
    }
    assert names == needed | {"pyproject.toml", "my.yaml"}
    assert package.stat().st_size < 2 << 20  # the code itself has 1.1 MB


def test_an_upload_that_is_too_big_names_the_biggest_files(tmp_path):
    for name, size in (("small", 10), ("big.parquet", 3 << 20), ("bigger.bin", 5 << 20), ("tiny", 1), ("mid", 1000)):
        (tmp_path / name).write_bytes(b"x" * size)
    with pytest.raises(
        ValueError, match=r"8.0 MB, 1 MB is the most.*Biggest: bigger.bin \(5.0 MB\), big.parquet \(3.0 MB\), mid"
    ):
        submit.check_size(str(tmp_path))
    recipe = tmp_path / "bigger.bin"
    with pytest.raises(ValueError, match=r"upload has 5.0 MB.*bigger.bin"), submit.upload_folder(recipe):
        pass


@pytest.mark.parametrize(
    "pieces",
    [
        ["a\nb\nc"],
        ["a", "\nb\n", "c"],
        ["a\nb", None, "a\nb\n", "c"],
        ["a\nb\n", None, "a\nb\nc"],
        ["a\n", None, "a", None, "a\nb\nc"],
    ],
)
def test_lines_are_shown_once_however_the_text_comes(pieces):
    shown = []
    lines = submit._Lines(shown.append)
    for piece in pieces:
        lines.start_again() if piece is None else lines.take(piece)
    assert shown == ["a", "b"]
    lines.finish()
    assert shown == ["a", "b", "c"]


class Client:
    """Of a job whose connection breaks now and then."""

    def __init__(self, *attempts, log="a\nb\nc\n"):
        self.attempts, self.log, self.statuses = list(attempts), log, 0

    async def tail_job_logs(self, job):
        text, broken = self.attempts.pop(0)
        yield text
        if broken:
            raise RuntimeError("WebSocket connection closed unexpectedly")

    def get_job_status(self, job):
        return SimpleNamespace(is_terminal=lambda: not self.attempts, value="SUCCEEDED")

    def get_job_logs(self, job):
        return self.log


@pytest.fixture
def no_sleep(monkeypatch):
    monkeypatch.setattr(submit.time, "sleep", lambda _: None)


def test_following_survives_broken_connections_and_misses_no_line(no_sleep):
    shown = []
    client = Client(("a\n", True), ("a\nb\n", False), ("", True), ("a\n", False))
    assert submit.follow(SimpleNamespace(client=client), "job", shown.append) == "SUCCEEDED"
    assert shown == ["a", "b", "c"]


def test_following_gives_up_after_several_attempts(no_sleep):
    client = Client(*[("", True)] * 20)
    with pytest.raises(ConnectionError, match="lost sight of job"):
        submit.follow(SimpleNamespace(client=client), "job", print)


@pytest.mark.parametrize(
    ("pending", "line"),
    [({"generate": 2}, "generate 1 up, 2 pending"), (ConnectionError("no autoscaler"), "generate 1 up")],
)
def test_status_shows_the_pending_workers_where_it_can(monkeypatch, capsys, pending, line):
    def read_pending(access):
        if isinstance(pending, Exception):
            raise pending
        return pending

    monkeypatch.setattr(submit, "read_nodes", lambda access: [NodeLife("generate", alive=True, taken=False, hours=1)])
    monkeypatch.setattr(submit, "read_pending", read_pending)
    job = SimpleNamespace(submission_id="job", status=SimpleNamespace(value="RUNNING"), message="", metadata={}, entrypoint="x",
                          start_time=0, end_time=0)  # fmt: skip
    access = SimpleNamespace(client=SimpleNamespace(get_job_logs=lambda _: ""))
    submit.show_status(access, job, Screen(), {})
    (said,) = (one for one in capsys.readouterr().out.splitlines() if one.startswith("nodes"))
    assert said.removeprefix("nodes").strip() == line


def test_whoever_loses_sight_of_a_job_is_told_how_to_see_it_again(no_sleep):
    access = SimpleNamespace(client=Client(*[("", True)] * 20))
    with pytest.raises(ValueError, match=r"lost sight of job: .*nothing was done to it.* masters logs job -f -n a "):
        commands._follow(access, "job", " -n a --release b", verbose=False)


def test_a_token_that_is_refused_is_not_tried_again(no_sleep):
    from ray.exceptions import AuthenticationError

    client = Client(("", False), ("", False))
    client.get_job_status = lambda job: (_ for _ in ()).throw(AuthenticationError("no"))
    with pytest.raises(AuthenticationError):
        submit.follow(SimpleNamespace(client=client), "job", print)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("\x1b[1mgenerate \x1b[0m 12/40 questions", True),
        ("error    my.yaml: train.lr = -1: must be above 0.", True),
        ("  student (yours)     70.8         ± 1.9", True),
        ("2026-01-01 10:00:00,123\tINFO worker.py:1879 -- Connected to Ray cluster.", False),
        ("\x1b[36m(ShardWorker pid=123, ip=10.0.0.1)\x1b[0m loading", False),
        ("INFO 01-01 10:00:00 [core.py:58] Initializing a V1 LLM engine", False),
        ("[2026-01-01 10:00:00,000 W 1 2] gcs.cc:1: x", False),
        ("", False),
    ],
)
def test_what_others_log_is_left_out(line, shown):
    assert submit.of_masters(line) is shown


def test_the_last_thing_that_each_stage_said():
    log = [
        "\x1b[1mprepare  \x1b[0m 40 samples",
        "generate  1/9 questions",
        "noise generate",
        "generate  5/9 questions",
        "(x pid=1) mask 3",
    ]
    assert submit.stage_lines(log) == {"prepare": "40 samples", "generate": "5/9 questions"}


def jobs(*rows):
    listed = [
        SimpleNamespace(submission_id=job, metadata={"run": run}, start_time=start, type="SUBMISSION")
        for job, run, start in rows
    ]
    return SimpleNamespace(name="here", client=SimpleNamespace(list_jobs=lambda: listed))


def test_a_job_is_found_by_id_and_by_run():
    access = jobs(("raysubmit_1", "x", 1), ("raysubmit_2", "x", 2), ("raysubmit_3", "y", 3), (None, "x", 9))
    assert submit.find_job(access).submission_id == "raysubmit_3"
    assert submit.find_job(access, "x").submission_id == "raysubmit_2"
    assert submit.find_job(access, "raysubmit_1").submission_id == "raysubmit_1"
    with pytest.raises(ValueError, match=r"z: no such job on here. Latest: raysubmit_3, raysubmit_2"):
        submit.find_job(access, "z")


@pytest.mark.parametrize(
    ("storage", "count"), [("runs", 1), ("./runs", 1), (None, 1), ("/mnt/runs", 0), ("s3://b/runs", 0), ("gs://b", 0)]
)
def test_storage_must_outlive_the_job(storage, count):
    problems = list(storage_problems({"storage": storage} if storage else {}))
    assert len(problems) == count
    assert all("storage = " in str(problem) and "Use s3://" in str(problem) for problem in problems)
    mirrored = list(storage_problems({"storage": "/mnt/runs", "hub_mirror": storage}))
    assert len(mirrored) == (count if storage else 0)
    assert all("hub_mirror = " in str(problem) for problem in mirrored)


def test_paths_of_this_machine_are_said(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    data = {
        "student": {"path": "model"},
        "curriculum": [{"path": "owner/model"}, {"path": str(tmp_path / "model")}],
        "prepare": {"sources": [{"image_root": "model", "path": "none.jsonl"}]},
    }
    lines = list(local_paths(data))
    assert [line.split(" = ")[0] for line in lines] == [
        "student.path",
        "curriculum[1].path",
        "prepare.sources[0].image_root",
    ]
    assert lines[0].endswith("by an absolute path")
    assert lines[1].endswith("it must be on the cluster")


def test_the_commands_start_without_torch_vllm_or_pyarrow():
    code = (
        "import sys, masters.cli, masters.cluster.submit, masters.cluster.access, masters.config.placement;"
        "print([m for m in ('ray', 'torch', 'vllm', 'pyarrow', 'numpy') if m in sys.modules]);"
        "from ray.job_submission import JobSubmissionClient;"
        "print([m for m in ('torch', 'vllm', 'transformers', 'deepspeed') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n[]\n"
