"""Peak memory of reading large files, in processes of their own."""

import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

MIB = 1 << 20
READ = """
import sys
from masters.data.sources.files import pieces, records
from masters.data.storage import Storage

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024

root, name, kind = Storage(sys.argv[1]), sys.argv[2], sys.argv[3]
before = peak()
count = sum(1 for piece in range(pieces(root, name, kind)) for _ in records(root, name, kind, piece))
print(count, peak() - before)
"""


def rows_and_growth(folder, name, kind):
    """Number of records, and MiB that the peak grew by."""
    output = subprocess.run(
        [sys.executable, "-c", READ, str(folder), name, kind], capture_output=True, text=True, check=True
    ).stdout.split()
    return int(output[0]), float(output[1])


def write_array(path, size):
    """A JSON array of small records with some text of other scripts, and one of 1 MiB now and then."""
    record = json.dumps({"id": 1, "conversations": [{"from": "human", "value": "é日😀 " * 40}] * 2}, ensure_ascii=False)
    block = ",\n".join([record] * 2000 + [json.dumps({"image": "x" * MIB})]).encode()
    blocks = size // len(block) + 1
    with open(path, "wb") as stream:
        stream.write(b"[")
        for number in range(blocks):
            stream.write((b",\n" if number else b"") + block)
        stream.write(b"]")
    return 2001 * blocks


@pytest.mark.parametrize(("size", "limit"), [(60 * MIB, 60), pytest.param(1024 * MIB, 100, marks=pytest.mark.slow)])
def test_a_json_array_is_streamed(tmp_path, size, limit):
    count = write_array(tmp_path / "d.json", size)
    found, growth = rows_and_growth(tmp_path, "d.json", "json")
    assert found == count
    assert growth < limit


def test_row_groups_of_large_images_are_read_in_small_batches(tmp_path):
    image = np.random.default_rng(0).bytes(2 * MIB)
    table = pa.table({"id": range(128), "image": [image] * 128})
    pq.write_table(table, tmp_path / "d.parquet", row_group_size=64, use_dictionary=False, compression=None)
    found, growth = rows_and_growth(tmp_path, "d.parquet", "parquet")
    assert found == 128
    assert growth < 250  # a page holds the whole row group of 128 MiB: twice that, and the rows, without batches


def test_rows_of_large_images_in_arrow_files(tmp_path):
    image = np.random.default_rng(0).bytes(MIB)
    table = pa.table({"image": [image] * 100})
    with pa.ipc.new_stream(tmp_path / "d.arrow", table.schema) as writer:
        writer.write_table(table)
    found, growth = rows_and_growth(tmp_path, "d.arrow", "arrow")
    assert found == 100
    assert growth < 160  # the mapped file counts once, the rows of a batch are 8 MiB
