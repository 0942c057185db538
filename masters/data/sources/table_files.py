"""Records of tables: Parquet, Arrow, TSV and CSV."""

import csv
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from masters.data.sources.records import START, Mark, Record, reading, unpacked
from masters.data.storage import Storage

_PIECE_ROWS, _PIECE_BYTES = 1000, 64 << 20
_BATCH_ROWS, _BATCH_BYTES = 256, 8 << 20
_BUFFER = 4 << 20
_LONGEST_FIELD = 256 << 20


def parquet_pieces(root: Storage, name: str) -> int:
    """Number of pieces: row groups, small neighbours joined; at least 1. Raises ValueError."""
    with reading(root, name), root.open(name) as file:
        return len(_pieces(pq.ParquetFile(file).metadata))


def parquet_records(root: Storage, name: str, piece: int = 0, start: Mark = START) -> Iterator[Record]:
    """Rows of one piece. Places count rows of the file; marks count rows of the piece.

    Memory is bounded by Parquet's own unit, the page, and a few rows. Raises ValueError.
    """
    with reading(root, name), root.open(name) as file:
        table = pq.ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER)
        _check_names(root, name, table.schema_arrow)
        groups = [table.metadata.row_group(group) for group in range(table.num_row_groups)]
        chosen = _pieces(table.metadata)[piece]
        before, passed = sum(group.num_rows for group in groups[: chosen.start]), 0
        for index in chosen:
            if passed + groups[index].num_rows <= start[1]:
                passed += groups[index].num_rows
                continue
            size = _batch_rows(groups[index].num_rows, groups[index].total_byte_size)
            for batch in table.iter_batches(batch_size=size, row_groups=[index], use_threads=False):
                yield from _rows(batch, passed, start[1], before)
                passed += batch.num_rows


def _pieces(metadata: Any) -> list[range]:
    """Row groups of each piece."""
    found, first, rows, size = [], 0, 0, 0
    for group in range(metadata.num_row_groups):
        facts = metadata.row_group(group)
        rows, size = rows + facts.num_rows, size + facts.total_byte_size
        if rows >= _PIECE_ROWS or size >= _PIECE_BYTES:
            found.append(range(first, group + 1))
            first, rows, size = group + 1, 0, 0
    if first < metadata.num_row_groups or not found:
        found.append(range(first, metadata.num_row_groups))
    return found


def arrow_records(root: Storage, name: str, start: Mark = START) -> Iterator[Record]:
    """Rows of an Arrow IPC file or stream, as `datasets` saves them. Raises ValueError."""
    passed = 0
    with reading(root, name), root.open(name, mapped=True) as file:
        is_file = file.read(6) == b"ARROW1"
        file.seek(0)
        reader = pa.ipc.open_file(file) if is_file else pa.ipc.open_stream(file)
        _check_names(root, name, reader.schema)
        batches = map(reader.get_batch, range(reader.num_record_batches)) if is_file else reader
        for batch in batches:
            if passed + batch.num_rows > start[1]:
                size = _batch_rows(batch.num_rows, batch.nbytes)
                for first in range(0, batch.num_rows, size):
                    yield from _rows(batch.slice(first, size), passed + first, start[1])
            passed += batch.num_rows


def _check_names(root: Storage, name: str, schema: pa.Schema) -> None:
    twice = {column for column in schema.names if schema.names.count(column) > 1}
    if twice:
        raise ValueError(f"{root.address(name)}: two columns are called {min(twice)}. Rename one of them.")


def _batch_rows(rows: int, size: int) -> int:
    """Rows to turn into Python values at once."""
    return max(1, min(_BATCH_ROWS, rows * _BATCH_BYTES // max(size, 1)))


def _rows(batch: pa.RecordBatch, passed: int, skipped: int, before: int = 0) -> Iterator[Record]:
    """Records of a batch behind `passed` rows, without the first `skipped` rows of all."""
    if passed + batch.num_rows <= skipped:
        return
    first = max(0, skipped - passed)
    for number, value in enumerate(_values(_plain(batch.slice(first))), passed + first + 1):
        yield Record(value, f"row {before + number}", (0, number))


def _plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Extension types, such as the arrays of `datasets`, as what they are stored as."""
    if not any(isinstance(kind, pa.BaseExtensionType) for kind in batch.schema.types):
        return batch
    columns = [c.storage if isinstance(c.type, pa.BaseExtensionType) else c for c in batch.columns]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _values(batch: pa.RecordBatch) -> list[Any]:
    """One mapping a row; the exception where Python has no value for a cell: no UTF-8, a date out of range."""
    try:
        return batch.to_pylist(maps_as_pydicts="strict")
    except (ValueError, KeyError, OverflowError, pa.ArrowException) as error:
        if batch.num_rows == 1:
            return [error.with_traceback(None)]
        return [value for row in range(batch.num_rows) for value in _values(batch.slice(row, 1))]


def tsv_records(root: Storage, name: str, start: Mark = START) -> Iterator[Record]:
    """Rows below a header line, by tabs, or by commas where the header has no tab. An empty field is None; all else is text.

    A line that is no row gives the exception. Bytes that are no UTF-8 become lone surrogates, which the checks of text find.

    Raises:
        ValueError: for a header that is none, or a quotation mark that swallows lines.
    """
    csv.field_size_limit(_LONGEST_FIELD)
    where = root.address(name)
    with reading(root, name):
        with unpacked(root, name) as stream:
            lines = _Lines(stream)
            first = next(lines, "")
            delimiter = "\t" if "\t" in first else ","
            try:
                header = next(csv.reader([first], delimiter=delimiter, strict=True), [])
            except csv.Error as error:
                raise ValueError(
                    f"{where}: its header line is none: {error}. Write the columns' names there."
                ) from error
        if len(header) < 2 or len(set(header)) < len(header):
            raise ValueError(
                f"{where}: its first line is no header: {first.strip()[:80]!r}. Write the columns' names there, each once, "
                "with tabs or commas between them."
            )
        offset, number = start if start != START else (lines.offset, 0)
        with unpacked(root, name, offset) as stream:
            lines = _Lines(stream, offset)
            for value in _tsv_values(lines, header, delimiter, where):
                number += 1
                yield Record(value, f"row {number}", (lines.offset, number))


class _Lines:
    """Lines of text, and the byte offset behind the last one that was taken."""

    def __init__(self, stream: Any, offset: int = 0):
        self._stream, self.offset, self.count = stream, offset, 0

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._stream.readline()
        if not line:
            raise StopIteration
        self.offset, self.count = self.offset + len(line), self.count + 1
        return line.decode("utf-8-sig" if self.offset == len(line) else "utf-8", "surrogateescape")


def _tsv_values(lines: _Lines, header: list[str], delimiter: str, where: str) -> Iterator[Any]:
    rows = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        taken, offset = lines.count, lines.offset
        try:
            row = next(rows, None)
        except csv.Error as error:
            if lines.count > taken + 1:
                raise ValueError(
                    f"{where}: a quotation mark that is opened at byte {offset} is not closed as it should be: {error}, "
                    f"{lines.count - taken} lines on. Write it twice, with the field in quotation marks."
                ) from error
            yield error.with_traceback(None)
            continue
        if row is None:
            return
        if len(row) == len(header):
            yield {column: field or None for column, field in zip(header, row, strict=True)}
        elif row:
            yield ValueError(f"{len(row)} fields for {len(header)} columns, on {lines.count - taken} lines")
