"""Files to the Arrow batches of a schema."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from spark_strategy.errors import DataError, PlanError
from spark_strategy.tfrecord.decoding import decode_batch
from spark_strategy.tfrecord.features import Feature, check_message
from spark_strategy.tfrecord.files import File
from spark_strategy.tfrecord.options import Mode, Options
from spark_strategy.tfrecord.partitions import partition_scalar
from spark_strategy.tfrecord.records import Piece, read_pieces
from spark_strategy.tfrecord.wire import HEADER_BYTES, Message

# Rows of a batch, and cells (a span of 16 bytes for each).
_ROWS: Final = 10_000
_CELLS: Final = 1_000_000

TO_GO_ON: Final = (
    "To go on without such records set mode to DROPMALFORMED, or to PERMISSIVE for null rows."
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """How to read files into batches.

    Attributes:
        columns: of the batches, in order.
        partitioned: those of them that come from the folders' names.
        options: of the read.
    """

    columns: Sequence[Feature]
    partitioned: frozenset[str]
    options: Options

    @property
    def corrupt(self) -> str | None:
        """The column that says what was wrong with a record, if there is one."""
        wanted = self.options.corrupt_column
        return wanted if any(column.name == wanted for column in self.columns) else None

    @property
    def features(self) -> list[Feature]:
        """What the records hold of the columns."""
        given = {*self.partitioned, self.corrupt}
        return [column for column in self.columns if column.name not in given]

    def check(self) -> None:
        """Refuse what cannot be read.

        Raises:
            PlanError: a column that a record cannot hold, or that would have to be null.
        """
        features = self.features
        if features or self.options.message is not Message.RAW:
            check_message(features, self.options.message)
        firm = [feature.name for feature in features if not feature.nullable]
        if self.options.mode is Mode.PERMISSIVE and firm:
            raise PlanError(
                f"mode=PERMISSIVE makes null of what cannot be read, but {', '.join(firm)} cannot "
                "be null. Make them nullable, or choose FAILFAST or DROPMALFORMED."
            )

    def check_folders(self, files: Sequence[File]) -> None:
        """Refuse folders whose names are no values of their columns.

        Raises:
            PlanError: with the value and the type.
        """
        for column in self.columns:
            if column.name in self.partitioned:
                for text in {file.partition.get(column.name) for file in files}:
                    partition_scalar(text, column.arrow, self.options.zone)


def read_file(file: File, plan: Plan) -> Iterator[pa.RecordBatch]:
    """The batches of one file.

    Raises:
        DataError: mode is FAILFAST and a record cannot be read; with its file and offset. Or the
            file is gone, and ``ignoreMissingFiles`` is false.
    """
    most = max(64, min(_ROWS, _CELLS // (len(plan.columns) + 1)))
    dropped = 0
    try:
        stream = file.open()
    except FileNotFoundError as error:
        missing([file.url], plan.options, error)
        return
    with stream:
        for piece in read_pieces(stream, most=most):
            batch, lost = _batch(piece, file, plan)
            dropped += lost
            if batch.num_rows:
                yield batch
    if dropped:
        _log.warning("%s: left out %d records that could not be read", file.path, dropped)


def missing(urls: Sequence[str], options: Options, cause: BaseException | None = None) -> None:
    """Log files that are gone since they were listed, where that is allowed.

    Raises:
        DataError: it is not allowed.
    """
    many = f" and {len(urls) - 1} more" if urls[1:] else ""
    if not options.ignores_missing:
        raise DataError(
            f"{urls[0]}{many} is gone since it was listed. To go on without such files set "
            "ignoreMissingFiles to true."
        ) from cause
    _log.warning("%s%s is gone since it was listed: left out", urls[0], many)


def _batch(piece: Piece, file: File, plan: Plan) -> tuple[pa.RecordBatch, int]:
    """A piece's batch, and the number of records left out of it."""
    features, mode = plan.features, plan.options.mode
    rows = len(piece.scan.records)
    decoded = decode_batch(piece.data, piece.scan, features, plan.options.message)
    said = {row: f"{_where(file, piece, row)}: {why}" for row, why in decoded.reasons.items()}
    if piece.damage:
        said[rows] = f"{file.path} at byte {piece.offset + piece.scan.used}: {piece.damage}"
    if said and mode is Mode.FAILFAST:
        raise DataError(f"{said[min(said)]}. {TO_GO_ON}")
    arrays = dict(zip((feature.name for feature in features), decoded.arrays, strict=True))
    if piece.damage and mode is Mode.PERMISSIVE:  # a null row for the rest of the file
        rows += 1
        arrays = {name: pa.concat_arrays([a, pa.nulls(1, a.type)]) for name, a in arrays.items()}
    for column in plan.columns:
        if column.name in plan.partitioned:
            value = partition_scalar(
                file.partition.get(column.name), column.arrow, plan.options.zone
            )
            arrays[column.name] = pa.repeat(value, rows)
        elif column.name == plan.corrupt:
            arrays[column.name] = pa.array([said.get(row) for row in range(rows)], column.arrow)
    schema = pa.schema([pa.field(c.name, c.arrow, nullable=c.nullable) for c in plan.columns])
    batch = _made([arrays[column.name] for column in plan.columns], schema, rows)
    if said and mode is Mode.DROPMALFORMED:
        keep = np.ones(rows, np.bool_)
        keep[[row for row in said if row < rows]] = False
        batch = batch.filter(pa.array(keep))
    return batch, len(said) if mode is Mode.DROPMALFORMED else 0


def _made(arrays: list[pa.Array], schema: pa.Schema, rows: int) -> pa.RecordBatch:
    if not arrays:  # nothing but the number of rows, as of a count
        return pa.RecordBatch.from_struct_array(pa.array([{}] * rows, pa.struct([])))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _where(file: File, piece: Piece, row: int) -> str:
    start = piece.offset + int(piece.scan.records[row, 0]) - HEADER_BYTES
    return f"{file.path} at byte {start}"
