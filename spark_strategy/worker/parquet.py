"""Parquet files -> Arrow batches: the columns and row groups they have, and a part's rows.

pyarrow reads them, local ones by itself and all others through TensorFlow's file interface, so that
what serves ``hdfs://`` elsewhere in the run (``spark_strategy.filesystem``) does here too, with its
deadlines.
"""

from __future__ import annotations

import functools
import io
import json
import posixpath
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import tensorflow as tf

from spark_strategy.data.arrays import column_at
from spark_strategy.data.arrow_types import spark_field
from spark_strategy.data.columns import Column, ColumnSpec, specs_of, with_lengths
from spark_strategy.data.vectors import dense
from spark_strategy.errors import PlanError

_FOOTERS_AT_ONCE: Final = 8
_BATCH_ROWS: Final = 16_384
# Where Spark writes the schema of what it wrote, and a folder's name for null.
_SPARKS_SCHEMA: Final = b"org.apache.spark.sql.parquet.row.metadata"
_NULL: Final = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True, slots=True)
class RowGroup:
    """A row group of a file, the least that can be read of it.

    Attributes:
        path: the file's URI or path.
        number: its place in the file.
        rows: how many it has.
    """

    path: str
    number: int
    rows: int


class Parquet:
    """Some files of one schema, which the first of them says.

    Args:
        paths: URIs, or plain paths of local files; at least one. Folders called ``key=value``
            right above a file give its rows a column, as in Spark.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = tuple(paths)
        self._partitions = _partitions(paths)

    def row_groups(self) -> list[RowGroup]:
        """Those with rows, in order; reads the end of every file."""
        with ThreadPoolExecutor(_FOOTERS_AT_ONCE) as readers:
            return [group for file in readers.map(self._groups, self._paths) for group in file]

    def specs(
        self,
        wanted: Collection[str],
        declared: Mapping[str, Column],
        groups: Sequence[RowGroup],
    ) -> tuple[ColumnSpec, ...]:
        """What columns become; reads as far as an array whose length nobody declared.

        Args:
            wanted: their names, dotted for a field of a struct; empty for all.
            declared: by name.
            groups: where to look for arrays.

        Raises:
            PlanError: a column cannot become a tensor, or is not there.
        """
        fields = self._fields()
        if wanted:
            fields = [field for field in fields if _is_asked_for(field["name"], wanted)]
        specs = specs_of({"type": "struct", "fields": fields}, declared) if fields else ()
        known = {spec.name for spec in specs}
        if unknown := sorted({*wanted, *declared} - known):
            raise PlanError(
                f"There is no column {unknown[0]!r} among those that are read; the files have "
                f"{', '.join(field['name'] for field in self._fields())}."
            )
        specs = tuple(spec for spec in specs if not wanted or spec.name in wanted)
        lengths = {s.name: self._length(s, groups) for s in specs if s.needs_length}
        return with_lengths(specs, lengths)

    def batches(
        self, group: RowGroup, first: int, end: int, specs: Sequence[ColumnSpec]
    ) -> Iterator[pa.RecordBatch]:
        """The rows from ``first`` up to ``end`` of a row group, of these columns alone."""
        fragment = self._opened(group.path).subset(row_group_ids=[group.number])
        at = 0
        columns = sorted({spec.path[0] for spec in specs})
        vectors = {spec.name for spec in specs if spec.is_vector}
        for batch in fragment.to_batches(
            schema=self._schema, columns=columns, batch_size=_BATCH_ROWS
        ):
            rows = batch[max(first - at, 0) : max(end - at, 0)]
            at += batch.num_rows
            if rows.num_rows:
                yield _readable(rows, vectors)
            if at >= end:
                return

    @functools.cached_property
    def _first(self) -> pa.Schema:
        return self._opened(self._paths[0]).physical_schema

    @functools.cached_property
    def _schema(self) -> pa.Schema:
        return pa.unify_schemas([self._first.remove_metadata(), self._partitions])

    def _fields(self) -> list[dict[str, Any]]:
        """As in ``StructType.jsonValue()``, from Spark where Spark wrote the files."""
        metadata = self._first.metadata or {}
        if _SPARKS_SCHEMA in metadata:
            fields = json.loads(metadata[_SPARKS_SCHEMA])["fields"]
            return [*fields, *map(spark_field, self._partitions)]
        return [spark_field(field) for field in self._schema]

    def _length(self, spec: ColumnSpec, groups: Sequence[RowGroup]) -> int:
        for group in groups:
            for batch in self.batches(group, 0, group.rows, [spec]):
                lengths = pc.list_value_length(column_at(batch, spec.path)).drop_null()
                if len(lengths):
                    return int(lengths[0].as_py())
        raise PlanError(
            f"No row says how long the arrays in {spec.name} are: there is none without a null. "
            f"Declare them, as in columns={{{spec.name!r}: Column(shape=(784,))}}."
        )

    def _groups(self, path: str) -> list[RowGroup]:
        groups = self._opened(path).row_groups
        return [RowGroup(path, group.id, group.num_rows) for group in groups if group.num_rows]

    def _opened(self, path: str) -> Any:
        partitioning = ds.HivePartitioning(self._partitions, null_fallback=_NULL)
        # INT96, Spark's older timestamps, would overflow as nanoseconds after the year 2262.
        options = ds.ParquetReadOptions(coerce_int96_timestamp_unit="us")
        is_local = "://" not in path
        try:
            fragment = ds.ParquetFileFormat(read_options=options).make_fragment(
                path if is_local else pa.PythonFile(_File(path), mode="r"),
                pa.fs.LocalFileSystem() if is_local else None,
                partition_expression=partitioning.parse(path),
            )
            fragment.ensure_complete_metadata()
        except pa.ArrowInvalid as error:
            raise PlanError(f"{path} is no Parquet file: {error}") from error
        return fragment


class _File(io.RawIOBase):
    """A file of any filesystem of TensorFlow's, to be read."""

    def __init__(self, path: str) -> None:
        self._file = tf.io.gfile.GFile(path, "rb")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return int(self._file.tell())

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._file.seek(offset, whence)
        return self.tell()

    def read(self, size: int = -1) -> bytes:
        return bytes(self._file.read(size))

    def close(self) -> None:
        self._file.close()
        super().close()


def _readable(batch: pa.RecordBatch, vectors: Collection[str]) -> pa.RecordBatch:
    """With arrays in place of vectors, and values in place of a dictionary's numbers."""
    columns = []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        plain = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
        columns.append(dense(name, plain) if name in vectors else plain)
    return pa.RecordBatch.from_arrays(columns, batch.schema.names)


def _is_asked_for(column: str, wanted: Collection[str]) -> bool:
    return column in wanted or any(name.startswith(f"{column}.") for name in wanted)


def _partitions(paths: Sequence[str]) -> pa.Schema:
    """The columns that folders are named after, with the narrowest type that fits all values."""
    found: dict[str, list[str]] = {}
    for path in paths:
        for folder in reversed(posixpath.dirname(path).split("/")):
            key, is_one, value = folder.partition("=")
            if not is_one:
                break
            values = found.setdefault(unquote(key), [])
            if value != _NULL:
                values.append(unquote(value))
    fields = [(key, _narrowest(values)) for key, values in reversed(found.items())]
    return pa.schema(fields)


def _narrowest(values: Sequence[str]) -> pa.DataType:
    for kind in (pa.int32(), pa.int64(), pa.float64()):
        try:
            pa.array(values, pa.string()).cast(kind)
        except pa.ArrowInvalid:
            continue
        return kind
    return pa.string()
