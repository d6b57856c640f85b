"""What a session keeps of runs, grids, scoring, streams and failures: nothing, however many.

Each round makes one of each in one session. Then garbage is collected, in Python and in the JVM,
and what is left is counted. The curve goes to standard error, one line for each round.
"""

from __future__ import annotations

import gc
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from report import arguments, finish, progress, quiet_spark

# What the driver and its JVM may hold more of at the end than at the beginning, and the reason.
ALLOWED = {
    "descriptors": 4,
    "threads": 4,
    "rss_mib": 64,  # TensorFlow's and Python's arenas settle over many rounds
    "files": 6,  # pieces of Spark's own that its cleaner removes a moment later
    "disk_mib": 8,
    "processes": 1,
    "jvm_descriptors": 12,  # Spark's RPC and block connections come and go
    "jvm_threads": 64,  # Spark's pools shrink after a minute, which is about what a round takes
    "heap_mib": 24,  # what Spark's status store keeps of the last 1,000 jobs
    "broadcasts": 3,
    "functions": 3,
    "cached": 0,
    "listeners": 0,
    "tags": 0,
    "queries": 0,
    "progress_handlers": 0,
}
# The arguments of MBeanServer.invoke.
_INVOKE = (
    "javax.management.ObjectName",
    "java.lang.String",
    "[Ljava.lang.Object;",
    "[Ljava.lang.String;",
)
LARGE = bytes(1_500_000)  # more than PySpark sends without a broadcast


def double(item: int) -> int:
    """A cheap item of a grid."""
    return 2 * item


def length(data: bytes) -> int:
    """A run with a large argument."""
    return len(data)


def failing(data: bytes) -> None:
    """A run that fails, with a large argument as well."""
    raise ValueError(f"{len(data)} bytes")


def _array(gateway: Any, kind: Any, values: Iterable[Any]) -> Any:
    """A Java array."""
    given = list(values)
    made = gateway.new_array(kind, len(given))
    for index, value in enumerate(given):
        made[index] = value
    return made


def _block_folders() -> Iterator[Path]:
    """Where Spark's block managers on this machine keep their files."""
    return Path(tempfile.gettempdir()).glob("blockmgr-*")


class Session:
    """One session that everything happens in."""

    def __init__(self, folder: Path) -> None:
        import keras

        others = set(_block_folders())
        self.spark = quiet_spark("local[2]")
        self._blocks = set(_block_folders()) - others
        context = self.spark.sparkContext
        self._context = context
        self._gateway, self._jvm = context._gateway, context._jvm  # noqa: SLF001
        self._java = context._jsc  # noqa: SLF001
        self._folder = folder
        keras.utils.set_random_seed(1)
        self._model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)])
        self._rows = self.spark.range(64).selectExpr("array_repeat(float(id), 8) as x").cache()
        self._rows.write.parquet(str(folder / "rows"))
        self._query = self._start_stream()

    def round(self, number: int) -> None:
        """One of each."""
        from spark_strategy import Independent, Launcher, MultiWorker, predict
        from spark_strategy.errors import WorkerError

        items = [{"item": number}, {"item": -number}]
        for action in (
            lambda: predict(self._model, self._rows, features="x").collect(),
            lambda: predict(self._retrained(), self._rows, features="x").count(),
            lambda: Launcher(Independent(2), logs=None).map(double, items),
            lambda: Launcher(MultiWorker(1), logs=None).run(length, LARGE),
            self._stream,
        ):
            action()
        try:
            Launcher(MultiWorker(1), logs=None).run(failing, LARGE)
        except WorkerError:
            return
        raise AssertionError("a failure was not raised")

    def _retrained(self) -> Any:
        """A model with other weights each time."""
        model = self._model
        model.set_weights([one + 0.001 for one in model.get_weights()])
        return model

    def _start_stream(self) -> Any:
        """One query for all rounds: PySpark 4.3 keeps a thread and a connection of each that ends.

        Seen without this library: five queries with ``foreachBatch`` left seven threads.
        """
        from spark_strategy import predict

        def score(batch: Any, _: int) -> None:
            predict(self._model, batch, features="x").collect()

        rows = self.spark.readStream.schema("x array<float>").parquet(str(self._folder / "rows"))
        writer = rows.writeStream.foreachBatch(score)
        return writer.option("checkpointLocation", str(self._folder / "checkpoint")).start()

    def _stream(self) -> None:
        """A micro-batch."""
        self._rows.write.mode("append").parquet(str(self._folder / "rows"))
        self._query.processAllAvailable()

    def close(self) -> None:
        """End the stream."""
        self._query.stop()

    def left(self) -> dict[str, float]:
        """What is there now, with all garbage collected."""
        jvm = self._jvm
        for _ in range(2):
            gc.collect()
            jvm.java.lang.System.gc()
        me = psutil.Process()
        beans = jvm.java.lang.management.ManagementFactory
        heap = beans.getMemoryMXBean().getHeapMemoryUsage().getUsed()
        sizes = list(self._sizes())
        java = psutil.Process(jvm.java.lang.ProcessHandle.current().pid())
        objects = self._objects()
        return {
            "descriptors": me.num_fds(),
            "threads": me.num_threads(),
            "rss_mib": round(me.memory_info().rss / 2**20),
            "files": len(sizes),
            "disk_mib": round(sum(sizes) / 2**20, 1),
            "processes": len(me.children(recursive=True)),
            "jvm_descriptors": java.num_fds(),
            "jvm_threads": java.num_threads(),
            "heap_mib": round(heap / 2**20, 1),
            "broadcasts": objects("org.apache.spark.broadcast.TorrentBroadcast"),
            "functions": objects("org.apache.spark.api.python.SimplePythonFunction"),
            "cached": self._java.getPersistentRDDs().size(),
            "listeners": self._java.sc().listenerBus().listeners().size(),
            "tags": len(self._context.getJobTags()),
            "queries": len(self.spark.streams.active),
            "progress_handlers": len(getattr(self.spark, "_progress_handlers", ())),
        }

    def _sizes(self) -> Iterator[int]:
        """Of every file of the session's, and of runs', in temporary places."""
        from pyspark import SparkFiles

        own = Path(SparkFiles.getRootDirectory()).parent
        places = {own, *self._blocks}
        temporary = Path(tempfile.gettempdir())
        shared = Path("/dev/shm")
        for parent in (temporary, shared):
            places |= set(parent.glob("spark_strategy-*"))
        for place in places:
            for folder, _, names in os.walk(place):
                for name in names:
                    try:
                        yield Path(folder, name).stat().st_size
                    except OSError:  # gone meanwhile
                        continue

    def _objects(self) -> Callable[[str], int]:
        """Live objects of a class in the JVM, by its own histogram."""
        jvm, gateway = self._jvm, self._gateway
        nothing = _array(gateway, jvm.java.lang.String, ())
        arguments = _array(gateway, jvm.java.lang.Object, [nothing])
        signature = _array(gateway, jvm.java.lang.String, ["[Ljava.lang.String;"])
        name = jvm.javax.management.ObjectName("com.sun.management:type=DiagnosticCommand")
        # Py4J cannot call a method of the server's own class, which its module does not export.
        kind = jvm.java.lang.Class.forName
        kinds = _array(gateway, jvm.java.lang.Class, map(kind, _INVOKE))
        invoke = kind("javax.management.MBeanServer").getMethod("invoke", kinds)
        server = jvm.java.lang.management.ManagementFactory.getPlatformMBeanServer()
        given = (name, "gcClassHistogram", arguments, signature)
        text = invoke.invoke(server, _array(gateway, jvm.java.lang.Object, given))
        rows = re.findall(r"^ *\d+: +(\d+) +\d+ +(\S+)", text, re.MULTILINE)
        counts = {kind: int(count) for count, kind in rows}
        return lambda kind: counts.get(kind, 0)


def growth(curve: list[dict[str, float]]) -> dict[str, float]:
    """By how much the last third is above the first, after a fifth to warm up."""
    warm = curve[max(1, len(curve) // 5) :] or curve
    third = max(1, len(warm) // 3)
    first, last = warm[:third], warm[-third:]

    def middle(rounds: list[dict[str, float]], name: str) -> float:
        return median(one[name] for one in rounds)

    return {name: round(middle(last, name) - middle(first, name), 1) for name in ALLOWED}


def main() -> None:
    """Print the curve, judge it."""
    chosen = arguments(__doc__ or "", rounds=100)
    with tempfile.TemporaryDirectory() as folder:
        session = Session(Path(folder))
        curve = []
        for number in range(chosen.rounds):
            session.round(number)
            curve.append(session.left())
            progress(
                f"round {number + 1}: " + ", ".join(f"{k} {v:g}" for k, v in curve[-1].items())
            )
        session.close()
        session.spark.stop()
    grown = growth(curve)
    over = {name: value for name, value in grown.items() if value > ALLOWED[name]}
    finish(
        "soak",
        ratio=max((value / max(1, ALLOWED[name]) for name, value in grown.items()), default=0.0),
        target="nothing grows by more than is allowed (ALLOWED in soak.py)",
        met=not over,
        check=chosen.check,
        rounds=chosen.rounds,
        grown=grown,
        over=over,
        first=curve[min(len(curve) - 1, len(curve) // 5)],
        last=curve[-1],
    )


if __name__ == "__main__":
    main()
