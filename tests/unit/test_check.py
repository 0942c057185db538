"""`masters check` looks at the first rows of every source: what a run would stumble over is said before it is started."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from masters.cli import main
from tests.unit.benchmarks.tables import make

ROOT = Path(__file__).parents[2]
GOOD = [{"question": f"Who is {number}?", "answer": f"Ann {number}"} for number in range(20)]


@pytest.fixture
def check(monkeypatch, capsys, tmp_path):
    """check(sources, *options) -> exit status and what was said; `{}` in sources stands for the test's folder."""

    def check(sources: list[dict[str, object]], *options: object) -> tuple[int, str]:
        recipe = recipe_of(sources, tmp_path)
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr(sys, "argv", ["masters", "check", str(recipe), *map(str, options)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        assert not (tmp_path / "runs").exists()  # nothing was started
        return int(ended.value.code or 0), captured.out + captured.err

    return check


@pytest.fixture
def cluster(tmp_path):
    """Values of a chart whose groups have room for every stage."""
    (tmp_path / "values.yaml").write_text(
        "workerGroups: {generate: null, train: null, judge: {maxReplicas: 1, cpus: 4}}\n"
        f"storage: {{pvc: {{mountPath: {tmp_path}}}}}\n"
    )
    return "--values", tmp_path / "values.yaml"


def recipe_of(sources: list[dict[str, object]], folder: Path) -> Path:
    """The tiny recipe with these sources."""
    recipe = yaml.safe_load((ROOT / "recipes/tiny.yaml").read_text())
    recipe |= {"prepare": {"sources": sources}, "storage": str(folder / "runs")}
    (folder / "mine.yaml").write_text(yaml.safe_dump(recipe).replace("{}", str(folder)))
    return folder / "mine.yaml"


def files(file: str, **fields: object) -> dict[str, object]:
    return {"type": "files", "name": "a", "path": f"{{}}/{file}", **fields}


def lines(*records: object) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


BAD = {
    "a missing file": ({}, files("d.jsonl"), "prepare.sources[a]: {}/d.jsonl: no such file or folder. Name a file of data, or a folder of them."),
    "an empty file": ({"d.jsonl": ""}, files("d.jsonl"), "prepare.sources[a]: {}/d.jsonl: is empty. Fetch it again."),
    "no row": ({"d.json": "[]"}, files("d.json"), "prepare.sources[a]: gives no row. Name data that has rows, or remove the source."),
    "every row left out": ({"d.jsonl": lines(*({**row, "split": "dev"} for row in GOOD))}, files("d.jsonl", splits={"dev": "skip"}), "prepare.sources[a]: gives no row. Name data that has rows,"),
    "no known column": ({"d.tsv": "first\tsecond\n1\t2\n"}, files("d.tsv"), "prepare.sources[a]: no question and no answer under a usual name; found first, second. Set question and answer to fields of the data"),
    "no such field": ({"d.jsonl": lines(*GOOD)}, files("d.jsonl", answer="label"), "prepare.sources[a].answer = label: no such field; found question, answer. Name a field of the data."),
    "a page in the place of data": ({"d.jsonl": "<!doctype html><html>"}, files("d.jsonl"), "prepare.sources[a]: {}/d.jsonl"),
    "a hub name": ({}, {"type": "hub", "name": "a", "path": "nobody/nothing-at-all"}, "prepare.sources[a]: path = nobody/nothing-at-all: there is no such folder, the hub cannot be reached, and its cache does not hold"),
    "no such reader": ({}, {"type": "custom", "name": "a", "reader": "no_such_module:rows"}, "prepare.sources[a].reader = no_such_module:rows: No module named 'no_such_module'. Is it on PYTHONPATH?"),
    "first rows that cannot be used": (
        {"d.jsonl": lines(*({**row, "id": f"r{n}", "image": f"{n}.png"} for n, row in enumerate(GOOD)))},
        files("d.jsonl"),
        "prepare.sources[a]: none of its first rows can be used; r0: image file cannot be read: '{}/0.png': No such file or directory. "
        "Mend the data, or name their fields in the recipe; `masters data show` shows what is understood.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_source_that_a_run_would_stumble_over(check, cluster, tmp_path, name):
    contents, source, message = BAD[name]
    for file, content in contents.items():
        (tmp_path / file).write_text(content)
    message = message.replace("{}", str(tmp_path))
    status, said = check([{"type": "charts"}, source])
    assert status == 1
    assert f"error    {message}" in said
    assert "fine" not in said
    status, said = check([source, {"type": "charts"}], *cluster)
    assert status == 0, said
    assert f"mine.yaml: cannot be read here, and may be on the cluster: {message}" in said
    assert "mine.yaml: fine. 5 levels" in said


def test_for_a_cluster_only_what_cannot_be_read_here_is_a_line(check, cluster, tmp_path):
    (tmp_path / "good.jsonl").write_text(lines(*GOOD))
    sources = [files("none.jsonl"), files("good.jsonl", name="b"), files("none2.jsonl", name="c")]
    status, said = check(sources, *cluster)
    assert status == 0, said
    assert re.findall(r"cannot be read here, and may be on the cluster: prepare\.sources(\[.\]): ", said) == [
        "[a]",
        "[c]",
    ]


FINE = {
    "some bad rows": {"d.jsonl": lines({"question": "?"}, *GOOD)},
    "bad rows behind the first ones": {"d.jsonl": lines(*GOOD, *[{"question": "?"}] * 20)},
    "an empty first file": {"0.json": "[]", "1.jsonl": lines(*GOOD)},
    "several splits": {"train.jsonl": lines(*GOOD), "test.jsonl": lines(*GOOD)},
}


@pytest.mark.parametrize("name", FINE)
def test_a_good_recipe_is_fine(check, tmp_path, name):
    for file, content in FINE[name].items():
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / file).write_text(content)
    status, said = check([files("data"), {"type": "charts"}])
    weight, fine = said.splitlines()
    assert (status, fine) == (0, f"{tmp_path}/mine.yaml: fine. 5 levels, run directory {tmp_path}/runs/tiny")
    assert re.fullmatch(
        r".*mine\.yaml: a checkpoint weighs 4\.\d MB: 3 of them at most in the run directory, one in .*", weight
    )


def test_an_image_store_that_does_not_answer_is_the_sources_error(check, cluster, monkeypatch, tmp_path):
    (tmp_path / "d.jsonl").write_text(lines(*GOOD))

    def away(*_):
        raise OSError("AWS Error NETWORK_CONNECTION during HeadObject")

    monkeypatch.setattr("masters.reporting.preview.check_row", away)
    status, said = check([files("d.jsonl")])
    assert status == 1
    assert "error    prepare.sources[a]: AWS Error NETWORK_CONNECTION during HeadObject. Try again, or" in said
    assert check([files("d.jsonl")], *cluster)[0] == 0


def test_limits_of_images_that_the_models_do_not_take(check):
    status, said = check([{"type": "charts"}], "--set", "images.max_tiles=6")
    assert status == 1
    assert "models/tiny/student: images.max_tiles = 6: is no limit of qwen2_5_vl, which takes min_pixels" in said
    assert check([{"type": "charts"}], "--set", "images.max_pixels=9000")[0] == 0


def test_a_token_of_the_students_family_is_no_text_of_first_rows(check, tmp_path):
    """Of another family's it is."""
    (tmp_path / "d.jsonl").write_text(lines({"question": "What is <IMG_CONTEXT>?", "answer": "<img>"}))
    assert check([files("d.jsonl", id=None)])[0] == 0
    student = tmp_path / "internvl"
    student.mkdir()
    (student / "config.json").write_text('{"model_type": "internvl"}')
    models = ("student.path", "curriculum[0].path")
    options = [word for path in models for word in ("--set", f"{path}={student}")]
    status, said = check([files("d.jsonl", id=None)], *options)
    assert status == 1
    assert "question holds a token reserved for chat templates: <IMG_CONTEXT>" in said


def test_checkpoints_without_room_are_refused_where_the_run_is_for_this_machine(check, cluster, monkeypatch, tmp_path):
    monkeypatch.setattr("masters.training.space.checkpoint_bytes", lambda student, train: 10**18)
    status, said = check([{"type": "charts"}])
    assert status == 1
    assert re.search(
        r"mine\.yaml: storage = .*/runs/tiny: [34],000,000,000\.0 GB more are needed .* GB are free\. Make room, ", said
    )
    status, said = check([{"type": "charts"}], *cluster)
    assert status == 0, said
    assert "mine.yaml: a checkpoint weighs 1,000,000,000.0 GB: 3 of them" in said


@pytest.mark.parametrize("module", ["pyarrow", "PIL"])
def test_without_the_libraries_that_read_data_they_are_not_looked_at(tmp_path, module):
    recipe = recipe_of([files("none.jsonl")], tmp_path)
    code = f"import sys; sys.modules[{module!r}] = None; from masters.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "check", str(recipe)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    first, *_, second = done.stdout.splitlines()
    assert first == f"{recipe}: its data were not looked at: pyarrow and pillow are not installed here"
    assert second.startswith(f"{recipe}: fine. ")


ROWS = lines(*({**row, "split": "dev"} for row in GOOD))
SEEN = {
    # name: (file, source, whether it is said that no row of validation was seen)
    "rows of it": (ROWS, files("d.jsonl"), False),
    "rows of train": (lines(*GOOD), files("d.jsonl"), True),
    "charts of it": ("", {"type": "charts", "test_images": 1, "validation_images": 1}, False),
}


@pytest.mark.parametrize("name", SEEN)
def test_keeping_the_best_student_looks_for_rows_to_choose_by(check, tmp_path, name):
    text, source, said = SEEN[name]
    (tmp_path / "d.jsonl").write_text(text)
    keep = ("--set", "train.keep=best", "--set", "train.students_by_level=true")
    status, output = check([source], *keep)
    assert status == 0
    words = "mine.yaml: train.keep = best chooses by the validation split: none of the first rows is of it\n"
    assert (words in output) == said
    assert words not in check([source])[1]


def test_a_tracker_that_is_not_installed_here(check, cluster, monkeypatch):
    monkeypatch.setattr("masters.config.train.find_spec", lambda name: None)
    asked = "--set", "train.trackers=[mlflow]"
    status, said = check([{"type": "charts"}], *asked)
    assert status == 1
    assert "error    train.trackers = mlflow: is not installed here" in said
    status, said = check([{"type": "charts"}], *asked, *cluster)
    assert status == 0, said
    assert "mine.yaml: may be different on the cluster: train.trackers = mlflow: is not installed here" in said


def test_files_of_benchmarks_are_looked_at(check, cluster, tmp_path):
    make("MMStar", tmp_path)
    entry = f"evaluate.benchmarks=[{{name: MMStar, path: {tmp_path}/MMStar.tsv, max_tokens: 16}}]"
    charts: list[dict[str, object]] = [{"type": "charts", "name": "charts"}]
    status, said = check(charts, "--set", entry)
    assert status == 0
    assert "MMStar: md5 of the file is" in said
    (tmp_path / "MMStar.tsv").write_text("index\tquestion\n1\tWhich?\n")
    status, said = check(charts, "--set", entry)
    assert status == 1
    assert "columns are missing: image, answer, A, B" in said
    status, said = check(charts, "--set", entry, *cluster)
    assert "may be on the cluster" in said
