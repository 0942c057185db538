"""Predictions as VLMEvalKit's own inference leaves them, so that anybody can score them with it.

    DIR/<model>/<model>_<benchmark>.tsv     the columns of its table without images, and `prediction`

It reads such a file by its ending, and knows the benchmark by its name: `vlmutil eval <file>`. Tables (its PRED_FORMAT=tsv) hold
every answer whole; its default, a spreadsheet, cuts cells at 32,767 characters and has no place for control characters.
"""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass

from masters.benchmarks.files import md5_of, plain_rows
from masters.benchmarks.recipe import Wanted, wanted
from masters.config.run import RunConfig
from masters.data.storage import Storage
from masters.reporting.benchmarks import read_results

FAILED = "Failed to obtain answer via API."
"""What VLMEvalKit writes for an answer that it did not get: its inference asks such a row again, its scoring finds no option."""

_READ_AS_EMPTY = {
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL", "NaN",
    "None", "n/a", "nan", "null",
}  # fmt: skip
"""By pandas, which reads the file there."""

_NUL = str.maketrans({"\0": "\ufffd"})  # the reader ends a cell at it


@dataclass(frozen=True)
class Exported:
    """What was written, and what was not.

    Attributes:
        files: names below the target.
        left_out: why a file is missing, one sentence each.
    """

    files: tuple[str, ...]
    left_out: tuple[str, ...]


def export(config: RunConfig, run: Storage, target: Storage) -> Exported:
    """Write a file for each benchmark of the recipe and each model that was asked.

    A model's answers to a benchmark are left out where one is missing: it has no score here. VLMEvalKit would count a missing row
    not at all, and the sign of a failed one as wrong.

    Raises:
        ValueError: where a benchmark's file is another one by now.
    """
    results = read_results(run)
    assert results is not None, "evaluate has asked benchmarks"
    asked = {found["name"]: found for found in results["benchmarks"]}
    files, left_out = list[str](), list[str]()
    for one in wanted(config):
        md5 = md5_of(one.benchmark, one.path)
        if md5 != asked[one.name]["md5"]:
            raise ValueError(
                f"{one.path}: its md5 is {md5}, but {asked[one.name]['md5']} was asked. Bring that file, or evaluate anew."
            )
        for model in results["models"]:
            rows = run.read_table(f"evaluation/benchmarks/{one.name}/{model}.parquet", ["sample_id", "by", "text"])
            answers = {row["sample_id"]: _answer(row) for row in rows.to_pylist()}
            missing = sum(answer is None for answer in answers.values())
            if missing:
                left_out.append(
                    f"{model} on {one.name}: {missing:,} of {len(answers):,} rows have no answer, so there is no score here; "
                    "there they would be scored as wrong. No file."
                )
                continue
            name = f"{model}/{model}_{one.name}.tsv"
            target.write(name, predictions(one, {key: answer or "" for key, answer in answers.items()}))
            files.append(name)
    return Exported(tuple(files), tuple(left_out))


def predictions(one: Wanted, answers: Mapping[str, str]) -> bytes:
    """VLMEvalKit's table of predictions, in the order of the benchmark's file. `answers` by index.

    What pandas reads as an empty cell gets a space behind it: else an answer `None` would become `nan`.
    """
    sink = io.StringIO()
    writer = csv.writer(sink, delimiter="\t", quoting=csv.QUOTE_ALL, lineterminator="\n")
    header: list[str] = []
    for row in plain_rows(one.benchmark, one.path):
        if not header:
            header = list(row)
            writer.writerow([*header, "prediction"])
        text = answers[row["index"].strip()].translate(_NUL)
        writer.writerow([*row.values(), f"{text} " if text in _READ_AS_EMPTY else text])
    return sink.getvalue().encode()


def _answer(row: Mapping[str, str | None]) -> str | None:
    """What a model said; of a row that none can be asked, that it failed: there, too, it counts as wrong. None: ask again."""
    return FAILED if row["by"] == "quarantined" else row["text"]
