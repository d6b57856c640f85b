"""The options of ``format("tfrecord")``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from spark_strategy.data.paths import FileRoot
from spark_strategy.errors import PlanError
from spark_strategy.tfrecord.files import Place, file_root_here
from spark_strategy.tfrecord.wire import Message


class Mode(Enum):
    """What a record that cannot be read does, as in Spark's other sources."""

    FAILFAST = "FAILFAST"
    PERMISSIVE = "PERMISSIVE"
    DROPMALFORMED = "DROPMALFORMED"


_MESSAGES: Final = {
    "example": Message.EXAMPLE,
    "sequenceexample": Message.SEQUENCE,
    "bytearray": Message.RAW,
}
_HADOOP: Final = ("hdfs", "viewfs")
_CODECS: Final = {
    "": False,
    "none": False,
    "uncompressed": False,
    "gzip": True,
    "org.apache.hadoop.io.compress.gzipcodec": True,
}


@dataclass(frozen=True, slots=True)
class Options:
    """All options, read and checked.

    Attributes:
        message: ``recordType``: Example, SequenceExample or ByteArray.
        gzip: ``compression`` (or ``codec``): whether to write GZIP; reading finds out by itself.
        mode: ``mode``: FAILFAST (default), PERMISSIVE or DROPMALFORMED.
        corrupt_column: ``columnNameOfCorruptRecord``: where PERMISSIVE says what was wrong.
        sample_records: ``sampleRecords``: looked at per file to infer a schema; None for "all".
        sample_files: ``sampleFiles``: looked at to infer a schema; None for "all".
        columns: ``columns``: the only ones to read of an inferred schema; empty for all.
        partition_by: ``partitionBy``: columns to write as folders.
        if_exists: ``ifExists``: "append", "error" or "ignore" where the path has files already.
        max_files: ``maxFilesPerTrigger``: of a stream; 0 for all.
        max_age_s: ``maxFileAge``: seconds behind the newest after which a stream forgets files.
        partition_bytes: ``maxPartitionBytes``: small files are read together up to this.
        checkpoint: ``checkpointLocation`` of a stream that is written.
        pushes_filters: ``filterPushdown``: skip folders that a filter excludes.
        root: where paths without a scheme are: the session's, or ``defaultFilesystem``.
        storage: ``storageOptions``: fsspec's, as JSON.
    """

    message: Message
    gzip: bool
    mode: Mode
    corrupt_column: str
    sample_records: int | None
    sample_files: int | None
    columns: tuple[str, ...]
    partition_by: tuple[str, ...]
    if_exists: str
    max_files: int
    max_age_s: int
    partition_bytes: int
    checkpoint: str
    pushes_filters: bool
    root: FileRoot
    storage: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def place(self, path: str) -> Place:
        """A path that a user gave."""
        url = self.root.url(path)
        hadoop = self.root.hadoop if url.partition(":")[0] in _HADOOP else {}
        return Place(url, {**hadoop, **self.storage})


def parse_options(given: Mapping[str, str], **defaults: str) -> Options:
    """Options as Spark hands them over; names in any case.

    Raises:
        PlanError: a value makes no sense.
    """
    texts = {name.lower(): value for name, value in {**defaults, **given}.items()}
    choose, number = _Reader(texts).choose, _Reader(texts).number
    compression = "codec" if "compression" not in texts else "compression"
    return Options(
        message=choose("recordType", "example", _MESSAGES),
        gzip=choose(compression, "", _CODECS),
        mode=choose("mode", "failfast", {mode.value.lower(): mode for mode in Mode}),
        corrupt_column=texts.get("columnnameofcorruptrecord", "_corrupt_record"),
        sample_records=number("sampleRecords", "1000"),
        sample_files=number("sampleFiles", "20"),
        columns=_names(texts.get("columns", "")),
        partition_by=_names(texts.get("partitionby", "")),
        if_exists=choose("ifExists", "append", {n: n for n in ("append", "error", "ignore")}),
        max_files=number("maxFilesPerTrigger", "all") or 0,
        max_age_s=number("maxFileAge", str(7 * 24 * 3600)) or 0,
        partition_bytes=number("maxPartitionBytes", str(32 << 20)) or 1,
        checkpoint=texts.get("checkpointlocation", ""),
        pushes_filters=choose("filterPushdown", "false", {"true": True, "false": False}),
        root=_root(texts.get("defaultfilesystem", ""), texts.get("fileroot", "")),
        storage=_storage(texts.get("storageoptions", "{}")),
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _root(default: str, session: str) -> FileRoot:
    """The session's, unless the user names another default filesystem."""
    if session and not default:
        return FileRoot(**json.loads(session))
    return file_root_here(default)


def _storage(text: str) -> Mapping[str, Any]:
    try:
        found: Any = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise PlanError("storageOptions is not a JSON object of fsspec's options.")
    return found


@dataclass(frozen=True, slots=True)
class _Reader:
    texts: Mapping[str, str]

    def choose(self, name: str, default: str, choices: Mapping[str, Any]) -> Any:
        text = self.texts.get(name.lower(), default)
        if text.lower() not in choices:
            known = ", ".join(choice or "(empty)" for choice in choices)
            raise PlanError(f"{name}={text!r} is none of {known}.")
        return choices[text.lower()]

    def number(self, name: str, default: str) -> int | None:
        text = self.texts.get(name.lower(), default)
        if text.lower() == "all":
            return None
        if not text.isdigit() or int(text) == 0:
            raise PlanError(f"{name}={text!r} is neither a whole number above 0 nor 'all'.")
        return int(text)
