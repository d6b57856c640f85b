"""The schema of files that nobody gave one for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from spark_strategy.errors import DataError
from spark_strategy.tfrecord.files import File, Place
from spark_strategy.tfrecord.inference import inferred_fields
from spark_strategy.tfrecord.options import Mode, Options
from spark_strategy.tfrecord.partitions import partition_types
from spark_strategy.tfrecord.reading import TO_GO_ON
from spark_strategy.tfrecord.records import Piece, read_pieces

# Where a table without rows keeps its schema, since no record tells it. Readers of records pass
# over it, as over all names that begin so.
KEPT_SCHEMA: Final = "_schema.json"
_PIECE: Final = 10_000


def schema_fields(options: Options, files: Sequence[File]) -> list[dict[str, Any]]:
    """The fields of ``StructType.jsonValue()``: those of the records, then those of the folders.

    Raises:
        DataError: a file is damaged, and mode is FAILFAST; or records contradict each other.
        PlanError: some files have a folder's column that others lack.
    """
    partitions = partition_types(files, inferred=options.infers_partitions)
    fields = inferred_fields(options.message, _sample(files, options))
    fields = [field for field in fields if field["name"] not in partitions]
    return fields + [
        {"name": name, "type": kind, "nullable": True, "metadata": {}}
        for name, kind in partitions.items()
    ]


def _sample(files: Sequence[File], options: Options) -> Iterator[tuple[str, Piece]]:
    """Pieces of the files that a schema is inferred from."""
    step = max(1, len(files) // (options.sample_files or len(files)))
    for file in files[::step][: options.sample_files]:
        left = options.sample_records
        with file.open() as stream:
            for piece in read_pieces(stream, most=min(left or _PIECE, _PIECE)):
                if piece.damage and options.mode is Mode.FAILFAST:
                    at = piece.offset + piece.scan.used
                    raise DataError(f"{file.path} at byte {at}: {piece.damage}. {TO_GO_ON}")
                yield file.path, piece
                if left is not None and (left := left - len(piece.scan.records)) <= 0:
                    break


def kept_fields(places: Sequence[Place]) -> list[dict[str, Any]] | None:
    """The fields of a table that was written without rows; None where none was."""
    for place in places:
        filesystem, path = place.filesystem, f"{place.path.rstrip('/')}/{KEPT_SCHEMA}"
        if filesystem.exists(path):
            fields: list[dict[str, Any]] = json.loads(filesystem.cat_file(path))["fields"]
            return fields
    return None
