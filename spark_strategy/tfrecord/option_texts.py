"""Options as the texts that Spark hands over, and which names there are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from difflib import get_close_matches
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from spark_strategy.errors import PlanError

# The options that docs/tfrecord.md lists.
NAMES: Final = (
    *("recordType", "compression", "codec", "mode", "columnNameOfCorruptRecord", "columns"),
    *("sampleRecords", "sampleFiles", "partitionBy", "ifExists", "partitionOverwriteMode"),
    *("maxPartitionBytes", "maxFilesPerTrigger", "maxFileAge", "maxSeenFiles", "filterPushdown"),
    *("defaultFilesystem", "storageOptions", "recursiveFileLookup", "pathGlobFilter", "basePath"),
    *("modifiedAfter", "modifiedBefore", "ignoreMissingFiles", "timeZone"),
    "partitionColumnTypeInference",
)
# What Spark itself adds: of load and save, of streams, and of CREATE TABLE.
_OF_SPARK: Final = frozenset(
    {"path", "paths", "fileroot", "checkpointlocation", "queryname", "location", "owner"}
    | {"provider", "comment", "external", "is_managed_location", "table_type", "collation"}
)
# Options of other sources, and what stands for them here.
_ELSEWHERE: Final = {
    "mergeschema": "The features of all files are merged in any case.",
    "ignorecorruptfiles": "Set mode to DROPMALFORMED, or to PERMISSIVE.",
    "inferschema": "A schema is inferred wherever none is given.",
    "latestfirst": "A stream takes the oldest files first.",
    "maxbytespertrigger": "Set maxFilesPerTrigger.",
    "cleansource": "A stream leaves the files where they are.",
}
# Needs no database of time zones, which a slim image may lack.
_UTC: Final = ("UTC", "Z", "GMT", "Etc/UTC", "Etc/GMT")
_OFFSET: Final = re.compile(r"(?:GMT|UTC)?([+-])(\d{1,2})(?::?(\d\d))?")


def refuse_unknown(names: Iterable[str]) -> None:
    """Refuse names of options that nobody reads.

    Raises:
        PlanError: with the name, and the one that was probably meant.
    """
    known = {name.lower(): name for name in NAMES}
    for name in names:
        lower = name.lower()
        if lower in known or lower in _OF_SPARK or lower.startswith("option."):
            continue
        if lower in _ELSEWHERE:
            raise PlanError(f"format('tfrecord') has no option {name!r}. {_ELSEWHERE[lower]}")
        if lower.startswith(("fs.", "dfs.", "hadoop.")):
            raise PlanError(
                f"format('tfrecord') has no option {name!r}. Settings of a filesystem go into "
                "storageOptions, or into spark.hadoop.* of the session."
            )
        near = get_close_matches(lower, known, 1)
        advice = f"Did you mean {known[near[0]]!r}?" if near else f"It has {', '.join(NAMES)}."
        raise PlanError(f"format('tfrecord') has no option {name!r}. {advice}")


@dataclass(frozen=True, slots=True)
class OptionTexts:
    """The values, by name in lower case.

    Attributes:
        texts: what was given, and the session's defaults.
    """

    texts: Mapping[str, str]

    def choose(self, name: str, default: str, choices: Mapping[str, Any]) -> Any:
        """One of some values.

        Raises:
            PlanError: it is none of them.
        """
        text = self.texts.get(name.lower(), default)
        if text.lower() not in choices:
            known = ", ".join(choice or "(empty)" for choice in choices)
            raise PlanError(f"{name}={text!r} is none of {known}.")
        return choices[text.lower()]

    def flag(self, name: str, default: str = "false") -> bool:
        """True or false."""
        return bool(self.choose(name, default, {"true": True, "false": False}))

    def number(self, name: str, default: str) -> int | None:
        """A whole number above 0; None for "all".

        Raises:
            PlanError: it is neither.
        """
        text = self.texts.get(name.lower(), default)
        if text.lower() == "all":
            return None
        if not text.isdecimal() or int(text) == 0:
            raise PlanError(f"{name}={text!r} is neither a whole number above 0 nor 'all'.")
        return int(text)

    def time(self, name: str, zone: tzinfo) -> float | None:
        """A time in this zone, as seconds since 1970.

        Raises:
            PlanError: it is not a time.
        """
        text = self.texts.get(name.lower(), "")
        if not text:
            return None
        try:
            found = datetime.fromisoformat(text)
        except ValueError as error:
            raise PlanError(
                f"{name}={text!r} is not a time such as 2024-01-05T10:00:00."
            ) from error
        return (found if found.tzinfo else found.replace(tzinfo=zone)).timestamp()

    def zone(self) -> tzinfo:
        """The zone called ``timeZone``.

        Raises:
            PlanError: this Python does not know it.
        """
        text = self.texts.get("timezone", "UTC")
        if match := _OFFSET.fullmatch(text):
            away = timedelta(hours=int(match[2]), minutes=int(match[3] or 0))
            return timezone(-away if match[1] == "-" else away)
        try:
            return UTC if text in _UTC else ZoneInfo(text)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise PlanError(
                f"timeZone={text!r} is not a time zone that Python knows, such as Europe/Berlin."
            ) from error
