"""Files of a run: on a local disk, s3:// or gs:// alike. They appear whole or not at all."""

import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

_CHUNK = 1 << 23  # bytes of a file that is copied through this machine
_READERS = 16  # files at once: an object store answers each after tens of milliseconds

Found = TypeVar("Found")


class Storage:
    """A folder, addressed by a path or URI. All names are relative to it, with forward slashes. Can be pickled."""

    def __init__(self, uri: str):
        self.uri = uri.rstrip("/") if "://" in uri else os.path.abspath(uri)
        self._filesystem, self._root = pafs.FileSystem.from_uri(self.uri)

    def __reduce__(self) -> tuple[type["Storage"], tuple[str]]:
        return Storage, (self.uri,)

    @property
    def local_path(self) -> str | None:
        """The folder's path on this machine; None for object stores."""
        return self._root if self._is_local else None

    def folder(self, name: str) -> "Storage":
        """A folder inside this one. What follows a `?` in the URI, such as an endpoint, stays behind the path."""
        return Storage(self.address(name))

    def address(self, name: str) -> str:
        """Path or URI of a file, as people are told it."""
        path, mark, query = self.uri.partition("?") if "://" in self.uri else (self.uri, "", "")
        return f"{path.rstrip('/')}/{name}{mark}{query}"

    def exists(self, name: str) -> bool:
        """Whether a file of this name is there."""
        return self._filesystem.get_file_info(self._path(name)).type == pafs.FileType.File

    def is_folder(self, name: str = "") -> bool:
        """Whether a folder of this name is there; on object stores, files below the name."""
        return self._filesystem.get_file_info(self._path(name)).type == pafs.FileType.Directory

    def size(self, name: str) -> int:
        """Bytes of the file. Raises FileNotFoundError."""
        info = self._filesystem.get_file_info(self._path(name))
        if info.type != pafs.FileType.File:
            raise FileNotFoundError(2, "No such file", self.address(name))
        return info.size

    def open(self, name: str, mapped: bool = False) -> pa.NativeFile:
        """The file for reading at any place; `mapped` maps a local one into memory. Raises FileNotFoundError."""
        if mapped and self._is_local:
            return pa.memory_map(self._path(name))
        return self._filesystem.open_input_file(self._path(name))

    def names(self, folder: str = "", suffix: str = "") -> list[str]:
        """Sorted names of the files below a folder, relative to this storage; unfinished files are not listed."""
        return sorted(name for name in self.sizes(folder) if name.endswith(suffix))

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Bytes of each file below a folder, by its name relative to this storage; unfinished files are not listed."""
        selector = pafs.FileSelector(self._path(folder), recursive=True, allow_not_found=True)
        files = (info for info in self._filesystem.get_file_info(selector) if info.type == pafs.FileType.File)
        shown = (info for info in files if not info.base_name.startswith("."))
        return {info.path[len(self._root) :].lstrip("/"): info.size for info in shown}

    def read(self, name: str) -> bytes:
        """The file's content. Raises FileNotFoundError."""
        with self._filesystem.open_input_stream(self._path(name)) as stream:
            return stream.read()

    def write(self, name: str, content: bytes | pa.Buffer) -> None:
        """Write a file whole: a temporary file that is renamed, or one PUT to an object store."""
        with self._whole(self._path(name)) as place, self._filesystem.open_output_stream(place) as stream:
            stream.write(content)

    def read_json(self, name: str) -> Any:
        """A JSON file's value."""
        return json.loads(self.read(name))

    def write_json(self, name: str, value: Any) -> None:
        """Write a value as JSON that people can read."""
        self.write(name, (json.dumps(value, indent=1, ensure_ascii=False, default=str) + "\n").encode())

    def read_table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """A Parquet file's table."""
        with self._filesystem.open_input_stream(self._path(name)) as stream:
            # Arrow's own memory: one of its threads that drops a Python object while the process ends would abort it.
            buffer = stream.read_buffer()
        return pq.ParquetFile(pa.BufferReader(buffer)).read(columns=columns)

    def open_parquet(self, name: str) -> pq.ParquetFile:
        """A Parquet file of which a part is read: its footer now, row groups when they are asked for."""
        return pq.ParquetFile(self._filesystem.open_input_file(self._path(name)))

    def footer(self, name: str) -> pq.FileMetaData:
        """A Parquet file's footer: rows, statistics and the table's metadata. No row is read."""
        return pq.read_metadata(self._path(name), filesystem=self._filesystem)

    def each(self, function: Callable[[str], Found], names: Iterable[str]) -> Iterator[Found]:
        """function(name) for every name, in order, several at a time."""
        with ThreadPoolExecutor(_READERS) as pool:
            yield from pool.map(function, names)

    def read_tables(self, names: Iterable[str], schema: pa.Schema, columns: list[str] | None = None) -> pa.Table:
        """Tables of several Parquet files, one below the other; with no file an empty table of the schema."""
        wanted = schema if columns is None else pa.schema([schema.field(c) for c in columns])
        return pa.concat_tables([wanted.empty_table(), *(self.read_table(name, columns) for name in names)])

    def find(self, names: Iterable[str], schema: pa.Schema, column: str, values: list[str]) -> pa.Table:
        """Rows of Parquet files whose column has one of the values."""
        import pyarrow.dataset as pads  # brings pandas, which takes longer than everything else that a re-run imports

        files = [self._path(name) for name in names]
        dataset = pads.dataset(files, schema=schema, filesystem=self._filesystem, format="parquet")
        return dataset.to_table(filter=pads.field(column).isin(pa.array(values, schema.field(column).type)))

    def write_table(self, name: str, table: pa.Table, row_group_size: int | None = None) -> None:
        """Write a table as Parquet: equal tables give equal bytes."""
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd", row_group_size=row_group_size)
        self.write(name, sink.getvalue().to_pybytes())

    def add_table(self, name: str, table: pa.Table) -> bool:
        """Write a table where there is none; whether it was written.

        On a local disk the first of several writers wins. An object store has no such promise: of two that write in the same
        moment the last one does, so whoever adds tables writes equal ones, or looks for them first.
        """
        if self.exists(name):
            return False
        if not self._is_local:
            self.write_table(name, table)
            return True
        folder, _, base = name.rpartition("/")
        own = f"{folder}/.{base}.{uuid.uuid4().hex}"
        self.write_table(own, table)
        try:
            os.link(self._path(own), self._path(name))
        except FileExistsError:
            return False
        finally:
            self.delete(own)
        return True

    def delete(self, name: str) -> None:
        """Delete a file or a folder with all that is in it; nothing happens where there is none."""
        path = self._path(name)
        kind = self._filesystem.get_file_info(path).type
        if kind == pafs.FileType.Directory:
            self._filesystem.delete_dir(path)
        elif kind == pafs.FileType.File:
            self._filesystem.delete_file(path)

    def upload(self, folder: str | os.PathLike[str], name: str) -> None:
        """Copy a local folder; what was there is replaced. On a local disk it appears whole."""
        if not self._is_local:
            self.delete(name)
            pafs.copy_files(os.fspath(folder), self._path(name), destination_filesystem=self._filesystem)
            return
        parent, _, base = self._path(name).rpartition("/")
        os.makedirs(parent, exist_ok=True)
        temporary = f"{parent}/.{base}.{uuid.uuid4().hex}"
        shutil.copytree(folder, temporary, copy_function=shutil.copyfile)  # with the usual permissions
        self.delete(name)
        os.rename(temporary, self._path(name))

    def download(self, name: str, folder: str | os.PathLike[str]) -> None:
        """Copy a folder to a local one."""
        os.makedirs(folder, exist_ok=True)
        pafs.copy_files(self._path(name), os.fspath(folder), source_filesystem=self._filesystem)

    def take(self, name: str, source: "Storage", theirs: str) -> None:
        """A file of another storage as this one's: a hard link on one disk, the store's own copy in one object store.

        Elsewhere it is copied through this machine. It appears whole. Raises FileNotFoundError.
        """
        path, origin = self._path(name), source._path(theirs)
        if self._is_local and source._is_local:
            self._link(path, os.path.realpath(origin))
            return
        if self._filesystem.equals(source._filesystem):
            try:
                self._filesystem.copy_file(origin, path)
                return
            except FileNotFoundError:
                raise
            except OSError:  # S3 copies no object above 5 GiB by itself
                pass
        try:
            with (
                source._filesystem.open_input_stream(origin) as stream,
                self._whole(path) as place,
                self._filesystem.open_output_stream(place) as sink,
            ):
                shutil.copyfileobj(stream, sink, _CHUNK)
        except BaseException:
            if not self._is_local:
                self.delete(name)  # closing the stream has made an object of the part that was written
            raise

    def move(self, source: str, target: str) -> None:
        """Move a file, or every file below a folder; on object stores that is a copy and a delete. None is no error."""
        names = [source] if self.exists(source) else self.names(source)
        for name in names:
            destination = self._path(f"{target}{name[len(source) :]}")
            if self._is_local:
                os.makedirs(os.path.dirname(destination), exist_ok=True)
            self._filesystem.move(self._path(name), destination)
        self.delete(source)

    @property
    def _is_local(self) -> bool:
        return isinstance(self._filesystem, pafs.LocalFileSystem)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    @contextmanager
    def _whole(self, path: str) -> Iterator[str]:
        """Where to write a file that takes its place when the block ends; in an object store a PUT does that by itself."""
        if not self._is_local:
            yield path
            return
        folder, _, base = path.rpartition("/")
        os.makedirs(folder, exist_ok=True)
        temporary = f"{folder}/.{base}.{uuid.uuid4().hex}"
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            if os.path.lexists(temporary):  # also behind a rename of two links to one file, which does nothing
                os.unlink(temporary)

    def _link(self, path: str, origin: str) -> None:
        with self._whole(path) as place:
            try:
                os.link(origin, place)
            except FileNotFoundError:
                raise
            except OSError:  # another disk, or one without links
                shutil.copyfile(origin, place)
