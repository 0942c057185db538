"""Predictions in VLMEvalKit's layout: read as it reads them, every answer is the one that was given, and scores the same."""

import hashlib
import io
import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from masters import cli
from masters.benchmarks import BENCHMARKS, Answer, outcomes, read
from masters.benchmarks.export import FAILED, export, predictions
from masters.benchmarks.facts import LONGEST
from masters.benchmarks.recipe import Wanted
from masters.config.load import load_recipe
from masters.data.storage import Storage
from masters.reporting.benchmarks import RESULTS
from tests.unit.benchmarks.tables import make, rows_of, write
from tests.unit.benchmarks.test_cases import CASES, LETTERS

READ_AS_EMPTY = ("", "None", "NA", "N/A", "nan", "NaN", "null", "NULL", "n/a", "<NA>", "#N/A", "-nan", "1.#IND")
ODD = {
    "a formula": "=SUM(A1:A9)",
    "what begins as one": "+1 -2 @3",
    "a quotation mark": 'the "second" one"',
    "an apostrophe": "'B",
    "tabs and lines": "first\tB\nsecond\r\nthird\rfourth\n",
    "control characters": "B\x01\x07\x0b\x1b[31m\x7f\x85\u2028",
    "longer than a cell of a spreadsheet": "B " + "because " * 10_000,
    "Chinese": "选择B。😀",
    "blanks": "  B  ",
    "a backslash": "\\boxed{B}\\",
    "a comment": "# B",
}
ANSWERS = [
    *ODD.values(),
    *(row[2] for row in LETTERS),
    *(row[1] for row in CASES["relaxed"] if isinstance(row[1], str)),
]


def wanted(name, path):
    benchmark = BENCHMARKS[name]
    return Wanted(benchmark, str(path), "generic", LONGEST[benchmark.metric])


def loaded(content):
    """As VLMEvalKit's `load` and its evaluations do."""
    data = pd.read_csv(io.BytesIO(content), sep="\t")
    return data, [str(text) for text in data["prediction"]]


def many(folder, count):
    """A table of MMStar with so many rows, the last ones first: indexes go down."""
    row = rows_of("MMStar")[1]
    return write(
        folder / "MMStar.tsv", [row | {"index": str(place), "hint": "None"} for place in reversed(range(count))]
    )


def test_every_answer_comes_back_as_it_was_given(tmp_path):
    path = many(tmp_path, len(ANSWERS))
    data, said = loaded(predictions(wanted("MMStar", path), {str(i): text for i, text in enumerate(ANSWERS)}))
    assert list(data["index"]) == list(reversed(range(len(ANSWERS))))
    assert list(data.columns) == ["index", "question", *"ABCD", "answer", "category", "hint", "prediction"]
    for given, back in zip(ANSWERS, reversed(said), strict=True):
        assert back == (f"{given} " if given in READ_AS_EMPTY else given)
    questions = read(BENCHMARKS["MMStar"], str(path)).questions
    before, after = (
        outcomes(BENCHMARKS["MMStar"], questions, {q.index: Answer(texts[int(q.index)]) for q in questions})
        for texts in (ANSWERS, list(reversed(said)))
    )
    assert before == after


@pytest.mark.parametrize("text", READ_AS_EMPTY)
def test_a_word_that_pandas_reads_as_an_empty_cell_stays_a_word(tmp_path, text):
    content = predictions(wanted("MMStar", many(tmp_path, 2)), {"0": text, "1": "B"})
    assert loaded(content)[1] == ["B", f"{text} "]


def test_a_nul_is_no_end(tmp_path):
    content = predictions(wanted("MMStar", many(tmp_path, 1)), {"0": "B\0 and more"})
    assert loaded(content)[1] == ["B\ufffd and more"]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_rows_and_columns_are_those_of_the_benchmarks_file(name, tmp_path):
    path = make(name, tmp_path)
    given = pd.read_csv(path, sep="\t")
    if BENCHMARKS[name].split:
        given = given[given["split"] == BENCHMARKS[name].split].reset_index(drop=True)
    answers = {str(index): f"it is {index}" for index in given["index"]}
    data, said = loaded(predictions(wanted(name, path), answers))
    pd.testing.assert_frame_equal(data.drop(columns="prediction"), given.drop(columns="image"), check_dtype=False)
    assert said == list(answers.values())


# Of MMStar's rows: by, text. What follows is the row's prediction, or None: no file.
BY = {
    "read by the rules": ("rules", "B", "B"),
    "read by nobody": ("nobody", "hm", "hm"),
    "nothing said": ("nobody", "", " "),
    "a row that no model can be asked": ("quarantined", None, FAILED),
    "an answer that is missing": ("failed", None, None),
}


def evaluated(folder, run, name="MMStar", **rows):
    """A run as far as an export needs one; `rows`: by model, (by, text) of the first row."""
    path = make(name, folder)
    models = {"baseline": ("rules", "A"), **rows}
    for model, (by, text) in models.items():
        found = [{"sample_id": row["index"], "by": "rules", "text": "B"} for row in rows_of(name)]
        found[0] |= {"by": by, "text": text}
        run.write_table(f"evaluation/benchmarks/{name}/{model}.parquet", pa.Table.from_pylist(found))
    md5 = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    run.write_json(RESULTS, {"models": list(models), "benchmarks": [{"name": name, "md5": md5}]})
    return load_recipe(
        "recipes/tiny.yaml", [f"evaluate.benchmarks={json.dumps([{'name': name, 'path': str(path), 'max_tokens': 9}])}"]
    )


@pytest.mark.parametrize("kind", BY)
def test_a_missing_answer_never_becomes_one_that_is_scored(kind, tmp_path):
    by, text, expected = BY[kind]
    run, target = Storage(str(tmp_path / "run")), Storage(str(tmp_path / "out"))
    found = export(evaluated(tmp_path, run, student=(by, text)), run, target)
    files = ["baseline/baseline_MMStar.tsv"]
    if expected is None:
        assert found.left_out == (
            "student on MMStar: 1 of 5 rows have no answer, so there is no score here; there they would be scored as wrong. "
            "No file.",
        )
    else:
        files.append("student/student_MMStar.tsv")
        assert loaded(target.read(files[1]))[1] == [expected, *"BBBB"]
        assert not found.left_out
    assert list(found.files) == files
    assert target.names() == files


def test_another_file_is_refused(tmp_path):
    run = Storage(str(tmp_path / "run"))
    config = evaluated(tmp_path, run)
    write(tmp_path / "MMStar.tsv", rows_of("MMStar")[:4])
    with pytest.raises(ValueError, match=r"MMStar\.tsv: its md5 is .*, but .* was asked\. Bring that file"):
        export(config, run, Storage(str(tmp_path / "out")))


def test_the_command_evaluates_first_and_then_writes(tmp_path, monkeypatch):
    storage, recipe, done = tmp_path / "runs", tmp_path / "small.yaml", []
    config = evaluated(tmp_path, Storage(str(storage / "tiny")), student=("rules", "C"))
    benchmark = config.evaluate.benchmarks[0].model_dump(mode="json")
    recipe.write_text(
        json.dumps(
            {
                "name": "tiny",
                "extends": str(Path("recipes/tiny.yaml").resolve()),
                "evaluate": {"benchmarks": [benchmark]},
            }
        )
    )
    monkeypatch.setattr(cli, "run_recipe", lambda *given, **more: done.append((given, more)))
    out = tmp_path / "out"
    command = ["evaluate", str(recipe), "--set", f"storage={storage}", "--export", "vlmevalkit", str(out)]
    said = CliRunner().invoke(cli.app, command)
    assert said.exit_code == 0, said.output + str(said.exception)
    assert len(done) == 1
    assert done[0][1]["stages"] == ("evaluate",)
    assert f"export   2 files -> {out}" in said.stdout
    assert f"PRED_FORMAT=tsv vlmutil eval {out}/student/student_MMStar.tsv" in said.stdout
    again = CliRunner().invoke(cli.app, command)
    assert "is there already, and is no empty folder" in str(again.exception)
    other = CliRunner().invoke(cli.app, [*command[:5], "lmms-eval", str(out)])
    assert "--export lmms-eval: no such format. Formats: vlmevalkit." in str(other.exception)
    none = CliRunner().invoke(
        cli.app, ["evaluate", "recipes/tiny.yaml", *command[4:5], "vlmevalkit", str(tmp_path / "x")]
    )
    assert "the recipe asks no benchmark" in str(none.exception)
    assert len(done) == 1
