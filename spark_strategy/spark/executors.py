"""How many tasks a session's executors can run at once; waits for executors that were asked for.

The theory. Spark counts the slots of executors that have registered, and executors register over
time: on YARN more than ten seconds apart (measured), after an outage when they have been replaced.
A count that stands still is therefore not final. What is final follows from what the session asked
for: once that many executors, or cores, have registered, no more will come. A Standalone
application without ``spark.cores.max`` asks for every core there is, and so its count must stand
still for a while.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from spark_strategy.errors import CapacityError
from spark_strategy.plan import Capacity

if TYPE_CHECKING:
    from pyspark import SparkContext
    from pyspark.resource import ResourceProfile

_log = logging.getLogger(__name__)

_POLL_S: Final = 0.25
_SAY_S: Final = 5.0
# For how long the count must stand still where nobody can say how many executors will come.
_SETTLE_S: Final = 30.0
# What YARN and Kubernetes start where spark.executor.instances is not set.
_DEFAULT_INSTANCES: Final = "2"
# As SparkMasterRegex has them.
_LOCAL: Final = re.compile(r"local(?:\[\s*(\d+|\*)\s*(?:,\s*\d+\s*)?\])?")
_LOCAL_CLUSTER: Final = re.compile(r"local-cluster\[\s*(\d+)\s*,\s*(\d+)\s*,\s*\d+\s*\]")


def local_cores(master: str) -> int | None:
    """The cores that a local master names, of each executor; None for all, and for clusters."""
    if found := _LOCAL_CLUSTER.fullmatch(master):
        return int(found[2])
    if found := _LOCAL.fullmatch(master):
        return None if found[1] == "*" else int(found[1] or 1)
    return None


@dataclass(frozen=True, slots=True)
class Demand:
    """What a session has asked its cluster for; None where that says nothing.

    Attributes:
        executors: how many.
        cores: over all executors.
        cores_each: cores of an executor.
        source: the setting that says so.
    """

    executors: int | None = None
    cores: int | None = None
    cores_each: int | None = None
    source: str = ""

    @classmethod
    def of(cls, master: str, conf: Mapping[str, str]) -> Demand:
        """The demand that a master URL and Spark's configuration express."""
        if found := _LOCAL_CLUSTER.fullmatch(master):
            return cls(int(found[1]), None, int(found[2]), master)
        if master.startswith("spark:"):
            each = conf.get("spark.executor.cores")
            most = conf.get("spark.cores.max")
            name = f"spark.cores.max={most}" if most else ""
            return cls(None, int(most) if most else None, int(each) if each else None, name)
        if master.startswith(("yarn", "k8s:")):
            name = "spark.executor.instances"
            instances = conf.get(name, _DEFAULT_INSTANCES)
            each = conf.get("spark.executor.cores", "1")
            source = f"{name}={instances}" if name in conf else f"{name} (by default {instances})"
            return cls(int(instances), None, int(each), source)
        return cls()

    @property
    def is_known(self) -> bool:
        """Whether it says when all have come."""
        return self.executors is not None or self.cores is not None

    def most_slots(self, task_cpus: int) -> int | None:
        """Slots when all have come, with tasks of so many cpus; None where that is unknown."""
        if self.executors is not None and self.cores_each is not None:
            return self.executors * (self.cores_each // task_cpus)
        return None if self.cores is None else self.cores // task_cpus

    def is_met(self, now: Registered) -> bool:
        """Whether all that was asked for has registered."""
        if self.executors is not None:
            return now.executors >= self.executors
        # What is left of spark.cores.max may be too few for one more executor.
        return self.cores is not None and self.cores - now.cores < (self.cores_each or 1)


@dataclass(frozen=True, slots=True)
class Registered:
    """What has come so far.

    Attributes:
        slots: tasks that it runs at once.
        executors: how many there are.
        cores: over all of them.
    """

    slots: int
    executors: int
    cores: int


def is_final(demand: Demand, now: Registered, needed: int, still_s: float) -> bool:
    """Whether waiting longer changes nothing.

    Args:
        demand: what was asked for.
        now: what has come.
        needed: slots that are wanted.
        still_s: seconds since the last change.
    """
    if now.slots >= needed:
        return True
    if demand.is_known:
        return demand.is_met(now)
    return now.executors > 0 and still_s > _SETTLE_S


def slots(context: SparkContext) -> int:
    """Tasks of the session's own profile that its executors can run at once now."""
    return _Look(context, None)().slots


def counted(
    context: SparkContext,
    capacity: Capacity,
    profile: ResourceProfile | None,
    *,
    tasks: int,
    timeout_s: float,
) -> Capacity:
    """The capacity with its slots, once they suffice, are final, or the time is up.

    Args:
        context: of a classic session.
        capacity: what is known of the session.
        profile: whose slots to count; None for the session's own.
        tasks: how many are wanted at once; 0 to not wait.
        timeout_s: seconds to wait for executors that are still to come.

    Raises:
        CapacityError: Spark does not support the profile here.
    """
    look = _Look(context, profile)
    demand = Demand.of(capacity.master, dict(context.getConf().getAll()))
    most = demand.most_slots(capacity.task_cpus) if profile is None else None
    now = look()
    # A local session has all it will have; Spark refuses barrier stages of executors that come and
    # go; and more than was asked for never comes.
    is_local = _LOCAL.fullmatch(capacity.master) is not None
    if not is_local and not capacity.dynamic_allocation and (most is None or most >= tasks):
        now = _waited(look, demand, now, tasks, timeout_s)
    told = "" if is_local else _told(demand, now)
    return replace(capacity, slots=now.slots, executors=told)


def _waited(
    look: _Look, demand: Demand, now: Registered, tasks: int, timeout_s: float
) -> Registered:
    began = changed = time.monotonic()
    said = began
    while not is_final(demand, now, tasks, time.monotonic() - changed):
        if time.monotonic() - began > timeout_s:
            break
        if time.monotonic() - said > _SAY_S:
            said = time.monotonic()
            _log.warning(
                "Waiting for executors for up to %.0f s more: Spark has %d of the %d slots that "
                "are needed, %s",
                timeout_s - (said - began),
                now.slots,
                tasks,
                _told(demand, now),
            )
        time.sleep(_POLL_S)
        before, now = now, look()
        changed = changed if now == before else time.monotonic()
    return now


def _told(demand: Demand, now: Registered) -> str:
    """What has come of what was asked for."""
    if demand.executors is not None:
        return f"{now.executors} of {demand.executors} executors ({demand.source}) have registered"
    count = f"{now.executors} {'executor' if now.executors == 1 else 'executors'}"
    if demand.cores is not None:
        return f"{count} with {now.cores} cores ({demand.source}) registered"
    return f"{count} registered"


class _Look:
    """Asks the driver's JVM for slots and executors.

    Args:
        context: of a classic session.
        profile: whose slots to count; None for the session's own.

    Raises:
        CapacityError: Spark does not support the profile here.
    """

    def __init__(self, context: SparkContext, profile: ResourceProfile | None) -> None:
        self._scala: Any = context._jsc.sc()  # noqa: SLF001 - PySpark offers no public way to ask
        manager = self._scala.resourceProfileManager()
        self._profile = manager.defaultResourceProfile()
        given = profile._java_resource_profile if profile is not None else None  # noqa: SLF001
        if given is None:
            return
        from py4j.protocol import Py4JJavaError

        self._profile = given
        try:
            # As Spark does for the stage; it counts no slots of a profile that it does not know.
            manager.addResourceProfile(given)
        except Py4JJavaError as error:
            reason = str(error.java_exception.getMessage())
            raise CapacityError(
                f"Spark cannot use the resource profile on {context.master}: {reason}"
            ) from None

    def __call__(self) -> Registered:
        """What there is now."""
        # What Spark itself checks a barrier stage against (DAGScheduler, SPARK-24819).
        slots = int(self._scala.maxNumConcurrentTasks(self._profile))
        summaries = self._scala.statusStore().executorList(True)  # noqa: FBT003 - active ones
        listed = [summaries.apply(place) for place in range(summaries.size())]
        cores = [int(one.totalCores()) for one in listed if one.id() != "driver"]
        return Registered(slots, len(cores), sum(cores))
