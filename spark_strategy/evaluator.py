"""Side-car evaluation: what is evaluated, and what came out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass

from spark_strategy.errors import PlanError
from spark_strategy.strict_json import build, parse


@dataclass(frozen=True)
class Evaluator:
    """An extra rank that evaluates checkpoints as they appear, while the others train on.

    Args:
        evaluate: called with the path of each new checkpoint, in the order in which they were
            written; returns numbers by name. It runs in TensorFlow's default strategy.
        checkpoints: the folder to watch, with what lies below it: ``*.keras``, ``*.h5``,
            checkpoints of ``tf.train.Checkpoint`` (the path is their prefix), SavedModels. Every
            host must see it under this path.
        tensorboard: folder for event files with the numbers; None for none.
        timeout_s: seconds that one evaluation may take when training has ended, and the run waits
            for nothing else. An evaluator that takes longer is ended; its earlier evaluations are
            kept.

    Raises:
        PlanError: an argument makes no sense.
    """

    evaluate: Callable[[str], Mapping[str, float]]
    checkpoints: str
    _: KW_ONLY
    tensorboard: str | None = None
    timeout_s: float = 1800.0

    def __post_init__(self) -> None:
        if not callable(self.evaluate):
            raise PlanError(f"Evaluator takes a function of a path, found {self.evaluate!r}.")
        if not self.checkpoints or not isinstance(self.checkpoints, str):
            raise PlanError(f"checkpoints is a folder's path, found {self.checkpoints!r}.")
        if self.tensorboard is not None and not isinstance(self.tensorboard, str):
            raise PlanError(f"tensorboard is a folder's path or None, found {self.tensorboard!r}.")
        _check_seconds(self.timeout_s)


def _check_seconds(seconds: object) -> None:
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or not 0 < float(str(seconds)) < float("inf"):
        raise PlanError(f"Evaluator's timeout_s is a number of seconds above 0, found {seconds!r}.")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One checkpoint's evaluation.

    Attributes:
        checkpoint: its path.
        step: the last whole number in its name; without one, how many were evaluated before it.
        metrics: what the function returned.
        seconds: how long it took.
        error: what the function raised, in one line; empty if it returned.
    """

    checkpoint: str
    step: int
    metrics: Mapping[str, float]
    seconds: float
    error: str = ""


@dataclass(frozen=True, slots=True)
class EvaluatorReport:
    """What the evaluator's task says in the end.

    Attributes:
        evaluations: in the order of the checkpoints.
        problem: why it ended before training did; empty if it did not.
    """

    evaluations: tuple[Evaluation, ...] = ()
    problem: str = ""

    def to_json(self) -> bytes:
        """What the driver reads."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, text: bytes) -> EvaluatorReport:
        """The report that ``to_json`` wrote.

        Raises:
            ExecutorEnvironmentError: another version of the library wrote it.
        """
        return parse(cls, text)


def evaluations_of(fields: Sequence[Mapping[str, object]]) -> tuple[Evaluation, ...]:
    """Evaluations out of JSON."""
    return tuple(build(Evaluation, one) for one in fields)
