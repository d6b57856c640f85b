"""Objects of Spark's that a train function cannot use, and what to use instead."""

from __future__ import annotations

from typing import Any, Final

# By the name of a class, in whichever of PySpark's modules it stands (classic, Connect, older).
_ADVICE: Final = {
    "Broadcast": (
        "a Spark broadcast variable, which only Spark's own tasks can read. Pass its value "
        "(broadcast.value) as an argument; it is sent once to each rank"
    ),
    "Accumulator": (
        "a Spark accumulator, whose additions Spark collects from its own tasks only. Return the "
        "number instead; RunResult.values has every rank's"
    ),
    "DataFrame": (
        "a Spark DataFrame, which exists on the driver only. Feed the function with it, as in "
        "train.on(df)(...), and read get_context().dataset(...)"
    ),
    "RDD": (
        "an RDD, which exists on the driver only. Feed the function with it, as in "
        "train.on(rdd)(...), and read get_context().dataset(...)"
    ),
    "SparkSession": (
        "a SparkSession, which exists on the driver only. Do Spark's work before or after the "
        "run, and pass what comes out of it"
    ),
    "SparkContext": (
        "a SparkContext, which exists on the driver only. Do Spark's work before or after the "
        "run, and pass what comes out of it"
    ),
}


def advice(value: Any) -> str:
    """What an object of Spark's is and what to do instead; empty for everything else.

    Args:
        value: anything that is about to be pickled for the ranks.
    """
    for kind in type(value).__mro__:
        if kind.__name__ in _ADVICE and kind.__module__.partition(".")[0] == "pyspark":
            return _ADVICE[kind.__name__]
    return ""
