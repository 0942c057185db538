"""Done, continued, redone: with stages that only count, in a real run directory."""

import io

import pytest

from masters.config.load import validate
from masters.data.manifests import read_manifest
from masters.data.storage import Storage
from masters.reporting.progress import Screen
from masters.stages.base import Stage, plan, run_stage

RECIPE = {
    "name": "x",
    "student": {"path": "s"},
    "curriculum": [{"alias": "t", "path": "t"}],
    "prepare": {"sources": [{"type": "charts"}]},
}


class Bench:
    def __init__(self, root):
        self.run, self.calls, self.fail = Storage(str(root)), [], False
        first = Stage("first", (), ("a",), lambda c: {"seed": c.seed}, self.execute("first", "a/out"))
        second = Stage("second", ("first",), ("b",), lambda c: {"lr": c.train.lr}, self.execute("second", "b/out"))
        self.stages = (first, second)

    def execute(self, name, output):
        def work(config, run, screen):
            self.calls.append(name)
            if self.fail:
                raise ValueError("broken")
            run.write(output, f"{config.seed} {config.train.lr}".encode())
            return {"rows": 1}, f"{name} worked"

        return work

    def go(self, only=("first", "second"), **changes):
        config = validate({**RECIPE, **changes})
        planned, text = plan(self.stages, config), io.StringIO()
        for stage in self.stages:
            if stage.name in only:
                run_stage(stage, config, self.run, Screen(text), planned)
        return text.getvalue()


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def test_a_finished_stage_is_skipped_with_one_line(bench):
    assert "first worked" in bench.go()
    said = bench.go()
    assert bench.calls == ["first", "second"]
    assert said.count("done (digest") == 2


def test_another_learning_rate_keeps_what_comes_before(bench):
    bench.go()
    said = bench.go(train={"lr": 1e-5})
    assert bench.calls == ["first", "second", "second"]
    assert "lr was 1e-06, is 1e-05" in said


def test_another_seed_redoes_everything_and_says_why(bench):
    bench.go()
    said = bench.go(seed=7)
    assert bench.calls == ["first", "second"] * 2
    assert "seed was 0, is 7" in said
    assert "inputs.first was" in said
    assert bench.run.read("a/out") == b"7 1e-06"


def test_resources_and_storage_change_nothing(bench):
    bench.go()
    bench.go(resources={"generate": {"max_actors": 9}}, storage="elsewhere")
    assert bench.calls == ["first", "second"]


def test_superseded_output_is_kept_and_taken_back(bench):
    bench.go()
    bench.go(train={"lr": 1e-5})
    assert bench.run.read("b/out") == b"0 1e-05"
    said = bench.go()
    assert "was taken back" in said
    assert bench.run.read("b/out") == b"0 1e-06"
    assert bench.calls == ["first", "second", "second"]
    assert len([n for n in bench.run.names("superseded") if n.endswith("b/out")]) == 1


def test_an_unfinished_stage_continues_and_its_time_adds_up(bench):
    bench.fail = True
    with pytest.raises(ValueError, match="broken"):
        bench.go()
    assert read_manifest(bench.run, "first").status == "started"
    bench.fail = False
    said = bench.go()
    assert "first     continuing where it stopped" in said
    assert read_manifest(bench.run, "first").status == "done"


def test_a_stage_alone_needs_inputs_of_the_same_recipe(bench):
    with pytest.raises(ValueError, match="second needs first, which is not done"):
        bench.go(only=("second",))
    bench.go()
    with pytest.raises(ValueError, match=r"of another recipe: seed was 0, is 3\. Run `masters run`"):
        bench.go(only=("second",), seed=3)
