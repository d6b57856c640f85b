"""The options of ``format("tfrecord")``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import tzinfo
from enum import Enum
from typing import Any, Final

from spark_strategy.data.paths import FileRoot
from spark_strategy.errors import PlanError
from spark_strategy.tfrecord.files import Place, file_root_here
from spark_strategy.tfrecord.listing import Listing
from spark_strategy.tfrecord.option_texts import OptionTexts, refuse_unknown
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
        max_seen: ``maxSeenFiles``: of which a stream's offset knows that they were taken; 0 for
            all.
        partition_bytes: ``maxPartitionBytes``: small files are read together up to this.
        checkpoint: ``checkpointLocation`` of a stream that is written.
        pushes_filters: ``filterPushdown``: skip folders that a filter excludes.
        root: where paths without a scheme are: the session's, or ``defaultFilesystem``.
        storage: ``storageOptions``: fsspec's, as JSON.
        listing: ``recursiveFileLookup``, ``pathGlobFilter``, ``modifiedAfter``,
            ``modifiedBefore`` and ``basePath``: which files are read.
        infers_partitions: ``partitionColumnTypeInference``: whether folders' values may be other
            than text; the session's.
        zone: ``timeZone``: of timestamps in the names of folders; the session's.
        ignores_missing: ``ignoreMissingFiles``: files that are gone meanwhile are left out.
        is_dynamic: ``partitionOverwriteMode``: whether overwrite replaces only those folders that
            it writes to; the session's.
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
    max_seen: int
    partition_bytes: int
    checkpoint: str
    pushes_filters: bool
    root: FileRoot
    infers_partitions: bool
    zone: tzinfo
    ignores_missing: bool
    is_dynamic: bool
    storage: Mapping[str, Any] = field(default_factory=dict, repr=False)
    listing: Listing = field(default_factory=Listing)

    def place(self, path: str) -> Place:
        """A path that a user gave."""
        url = self.root.url(path)
        hadoop = self.root.hadoop if url.partition(":")[0] in _HADOOP else {}
        return Place(url, {**hadoop, **self.storage})


def parse_options(given: Mapping[str, str], **defaults: str) -> Options:
    """Options as Spark hands them over; names in any case.

    Raises:
        PlanError: a name is not known, or a value makes no sense.
    """
    refuse_unknown(given)
    texts = {name.lower(): value for name, value in {**defaults, **given}.items()}
    one = OptionTexts(texts)
    choose, number, flag, zone = one.choose, one.number, one.flag, one.zone()
    listing = Listing(
        ignores_folders=flag("recursiveFileLookup"),
        name=texts.get("pathglobfilter", ""),
        after=one.time("modifiedAfter", zone),
        before=one.time("modifiedBefore", zone),
    )
    compression = "codec" if "compression" not in texts else "compression"
    made = Options(
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
        max_seen=number("maxSeenFiles", "10000") or 0,
        partition_bytes=number("maxPartitionBytes", str(32 << 20)) or 1,
        checkpoint=texts.get("checkpointlocation", ""),
        pushes_filters=flag("filterPushdown"),
        root=_root(texts.get("defaultfilesystem", ""), texts.get("fileroot", "")),
        infers_partitions=flag("partitionColumnTypeInference", "true"),
        zone=zone,
        ignores_missing=flag("ignoreMissingFiles"),
        is_dynamic=choose("partitionOverwriteMode", "static", {"static": False, "dynamic": True}),
        storage=_storage(texts.get("storageoptions", "{}")),
        listing=listing,
    )
    if not texts.get("basepath"):
        return made
    return replace(made, listing=replace(listing, base=made.place(texts["basepath"])))


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
