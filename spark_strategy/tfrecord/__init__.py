"""TFRecord files for Spark, without a JAR and without TensorFlow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spark_strategy.tfrecord.source import TFRecordDataSource, register_tfrecord

__all__ = ["TFRecordDataSource", "register_tfrecord"]


def __getattr__(name: str) -> Any:
    """Loads PySpark only for who asks for the data source (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from spark_strategy.tfrecord import source

    return getattr(source, name)
