"""What the dialects of dialects/*.yaml mean, as tables.

A file is a list of cases: `record`, the fields of the `source`, the `split` that the file says, and the `rows` that come of
it (fields that are left out have RawRow's defaults; an id that is left out is a hash; of a problem, its reason). Or the
`error` with which a source of such records is refused; `first: false` is a record that could not be the first of its file.
"""

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from masters.config.prepare import FilesSource
from masters.data.rows import RawRow
from masters.data.sources.dialects import check_fields, rows_of

FOLDER = Path(__file__).parent / "dialects"
CASES = [
    pytest.param(case, id=f"{file.stem}: {case['what']}")
    for file in sorted(FOLDER.glob("*.yaml"))
    for case in yaml.safe_load(file.read_text())
]
SEEN = [field.name for field in fields(RawRow) if field.name not in ("number", "folder")]


def source_of(case):
    named = {"type": "files", "name": "s", "path": "/data", **case.get("source", {})}
    return FilesSource.model_validate_json(json.dumps(named))


def read(record, source, split="", place="line 1", file="a.jsonl"):
    return [RawRow(number=0, **row) for row in rows_of(record, source, split, place, file)]


@pytest.mark.parametrize("case", CASES)
def test_a_record_gives_these_rows(case):
    source, record = source_of(case), case["record"]
    if "error" in case:
        with pytest.raises(ValueError) as caught:
            check_fields(record, source)
        assert str(caught.value) == case["error"]
        return
    rows = read(record, source, case.get("split", ""))
    assert len(rows) == len(case["rows"])
    for row, expected in zip(rows, case["rows"], strict=True):
        found = {name: getattr(row, name) for name in SEEN}
        wanted = {name: getattr(RawRow(0), name) for name in SEEN} | expected
        wanted["notes"] = tuple(wanted["notes"])
        if "row_id" not in expected and isinstance(record, dict):
            assert re.fullmatch(r"[0-9a-f]{16}(#\d+)?", found["row_id"])
            wanted["row_id"] = found["row_id"]
        if isinstance(wanted["problem"], str):
            found["problem"] = found["problem"] and found["problem"][0]
        elif wanted["problem"]:
            wanted["problem"] = tuple(wanted["problem"])
        assert found == wanted
    if case.get("first", True) and all(row.problem is None for row in rows):
        check_fields(record, source)


def test_a_hash_as_id_tells_places_files_and_contents_apart():
    source = source_of({})
    record = {"question": "Q", "answer": "A"}
    places = [("line 1", "a"), ("line 2", "a"), ("line 1", "b")]
    ids = [read(record, source, "", *place)[0].row_id for place in places]
    ids += [read({**record, change: "x"}, source, "", *places[0])[0].row_id for change in record]
    assert len(set(ids)) == len(ids)
    assert ids[0] == read(record, source, "", *places[0])[0].row_id
    assert len(read({"question": "\ud800", "answer": "A"}, source)[0].row_id) == 16  # refused later, for its text


def test_what_could_not_be_read_is_a_row_with_a_problem():
    (row,) = read(ValueError("no value"), source_of({}), "test")
    assert (row.problem, row.split) == (("line is not JSON", "no value"), "test")


@pytest.mark.parametrize(
    "name",
    [
        "image",
        "images",
        "image_path",
        "image_paths",
        "images_path",
        "image_file",
        "image_files",
        "img",
        "imgs",
        "img_path",
        "picture",
        "pictures",
        "photo",
        "photos",
        "pic",
        "image_url",
        "image_urls",
        "image_bytes",
        "image_base64",
        "png",
        "jpg",
        "jpeg",
        "webp",
        "file_name",
        "filename",
        "decoded_image",
        "image_1",
        "img2",
    ],
)
def test_images_are_found_under_every_usual_name(name):
    record = {"question": "Q", "answer": "A", name: "a.png"}
    assert [row.images for row in read(record, source_of({}))] == [["a.png"]]
    check_fields(record, source_of({}))


@pytest.mark.parametrize("question", ["question", "problem", "instruction", "query", "prompt"])
@pytest.mark.parametrize(
    "answer",
    ["answer", "multiple_choice_answer", "answers", "response", "output", "completion", "ground_truth", "label"],
)
def test_questions_and_answers_are_found_under_every_usual_name(question, answer):
    record = {question: "Q", answer: "A"}
    assert [(row.question, row.answers) for row in read(record, source_of({}))] == [("Q", "A")]
    check_fields(record, source_of({}))


@pytest.mark.parametrize("turns", ["conversations", "messages", "conversation", "texts"])
@pytest.mark.parametrize("keys", [("role", "content"), ("from", "value")])
@pytest.mark.parametrize("roles", [("human", "gpt"), ("user", "assistant"), ("user", "model"), ("human", "bot")])
def test_turns_are_found_under_every_usual_name(turns, keys, roles):
    said = [dict(zip(keys, turn, strict=True)) for turn in zip(roles, ("Q", "A"), strict=True)]
    assert [(row.question, row.answers) for row in read({turns: said}, source_of({}))] == [("Q", "A")]


@pytest.mark.parametrize(
    "role", ["tool", "function", "function_call", "observation", "tool_call", "tool_response", "ipython"]
)
def test_turns_of_tools_are_refused_under_every_name(role):
    (row,) = read({"messages": [{"role": "user", "content": "Q"}, {"role": role, "content": "A"}]}, source_of({}))
    assert row.problem == ("tool turns are not supported", repr(role))


@pytest.mark.parametrize(
    "setting",
    [
        "id",
        "question",
        "answer",
        "images",
        "system",
        "conversation",
        "split_field",
        "answer_type_field",
        "question_type_field",
    ],
)
def test_every_field_that_the_recipe_names_must_be_there(setting):
    with pytest.raises(
        ValueError, match=rf"^prepare\.sources\[s\]\.{setting} = x\.y: no such field; found question, answer"
    ):
        check_fields({"question": "Q", "answer": "A"}, source_of({"source": {setting: "x.y"}}))
