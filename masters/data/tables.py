"""Schemas of the tables in a run directory. `SCHEMA_VERSION` enters every digest."""

import json
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

SCHEMA_VERSION = 2
_COUNTS = b"masters.counts"

SAMPLES = pa.schema(
    [
        ("sample_id", pa.string()),  # <source>/<row id>, unique in a split
        ("position", pa.int64()),  # in the seeded permutation of the accepted samples of the split
        (
            "levels",
            pa.list_(pa.string()),
        ),  # the level met under each teacher, in curriculum order; empty outside train
        ("image_ids", pa.list_(pa.string())),  # <shard below images/>/<hash>.<suffix>; equal images have equal ids
        ("system", pa.string()),  # system prompt, or null
        ("history", pa.list_(pa.string())),  # earlier turns: question, answer, question, answer, ...
        ("question", pa.string()),  # <image> marks the place of an image
        ("answer", pa.string()),  # the label
        ("answers", pa.list_(pa.string())),  # every accepted phrasing, the label first
        ("options", pa.list_(pa.string())),  # of multiple choice, in order; else null
        ("answer_type", pa.string()),  # text | number | integer | choice
        ("question_type", pa.string()),  # groups the report; empty where the data has none
        ("prompt_tokens", pa.int32()),  # of the student's tokenizer, images expanded
        ("source", pa.string()),
        ("split", pa.string()),  # train | validation | test
    ]
)

IMAGES = pa.schema(
    [
        ("name", pa.string()),  # <SHA-256 of content>.<suffix>; rows are sorted by it
        ("content", pa.binary()),  # as it was given
    ]
)

REJECTS = pa.schema(
    [
        ("source", pa.string()),
        ("row", pa.string()),  # the row's key: its id where it has one, else its number
        ("reason", pa.string()),  # a short sentence that is the same for all rows of the kind
        ("detail", pa.string()),  # what exactly was found
    ]
)

RESPONSES = pa.schema(
    [
        ("sample_id", pa.string()),
        ("author", pa.string()),  # a level, `student` or `label`
        ("index", pa.int32()),  # among the author's responses to the question
        ("text", pa.string()),
        ("token_ids", pa.list_(pa.int32())),  # a generated end-of-turn token included
        ("finish_reason", pa.string()),  # stop | length
        ("seed", pa.int64()),  # of this response; null for labels
    ]
)

VERDICTS = pa.schema(
    [
        ("sample_id", pa.string()),
        ("author", pa.string()),
        ("index", pa.int32()),
        ("response_digest", pa.string()),  # of the text that was judged
        ("verdict", pa.int8()),  # 1 right, 0 wrong, null unknown
        ("judge", pa.string()),
        ("explanation", pa.string()),
    ]
)

REWARDS = pa.schema(
    [
        ("step", pa.int64()),
        ("sample_id", pa.string()),
        ("author", pa.string()),
        ("index", pa.int32()),
        ("divergence", pa.float32()),  # D: token mean of the JSD to the masked teacher
        ("kl", pa.float32()),  # token mean, to the initial student
        ("log_probability", pa.float32()),  # token mean
        ("distill_reward", pa.float32()),
        ("advantage", pa.float32()),
    ]
)

PREDICTIONS = pa.schema(
    [
        ("sample_id", pa.string()),
        ("question_type", pa.string()),
        ("text", pa.string()),
        ("correct", pa.bool_()),
    ]
)

BENCHMARK_QUESTIONS = pa.schema(
    [
        ("sample_id", pa.string()),  # the row's index in the benchmark's file
        ("question", pa.string()),  # JSON of masters.benchmarks.Question, without images
        ("pieces", pa.string()),  # JSON of masters.benchmarks.Prompt: texts and numbers of images
        ("image_ids", pa.list_(pa.string())),  # of the question's images, in its order
        ("reason", pa.string()),  # why no model can be asked; null where it can
    ]
)

BENCHMARK_ANSWERS = pa.schema(
    [
        ("sample_id", pa.string()),
        ("text", pa.string()),
        ("finish_reason", pa.string()),  # stop | length
    ]
)

BENCHMARK_OUTCOMES = pa.schema(
    [
        ("sample_id", pa.string()),
        ("by", pa.string()),  # rules | judge | nobody | failed | quarantined
        ("extracted", pa.string()),  # the letter, number or text that was made of the answer; null where there is none
        ("value", pa.float64()),  # in [0, 1], or null
        ("asked", pa.bool_()),  # whether the judge was asked
        ("truncated", pa.bool_()),  # whether the answer ended at the limit of tokens
    ]
)

BENCHMARK_CHANGES = pa.schema(
    [
        ("benchmark", pa.string()),
        ("sample_id", pa.string()),  # the row's index in the benchmark's file
        ("won", pa.bool_()),  # whether the student's answer is worth more than the baseline's; else less
        ("question", pa.string()),  # with its options
        ("answer", pa.string()),  # the right one
        ("baseline", pa.string()),  # its answer
        ("student", pa.string()),
        ("baseline_value", pa.float64()),  # in [0, 1]
        ("student_value", pa.float64()),
        ("images", pa.list_(pa.binary())),  # JPEG, made small
    ]
)


def counted(table: pa.Table) -> pa.Table:
    """The table with what it holds, counted, in its schema's metadata: Parquet keeps it in the footer, and summaries read no row.

    Equal tables get equal metadata. A table that is made of this one must not keep it.
    """
    return table.replace_schema_metadata({_COUNTS: json.dumps(_count(table), sort_keys=True)})


def counts_in(metadata: Mapping[bytes, bytes] | None, rows: int) -> dict[str, int] | None:
    """What `counted` left in a schema's or a footer's metadata; None where it left nothing, or was about other rows.

    rows; of responses tokens and truncated; of verdicts right, wrong and null, and `by <judge>` for each judge.
    """
    told = (metadata or {}).get(_COUNTS)
    counts: dict[str, int] = json.loads(told) if told else {}
    return counts if counts.get("rows") == rows else None


def _count(table: pa.Table) -> dict[str, int]:
    counts = {"rows": table.num_rows}
    if {"token_ids", "finish_reason"} <= set(table.column_names):
        counts["tokens"] = pc.sum(pc.list_value_length(table["token_ids"])).as_py() or 0
        counts["truncated"] = pc.sum(pc.equal(table["finish_reason"], "length")).as_py() or 0
    if {"verdict", "judge"} <= set(table.column_names):
        counts["right"] = pc.sum(pc.equal(table["verdict"], 1)).as_py() or 0
        counts["null"] = table["verdict"].null_count
        counts["wrong"] = table.num_rows - counts["right"] - counts["null"]
        counts |= {f"by {found['values']}": found["counts"] for found in pc.value_counts(table["judge"]).to_pylist()}
    return counts
