"""The exceptions this library raises, sorted by whose move it is.

The rule for adding one: a class exists only if its reader has to do something that no
other class already asks for. Details (rank, host, signal, deadline) are attributes or
text of the message, never a class of their own.

======================== =========================================================
class                    who acts
======================== =========================================================
PlanError                the caller: an argument, a topology, a function to pickle
CapacityError            whoever owns the cluster: slots, GPUs, dynamic allocation
ExecutorEnvironmentError whoever owns the executors' Python: packages and versions
                         (UnsupportedKerasError: the release of Keras)
RendezvousError          whoever owns the network: ports, interfaces, late tasks
WorkerError              the author of the train function, or of its resources
ResultError              the author of the train function: its value cannot travel
DataError                whoever prepares the DataFrame: nulls, lengths, values
======================== =========================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spark_strategy.outcome import Failure


class SparkStrategyError(Exception):
    """Everything this library raises on purpose.

    Attributes:
        failures: of a run that was launched, every rank's failure with the first cause
            first; empty when nothing was launched or no rank could report.
    """

    def __init__(self, message: str, failures: Sequence[Failure] = ()) -> None:
        super().__init__(message)
        self.failures: tuple[Failure, ...] = tuple(failures)


class PlanError(SparkStrategyError):
    """What was asked for makes no sense; refused before a launch wherever the driver can tell."""


class CapacityError(SparkStrategyError):
    """Spark cannot host the run: too few slots or GPUs, or a setting that forbids it."""


class ExecutorEnvironmentError(SparkStrategyError):
    """The executors' Python lacks a package, or differs from the driver's."""


class UnsupportedKerasError(ExecutorEnvironmentError):
    """A Keras release whose internals the multi-worker repairs do not fit."""


class RendezvousError(SparkStrategyError):
    """The ranks could not find each other: ports, interfaces, a late or foreign task."""


class WorkerError(SparkStrategyError):
    """A rank failed: its function raised, or its process ended or froze."""


class ExecutorLostError(WorkerError):
    """Spark lost an executor, and with it the ranks that it ran."""


class DeadlineError(WorkerError):
    """``timeout_s`` or ``start_timeout_s`` passed; the failures say what each rank did."""


class ResultError(SparkStrategyError):
    """The function succeeded but its value cannot travel to the driver."""


class DataError(SparkStrategyError):
    """The rows of a DataFrame cannot become tensors: nulls, lengths, values.

    Attributes:
        column: the column that is wrong, if one is known.
        rows: where in its batch, from 0.
    """

    def __init__(
        self,
        message: str,
        failures: Sequence[Failure] = (),
        *,
        column: str | None = None,
        rows: Sequence[int] = (),
    ) -> None:
        super().__init__(message, failures)
        self.column = column
        self.rows: tuple[int, ...] = tuple(rows)
