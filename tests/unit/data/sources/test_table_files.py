import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from masters.data.sources.files import kind_of, list_files, pieces, records
from masters.data.storage import Storage
from tests.unit.data.test_rows import png


def read(folder, name="d.parquet", piece=0, start=(0, 0)):
    root = Storage(str(folder))
    return list(records(root, name, kind_of(root, name), piece, start))


@pytest.mark.parametrize(
    ("rows", "group", "expected"),
    [
        (10, 3, [10]),
        (0, 1, [0]),
        (2500, 100, [1000, 1000, 500]),
        (2500, 600, [1200, 1200, 100]),
        (3000, 1500, [1500, 1500]),
    ],
)
def test_pieces_are_row_groups_with_small_neighbours_joined(tmp_path, rows, group, expected):
    pq.write_table(pa.table({"i": pa.array(range(rows), pa.int64())}), tmp_path / "d.parquet", row_group_size=group)
    assert pieces(Storage(str(tmp_path)), "d.parquet", "parquet") == len(expected)
    found = [read(tmp_path, piece=piece) for piece in range(len(expected))]
    assert [len(part) for part in found] == expected
    assert [record.value["i"] for part in found for record in part] == list(range(rows))
    assert [record.place for part in found for record in part] == [f"row {i}" for i in range(1, rows + 1)]
    for piece, part in enumerate(found):
        for number in {1, group - 1, group, group + 1, 257, len(part)} & set(range(1, len(part) + 1)):
            assert read(tmp_path, piece=piece, start=part[number - 1].next) == part[number:]


def test_large_row_groups_are_pieces_of_their_own(tmp_path):
    table = pa.table({"image": [bytes([i]) * (17 << 20) for i in range(8)]})
    pq.write_table(table, tmp_path / "d.parquet", row_group_size=2, compression=None, use_dictionary=False)
    assert pieces(Storage(str(tmp_path)), "d.parquet", "parquet") == 2
    assert [[r.value["image"][0] for r in read(tmp_path, piece=piece)] for piece in range(2)] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
    ]


class Registered(pa.ExtensionType):
    def __init__(self):
        super().__init__(pa.list_(pa.int64()), "masters.tests")

    def __arrow_ext_serialize__(self):
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage, serialized):
        return cls()


@pytest.fixture
def registered():
    pa.register_extension_type(Registered())
    yield Registered()
    pa.unregister_extension_type("masters.tests")


COLUMNS = {
    "structs": (pa.array([{"bytes": b"x", "path": None}]), {"bytes": b"x", "path": None}),
    "lists": (pa.array([[[{"a": 1}], []]]), [[{"a": 1}], []]),
    "dictionary": (pa.array(["a"]).dictionary_encode(), "a"),
    "large": (pa.array(["é"], pa.large_string()), "é"),
    "map": (pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())), {"k": 1}),
    "null": (pa.nulls(1), None),
    "half": (pa.array(np.array([1.5], np.float16)), 1.5),
    "uuid": (pa.array([bytes(16)], pa.uuid()), bytes(16)),
}


@pytest.mark.parametrize("name", ["d.parquet", "d.arrow"])
def test_columns_of_all_types(tmp_path, registered, name):
    arrays = {column: array for column, (array, _) in COLUMNS.items()}
    arrays["extension"] = pa.ExtensionArray.from_storage(registered, pa.array([[1, 2]]))
    table = pa.table(arrays)
    if name == "d.parquet":
        pq.write_table(table, tmp_path / name)
    else:
        with pa.ipc.new_file(tmp_path / name, table.schema) as writer:
            writer.write_table(table)
    (record,) = read(tmp_path, name)
    assert record.value == {column: value for column, (_, value) in COLUMNS.items()} | {"extension": [1, 2]}


def test_a_cell_that_python_cannot_hold_costs_one_row(tmp_path):
    text = pa.StringArray.from_buffers(3, pa.py_buffer(np.array([0, 1, 2, 3], np.int32)), pa.py_buffer(b"a\xffb"))
    pq.write_table(pa.table({"text": text}), tmp_path / "d.parquet")
    first, second, third = read(tmp_path)
    assert (first.value, third.value) == ({"text": "a"}, {"text": "b"})
    assert isinstance(second.value, UnicodeDecodeError)


def test_columns_of_one_name_are_refused(tmp_path):
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["q", "q"]), tmp_path / "d.parquet")
    with pytest.raises(ValueError, match=rf"^{tmp_path}/d.parquet: two columns are called q\. Rename"):
        read(tmp_path)


@pytest.mark.parametrize("splits", [False, True])
def test_folders_that_hugging_face_datasets_wrote(tmp_path, splits):
    features = {
        "id": datasets.Value("string"),
        "image": datasets.Image(),
        "images": datasets.List(datasets.Image()),
        "array": datasets.Array2D((1, 2), "int64"),
        "kind": datasets.ClassLabel(names=["a", "b"]),
    }
    image = Image.new("RGB", (8, 8))
    rows = {
        "id": ["x", "y"],
        "image": [image, None],
        "images": [[image], []],
        "array": [[[1, 2]]] * 2,
        "kind": ["b", "a"],
    }
    data = datasets.Dataset.from_dict(rows, datasets.Features(features))
    (datasets.DatasetDict({"test": data, "train": data}) if splits else data).save_to_disk(tmp_path / "d")
    _, names = list_files(str(tmp_path / "d"))
    base = "data-00000-of-00001.arrow"
    assert names == ([f"test/{base}", f"train/{base}"] if splits else [base])
    first, second = read(tmp_path / "d", names[0])
    assert first.value["image"]["bytes"].startswith(b"\x89PNG")
    assert first.value["images"] == [first.value["image"]]
    assert second.value == {"id": "y", "image": None, "images": [], "array": [[1, 2]], "kind": 0}


def test_images_of_a_parquet_file_of_datasets_stay_encoded(tmp_path):
    features = datasets.Features({"image": datasets.Image()})
    datasets.Dataset.from_dict({"image": [{"bytes": png(), "path": "a.png"}]}, features).to_parquet(
        tmp_path / "d.parquet"
    )
    assert read(tmp_path)[0].value == {"image": {"bytes": png(), "path": "a.png"}}
