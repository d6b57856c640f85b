"""What a run is fed with: the columns of each named DataFrame, and room for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Final

from spark_strategy.errors import PlanError
from spark_strategy.topology import is_count

if TYPE_CHECKING:
    from spark_strategy.data.columns import ColumnSpec

# A block is the unit that is read, decoded and shuffled.
BLOCK_BYTES: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class Cache:
    """Where a rank keeps its rows for the length of a run, and how many bytes of them.

    Args:
        max_bytes: bytes of one rank's rows, over all its DataFrames; a larger shard fails the
            run. None for as many as there is room: a run fails before it takes the last
            twentieth of the disk.
        memory: keep them in memory (``/dev/shm``) instead of the executor's scratch disk.

    Raises:
        PlanError: ``max_bytes`` is not a whole number above 0.
    """

    max_bytes: int | None = None
    memory: bool = False

    def __post_init__(self) -> None:
        if self.max_bytes is not None and (not is_count(self.max_bytes) or not self.max_bytes):
            raise PlanError(
                f"Cache(max_bytes) is a whole number of bytes above 0, found {self.max_bytes!r}."
            )


def check_cache(cache: object) -> None:
    """Refuse what is neither a ``Cache`` nor None.

    Raises:
        PlanError: shows how to write one.
    """
    if cache is not None and not isinstance(cache, Cache):
        raise PlanError(f"cache is a Cache, as in Cache(memory=True); found {cache!r}.")


@dataclass(frozen=True, slots=True)
class FeedOrder:
    """What the ranks are told about the rows they will get. Travels to the executors.

    Attributes:
        columns: for each DataFrame's name, its columns.
        cache: where the rows are kept.
    """

    columns: Mapping[str, tuple[ColumnSpec, ...]]
    cache: Cache = field(default_factory=Cache)


@dataclass(frozen=True, slots=True)
class FeedStats:
    """How one rank was fed, and who waited for whom.

    Attributes:
        rows: rows that Spark delivered.
        spool_bytes: bytes of tensors made of them.
        spark_wait_s: seconds the feed waited for Spark's next rows.
        write_s: seconds it took to turn rows into tensors and write them.
        train_wait_s: seconds the train function's reader waited for rows.
    """

    rows: int = 0
    spool_bytes: int = 0
    spark_wait_s: float = 0.0
    write_s: float = 0.0
    train_wait_s: float = 0.0

    def to_dict(self) -> dict[str, float]:
        """The fields by name."""
        return asdict(self)

    def __str__(self) -> str:
        slow = "Spark" if self.spark_wait_s > self.write_s else "the spool writer"
        # Below a tenth of the feed's own time, the reader only waited for the feed to begin.
        if self.train_wait_s < 0.1 * (self.spark_wait_s + self.write_s):
            slow = "training"
        return (
            f"{self.rows:,} rows, {self.spool_bytes / 2**20:,.1f} MiB; feed waited "
            f"{self.spark_wait_s:.1f} s for Spark, wrote {self.write_s:.1f} s; training waited "
            f"{self.train_wait_s:.1f} s for rows: {slow} is the slow side"
        )
