"""The child process: a folder and an environment -> strategy -> function -> the folder.

Run as ``python -m spark_strategy.worker.entry FOLDER`` by the guard of one Spark task.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import logging
import os
import pickle
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from spark_strategy import filesystem, keras
from spark_strategy.bounds import TooLargeError, name_of, text_of
from spark_strategy.child_order import ChildOrder
from spark_strategy.cluster import Cluster
from spark_strategy.errors import ExecutorEnvironmentError, ResultError
from spark_strategy.evaluator import Evaluator
from spark_strategy.folder import ChildFolder
from spark_strategy.parameter_server import ParameterServer, serves
from spark_strategy.topology import EVALUATOR, ModelParallel, forms_cluster
from spark_strategy.worker import imports, postmortem, spark_files

if TYPE_CHECKING:
    from spark_strategy.worker.context import WorkerContext

# A cell of an Arrow binary column: 32-bit offsets, and room for what goes with it.
_VALUE_BYTES: Final = 2**31 - 2**20


class _Clock:
    """Writes each phase's seconds to the folder as it ends."""

    def __init__(self, folder: ChildFolder) -> None:
        self._folder = folder
        self._seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self._seconds[name] = time.monotonic() - start
            self._folder.write_timings(self._seconds)


def main(path: str) -> None:
    """Run the function in ``path`` and leave its value, or its failure, there."""
    # Registered first, so that it runs last, after the user's own exit handlers.
    atexit.register(_leave)
    folder = ChildFolder(Path(path))
    stacks = folder.stacks_path.open("w", encoding="utf-8")
    faulthandler.enable(stacks)
    faulthandler.register(signal.SIGUSR1, stacks)
    order, function = folder.read_order()
    try:
        if serves(order.topology, order.task):
            _server = _serve(folder, order)
            # Its own part is done: from here on it serves until all others have done theirs.
            folder.succeed(b"")
        else:
            folder.succeed(_run(folder, order, function))
    # SystemExit and KeyboardInterrupt end a rank as surely as an exception does.
    except BaseException as error:  # noqa: BLE001
        postmortem.record(folder, error, ranks=len(order.topology.tasks))
        return
    # A peer whose collectives are still under way would take this process's end for a fault.
    folder.wait_for_release()


def _leave() -> None:
    """End at once: how it went is in the folder.

    Tearing down the interpreter and TensorFlow takes 0.9 s (measured), gives back nothing that
    the kernel does not, and can crash.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _serve(folder: ChildFolder, order: ChildOrder) -> Any:
    """A worker or parameter server that serves; to be kept for as long as it must."""
    clock = _Clock(folder)
    imports.leave_out_keras()
    with clock.phase("import_s"), imports.of_what_stays():
        from spark_strategy.worker import serving
        from spark_strategy.worker import strategy as strategies
    strategies.check_gpus(order.gpus)
    serving.own_folder(folder.path, Path(order.spool), order.task)
    cluster = folder.wait_for_cluster(order.deadline_s)
    server = serving.serve(cluster, order.task)
    folder.mark_started()
    return server


def _run(folder: ChildFolder, order: ChildOrder, function: bytes) -> bytes:
    evaluates = order.task.job == EVALUATOR
    # What an evaluator saves is nobody's copy.
    keras.install(is_chief=evaluates or _is_chief(order), scratch=str(folder.scratch_path))
    spark_files.find_in(order.spark_files)
    clock = _Clock(folder)
    with clock.phase("import_s"), imports.of_what_stays():
        import tensorflow as tf

        from spark_strategy.worker import sharded
        from spark_strategy.worker import strategy as strategies

        sharded.keep_shards()
        # Without its compiled part, paths of other filesystems are refused when they are used.
        with contextlib.suppress(ExecutorEnvironmentError):
            filesystem.register_all(order.files.hadoop)
    strategies.check_gpus(order.gpus)
    cluster = folder.wait_for_cluster(order.deadline_s)
    os.environ.pop("TF_CONFIG", None)
    if forms_cluster(order.topology):
        os.environ["TF_CONFIG"] = cluster.tf_config(order.task)
    strategy = tf.distribute.get_strategy()
    with clock.phase("strategy_s"):
        if order.scope and not evaluates:
            from spark_strategy.worker.resolver import SparkClusterResolver
            from spark_strategy.worker.serving import wait_for_servers

            if isinstance(order.topology, ParameterServer):
                wait_for_servers(cluster, order.deadline_s)
            resolver = SparkClusterResolver(cluster, order.task)
            strategy = strategies.build(
                order.topology, resolver, order.communication, order.heartbeat_s
            )
        mesh = _mesh(order, cluster)
    with clock.phase("function_s"):
        if evaluates:
            return _evaluate(folder, order, function)
        value = _call(folder, order, function, strategy, mesh)
    folder.mark_returned()
    return _pickled(value)


def _feed(folder: ChildFolder, order: ChildOrder) -> Any:
    """This rank's rows, if Spark sends any."""
    if order.feed is None:
        return None
    from spark_strategy.worker.feed import Feed
    from spark_strategy.worker.feed_of_workers import FeedOfWorkers

    if isinstance(order.topology, ParameterServer):
        return FeedOfWorkers(order.feed, folder, order.topology)
    ranks = len(order.topology.callers)
    return Feed(order.feed, folder, Path(order.spool), rank=order.rank, ranks=ranks)


def _is_chief(order: ChildOrder) -> bool:
    return order.task == order.topology.callers[0]


def _mesh(order: ChildOrder, cluster: Cluster) -> Any:
    """The DTensor mesh, if there is to be one."""
    if not isinstance(order.topology, ModelParallel):
        return None
    from spark_strategy.worker import mesh

    os.environ.update(mesh.environment(cluster, order.task, order.communication))
    return mesh.build(order.topology) if order.scope else None


def _evaluate(folder: ChildFolder, order: ChildOrder, function: bytes) -> bytes:
    """Evaluate until training has ended; what came out goes by the folder."""
    import tensorflow as tf

    from spark_strategy.worker import checkpoints
    from spark_strategy.worker.current import entered

    context = _context(folder, order, strategy=tf.distribute.get_strategy())
    with entered(lambda: context):
        evaluate, args, kwargs = _unpickled(function)
        folder.mark_started()
        checkpoints.evaluate_all(
            Evaluator(evaluate, *args, **kwargs),
            ended=lambda: folder.training_ended,
            record=folder.write_evaluations,
        )
    return b""


def _context(folder: ChildFolder, order: ChildOrder, **rest: Any) -> WorkerContext:
    from spark_strategy.worker.context import WorkerContext

    return WorkerContext(
        task=order.task,
        rank=order.rank,
        num_workers=len(order.topology.callers),
        is_chief=_is_chief(order),
        attempt=order.fence.attempt,
        scratch=str(folder.scratch_path),
        file_root=order.files,
        **rest,
    )


def _call(
    folder: ChildFolder, order: ChildOrder, function: bytes, strategy: Any, mesh: Any
) -> object:
    from spark_strategy.worker.current import entered
    from spark_strategy.worker.own_errors import own_error

    feed = _feed(folder, order)
    context = _context(folder, order, strategy=strategy, feed=feed, mesh=mesh)
    with entered(lambda: context), strategy.scope() if order.scope else contextlib.nullcontext():
        # Unpickled in scope: a model among the arguments creates its variables here.
        call, args, kwargs = _unpickled(function)
        folder.mark_started()
        try:
            value = call(*args, **kwargs)
        except Exception as error:
            if own := own_error(error):
                raise own.with_traceback(error.__traceback__) from None
            raise
    if feed is not None:
        folder.write_waited(feed.waited_s)
    return value


def _unpickled(function: bytes) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    try:
        call, args, kwargs = pickle.loads(function)
    except ModuleNotFoundError as error:
        raise ExecutorEnvironmentError(
            f"The function or an argument needs module {error.name!r}, which this executor's "
            f"Python ({sys.executable}) cannot import. Install it there, send it with "
            "spark.submit.pyFiles or addArtifact, or have it pickled by value: "
            f"cloudpickle.register_pickle_by_value({error.name})."
        ) from error
    return call, args, kwargs


def _pickled(value: object) -> bytes:
    from spark_strategy.keras import transport

    try:
        return transport.dumps(value, most_bytes=_VALUE_BYTES)
    except TooLargeError as error:
        raise ResultError(
            f"returned a {name_of(value)} of more bytes than Spark can carry in one row (2 GiB). "
            "Save it with get_context().save(...) or to your own storage, and return where it is."
        ) from error
    # Pickling runs the value's own code: anything can come out of it.
    except Exception as error:
        raise ResultError(
            f"returned a {name_of(value)} that cannot be pickled: {text_of(error)}"
        ) from error


if __name__ == "__main__":
    main(sys.argv[1])
