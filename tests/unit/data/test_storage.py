import os
import pickle

import pyarrow as pa
import pytest

from masters.data.storage import Storage


@pytest.fixture
def storage(tmp_path):
    return Storage(str(tmp_path / "run"))


def test_write_and_read(storage):
    storage.write("a/b.txt", b"one")
    storage.write("a/b.txt", b"two")
    storage.write_json("a/c.json", {"x": [1, "ü"]})
    assert storage.read("a/b.txt") == b"two"
    assert storage.read_json("a/c.json") == {"x": [1, "ü"]}
    assert storage.names() == ["a/b.txt", "a/c.json"]
    assert storage.names("a", ".json") == ["a/c.json"]
    assert storage.names("nothing") == []
    assert storage.exists("a/b.txt")
    assert not storage.exists("a")


def test_a_file_appears_whole_or_not_at_all(storage, monkeypatch):
    storage.write("x", b"old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk is gone")))
    with pytest.raises(OSError, match="disk is gone"):
        storage.write("x", b"new")
    assert storage.read("x") == b"old"
    assert os.listdir(storage.local_path) == ["x"]


def test_unfinished_files_are_not_listed(storage):
    storage.write("t/done.parquet", b"")
    with open(f"{storage.local_path}/t/.done.parquet.123", "wb"):
        pass
    assert storage.names("t") == ["t/done.parquet"]


def test_equal_tables_give_equal_bytes(storage):
    table = pa.table({"x": [1, 2, None], "y": [["a"], [], None]})
    storage.write_table("one.parquet", table)
    storage.write_table("two.parquet", pa.Table.from_pylist(table.to_pylist(), schema=table.schema))
    assert storage.read("one.parquet") == storage.read("two.parquet")
    assert storage.read_table("one.parquet").equals(table)
    assert storage.read_tables(["one.parquet", "two.parquet"], table.schema).num_rows == 6
    assert storage.read_tables([], table.schema).num_rows == 0
    assert storage.find(storage.names(), table.schema, "x", [2]).num_rows == 2
    assert storage.find([], table.schema, "x", [2]).num_rows == 0
    assert storage.find(storage.names(), table.schema, "x", []).num_rows == 0
    assert storage.footer("one.parquet").num_rows == 3


def test_a_function_of_each_name_in_their_order(storage):
    names = [str(number) for number in range(50)]
    for name in names:
        storage.write(name, name.encode())
    assert list(storage.each(storage.read, names)) == [name.encode() for name in names]
    with pytest.raises(FileNotFoundError):
        list(storage.each(storage.read, ["0", "none"]))


def test_move_and_delete_of_folders_and_files(storage):
    storage.write("a/x/1", b"1")
    storage.write("a/2", b"2")
    storage.write("file", b"3")
    storage.move("a", "old/a")
    storage.move("file", "old/file")
    storage.move("nothing", "old/nothing")
    assert storage.names() == ["old/a/2", "old/a/x/1", "old/file"]
    storage.delete("old/a")
    storage.delete("old/file")
    storage.delete("old/none")
    assert storage.names() == []


def test_upload_replaces_a_folder_and_can_be_read_by_others(storage, tmp_path):
    source = tmp_path / "model"
    source.mkdir()
    (source / "w").write_bytes(b"1")
    os.chmod(source / "w", 0o600)
    storage.write("m/stale", b"")
    storage.upload(source, "m")
    assert storage.names() == ["m/w"]
    assert os.stat(f"{storage.local_path}/m/w").st_mode & 0o777 == 0o644
    storage.download("m", tmp_path / "back")
    assert (tmp_path / "back" / "w").read_bytes() == b"1"


def test_it_travels_to_other_processes(storage):
    storage.folder("deep").write("x", b"1")
    assert pickle.loads(pickle.dumps(storage.folder("deep"))).read("x") == b"1"


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_folder_goes_into_the_path_of_a_uri_and_not_into_its_query(slash):
    query = "endpoint_override=h:1&region=r"
    run = Storage(f"s3://b/runs{slash}?{query}").folder("x").folder("y")
    assert run.uri == f"s3://b/runs/x/y?{query}"
    assert run._path("z") == "b/runs/x/y/z"
    assert Storage("s3://b/runs?region=r/").folder("x").uri == "s3://b/runs/x?region=r"


def test_a_question_mark_in_a_local_path_is_a_character(tmp_path):
    assert Storage(f"{tmp_path}/a?b").folder("x").local_path == f"{tmp_path}/a?b/x"


def test_a_local_file_uri_is_a_local_path(tmp_path):
    assert Storage(f"file://{tmp_path}/r").local_path == f"{tmp_path}/r"
