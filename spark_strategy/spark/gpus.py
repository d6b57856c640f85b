"""GPU addresses that Spark assigned -> the child's environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from spark_strategy.errors import ExecutorEnvironmentError


def assigned(resources: Mapping[str, Sequence[str]], wanted: int | None) -> tuple[str, ...] | None:
    """The GPUs a child may use.

    Args:
        resources: addresses by resource name, as ``TaskContext.resources()`` gives them.
        wanted: ``gpus_per_worker``.

    Returns:
        Addresses; empty to hide all GPUs; None to leave TensorFlow alone.

    Raises:
        ExecutorEnvironmentError: Spark assigned fewer than ``wanted``.
    """
    if wanted == 0:
        return ()
    addresses = tuple(resources.get("gpu", ()))
    if wanted is None:
        return addresses or None
    if len(addresses) < wanted:
        raise ExecutorEnvironmentError(
            f"gpus_per_worker={wanted}, but Spark assigned {len(addresses)} to this task "
            f"({', '.join(addresses) or 'none'}). Set spark.executor.resource.gpu.amount, "
            "spark.executor.resource.gpu.discoveryScript and spark.task.resource.gpu.amount."
        )
    return addresses[:wanted]


def environment(addresses: tuple[str, ...] | None) -> dict[str, str]:
    """CUDA_VISIBLE_DEVICES for these addresses; nothing for None."""
    return {} if addresses is None else {"CUDA_VISIBLE_DEVICES": ",".join(addresses)}
