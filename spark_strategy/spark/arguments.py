"""Whether what a caller passes as a DataFrame or a session is one."""

from __future__ import annotations

from typing import Any

from spark_strategy.errors import PlanError


def check_frame(df: Any) -> None:
    """Refuse what is not a Spark DataFrame, classic or of Connect.

    Raises:
        PlanError: says what it is, and how to make a DataFrame of it.
    """
    from pyspark.sql import DataFrame

    if not isinstance(df, DataFrame):
        raise PlanError(
            f"df is a Spark DataFrame, found a {_kind(df)}. Make one of it with "
            "spark.createDataFrame(...)."
        )


def check_session(spark: Any) -> None:
    """Refuse what is not a SparkSession, classic or of Connect.

    Raises:
        PlanError: says what it is, and how to get a session.
    """
    from pyspark.sql import SparkSession

    # The session of Connect is no subclass of the classic one in every release.
    if not isinstance(spark, SparkSession) and not hasattr(spark, "createDataFrame"):
        raise PlanError(
            f"spark is a SparkSession, found a {_kind(spark)}. Take the one that "
            "SparkSession.builder.getOrCreate() returns."
        )


def _kind(value: Any) -> str:
    module = type(value).__module__.partition(".")[0]
    return f"{module}.{type(value).__qualname__}".removeprefix("builtins.")
