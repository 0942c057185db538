"""`masters compare`: two runs' students where they were asked alike; where not, why there is no difference."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.fs as pafs
import pytest
from typer.testing import CliRunner

from masters import cli
from masters.benchmarks.comparing import compare, examined
from masters.benchmarks.intervals import average_gain, gain
from masters.data import storage
from masters.data.manifests import new_manifest, read_manifest, write_manifest
from masters.data.samples import write_samples
from masters.data.storage import Storage
from masters.data.tables import PREDICTIONS, SAMPLES
from masters.reporting.benchmarks import RESULTS
from masters.reporting.statistics import accuracy_interval, paired_interval
from tests.unit.benchmarks.test_intervals import circular, scored

ROOT = Path(__file__).parents[3]
OWN = {"first": [True] * 9 + [False] * 11, "second": [True] * 6 + [False] * 3 + [True] * 7 + [False] * 4}
"""Right answers to the own split; two questions an image."""
HITS = {
    "MMStar": ([True, False] * 20, [True, True, True, False] * 10),
    "ChartQA_TEST": ([False] * 30, [True] * 3 + [False] * 27),
    "MMBench_DEV_EN": ([True] * 6 + [False] * 6, [True] * 9 + [False] * 3),
}
PARTS = {
    "evaluate": {"split": "test", "max_tokens": 16, "shard_size": 3, "teachers": True},
    "engine": {"max_model_len": 2048},
    "numeric_tolerance": 0.05,
    "benchmarks": {name: {"md5": f"md5 of {name}", "prompt": "generic", "max_tokens": 9} for name in HITS},
    "max_image_pixels": 1000,
}


def rotated(hits):
    """(index, cluster, right) of two rotations of each question, two questions an image; a wrong one is wrong in the second."""
    return [
        (str(place + 1_000_000 * turn), f"c{place // 2}", hit or not turn)
        for turn in range(2)
        for place, hit in enumerate(hits)
    ]


def plain(hits):
    return [(str(place), f"c{place // 2}", hit) for place, hit in enumerate(hits)]


def write_run(folder, which):
    """A run as its evaluate leaves it, for what `compare` reads."""
    run, place = Storage(str(folder)), ("first", "second").index(which)
    run.write_json("run.json", {"recipe": {}})
    write_manifest(run, replace(new_manifest("evaluate", PARTS), status="done"))
    rows = [
        {"sample_id": str(i), "image_ids": [f"{which}/i{i // 2}.png"], "question": f"{i}?", "answers": ["x"]}
        for i in range(20)
    ]
    write_samples(run, "test", pa.Table.from_pylist(rows, schema=SAMPLES))
    answers = [{"sample_id": str(i), "correct": right} for i, right in enumerate(OWN[which])]
    run.write_table("evaluation/student/predictions.parquet", pa.Table.from_pylist(answers, schema=PREDICTIONS))
    accuracy = vars(accuracy_interval(OWN[which], [i // 2 for i in range(20)]))
    run.write_json("evaluation/student/scores.json", {"accuracy": accuracy})
    found = []
    for name, hits in HITS.items():
        clusters = [f"c{i // 2}" for i in range(len(hits[place]))]
        score = (circular if name.startswith("MMBench") else scored)(name, hits[place], clusters)
        told = {"value": score.value, "interval": vars(score.interval), "remarks": []}
        found.append({"name": name, "scores": {"student": told}})
        by_row = (rotated if name.startswith("MMBench") else plain)(hits[place])
        table = [
            {
                "sample_id": index,
                "cluster": cluster,
                "value": float(right),
                "by": "rules",
                "extracted": "A",
                "asked": False,
            }
            | {"truncated": False, "text": "A"}
            for index, cluster, right in by_row
        ]
        run.write_table(f"evaluation/benchmarks/{name}/student.parquet", pa.Table.from_pylist(table))
    run.write_json(RESULTS, {"judge": "", "benchmarks": found})
    return run


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared")
    return [write_run(folder / which, which) for which in OWN]


@pytest.fixture
def runs(written, tmp_path):
    """Copies that a test may change."""
    for which, run in zip(OWN, written, strict=True):
        shutil.copytree(run.local_path, tmp_path / which)
    return [Storage(str(tmp_path / which)) for which in OWN]


def compared(runs):
    return compare(*(examined(run.uri) for run in runs))


def change_parts(run, **changed):
    """With dots written as two underscores; None takes a part away."""
    manifest = read_manifest(run, "evaluate")
    parts = {**manifest.parts, **{key.replace("__", "."): value for key, value in changed.items()}}
    write_manifest(run, replace(manifest, parts={key: value for key, value in parts.items() if value is not None}))


def change_rows(run, name, change):
    table = f"evaluation/benchmarks/{name}/student.parquet"
    run.write_table(table, pa.Table.from_pylist([change(dict(row)) for row in run.read_table(table).to_pylist()]))


def change_samples(run, change):
    rows = [change(dict(row)) for row in run.read_table("samples/test-000000.parquet").to_pylist()]
    write_samples(run, "test", pa.Table.from_pylist(rows, schema=SAMPLES))


def change_results(run, change):
    run.write_json(RESULTS, change(run.read_json(RESULTS)))


def test_differences_are_the_houses(runs):
    found = compared(runs)
    assert [row.name for row in found.rows] == ["test", *HITS]
    assert not any(row.refused or row.remarks for row in found.rows)
    clusters = [f"i{i // 2}.png" for i in range(20)]
    assert found.rows[0].difference == paired_interval(OWN["first"], OWN["second"], clusters)
    pairs = []
    for row in found.rows[1:]:
        clusters = [f"c{i // 2}" for i in range(len(HITS[row.name][0]))]
        pair = [
            (circular if row.name.startswith("MMBench") else scored)(row.name, hits, clusters)
            for hits in HITS[row.name]
        ]
        assert row.difference == gain(*pair)
        assert (row.first, row.second) == tuple(score.interval for score in pair)
        assert row.common == len(clusters)
        pairs.append(pair)
    assert found.mean == average_gain(pairs)
    assert found.mean_of == tuple(HITS)
    assert [round(mean.value, 6) for mean in found.means] == [
        round(sum(sum(hits[place]) / len(hits[place]) for hits in HITS.values()) / 3, 6) for place in range(2)
    ]


def judge(name):
    return lambda run: change_results(run, lambda results: {**results, "judge": name})


def left_open(run):
    for name in ("MMStar", "ChartQA_TEST"):
        change_rows(run, name, lambda row: row | ({"by": "nobody", "value": 0.0} if row["sample_id"] == "29" else {}))


def without_score(results):
    remark = "1 of 40 rows have no answer (3): there is no score until they are asked again"
    results["benchmarks"][0]["scores"]["student"] = {"value": None, "interval": None, "remarks": [remark]}
    return results


# What is done to the second run -> the rows without a difference, and what is said of them.
REFUSED = {
    "another file": (lambda run: change_parts(run, benchmarks__MMStar__md5="x"), ["MMStar"], "benchmarks.MMStar.md5 is md5 of MMStar in the first run, x in the second"),
    "another prompt": (lambda run: change_parts(run, benchmarks__MMStar__prompt="internvl"), ["MMStar"], "prompt is generic in the first run, internvl in the second"),
    "another length": (lambda run: change_parts(run, benchmarks__MMStar__max_tokens=7), ["MMStar"], "max_tokens is 9 in the first run, 7"),
    "other decoding": (lambda run: change_parts(run, evaluate__temperature=0.7, evaluate__top_k=20), ["test", *HITS], "evaluate.temperature is 0 in the first run, 0.7 in the second"),
    "other pixels": (lambda run: change_parts(run, images__max_pixels=5), ["test", *HITS], "images.max_pixels is left out in the first run, 5"),
    "smaller images": (lambda run: change_parts(run, max_image_pixels=5), list(HITS), "max_image_pixels is 1000 in the first run, 5"),
    "another split": (lambda run: change_parts(run, evaluate__split="validation"), ["test / validation"], "evaluate.split is test in the first run"),
    "another tolerance": (lambda run: change_parts(run, numeric_tolerance=0.1), ["test"], "numeric_tolerance is 0.05"),
    "other data": (lambda run: change_samples(run, lambda row: row | {"question": "another"}), ["test"], "no question is in both"),
    "other images": (lambda run: change_samples(run, lambda row: row | {"image_ids": ["a/b.png"]}), ["test"], "no question is in both"),
    "a judge that read something": (lambda run: (left_open(run), judge("wise")(run)), ["MMStar"], "what the rules leave open (0 and 1 answers) was read by nobody in the first run, wise in the second"),
    "no score": (lambda run: change_results(run, without_score), ["MMStar"], "the second run has no score: 1 of 40 rows have no answer (3)"),
    "an earlier version": (lambda run: change_rows(run, "MMStar", lambda row: {k: v for k, v in row.items() if k != "cluster"}), ["MMStar"], "an earlier version of Masters evaluated it"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_was_not_asked_alike_has_no_difference(kind, runs):
    change, names, said = REFUSED[kind]
    change(runs[1])
    found = compared(runs)
    assert [row.name for row in found.rows if row.difference is None] == names
    for row in found.rows:
        assert bool(row.refused) == (row.difference is None)
        assert row.first is not None
    assert any(said in sentence for row in found.rows for sentence in row.refused)
    assert found.mean_of == tuple(name for name in HITS if name not in names)
    assert (found.mean is None) == (not found.mean_of)


# What is done to the second run -> the row, n in both, and what is said.
REMARKED = {
    "a judge that read nothing": (judge("wise"), "MMStar", 40, ""),
    "questions that one run has": (lambda run: change_samples(run, lambda row: row | ({"question": "?"} if row["sample_id"] < "12" else {})), "test", 16, "the difference is over the 16 questions that are in both, of 20 and 20"),
    "rows that could be asked once": (lambda run: change_rows(run, "MMStar", lambda row: row | ({"by": "quarantined", "value": 0.0} if row["sample_id"] == "7" else {})), "MMStar", 40, "1 rows could be asked in one run only"),
    "other engines": (lambda run: change_parts(run, engine__max_model_len=9), "MMStar", 40, "engine.max_model_len is 2048 in the first run, 9 in the second"),
    "other sizes of shards": (lambda run: change_parts(run, evaluate__shard_size=9, evaluate__teachers=False), "test", 20, ""),
}  # fmt: skip


@pytest.mark.parametrize("kind", REMARKED)
def test_what_leaves_a_difference_and_is_said(kind, runs):
    change, name, common, said = REMARKED[kind]
    change(runs[1])
    found = compared(runs)
    row = next(row for row in found.rows if row.name == name)
    assert (row.common, row.refused) == (common, ())
    assert row.difference.n == common
    sentences = [*found.remarks, *(sentence for row in found.rows for sentence in row.remarks)]
    assert any(said in sentence for sentence in sentences) if said else not sentences


def test_benchmarks_that_one_run_has(runs):
    change_results(runs[1], lambda results: {**results, "benchmarks": results["benchmarks"][1:]})
    found = compared(runs)
    assert [row.name for row in found.rows] == ["test", *list(HITS)[1:]]
    assert found.remarks == ("only the first run was asked MMStar",)
    runs[0].delete(RESULTS)
    found = compared(runs)
    assert [row.name for row in found.rows] == ["test"]
    assert (found.mean, found.means) == (None, ())


def told(*arguments):
    """(exit status, what was printed, the error)."""
    done = CliRunner().invoke(cli.app, ["compare", *map(str, arguments)])
    return done.exit_code, done.stdout, str(done.exception) if done.exception else ""


def test_the_command_tells_all_of_it(runs):
    change_parts(runs[1], benchmarks__ChartQA_TEST__prompt="internvl")
    first, second = (run.uri for run in runs)
    status, said, error = told(first, second)
    assert (status, error) == (0, "")
    lines = said.splitlines()
    assert lines[:2] == [f"A  {first}", f"B  {second}"]
    table = {line.split()[0]: line.split() for line in lines[3:] if line}
    assert table["test"][1:4] == ["45.0", "65.0", "20"]
    assert table["MMStar"][1:5] == ["50.0", "75.0", "40", "+25.0"]
    assert table["ChartQA_TEST"][1:] == ["0.0", "10.0", "no", "difference"]
    assert "mean of 2 benchmarks" in said
    assert "ChartQA_TEST: benchmarks.ChartQA_TEST.prompt is generic in the first run" in said
    assert "the mean is without ChartQA_TEST" in said
    assert max(len(line) for line in lines[2 : lines.index("", 3)]) <= 80
    numbers = json.loads(told(first, second, "--json")[1])
    assert numbers["runs"] == [first, second]
    assert numbers["rows"][2]["difference"] is None
    assert numbers["rows"][0]["difference"]["value"] == pytest.approx(0.2)
    assert numbers["mean_of"] == ["MMStar", "MMBench_DEV_EN"]


def test_what_is_no_run_and_what_is_not_evaluated(runs, tmp_path):
    status, _, error = told(runs[0].uri, tmp_path / "nothing")
    assert (status, error) == (
        1,
        f"{tmp_path / 'nothing'}: is no run directory: run.json is not there. `masters check RECIPE` names the run's.",
    )
    write_manifest(runs[1], replace(read_manifest(runs[1], "evaluate"), status="started"))
    assert "evaluate is not done there. Run `masters evaluate` with its recipe." in told(runs[0].uri, runs[1].uri)[2]
    runs[1].delete("manifests/evaluate.json")
    assert f"{runs[1].uri}: its student has no score" in told(runs[0].uri, runs[1].uri)[2]


def test_runs_in_an_object_store(runs, monkeypatch):
    """A file system that is not the local disk, at s3://."""

    def from_uri(uri):
        assert uri.startswith("s3://bucket/")
        return pafs.SubTreeFileSystem("/", pafs.LocalFileSystem()), uri.removeprefix("s3://bucket/")

    expected = compared(runs)
    system = SimpleNamespace(**{**vars(pafs), "FileSystem": SimpleNamespace(from_uri=from_uri)})
    monkeypatch.setattr(storage, "pafs", system)
    remote = [Storage(f"s3://bucket{run.local_path}") for run in runs]
    assert remote[0].local_path is None
    assert compared(remote) == expected


def test_it_takes_less_than_a_second_and_imports_nothing_heavy(runs):
    """Of the processor: other tests may have the machine."""
    code = (
        "import sys, time\nfrom masters.cli import main; sys.argv = ['masters', 'compare', *sys.argv[1:]]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = {'torch', 'ray', 'transformers', 'vllm', 'deepspeed', 'pandas', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\nprint(time.process_time(), file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, *(run.uri for run in runs)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert float(done.stderr) < 1
