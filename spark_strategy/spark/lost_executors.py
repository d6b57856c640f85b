"""Spark's reason for a lost executor -> what helps against it.

The words are those of the resource managers (YARN's ``ContainerExitStatus`` and ``YarnAllocator``,
Kubernetes' ``ExecutorPodsLifecycleManager``, Standalone's ``Master`` and ``Worker``) and of Spark's
own ``HeartbeatReceiver``.
"""

from __future__ import annotations

import re
from typing import Final

_PREEMPTED: Final = (
    "Its container was taken back for work that goes before yours. Use a queue that is not "
    "preempted, or ask for less; save checkpoints, so that a new run goes on from there."
)
_DECOMMISSIONED: Final = (
    "Its host is being taken out of service (a spot instance, a drained node). Run again on other "
    "hosts; save checkpoints, so that a new run goes on from there."
)
_MEMORY: Final = (
    "It took more memory than it may: Python's processes use what lies outside the JVM's heap. "
    "Raise spark.executor.memoryOverhead (a rank of TensorFlow takes 1 GiB and more), or use "
    "smaller batches."
)
_HOST_GONE: Final = (
    "Its host is gone or cut off: see the resource manager's list of hosts. More memory does not "
    "help."
)
_SILENT: Final = (
    "It has not been heard of: its host is overloaded, frozen or cut off, or its JVM collects "
    "garbage all the time. See the executor's log."
)
_ENDED: Final = "Somebody or something ended it (SIGTERM): the resource manager's log says who."
_PROCESS_GONE: Final = (
    "Its process ended, or the network to it did. If nobody stopped it, memory is the usual "
    "suspect (exit code 137): see the executor's log and spark.executor.memoryOverhead."
)
_UNKNOWN: Final = "The executor's log and the resource manager's say why."

# The first that is found in Spark's words counts.
_ADVICE: Final = (
    (r"preempt|status:? -102\b", _PREEMPTED),
    (r"[Dd]ecommission", _DECOMMISSIONED),
    (r"exceed\w* .*memory|OOM|(code|status):? 137\b|status:? -10[34]\b", _MEMORY),
    (r"lost\*? node|worker lost|status:? -10[01]\b|was not found in the cluster", _HOST_GONE),
    (r"Not receiving heartbeat|[Nn]ode .*(unhealthy|removed)", _HOST_GONE),
    (r"[Hh]eartbeat timed out", _SILENT),
    (r"[Kk]illed by |KILLED|(code|status):? 143\b", _ENDED),
    (r"disassociated|[Cc]ommand exited", _PROCESS_GONE),
)


def advice(reason: str) -> str:
    """What helps against the loss of an executor.

    Args:
        reason: in Spark's words, such as "Container ... was preempted".
    """
    return next((text for pattern, text in _ADVICE if re.search(pattern, reason)), _UNKNOWN)
