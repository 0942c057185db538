"""A study's runs in order, what they share, what fails and what goes on; and what came out, beside the paper."""

import io
import statistics
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from masters import cli, cli_study
from masters.benchmarks import comparing
from masters.config.load import load_recipe
from masters.config.study import InPaper, load_study
from masters.data.storage import Storage
from masters.pipeline import planned_manifests
from masters.reporting.progress import Screen
from masters.reporting.statistics import Interval
from masters.study.findings import Cost, change_of, find, verdict
from masters.study.report import NUMBERS, PAGE, PICTURE, study_table, verdict_lines, write_report
from masters.study.running import run_study
from masters.study.sharing import SHARED, plan_study, step_of, steps_of
from masters.training.trio import objective_of
from tests.unit.study.finished import STUDY, finish, right

ROOT = Path(__file__).parents[3]
NUMBER = {"naive": 4, "masked": 6, "masters": 12, "again": 4}
"""Questions that each row's students win; a seed adds itself."""
BEFORE_TRAIN = ("prepare", "mask", "generate", "score")


class Runs:
    """Stands for `masters run`: what was started, which stages each made; some fail, or are interrupted."""

    def __init__(self):
        self.started, self.made, self.lenders = [], {}, {}
        self.fails, self.interrupted, self.stages = {}, (), 7

    def __call__(self, recipe, overrides):
        name = recipe.stem
        self.started.append(name)
        self.lenders[name] = dict(one.split("=") for one in overrides).get("from_run")
        if name in self.interrupted:
            return 130
        row, seed = name.rsplit("-", 1)
        stages = self.fails.get(name, 7)
        self.made[name] = tuple(finish(recipe, overrides, right(NUMBER[row] + int(seed)), stages))
        return 1 if name in self.fails else 0


def write(folder, more="evaluate.teachers=false", seeds="1"):
    file = folder / "small.yaml"
    file.write_text(STUDY.format(folder=folder / "runs", root=ROOT, more=more, seeds=seeds))
    return file


@pytest.fixture(autouse=True)
def in_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture
def written(tmp_path):
    return lambda *more, **others: write(tmp_path, *more, **others)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A study of three seeds that ran to its end: its file, what was told before, what was started, and how it ended."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        file, runs = write(tmp_path_factory.mktemp("whole"), seeds="1, 2, 3"), Runs()
        told = {step.planned.run.name: step for step in steps_of(plan_study(load_study(file)))}
        return file, told, runs, run(file, runs)


def run(file, runs):
    study = load_study(file)
    planned = plan_study(study)
    ended = run_study(study, planned, runs, Screen(io.StringIO()))
    return study, planned, ended


def found_by(study, planned, ended):
    return find(study, planned, {end.name: end.words for end in ended if not end.done})


def test_runs_share_stages_and_are_not_started_again(whole):
    file, told, runs, (_, _, ended) = whole
    assert all(end.done for end in ended)
    assert runs.started == [f"{row}-{seed}" for seed in (1, 2, 3) for row in NUMBER]
    assert runs.made["naive-1"] == (*SHARED, "report")
    assert (runs.lenders["masters-2"], runs.made["masters-2"]) == ("masked-2", ("train", "evaluate", "report"))
    assert (runs.lenders["naive-2"], told["naive-2"].borrows) == ("naive-1", ("mask",))
    for name, step in told.items():
        assert set(step.does) == set(runs.made[name]) - {"report"}, name
        assert step.lender == runs.lenders[name]
    later = Runs()
    *_, ended = run(file, later)
    assert not later.started
    assert all(end.done for end in ended)


def test_no_mask_throughout_is_the_naive_run_exactly(written):
    digests = {one.run.name: one.digests for one in plan_study(load_study(written()))}
    assert [name for name in SHARED if digests["again-1"][name] == digests["naive-1"][name]] == list(SHARED)
    assert digests["masked-1"]["generate"] != digests["naive-1"]["generate"]


def test_a_run_that_fails_is_told_and_the_others_go_on(written):
    runs = Runs()
    runs.fails = {"masked-1": 3}
    file = written(seeds="1, 2")
    study, planned, ended = run(file, runs)
    assert [end.name for end in ended if not end.done] == ["masked-1"]
    assert len(runs.started) == 8
    assert ended[1].words.startswith("failed with status 1 after ")
    assert ended[1].words.endswith(f"masters logs {planned[1].directory.uri}")
    assert runs.lenders["masters-1"] == "masked-1"  # what it has done is lent all the same
    assert runs.made["masters-1"] == ("score", "train", "evaluate", "report")
    findings = found_by(study, planned, ended)
    masked, masters = findings.rows[1:3]
    assert list(masked.scores) == list(masters.change.by_seed) == [2]
    assert masked.remarks == (f"seed 1: {ended[1].words}",)
    assert masters.remarks == ("seed 1: masked has no result",)
    later = Runs()
    run(file, later)
    assert later.started == ["masked-1"]


def test_only_what_is_done_is_lent(written):
    masked, masters = plan_study(load_study(written()))[1:3]
    step = step_of(masters, [(masked, ("prepare", "mask", "generate"))])
    assert (step.lender, step.borrows) == ("masked-1", ("prepare", "mask", "generate"))
    assert step.does == ("score", "train", "evaluate")
    assert step_of(masters, [(masked, ())]).lender is None


def test_a_reward_is_of_the_objective_and_of_trains_digest_alone():
    digests = []
    for more in ((), ("train.reward=both",), ("train.reward=distill",)):
        config = load_recipe("recipes/tiny.yaml", more)
        planned = planned_manifests(config)
        digests.append({name: planned[name].digest for name in SHARED})
        assert objective_of(config.train, 9).reward == config.train.reward
        assert ("train.reward" in planned["train"].parts) == ("train.reward=distill" in more)
    assert digests[0] == digests[1]
    assert [name for name in SHARED if digests[0][name] != digests[2][name]] == ["train", "evaluate"]


def test_an_end_without_a_result_is_no_success(written):
    runs = Runs()
    study = load_study(written())
    planned = plan_study(study)[:1]
    ended = run_study(study, planned, lambda *_: 0, Screen(io.StringIO()))
    assert ended[0].words.startswith("ended without a result of this recipe after")
    assert not ended[0].done
    assert not runs.started


def test_an_interrupted_study_stops_and_continues(written):
    runs = Runs()
    runs.interrupted = ("masters-1",)
    with pytest.raises(KeyboardInterrupt):
        run(written(), runs)
    assert runs.started == ["naive-1", "masked-1", "masters-1"]
    later = Runs()
    run(written(), later)
    assert later.started == ["masters-1", "again-1"]


def test_another_recipe_makes_a_run_anew_from_where_it_differs(written):
    run(written(), Runs())
    changed, later = written("evaluate.teachers=false, train.lr=1e-4"), Runs()
    steps = list(steps_of(plan_study(load_study(changed))))
    assert {step.has for step in steps} == {BEFORE_TRAIN}
    assert [step.does for step in steps] == [("train", "evaluate")] * 3 + [()]
    run(changed, later)
    assert len(later.started) == 4


def test_differences_are_those_of_compare(whole):
    *_, (study, planned, ended) = whole
    findings = found_by(study, planned, ended)
    naive, _, masters, again = findings.rows
    directories = {one.run.name: one.directory.uri for one in planned}
    for seed in (1, 2, 3):
        pair = [comparing.examined(directories[f"{row}-{seed}"]) for row in ("masked", "masters")]
        assert masters.change.by_seed[seed] == comparing.compare(*pair).rows[0].difference
    assert masters.change.over_questions.value == pytest.approx(6 / 40)
    assert masters.mean == pytest.approx(statistics.mean((20 + 12 + seed) / 40 for seed in (1, 2, 3)))
    assert masters.spread == pytest.approx(1 / 40)
    assert [naive.change.by_seed[seed].value for seed in (1, 2, 3)] == [pytest.approx((4 + s) / 40) for s in (1, 2, 3)]
    assert naive.change.over_seeds.low == pytest.approx(6 / 40 - 4.302653 / 40 / 3**0.5)
    assert again.change.both.value == 0
    assert (naive.verdict, again.verdict) == ("a difference", "no difference that shows")
    assert (findings.measure, findings.questions, findings.seeds) == ("own split", 40, (1, 2, 3))
    assert naive.costs[1] == Cost(300, 200)  # without the labels, which nobody generated
    assert (masters.equal, naive.equal) == ("equal steps; equal generated tokens", "")


def interval(value, low, high):
    return Interval(value, low, high, 100)


SHOWS = {1: interval(0.02, 0.01, 0.03), 2: interval(0.021, 0.01, 0.03)}
UP = InPaper(where="T", change=0.4)
VERDICTS = {
    "the sign shows": (SHOWS, UP, "reproduced: the paper's sign"),
    "as a sign": (SHOWS, InPaper(where="T", change="+"), "reproduced: the paper's sign"),
    "the other sign": (
        SHOWS,
        InPaper(where="T", change="-"),
        "not reproduced at this scale: the sign is +, the paper's -",
    ),
    "seeds differ": (
        {1: interval(0.01, 0.005, 0.015), 2: interval(0.03, 0.02, 0.04)},
        UP,
        "not reproduced at this scale: the interval holds 0",
    ),
    "questions are few": (
        {1: interval(0.02, -0.01, 0.05), 2: interval(0.02, -0.01, 0.05)},
        UP,
        "not reproduced at this scale: the interval holds 0",
    ),
    "both": (
        {1: interval(-0.02, -0.05, 0.01)},
        UP,
        "not reproduced at this scale: the interval holds 0, and the sign is -, the paper's + (one seed)",
    ),
    "one seed": ({1: SHOWS[1]}, UP, "reproduced: the paper's sign (one seed)"),
    "no paper": (SHOWS, None, "a difference"),
    "the paper sees none": (SHOWS, InPaper(where="T", change=0.0), "a difference"),
    "a value only": (
        {1: interval(0.0, -0.1, 0.1)},
        InPaper(where="T", value=5.0),
        "no difference that shows (one seed)",
    ),
}


@pytest.mark.parametrize("what", VERDICTS)
def test_verdicts(what):
    by_seed, paper, told = VERDICTS[what]
    assert verdict(change_of(by_seed), paper) == told


def test_an_interval_holds_questions_and_seeds():
    change = change_of({1: interval(0.1, 0.0, 0.2), 2: interval(0.3, 0.1, 0.4)})
    assert change.over_questions == Interval(pytest.approx(0.2), pytest.approx(0.05), pytest.approx(0.3), 200)
    assert (change.over_seeds.low, change.over_seeds.high) == (-1.0, 1.0)
    assert (change.both.low, change.both.high) == (-1.0, 1.0)
    assert change_of({1: interval(0.1, 0.0, 0.2)}).both == interval(0.1, 0.0, 0.2)


def test_unequal_compute_is_told(written):
    runs = Runs()

    def start(recipe, overrides):
        if recipe.stem.startswith("masters"):
            finish(recipe, overrides, right(9), tokens={"student": 400})
            return 0
        return runs(recipe, overrides)

    study, planned, ended = run(written(), start)
    findings = found_by(study, planned, ended)
    assert findings.rows[2].unequal == {"generated tokens": (400, 200)}
    assert findings.rows[2].equal == "equal steps; 400 generated tokens, 200 there"


def test_the_report_says_it_all(whole, tmp_path):
    *_, (study, planned, _) = whole
    missing, folder = {"naive-3": "failed with status 1"}, Storage(str(tmp_path))
    findings = find(study, planned, missing)
    write_report(findings, missing, folder)
    page, numbers = folder.read(PAGE).decode(), folder.read_json(NUMBERS)
    assert folder.read(PICTURE).startswith(b"\x89PNG")
    assert [row["verdict"] for row in numbers["rows"]] == [row.verdict for row in findings.rows]
    assert numbers["rows"][2]["interval"]["value"] == pytest.approx(6 / 40)
    assert numbers["missing"] == missing
    for words in ("failed with status 1", "Table 5d", "+15.0 [", "seed 3: naive has no result", "not in the paper"):
        assert words in page
    assert "<script" not in page
    lines = verdict_lines(findings)
    assert any(line.startswith("masked: not reproduced at this scale: the interval holds 0") for line in lines)
    screen = io.StringIO()
    Screen(screen).table(study_table(findings))
    assert "small: own split, 40 questions a student, 3 seeds" in screen.getvalue()


def test_the_command(written, monkeypatch):
    runs, commands = Runs(), []
    runs.fails = {"masked-1": 3}

    def wait(command):
        commands.append(command)
        recipe, *rest = command[4:]
        return runs(Path(recipe), [word for word in rest if word != "--set"])

    monkeypatch.setattr(cli_study, "_waited_for", wait)
    file = str(written(seeds="1"))
    said = CliRunner().invoke(cli.app, ["study", file, "--dry-run"])
    assert said.exit_code == 0
    assert "masters-1: borrows prepare, mask, generate, score of masked-1; does train, evaluate\n" in said.output
    assert not commands
    said = CliRunner().invoke(cli.app, ["study", file])
    assert said.exit_code == 1
    assert "error    1 of 4 runs have no result: masked-1" in said.output
    assert commands[0][3] == "run"
    runs.fails, runs.interrupted = {}, ("masked-1",)
    said = CliRunner().invoke(cli.app, ["study", file])
    assert said.exit_code == 130
    assert f"Continue: masters study {file}" in said.output
    runs.interrupted = ()
    said = CliRunner().invoke(cli.app, ["study", file])
    assert said.exit_code == 0, said.output
    count = len(commands)
    said = CliRunner().invoke(cli.app, ["study", file, "--dry-run"])
    assert said.output.count(": done\n") == 4
    assert len(commands) == count
    refused = CliRunner().invoke(cli.app, ["study", file, "--address", "http://h:1", "--release", "r"])
    assert "--address and --release name a cluster twice" in str(refused.exception)


def test_on_a_cluster_each_run_is_a_job(written, monkeypatch):
    commands = []
    monkeypatch.setattr(cli_study, "_waited_for", lambda command: commands.append(command) or 1)
    CliRunner().invoke(cli.app, ["study", str(written()), "--address", "http://h:1"])
    assert {(command[3], *command[-2:]) for command in commands} == {("submit", "--address", "http://h:1")}


ENDINGS = {
    "well": ("", 0),
    "badly": ("raise SystemExit(3)", 3),
    "told to stop": ("import os, signal, time; os.kill(os.getppid(), signal.SIGTERM); time.sleep(60)", 130),
    "interrupted, and takes its time": (
        "import os, signal, time; os.kill(os.getppid(), signal.SIGINT); time.sleep(0.5)",
        130,
    ),
}


@pytest.mark.parametrize("how", ENDINGS)
def test_how_a_run_ends(how):
    script, status = ENDINGS[how]
    began = time.monotonic()
    assert cli_study._waited_for([sys.executable, "-S", "-c", script]) == status
    assert (time.monotonic() - began >= 0.5) == ("its time" in how)
