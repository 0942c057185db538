import gzip
import io
import json
import pickle
import tarfile
from random import Random

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from masters.data.sources import json_files
from masters.data.sources.files import kind_of, list_files, records
from masters.data.storage import Storage

ROWS = [
    {"id": 0, "text": "a\u2028b"},
    {"id": 1, "text": "é日😀" * 3},
    {"id": 2, "text": "c, ] }"},
    {"id": 3, "text": '"\\'},
]


def lines(rows=ROWS, end="\n", **options):
    return "".join(json.dumps(row, **options) + end for row in rows).encode()


def zstd(content):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


def parquet(rows=ROWS, **options):
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink, **options)
    return sink.getvalue().to_pybytes()


def arrow(new, rows=ROWS):
    sink, table = pa.BufferOutputStream(), pa.Table.from_pylist(rows)
    with new(sink, table.schema) as writer:
        for batch in table.to_batches(max_chunksize=3):
            writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def tar(*members):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


TAR = tar(
    ("./a/000.json", b'{"__key__": "?", "q": 1, "image": "000.png"}'),
    ("./a/000.png", b"one"),
    ("a/001.json", b"[1]"),
    ("a/001.0.jpg", b"two"),
    ("a/001.1.JPG", b"three"),
    ("a/._001.jpg", b"hidden"),
    ("a/no_suffix", b"?"),
    ("b/001.txt", "é".encode()),
    ("b/001.cls", b"7"),
    ("b/001.mp4", b"\0"),
    ("b/001.meta.json", b'{"x": 1}'),
    ("b/" + "long" * 50 + ".json", b'{"q": 2}'),
    ("c.json", b"{"),
    ("c.json", b'{"q": 3}'),
)
MEMBERS = [
    {"__key__": "a/000", "q": 1, "image": b"one"},
    {"__key__": "a/001", "json": [1], "image": [b"two", b"three"]},
    {"__key__": "b/001", "txt": "é", "cls": "7", "mp4": b"\0", "meta": {"x": 1}},
    {"__key__": "b/" + "long" * 50, "q": 2},
    json.JSONDecodeError,
    {"__key__": "c", "q": 3},
]
TSV = 'index\timage\tanswer\r\n1\tab==\t"two\r\nlines, ""quoted"""\r\n2\t\tNone\r\n\r\n3\tx\r\n4\tNA\t \r\n5\ta"b\t"c"d\r\n6\té\tnull\r\n'
TABLE = [
    {"index": "1", "image": "ab==", "answer": 'two\r\nlines, "quoted"'},
    {"index": "2", "image": None, "answer": "None"},
    ValueError,
    {"index": "4", "image": "NA", "answer": " "},
    Exception,
    {"index": "6", "image": "é", "answer": "null"},
]
DEEP, LONG = "[" * 100_000 + "]" * 100_000, "1" * 5_000
BAD = (
    f'{{"id": 0}}\n{{oops\n\n[1, 2]\n{DEEP}\n{{"a": "]}}", "b": [{LONG}]}}\n{{"id": "\xff"}}\n"text"\nnull\n{{"id": 9}}'
)
BAD_VALUES = [{"id": 0}, ValueError, [1, 2], RecursionError, ValueError, ValueError, "text", None, {"id": 9}]
ARRAY = f'[{{"a": "\\ud800"}}, {DEEP}, {{"a": "]\\"", "b": [{LONG}]}}, {LONG}, 12, "x", null, [1], NaN, {{"id": 9}}]'
ARRAY_VALUES = [{"a": "\ud800"}, RecursionError, ValueError, ValueError, 12, "x", None, [1], float, {"id": 9}]

FILES = {
    "lines.jsonl": ("jsonl", lines(), ROWS),
    "lines.json": ("jsonl", b"\xef\xbb\xbf \r\n\n" + lines(end="\r\n\r\n", ensure_ascii=False), ROWS),
    "one.json": ("jsonl", lines(ROWS[:1]).strip(), ROWS[:1]),
    "one_map.json": (
        "jsonl",
        b'{"data": [1], "conversations": [{"from": "human"}]}',
        [{"data": [1], "conversations": [{"from": "human"}]}],
    ),
    "lines.jsonl.gz": ("jsonl", gzip.compress(lines()[:40]) + gzip.compress(lines()[40:]), ROWS),
    "lines.zst": ("jsonl", zstd(lines()), ROWS),
    "bad.jsonl": ("jsonl", BAD.encode("latin-1"), BAD_VALUES),
    "first_is_bad.jsonl": ("jsonl", b"oops\n" + lines(), [ValueError, *ROWS]),
    "array.json": ("json", json.dumps(ROWS).encode(), ROWS),
    "array_of_lines.json": (
        "json",
        b"\xef\xbb\xbf\n " + json.dumps(ROWS, indent=1, ensure_ascii=False).encode() + b"\r\n",
        ROWS,
    ),
    "array.json.gz": ("json", gzip.compress(json.dumps(ROWS, ensure_ascii=False).encode()), ROWS),
    "odd.json": ("json", ARRAY.encode(), ARRAY_VALUES),
    "no_utf_8.json": ("json", b'[{"a": "\xff\xe9"}, {"id": 1}]', [{"a": "\udcff\udce9"}, {"id": 1}]),
    "empty_array.json": ("json", b" [ ]\n", []),
    "a.parquet": ("parquet", parquet(row_group_size=3), ROWS),
    "groups_of_one.parquet": ("parquet", parquet(row_group_size=1), ROWS),
    "stream.arrow": ("arrow", arrow(pa.ipc.new_stream), ROWS),
    "file.arrow": ("arrow", arrow(pa.ipc.new_file), ROWS),
    "a.tsv": ("tsv", b"\xef\xbb\xbf" + TSV.encode(), TABLE),
    "a.tsv.gz": ("tsv", gzip.compress(TSV.encode()), TABLE),
    "a.csv": ("tsv", b'a,b\n"1,2",\n[1],{', [{"a": "1,2", "b": None}, {"a": "[1]", "b": "{"}]),
    "a.tar": ("webdataset", TAR, MEMBERS),
    "a.tar.gz": ("webdataset", gzip.compress(TAR), MEMBERS),
}


def read(folder, name, start=(0, 0), piece=0):
    root = Storage(str(folder))
    return list(records(root, name, kind_of(root, name), piece, start))


def values(found):
    return [record.value for record in found]


def same(value, expected):
    return isinstance(value, expected) if isinstance(expected, type) else value == expected


# Small windows for arrays, but not for 100,000 brackets, which would be looked at again and again.
CHUNKS = [(name, 4 << 20) for name in FILES] + [
    (n, 5) for n, file in FILES.items() if file[0] == "json" and n[0] != "o"
]


@pytest.mark.parametrize(("name", "chunk"), CHUNKS)
def test_kinds_are_told_and_read_from_any_place_on(tmp_path, monkeypatch, name, chunk):
    kind, content, expected = FILES[name]
    monkeypatch.setattr(json_files, "_CHUNK", chunk)
    (tmp_path / name).write_bytes(content)
    root, (listed,) = list_files(str(tmp_path / name))
    assert (listed, kind_of(root, name)) == (name, kind)
    found = read(tmp_path, name)
    assert len(found) == len(expected)
    assert [pair for pair in zip(values(found), expected, strict=True) if not same(*pair)] == []
    for number, record in enumerate(found, 1):
        rest = read(tmp_path, name, record.next)
        assert [(r.place, r.next, str(r.value)) for r in rest] == [
            (r.place, r.next, str(r.value)) for r in found[number:]
        ]


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("array.json", ["record 1", "record 2", "record 3", "record 4"]),
        ("lines.json", ["line 3", "line 5", "line 7", "line 9"]),
        ("a.parquet", ["row 1", "row 2", "row 3", "row 4"]),
        ("file.arrow", ["row 1", "row 2", "row 3", "row 4"]),
        ("a.csv", ["row 1", "row 2"]),
        ("a.tar", ["member a/000", "member a/001", "member b/001", "member b/" + "long" * 50, "member c", "member c"]),
    ],
)
def test_places_are_what_people_count(tmp_path, name, places):
    (tmp_path / name).write_bytes(FILES[name][1])
    assert [record.place for record in read(tmp_path, name)] == places


FOREIGN = {
    "empty.json": (b" \n", r"is empty\. Fetch it again"),
    "zeros.parquet": (bytes(5000), "is nothing but zero bytes"),
    "lfs.parquet": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 1\n", "is a Git LFS pointer, not the data. Run `git lfs pull`"),
    "bom.json": ('[{"a": 1}]'.encode("utf-16"), "is UTF-16. Write it as UTF-8: iconv"),
    "no_bom.tsv": (('a\tb\n' * 20).encode("utf-16-be"), "is UTF-16"),
    "pretty.json": (json.dumps(ROWS[0], indent=2).encode(), r"is JSON of objects over several lines: the first has id, text\. .*jq -c \. FILE"),
    "pretty.jsonl": ("\n".join(json.dumps(row, indent=2) for row in ROWS).encode(), "is JSON of objects over several lines"),
    "huge_pretty.json": (json.dumps({"x": ["y"] * 300_000}, indent=1).encode(), "over several lines: the first has x"),
    "data.json": (json.dumps({"version": {"data": [{}]}, "data": ROWS}, indent=1).encode(), r"in its list `data`\. .*jq -c '\.data\[\]' FILE"),
    "data_in_a_line.json": (json.dumps({"data": ROWS}).encode(), "in its list `data`"),
    "huge_line.json": (json.dumps({"questions": ROWS * 20_000}).encode(), "in its list `questions`"),
    "by_id.json": (json.dumps({"1": ROWS[0], "2": ROWS[1]}).encode(), "the records under their ids, such as '1'.*to_entries"),
    "page.json": (b"\n<!DOCTYPE html><html>Sign in</html>", "is a page of HTML or XML"),
    "oops.jsonl": (b"oops\n" * 30, "is none of what its name says: it begins with 'oops"),
    "oops.json": (b"{oops\n" * 30, "is neither JSON lines nor a JSON array"),
    "notes": (b"some words\n", "is of no kind that is known: it begins with 'some words.*Name its kind in `format`"),
    "a.zip": (b"PK\x03\x04" + bytes(9), "is a zip archive. Unpack it"),
    "a.png": (b"\x89PNG\r\n\x1a\n" + bytes(9), "is an image. Name a file of records"),
    "a.bin": (b"\x80\x04\x95\0\1\2" * 50, "is binary, of no kind that is known"),
    "p.parquet.gz": (gzip.compress(parquet()), "is parquet packed by gzip. Unpack it"),
    "cut.json.gz": (gzip.compress(lines())[:-20], "cannot be read: Truncated compressed stream"),
}  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_a_file_that_is_not_read_is_one_error_that_says_what_it_is(tmp_path, name):
    content, words = FOREIGN[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"^{tmp_path}/{name}: .*{words}"):
        kind_of(Storage(str(tmp_path)), name)


def test_long_lines_are_lines(tmp_path):
    rows = [{"meta": {"data": [{}]}, "image": "x" * (2 << 20)}] * 2
    (tmp_path / "long.json").write_bytes(lines(rows))
    assert values(read(tmp_path, "long.json")) == rows


BROKEN = {
    "comma.json": ("json", b'[{"a": 1}, {"a": 2},]', "is not a JSON array: a comma stands before the closing bracket, in or behind record 3 at byte 20"),
    "cut.json": ("json", '[{"a": "é"}, {"a": 2'.encode(), "the file ends within what begins here, in or behind record 2 at byte 14"),
    "cut_string.json": ("json", b'[{"a": "x', "in or behind record 1 at byte 7"),
    "no_end.json": ("json", b'[{"a": 1}\n', "the file ends, in or behind record 2"),
    "no_comma.json": ("json", b'[1 2]', "'2' stands where a comma should, in or behind record 2 at byte 3"),
    "two.json": ("json", b"[1][2]", "there is more behind the closing bracket"),
    "oops.json": ("json", '["é", {]'.encode(), "Expecting property name .* record 2 at byte 8"),
    "words.json": ("json", b"words", "it begins with 'w'"),
    "words.jsonl": ("jsonl", b"{oops\n\n" * 30, "is not JSON lines: none of its first 20 lines is a JSON object; line 1: Expecting"),
    "pretty.jsonl": ("jsonl", b'{\n"a":\n1\n}', "none of its first 4 lines"),
    "cut.parquet": ("parquet", parquet()[:-30], "cannot be read: Parquet magic bytes not found"),
    "middle.parquet": ("parquet", parquet()[:30] + b"\xff" * 60 + parquet()[90:], "cannot be read: "),
    "words.parquet": ("parquet", b"words", "cannot be read: Parquet file size is 5 bytes"),
    "cut.arrow": ("arrow", arrow(pa.ipc.new_stream)[:-60], "cannot be read: "),
    "one_column.tsv": ("tsv", b"words\nand words\n", "its first line is no header: 'words'"),
    "twice.tsv": ("tsv", b"a\ta\n1\t2\n", "its first line is no header"),
    "swallows.tsv": ("tsv", b'a\tb\n1\t"x\n2\ty\n3\t"z\n', "a quotation mark that is opened at byte 4 .* 3 lines on"),
    "never_closed.tsv": ("tsv", b'a\tb\n1\t"x\n2\ty\n', "a quotation mark that is opened at byte 4"),
    "cut.tar": ("webdataset", tar(("0.json", b"{}"), ("1.json", b'"' + b"x" * 9000 + b'"'))[:5000], "cut off or damaged behind member 0.json"),
    "cut_header.tar": ("webdataset", tar(("0.json", b"{}"), ("1.json", b"{}"))[:1300], "behind member 0.json: no member and no end mark"),
    "no_end.tar": ("webdataset", tar(("0.json", b"{}"))[:1024], "behind member 0.json: no member and no end mark"),
    "damaged.tar": ("webdataset", tar(("0.json", b"{}"), ("1.json", b"{}")).replace(b"1.json", b"2.json"), "behind member 0.json: no member"),
    "two.tar": ("webdataset", tar(("0.json", b"{}")) * 2, "there is more behind its end mark"),
    "cut.tar.gz": ("webdataset", gzip.compress(TAR)[:-20], "cannot be read: Truncated compressed stream"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_breaks_names_itself_and_the_place(tmp_path, name):
    kind, content, words = BROKEN[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"^{tmp_path}/{name}: .*{words}"):
        list(records(Storage(str(tmp_path)), name, kind))


FOLDERS = [
    (["b.jsonl", "a.json", "x/c.json.gz"], ["a.json", "b.jsonl", "x/c.json.gz"]),
    (["data/train-0.parquet", "README.md", "LICENSE", "dataset_infos.json", ".git/x.parquet", ".cache/a/b.parquet", "data/.x.parquet", "data/_x.parquet", "_tmp/x.parquet"], ["data/train-0.parquet"]),
    (["dataset_dict.json", "test/data-00000-of-00001.arrow", "test/state.json", "test/dataset_info.json", "test/cache-1.arrow"], ["test/data-00000-of-00001.arrow"]),
    (["a.tsv", "b.csv", "images/1.png", "images.zip", "notes.txt"], ["a.tsv", "b.csv"]),
    (["1.tar", "0.tgz", "2.tar.gz", "data.tar.d"], ["0.tgz", "1.tar", "2.tar.gz"]),
]  # fmt: skip


def fill(folder, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")


@pytest.mark.parametrize(("names", "expected"), FOLDERS)
@pytest.mark.parametrize("address", ["{}", "{}/", "file://{}"])
def test_data_files_of_a_folder_in_order(tmp_path, names, expected, address):
    fill(tmp_path, names)
    root, found = list_files(address.format(tmp_path))
    assert found == expected
    assert pickle.loads(pickle.dumps(root)).read(found[0]) == b"{}"


def test_one_file_by_every_kind_of_path(tmp_path, monkeypatch):
    fill(tmp_path, ["x/.a.dat"])
    monkeypatch.chdir(tmp_path / "x")
    for path in (".a.dat", "./.a.dat", f"{tmp_path}/x/.a.dat", f"file://{tmp_path}/x/.a.dat"):
        root, names = list_files(path)
        assert (names, root.read(names[0])) == ([".a.dat"], b"{}")


@pytest.mark.parametrize(
    ("names", "kind", "words"),
    [
        (["1.jpg", "2.jpg", "README"], None, "no data file in this folder; there is 2 .jpg, 1 README. Name a file"),
        ([".x.json"], None, "no data file in this folder; there is nothing"),
        (["a.json", "b.tar"], None, r"files of several kinds: a\.json, b\.tar\. Set `format`"),
        (["a.json"], "parquet", "no parquet file in this folder; there is 1 .json"),
    ],
)
def test_folders_that_are_refused(tmp_path, names, kind, words):
    fill(tmp_path, names)
    with pytest.raises(ValueError, match=rf"^{tmp_path}: {words}"):
        list_files(str(tmp_path), kind)


@pytest.mark.parametrize("kind", ["json", "jsonl"])
def test_the_format_chooses_among_several_kinds(tmp_path, kind):
    fill(tmp_path, ["a.json", "b.tar", "c.jsonl"])
    assert list_files(str(tmp_path), kind)[1] == ["a.json", "c.jsonl"]


@pytest.mark.parametrize("path", ["/nowhere/at.all", "nowhere", "file:///nowhere/at.all"])
def test_a_path_where_nothing_is(path):
    with pytest.raises(ValueError, match=rf"^{path}: no such file or folder\. Name"):
        list_files(path)


@pytest.mark.parametrize(
    "name", ["lines.json", "array.json.gz", "a.parquet", "stream.arrow", "file.arrow", "a.tsv", "a.tar"]
)
def test_storage_that_is_no_local_disk(tmp_path, monkeypatch, name):
    kind, content, expected = FILES[name]
    (tmp_path / "bucket" / "f").mkdir(parents=True)
    (tmp_path / "bucket" / "f" / name).write_bytes(content)

    class Far:
        @staticmethod
        def from_uri(uri):
            assert uri.startswith("s3://")
            return pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem()), uri.removeprefix("s3://")

    monkeypatch.setattr("masters.data.storage.pafs.FileSystem", Far)
    for path, listed in (("s3://bucket", f"f/{name}"), ("s3://bucket/f/", name), (f"s3://bucket/f/{name}", name)):
        root, names = list_files(path)
        assert (names, root.local_path, kind_of(root, listed)) == ([listed], None, kind)
        found = list(records(root, listed, kind))
        assert len(found) == len(expected)
        assert values(records(root, listed, kind, start=found[0].next))[0] == found[1].value
    for path in ("s3://bucket/g", "s3://no"):
        with pytest.raises(ValueError, match=f"^{path}: no such file or folder"):
            list_files(path)


def decoded(content):
    """What Python's own decoder makes of an array; None where it, or anything else, is none."""
    try:
        value = json.loads(content.decode("utf-8", "surrogateescape"))
    except ValueError:
        return None
    return value if isinstance(value, list) else None


def test_arrays_are_what_pythons_decoder_makes_of_them_whole_cut_and_changed(tmp_path, monkeypatch):
    random, root = Random(0), Storage(str(tmp_path))

    def value(depth=0):
        kind = random.randrange(6 if depth < 3 else 4)
        if kind < 2:
            return random.choice([None, True, 1e300, -0.5, 10**20, random.random(), random.randrange(1000)])
        if kind < 4:
            return "".join(random.choices('ab"\\\n[]{},é日😀\u2028', k=random.randrange(30)))
        items = [value(depth + 1) for _ in range(random.randrange(5))]
        return items if kind == 4 else {f"{i}é": item for i, item in enumerate(items)}

    def read(content, start=(0, 0)):
        (tmp_path / "a.json").write_bytes(content)
        try:
            return list(json_files.array_records(root, "a.json", start))
        except ValueError:
            return None

    for _ in range(200):
        monkeypatch.setattr(json_files, "_CHUNK", random.choice([1, 2, 7, 50]))
        rows = [value() for _ in range(random.randrange(8))]
        whole = json.dumps(rows, ensure_ascii=random.random() < 0.5, indent=random.choice([None, 1])).encode()
        found = read(whole)
        assert values(found) == rows
        for number, record in enumerate(found, 1):
            assert values(read(whole, record.next)) == rows[number:]
        place = random.randrange(len(whole))
        for other in (whole[:place], whole[:place] + random.choice(b'[]{},":\\ x1').to_bytes() + whole[place + 1 :]):
            got = read(other)
            assert (got if got is None else values(got)) == decoded(other), other
