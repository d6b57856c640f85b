"""Columns of several types become one matrix without losing digits, or as a DataError."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from spark_strategy.errors import DataError, PlanError
from spark_strategy.worker.own_errors import own_error
from spark_strategy.worker.selection import matrix

BEYOND = 2**53 + 1


def raised_by(dataset: tf.data.Dataset) -> Exception:
    """What reading it raises."""
    with pytest.raises(tf.errors.OpError) as raised:
        list(dataset)
    return raised.value


def test_ids_times_and_fractions_keep_their_digits() -> None:
    """As float32 the first two would be other numbers."""
    columns = {
        "id": tf.constant([2**24 + 1], tf.int32),
        "time": tf.constant([1_700_000_000_123_456], tf.int64),
        "share": tf.constant([0.1], tf.float64),
        "pair": tf.constant([[True, False]]),
    }
    made = matrix(columns)
    assert made.dtype == tf.float64
    assert made.numpy().tolist() == [[2**24 + 1, 1_700_000_000_123_456, 0.1, 1.0, 0.0]]
    ids = matrix({name: columns[name] for name in ("id", "time")})
    assert ids.dtype == tf.int64


@pytest.mark.parametrize("far", [BEYOND, -BEYOND, -(2**63)])
def test_an_integer_that_no_float_holds_is_a_data_error(far: int) -> None:
    """It names the column, also when a dataset computes it."""

    def of_rows(ids: Any) -> Any:
        return matrix({"größe's": ids, "x": tf.ones_like(ids, tf.float32)})

    near = tf.data.Dataset.from_tensors(tf.constant([2**53, -(2**53)], tf.int64)).map(of_rows)
    assert next(iter(near)).numpy()[:, 0].tolist() == [2**53, -(2**53)]
    dataset = tf.data.Dataset.from_tensors(tf.constant([1, far], tf.int64)).map(of_rows)
    own = own_error(raised_by(dataset))
    assert type(own) is DataError
    assert str(own).startswith('Column "größe\'s" has integers above 2**53, which lose digits')
    assert str(own).endswith("or give the column an input of its own.")


@pytest.mark.parametrize("kind", [DataError, PlanError])
def test_an_error_that_a_dataset_raises_keeps_class_and_words(kind: type[Exception]) -> None:
    """TensorFlow makes an error of its own of it; several lines are kept."""

    def rows() -> Iterator[int]:
        yield 1
        raise kind("Column 'x' is null.\nFill it ['so'].")

    spec = tf.TensorSpec([], tf.int64)
    inner = tf.data.Dataset.range(1).flat_map(
        lambda _: tf.data.Dataset.from_generator(rows, output_signature=spec)
    )
    own = own_error(raised_by(inner.prefetch(2)))
    assert type(own) is kind
    assert str(own) == "Column 'x' is null.\nFill it ['so']."


def test_errors_of_others_stay_what_they_are() -> None:
    """Of TensorFlow and of the user, whatever their text says."""
    text = "spark_strategy.errors.DataError: no\n\n"
    assert own_error(ValueError(text)) is None
    assert own_error(tf.errors.InvalidArgumentError(None, None, "incompatible shapes")) is None
    assert own_error(tf.errors.UnknownError(None, None, text.replace("Data", "Worker"))) is None
    assert np.float32(2**24 + 1) == 2**24
