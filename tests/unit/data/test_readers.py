import json
from itertools import islice

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pydantic import TypeAdapter

from masters.config.load import validate
from masters.config.prepare import Source
from masters.config.problems import RecipeError
from masters.data.readers import fingerprint, read_source
from masters.data.rows import RawRow, check_row
from tests.unit.data.test_rows import png


def source(**fields):
    return TypeAdapter(Source).validate_json(json.dumps({"name": "s", **fields}))


def conversation(*turns):
    return [{"from": speaker, "value": value} for speaker, value in turns]


ONE = conversation(("human", "<image>\nWhat?"), ("gpt", "A cat."))


@pytest.mark.parametrize("lines", [True, False])
def test_llava_json_and_jsonl(tmp_path, lines):
    records = [{"id": i, "image": "a.png", "conversations": ONE} for i in range(3)]
    text = "\n".join(map(json.dumps, records)) if lines else " \n" + json.dumps(records)
    (tmp_path / "d.json").write_text(text)
    rows = list(read_source(source(type="llava", path=str(tmp_path / "d.json"))))
    assert [row.row_id for row in rows] == [0, 1, 2]
    assert [row.number for row in rows] == [0, 1, 2]
    assert rows[0].question == "<image>\nWhat?"
    assert rows[0].images == [str(tmp_path / "a.png")]


def test_every_answer_of_a_conversation_is_a_row_with_the_turns_before_it(tmp_path):
    turns = conversation(
        ("system", "Be brief."),
        ("human", "<image> What?"),
        ("gpt", "A cat."),
        ("human", "Colour?"),
        ("gpt", "Red."),
    )
    (tmp_path / "d.jsonl").write_text(json.dumps({"id": "x", "image": ["a.png"], "conversations": turns}))
    first, second = read_source(source(type="llava", path=str(tmp_path / "d.jsonl")))
    assert (first.row_id, second.row_id) == ("x#0", "x#1")
    assert first.system == second.system == "Be brief."
    assert second.history == ["<image> What?", "A cat."]
    assert second.question == "Colour?"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{oops", "line is not JSON"),
        ("[1, 2]", "record is not an object"),
        ('{"id": 1}', "conversation is missing"),
        ('{"id": 1, "conversations": []}', "conversation is missing"),
        ('{"id": 1, "conversations": ["hi"]}', "conversation turn is not {from, value}"),
        (json.dumps({"id": 1, "conversations": ONE[:1]}), "conversation does not end with an answer"),
        (
            json.dumps({"id": 1, "conversations": ONE[::-1]}),
            "conversation does not alternate between human and gpt",
        ),
    ],
)
def test_records_that_make_no_sense_become_rows_with_a_problem(tmp_path, line, reason):
    (tmp_path / "d.jsonl").write_bytes(f"{json.dumps({'id': 0, 'conversations': ONE})}\n{line}\n\n".encode())
    good, bad = read_source(source(type="llava", path=str(tmp_path / "d.jsonl")))
    assert good.problem is None
    assert bad.problem[0] == reason


@pytest.mark.parametrize("line", ["[" * 100_000 + "]" * 100_000, f'{{"id": {"1" * 5_000}}}'])
def test_lines_that_break_pythons_json_cost_one_row(tmp_path, line):
    (tmp_path / "d.jsonl").write_text(f"{json.dumps({'id': 0, 'conversations': ONE})}\n{line}")
    good, bad = read_source(source(type="llava", path=str(tmp_path / "d.jsonl")))
    assert bad.problem[0] == "line is not JSON"
    assert good.problem is None
    (tmp_path / "d.json").write_text(f"[{line}]")
    with pytest.raises(ValueError, match=r"d\.json: is not a JSON array: "):
        list(read_source(source(type="llava", path=str(tmp_path / "d.json"))))


@pytest.mark.parametrize("text", ["[{}]", "{}\n{}", " \n[{}]"])
def test_a_byte_order_mark_is_skipped(tmp_path, text):
    record = json.dumps({"id": 0, "conversations": ONE})
    (tmp_path / "d.json").write_text(text.replace("{}", record), encoding="utf-8-sig")
    rows = list(read_source(source(type="llava", path=str(tmp_path / "d.json"))))
    assert [row.problem for row in rows] == [None] * text.count("{}")


def test_llava_images_under_either_name(tmp_path):
    records = [{"id": 0, "images": ["a.png"]}, {"id": 1, "image": None, "images": "a.png"}, {"id": 2, "image": "a.png"}]
    (tmp_path / "d.json").write_text(json.dumps([{**record, "conversations": ONE} for record in records]))
    rows = list(read_source(source(type="llava", path=str(tmp_path / "d.json"))))
    assert [row.images for row in rows] == [[str(tmp_path / "a.png")]] * 3


def test_bytes_that_are_no_utf_8(tmp_path):
    (tmp_path / "d.jsonl").write_bytes(b'{"id": "\xff\xfe"}\n')
    (row,) = read_source(source(type="llava", path=str(tmp_path / "d.jsonl")))
    assert row.problem[0] == "line is not JSON"


def test_parquet_with_bytes_structs_lists_and_own_columns(tmp_path):
    table = pa.table(
        {
            "key": ["a", "b", "c"],
            "q": ["Q"] * 3,
            "a": [["x", "y"], ["z"], ["w"]],
            "pics": [[{"bytes": png(), "path": None}], [], [{"bytes": png(9), "path": None}]],
        }
    )
    pq.write_table(table, tmp_path / "d.parquet")
    rows = list(
        read_source(
            source(
                type="parquet",
                path=str(tmp_path),
                id="key",
                question="q",
                answer="a",
                images="pics",
                split="test",
            )
        )
    )
    assert [row.row_id for row in rows] == ["a", "b", "c"]
    assert rows[0].answers == ["x", "y"]
    assert [len(row.images) for row in rows] == [1, 0, 1]
    assert rows[0].images[0] == png()
    assert rows[0].split == "test"
    for row in rows:
        check_row(row, "s", 1000)


def test_a_missing_column_is_an_error_that_lists_the_columns(tmp_path):
    pq.write_table(pa.table({"id": [1], "text": ["Q"]}), tmp_path / "d.parquet")
    with pytest.raises(ValueError, match=r"sources\[s\]: no column question; found id, text"):
        list(read_source(source(type="parquet", path=str(tmp_path / "d.parquet"))))


@pytest.mark.parametrize("fields", [{"images": "image"}, {"images": "pics"}, {"system": "system"}])
def test_a_column_that_the_recipe_names_must_be_there(tmp_path, fields):
    table = {"id": [1], "question": ["Q"], "answer": ["A"]}
    pq.write_table(pa.table(table), tmp_path / "d.parquet")
    (row,) = read_source(source(type="parquet", path=str(tmp_path / "d.parquet")))
    assert row.images == []
    with pytest.raises(ValueError, match=rf"sources\[s\]: no column {next(iter(fields.values()))}; found id, question"):
        list(read_source(source(type="parquet", path=str(tmp_path / "d.parquet"), **fields)))


@pytest.mark.parametrize("value", [b"x", {"bytes": b"x", "path": None}, [b"x"], [{"bytes": None, "path": "x"}]])
def test_images_in_a_column_of_another_name_are_not_left_out(tmp_path, value):
    table = {"id": [1], "question": ["Q"], "answer": ["A"], "picture": [value]}
    pq.write_table(pa.table(table), tmp_path / "d.parquet")
    with pytest.raises(
        ValueError, match=r"sources\[s\]\.images = image: no such column, but picture .* images: picture"
    ):
        list(read_source(source(type="parquet", path=str(tmp_path / "d.parquet"))))


@pytest.mark.parametrize("split", [False, True])
def test_folders_that_hugging_face_datasets_wrote(tmp_path, split):
    features = datasets.Features(
        {
            "id": datasets.Value("string"),
            "question": datasets.Value("string"),
            "answer": datasets.Value("string"),
            "image": datasets.Image(),
        }
    )
    data = datasets.Dataset.from_dict(
        {"id": ["a"], "question": ["Q"], "answer": ["A"], "image": [Image.new("RGB", (8, 8))]}, features
    )
    (datasets.DatasetDict({"test": data}) if split else data).save_to_disk(tmp_path / "d")
    (row,) = read_source(source(type="datasets", path=str(tmp_path / "d")))
    assert row.split == ("test" if split else "train")
    check_row(row, "s", 1000)


def test_a_reader_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "my_reader.py").write_text(
        "from masters.data.rows import RawRow\n"
        "def read(count):\n"
        "    for i in range(count):\n"
        "        yield RawRow(number=i, row_id=i, question='Q', answers='A')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    rows = list(read_source(source(type="custom", reader="my_reader:read", options={"count": 2})))
    assert rows == [RawRow(number=i, row_id=i, question="Q", answers="A") for i in range(2)]
    (tmp_path / "no_rows.py").write_text("def read():\n    yield from [{'id': 1}, None]\n")
    rows = list(read_source(source(type="custom", reader="no_rows:read")))
    assert [row.number for row in rows] == [0, 1]
    assert [row.problem for row in rows] == [
        ("reader yielded something else than a RawRow", "dict"),
        ("reader yielded something else than a RawRow", "NoneType"),
    ]
    with pytest.raises(ValueError, match="Is it on PYTHONPATH"):
        list(read_source(source(type="custom", reader="my_reader:nothing")))


@pytest.mark.parametrize("kind", ["llava", "parquet"])
def test_a_file_that_is_not_there(kind):
    with pytest.raises(ValueError, match=r"prepare\.sources\[s\]: .*No such file"):
        list(read_source(source(type=kind, path="/nowhere/at.all")))


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("path", {"type": "llava", "path": "s3://bucket/d.json"}),
        ("path", {"type": "parquet", "path": "gs://bucket/d"}),
        ("image_root", {"type": "llava", "path": "d.json", "image_root": "s3://bucket/images"}),
    ],
)
def test_readers_open_no_object_stores_and_the_recipe_says_so(field, fields):
    recipe = {"name": "x", "student": {"path": "s"}, "curriculum": [{"alias": "t", "path": "t"}]}
    with pytest.raises(RecipeError) as caught:
        validate({**recipe, "prepare": {"sources": [{"name": "s", **fields}]}})
    (problem,) = caught.value.problems
    assert str(problem).startswith(
        f'prepare.sources[0].{field} = "{fields[field]}": is no path of this machine\'s file system. Mount it, or copy'
    )


def test_a_file_that_is_no_json_array(tmp_path):
    (tmp_path / "d.json").write_text("[{]")
    with pytest.raises(ValueError, match="is not a JSON array"):
        list(read_source(source(type="llava", path=str(tmp_path / "d.json"))))


def test_the_fingerprint_sees_content_and_not_the_place(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "d.jsonl").write_text("{}")
    one, two = (source(type="llava", path=str(tmp_path / folder / "d.jsonl")) for folder in ("one", "two"))
    assert fingerprint(one) == fingerprint(two)
    (tmp_path / "two" / "d.jsonl").write_text("[]")
    assert fingerprint(one) != fingerprint(two)


def test_the_fingerprint_sees_another_folder_of_images(tmp_path):
    (tmp_path / "d.jsonl").write_text("{}")
    fields = {"type": "llava", "path": str(tmp_path / "d.jsonl")}
    assert fingerprint(source(**fields, image_root="a")) != fingerprint(source(**fields, image_root="b"))
    assert fingerprint(source(**fields, image_root="a")) != fingerprint(source(**fields))


def test_the_fingerprint_of_a_reader_of_ones_own_sees_its_code_and_its_files(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    code, data = tmp_path / "fingerprinted.py", tmp_path / "data.csv"
    code.write_text("raise SystemExit('nobody imports it')")
    data.write_text("1")
    custom = source(type="custom", reader="fingerprinted:read", options={"file": str(data), "count": 3, "word": "x\0"})
    prints = [fingerprint(custom)]
    assert fingerprint(custom) == prints[0]
    for file in (code, data):
        file.write_text("2")
        prints.append(fingerprint(custom))
    assert prints[0] != prints[1] != prints[2]
    json.dumps(prints)
    assert fingerprint(source(type="custom", reader="not.there:read"))["code"] == ""


def test_charts_have_unique_ids_and_disjoint_images():
    rows = list(
        read_source(source(type="charts", name="charts", train_images=40, validation_images=10, test_images=15))
    )
    samples = [check_row(row, "charts", 10_000)[0] for row in rows]
    assert len({sample["sample_id"] for sample in samples}) == len(samples) == 3 * 65
    images = {
        split: {s["image_ids"][0] for s in samples if s["split"] == split} for split in ("train", "validation", "test")
    }
    assert [len(images[split]) for split in ("train", "validation", "test")] == [40, 10, 15]
    assert not images["train"] & images["test"]
    assert not images["train"] & images["validation"]


def test_charts_of_two_seeds_share_no_image_across_splits():
    train = read_source(source(type="charts", name="a", seed=1, train_images=60, test_images=0))
    test = read_source(source(type="charts", name="b", seed=2, train_images=0, test_images=60))
    assert not {r.images[0] for r in train} & {r.images[0] for r in test}


def test_charts_are_the_same_every_time():
    first, second = (list(islice(read_source(source(type="charts", name="charts")), 30)) for _ in range(2))
    assert first == second
