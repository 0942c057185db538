"""Counts that tables carry in their footers."""

import pyarrow as pa
import pytest

from masters.data.storage import Storage
from masters.data.tables import PREDICTIONS, RESPONSES, VERDICTS, counted, counts_in

ONE = {"sample_id": "a/1", "author": "student", "index": 0}


def responses(*rows):
    return pa.Table.from_pylist([ONE | {"token_ids": [7] * n, "finish_reason": why} for n, why in rows], RESPONSES)


def verdicts(*rows):
    return pa.Table.from_pylist([ONE | {"verdict": value, "judge": judge} for value, judge in rows], VERDICTS)


COUNTED = {
    "responses": (responses((3, "stop"), (5, "length"), (0, "stop")), {"rows": 3, "tokens": 8, "truncated": 1}),
    "no response": (responses(), {"rows": 0, "tokens": 0, "truncated": 0}),
    "verdicts": (
        verdicts((1, "match"), (0, "rule"), (None, "rule"), (0, "rule")),
        {"rows": 4, "right": 1, "wrong": 2, "null": 1, "by match": 1, "by rule": 3},
    ),
    "only null": (verdicts((None, "x")), {"rows": 1, "right": 0, "wrong": 0, "null": 1, "by x": 1}),
    "no verdict": (verdicts(), {"rows": 0, "right": 0, "wrong": 0, "null": 0}),
    "others": (pa.Table.from_pylist([{"sample_id": "a/1", "correct": True}], PREDICTIONS), {"rows": 1}),
}


@pytest.mark.parametrize("name", COUNTED)
def test_a_footer_says_what_a_table_holds(name, tmp_path):
    table, expected = COUNTED[name]
    run = Storage(str(tmp_path))
    run.write_table("t.parquet", counted(table))
    footer = run.footer("t.parquet")
    assert counts_in(footer.metadata, footer.num_rows) == expected
    assert run.read_table("t.parquet").equals(table)


def test_equal_tables_have_equal_bytes_in_whatever_order_judges_come(tmp_path):
    run, rows = Storage(str(tmp_path)), [(1, "match"), (0, "rule")]
    for name in ("a", "b"):
        run.write_table(name, counted(verdicts(*rows)))
    assert run.read("a") == run.read("b")
    swapped = [counted(verdicts(*order)).schema.metadata for order in (rows, rows[::-1])]
    assert swapped[0] == swapped[1]


def test_counts_of_other_rows_are_not_believed():
    table = counted(responses((3, "stop"), (5, "length")))
    assert counts_in(table.schema.metadata, 2) is not None
    part = table.slice(0, 1)  # still has the metadata of the whole
    assert counts_in(part.schema.metadata, part.num_rows) is None
    assert counts_in(None, 2) is None
