"""From what a Keras model gives to what Spark ML expects of a classifier or a regressor.

Runs in Spark's tasks, on whole batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from spark_strategy.errors import PlanError
from spark_strategy.serving import Output

RAW: Final = "raw"
PROBABILITY: Final = "probability"
PREDICTION: Final = "prediction"

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class ClassHead:
    """Raw values, probabilities and the predicted label's index.

    Attributes:
        classes: number of classes.
        logits: whether the model gives logits instead of probabilities.
        thresholds: one per class, as in Spark: the class with the largest probability divided by
            threshold is predicted; None for the largest probability.
        wanted: which of the three, in order.
    """

    classes: int
    logits: bool
    thresholds: tuple[float, ...] | None
    wanted: tuple[str, ...]

    @property
    def outputs(self) -> tuple[Output, ...]:
        """What it gives."""
        shapes: dict[str, tuple[int, ...]] = {PREDICTION: ()}
        return tuple(
            Output(name, "float64", shapes.get(name, (self.classes,))) for name in self.wanted
        )

    def __call__(self, values: list[Any]) -> list[Array]:
        """The columns of a batch, float64."""
        given = np.asarray(values[0], np.float64).reshape(len(values[0]), -1)
        raw = probability = given
        if given.shape[1] == 1:  # one unit for two classes: what it says of the second
            second = _sigmoid(given) if self.logits else given
            probability = np.concatenate([1 - second, second], axis=1)
            raw = np.concatenate([-given, given], axis=1) if self.logits else probability
        elif self.logits:
            probability = _softmax(given)
        found = {RAW: raw, PROBABILITY: probability, PREDICTION: self._labels(probability)}
        return [found[name] for name in self.wanted]

    def _labels(self, probability: Array) -> Array:
        scaled = probability
        if self.thresholds is not None:
            with np.errstate(divide="ignore", invalid="ignore"):
                scaled = probability / np.asarray(self.thresholds)
            # As ProbabilisticClassificationModel: 0/0 is never chosen, p/0 always.
            scaled = np.nan_to_num(scaled, nan=-1.0, posinf=np.inf)
        labels: Array = scaled.argmax(axis=1).astype(np.float64)
        return labels


@dataclass(frozen=True, slots=True)
class RegressionHead:
    """One number per row."""

    @property
    def outputs(self) -> tuple[Output, ...]:
        """What it gives."""
        return (Output(PREDICTION, "float64", ()),)

    def __call__(self, values: list[Any]) -> list[Array]:
        """The column of a batch, float64."""
        return [np.asarray(values[0], np.float64).reshape(-1)]


def class_head(
    outputs: tuple[Output, ...],
    *,
    logits: bool,
    thresholds: tuple[float, ...] | None,
    wanted: tuple[str, ...],
) -> ClassHead:
    """The head for a model with these outputs.

    Raises:
        PlanError: it is no classifier of Spark's kind, or the thresholds are not one per class.
    """
    if len(outputs) != 1 or len(outputs[0].shape) > 1 or outputs[0].dtype == "string":
        raise PlanError(
            "A classifier has one output with a number per class, or with one number for two "
            f"classes; found {_shown(outputs)}. Use KerasEstimator for other models."
        )
    classes = max(2, outputs[0].shape[0] if outputs[0].shape else 1)
    if thresholds is not None and len(thresholds) != classes:
        raise PlanError(f"The model has {classes} classes, and thresholds is {list(thresholds)}.")
    return ClassHead(classes, logits, thresholds, wanted)


def regression_head(outputs: tuple[Output, ...]) -> RegressionHead:
    """The head for a model with these outputs.

    Raises:
        PlanError: it gives more than one number per row.
    """
    if len(outputs) != 1 or outputs[0].shape not in ((), (1,)) or outputs[0].dtype == "string":
        raise PlanError(
            f"A regressor has one output with one number per row; found {_shown(outputs)}. Use "
            "KerasEstimator for other models."
        )
    return RegressionHead()


def _shown(outputs: tuple[Output, ...]) -> str:
    return ", ".join(f"{one.name!r} of shape {one.shape}" for one in outputs)


def _sigmoid(values: Array) -> Array:
    return np.exp(-np.logaddexp(0.0, -values))


def _softmax(values: Array) -> Array:
    shifted = np.exp(values - values.max(axis=1, keepdims=True))
    whole: Array = shifted / shifted.sum(axis=1, keepdims=True)
    return whole
