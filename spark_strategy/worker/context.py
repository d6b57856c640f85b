"""Who this process is in the run, and what it can ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from spark_strategy.data.paths import FileRoot
from spark_strategy.errors import PlanError
from spark_strategy.topology import TaskId
from spark_strategy.worker.selection import Selection, Selector

if TYPE_CHECKING:
    import tensorflow as tf
    from tensorflow.experimental import dtensor

    from spark_strategy.data.columns import Column
    from spark_strategy.data.shares import FilePart
    from spark_strategy.worker.feed import Feed
    from spark_strategy.worker.feed_of_workers import FeedOfWorkers


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """What a train function can ask about its own process.

    Attributes:
        task: this process in TensorFlow's cluster, such as ``worker:1``.
        rank: its rank, 0 for the chief.
        num_workers: how many processes run the function.
        is_chief: whether this one's value is the run's value.
        attempt: 0 for the first launch of the run.
        strategy: the ``tf.distribute`` strategy; TensorFlow's default one with
            ``scope=False`` and under ``.local()``.
        scratch: a folder of this process's own, gone when the run ends.
        feed: this rank's rows; None where Spark sends none.
        mesh: the DTensor mesh of ``ModelParallel``; None elsewhere and with ``scope=False``.
        file_root: where paths without a scheme are.
    """

    task: TaskId
    rank: int
    num_workers: int
    is_chief: bool
    attempt: int
    strategy: tf.distribute.Strategy
    scratch: str
    feed: Feed | FeedOfWorkers | None = None
    mesh: dtensor.Mesh | None = None
    file_root: FileRoot = field(default_factory=FileRoot)

    def dataset(
        self,
        name: str = "train",
        *,
        batch_size: int,
        features: Selector | None = None,
        label: Selector | None = None,
        weight: str | None = None,
        shuffle: int = 0,
        seed: int | None = None,
        repeat: bool = False,
        drop_remainder: bool = False,
    ) -> tf.data.Dataset:
        """This rank's shard of a DataFrame, as batches.

        Every rank that runs the function must ask for the same. All take the same number of
        steps an epoch, ``ceil(rows / batch_size)``, and every row is seen once; a rank that has
        run out of rows gets batches without rows. The first epoch begins while Spark still
        sends rows; later ones read them again from the executor's disk.

        The dataset is sharded and batched for this rank: hand it to ``model.fit``, to
        ``strategy.experimental_distribute_dataset``, or loop over it and call
        ``strategy.run``. Where a rank has several replicas an element is one replica's batch.

        Args:
            name: the DataFrame's name.
            batch_size: rows of a step over all replicas, the global batch size.
            features: a column's name; a list of names of numeric columns, which become one
                matrix (of the smallest dtype in which none loses a digit); or a dictionary of
                these for a model with several inputs. By default a dictionary of all columns that
                are neither label nor weight.
            label: likewise; without it an element is the features alone.
            weight: the column with a weight for each row.
            shuffle: rows of the window within which rows are permuted; blocks of rows are
                shuffled as well. 0 keeps the order. The first epoch shuffles what has arrived.
            seed: of the shuffle; with the same one, a run over the same rows in the same
                order repeats. By default another one each time.
            repeat: begin again and again, for use with ``steps_per_epoch``.
            drop_remainder: leave out an epoch's last step if it is smaller.

        Returns:
            Elements ``x``, ``(x, y)`` or ``(x, y, weight)``, each tensor of shape
            ``[rows, ...]``.

        Raises:
            PlanError: there is no such DataFrame or column, or ``batch_size`` is less than
                the number of replicas.
        """
        if self.feed is None:
            raise PlanError(
                "There is no DataFrame to read: feed the function, as in train.on(df)(...) or "
                "launcher.on(df).run(train)."
            )
        return self.feed.dataset(
            name,
            Selection(features, label, weight),
            strategy=self.strategy,
            batch_size=batch_size,
            shuffle=shuffle,
            seed=seed,
            repeat=repeat,
            drop_remainder=drop_remainder,
        )

    def files(self, pattern: str | list[str]) -> tuple[FilePart, ...]:
        """This rank's share of the files that match; together the ranks have every record once.

        Shares are about equal in bytes. Every rank that runs the function must ask for the same.

        Args:
            pattern: a path, directory or pattern with ``*``, ``?`` and ``[...]``, or a list of
                these; on any filesystem. Without a scheme it is on the session's default
                filesystem, as in Spark.

        Returns:
            Whole files; or of one that several ranks share, every ``parts``-th record from
            ``part`` on, as ``tf.data.Dataset.shard(parts, part)`` gives them.

        Raises:
            PlanError: nothing matches.
        """
        from spark_strategy.worker.pull import Pull

        return Pull(self).parts(pattern)

    def tfrecords(
        self,
        pattern: str | list[str],
        *,
        batch_size: int,
        features: Mapping[str, Any] | None = None,
        label: str | Sequence[str] | None = None,
        weight: str | None = None,
        compression: str | None = None,
        shuffle: int = 0,
        seed: int | None = None,
        repeat: bool = False,
        drop_remainder: bool = False,
        deterministic: bool = True,
    ) -> tf.data.Dataset:
        """This rank's share of the records in TFRecord files, as batches.

        Steps are as for :meth:`dataset`: all ranks take ``ceil(records / batch_size)`` an epoch,
        and every record is seen once. For that the records are counted first, which reads the
        files once.

        Args:
            pattern: as for :meth:`files`.
            batch_size: records of a step over all replicas, the global batch size.
            features: as ``tf.io.parse_example`` takes them; None leaves Examples serialized.
            label: the feature that is the target, or several.
            weight: the feature with a weight for each record.
            compression: "GZIP", "ZLIB" or ""; None goes by the files' names (``.gz``).
            shuffle: records of the window within which they are permuted; files are shuffled as
                well. 0 keeps the order.
            seed: of the shuffle.
            repeat: begin again and again, for use with ``steps_per_epoch``.
            drop_remainder: leave out an epoch's last step if it is smaller.
            deterministic: whether a run over the same files with the same seed repeats; False
                takes records as they come.

        Raises:
            PlanError: nothing matches, a feature is not there, or a number makes no sense.
        """
        from spark_strategy.worker.in_step import Batching
        from spark_strategy.worker.pull import Pull
        from spark_strategy.worker.records import Example, Reading

        return Pull(self).tfrecords(
            pattern,
            Example(features, label, weight),
            Reading(compression, shuffle, seed, deterministic),
            Batching(batch_size, drop_remainder),
            repeat=repeat,
        )

    def parquet(
        self,
        pattern: str | list[str],
        *,
        batch_size: int,
        features: Selector | None = None,
        label: Selector | None = None,
        weight: str | None = None,
        columns: Mapping[str, Column] | None = None,
        shuffle: int = 0,
        seed: int | None = None,
        repeat: bool = False,
        drop_remainder: bool = False,
    ) -> tf.data.Dataset:
        """This rank's share of the rows in Parquet files, as batches.

        Row groups are dealt out by their rows, of which those that would leave a rank with
        clearly more than its fair share are cut among all. Steps are as for :meth:`dataset`.
        Only the columns that are asked for are read.

        Args:
            pattern: as for :meth:`files`. All files have the columns of the first one; folders
                called ``key=value`` around them add one, as in Spark.
            batch_size: rows of a step over all replicas, the global batch size.
            features: as for :meth:`dataset`, and so are label and weight.
            label: the target.
            weight: the column with a weight for each row.
            columns: what the columns' types do not say, as for ``Launcher.on``.
            shuffle: rows of the window within which they are permuted; row groups are shuffled
                as well. 0 keeps the order.
            seed: of the shuffle.
            repeat: begin again and again, for use with ``steps_per_epoch``.
            drop_remainder: leave out an epoch's last step if it is smaller.

        Returns:
            Elements ``x``, ``(x, y)`` or ``(x, y, weight)``, each tensor of shape
            ``[rows, ...]``.

        Raises:
            PlanError: nothing matches, a file is no Parquet, the folder is a table of Delta Lake,
                Iceberg or Hudi, a column is not there or cannot become a tensor, or a number makes
                no sense.
        """
        from spark_strategy.worker.in_step import Batching
        from spark_strategy.worker.pull import Pull

        return Pull(self).parquet(
            pattern,
            Selection(features, label, weight),
            columns or {},
            Batching(batch_size, drop_remainder),
            shuffle=shuffle,
            seed=seed,
            repeat=repeat,
        )

    def save(self, model: Any, path: str) -> None:
        """Save a Keras model so that one complete artifact stands at ``path``.

        Call it on every rank: the chief writes beside ``path`` and then renames, the others
        take part in collective reads and keep nothing.

        Args:
            model: a Keras 3 or tf_keras model.
            path: ``*.keras``, ``*.h5``, ``*.weights.h5``, or a folder for a SavedModel.
                Without a scheme it is on the session's default filesystem, as in Spark. The
                chief's host writes it: name a place that outlives the executor.
        """
        from spark_strategy import keras

        place = self.file_root.resolved(path)
        keras.save(model, place, is_chief=self.is_chief, scratch=self.scratch)
