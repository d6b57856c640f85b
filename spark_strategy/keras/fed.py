"""Marks on datasets of the rows that Spark feeds: they hold one rank's rows already."""

from __future__ import annotations

from typing import Any, Final

# Travels in tf.data.Options, which every transformation hands on.
_MARK: Final = "spark_strategy"
_STEPS: Final = "spark_strategy.steps="
_IDLE: Final = "spark_strategy.idle="


def marked(dataset: Any, *, steps: int | None = None, idle: str = "") -> Any:
    """The dataset, marked as holding the rows of the rank that reads it.

    Args:
        dataset: of any elements.
        steps: steps of an epoch over all ranks, where the rank alone cannot tell.
        idle: a task that would read but has no rows; empty for none.
    """
    import tensorflow as tf

    options = tf.data.Options()
    said = [f"{_STEPS}{steps}"] if steps is not None else []
    options.framework_type = [_MARK, *said, *([f"{_IDLE}{idle}"] if idle else [])]
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return dataset.with_options(options)


def is_marked(dataset: Any) -> bool:
    """Whether the dataset, or one that it was made from, is marked."""
    return _MARK in _marks(dataset)


def steps_of(dataset: Any) -> int | None:
    """Steps of an epoch over all ranks, of a dataset that is marked with them."""
    said = _said(dataset, _STEPS)
    return int(said) if said else None


def idle_of(dataset: Any) -> str:
    """A task that would read the dataset but has no rows; empty for none."""
    return _said(dataset, _IDLE)


def _said(dataset: Any, prefix: str) -> str:
    found = [mark for mark in _marks(dataset) if mark.startswith(prefix)]
    return found[0].removeprefix(prefix) if found else ""


def _marks(dataset: Any) -> tuple[str, ...]:
    import tensorflow as tf

    if not isinstance(dataset, tf.data.Dataset):
        return ()
    return tuple(dataset.options().framework_type or ())
