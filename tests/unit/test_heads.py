"""What a Keras model gives becomes what Spark ML expects."""

from __future__ import annotations

import numpy as np
import pytest

from spark_strategy.errors import PlanError
from spark_strategy.ml.heads import PREDICTION, PROBABILITY, RAW, class_head, regression_head
from spark_strategy.serving import Output

ALL = (RAW, PROBABILITY, PREDICTION)


def output(*shape: int) -> tuple[Output, ...]:
    """One output of this shape."""
    return (Output("output", "float32", shape),)


def test_probabilities_are_taken_as_they_are() -> None:
    """Raw values are the same, and the label is where they are largest."""
    head = class_head(output(3), logits=False, thresholds=None, wanted=ALL)
    given = np.array([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]], np.float32)
    raw, probability, prediction = head([given])
    np.testing.assert_array_equal(raw, given.astype(np.float64))
    np.testing.assert_array_equal(probability, raw)
    assert prediction.tolist() == [1.0, 0.0]
    assert [one.shape for one in head.outputs] == [(3,), (3,), ()]


def test_logits_become_probabilities() -> None:
    """By softmax, also where exp would overflow; of one unit by the logistic function."""
    head = class_head(output(2), logits=True, thresholds=None, wanted=ALL)
    raw, probability, prediction = head([np.array([[1000.0, 999.0], [-3.0, 3.0]])])
    assert raw[0].tolist() == [1000.0, 999.0]
    np.testing.assert_allclose(probability[0, 0], 1 / (1 + np.exp(-1)))
    assert prediction.tolist() == [0.0, 1.0]
    one = class_head(output(1), logits=True, thresholds=None, wanted=ALL)
    raw, probability, prediction = one([np.array([[0.0], [-800.0], [2.0]])])
    np.testing.assert_allclose(
        probability, [[0.5, 0.5], [1, 0], [1 / (1 + np.exp(2)), 1 / (1 + np.exp(-2))]]
    )
    assert raw.tolist() == [[0, 0], [800, -800], [-2, 2]]
    assert prediction.tolist() == [0.0, 0.0, 1.0]


def test_thresholds_follow_spark() -> None:
    """The largest probability divided by threshold; a threshold of 0 always wins unless p is 0."""
    given = [np.array([[0.6, 0.4], [1.0, 0.0]])]
    half = class_head(output(2), logits=False, thresholds=(0.9, 0.1), wanted=(PREDICTION,))
    assert half(given)[0].tolist() == [1.0, 0.0]
    zero = class_head(output(2), logits=False, thresholds=(1.0, 0.0), wanted=(PREDICTION,))
    assert zero(given)[0].tolist() == [1.0, 0.0]


def test_models_of_another_kind_are_refused() -> None:
    """With what they give, and what to use instead."""
    with pytest.raises(PlanError, match=r"one output with a number per class.*shape \(2, 3\)"):
        class_head(output(2, 3), logits=False, thresholds=None, wanted=ALL)
    with pytest.raises(PlanError, match=r"one number per row.*shape \(2,\)"):
        regression_head(output(2))
    assert regression_head(output(1))([np.array([[1.5], [2]], "f4")])[0].tolist() == [1.5, 2.0]
