"""TFRecord files: written from a DataFrame and read to Arrow, against TensorFlow's own ways.

    python benchmarks/tfrecord.py --check

20 columns (12 floats, 5 whole numbers, 3 texts). Writing is a whole Spark job on local[1] from a
cached DataFrame, against a loop of ``tf.train.Example(...).SerializeToString()``, which writes
nothing; ``encode_rows_per_s`` is the codec's own part. Reading is one thread over one file, against
``tf.io.parse_example`` over batches of it on one thread, and ``tf.train.Example.FromString``.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import report

FLOATS, WHOLE, TEXTS = 12, 5, 3
BATCH = 1024


def table(rows: int) -> pa.Table:
    """The rows."""
    random = np.random.default_rng(1)
    columns: dict[str, Any] = {
        f"f{at}": random.normal(size=rows).astype(np.float32) for at in range(FLOATS)
    }
    columns |= {f"i{at}": random.integers(0, 10 ** (at + 1), rows) for at in range(WHOLE)}
    names = np.array([f"carrier-{at}" for at in range(50)])
    columns |= {f"s{at}": names[random.integers(0, 50, rows)] for at in range(TEXTS)}
    return pa.table(columns)


def rate(rows: int, work: Callable[[], Any], *, tries: int = 3) -> float:
    """Rows per second, the best of some tries after one to warm up."""
    work()
    best = float("inf")
    for _ in range(tries):
        began = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - began)
    return rows / best


def example_loop(rows: list[dict[str, Any]]) -> None:
    """What programs without a connector do."""
    import tensorflow as tf

    train = tf.train
    for row in rows:
        made = {}
        for name, value in row.items():
            if isinstance(value, float):
                made[name] = train.Feature(float_list=train.FloatList(value=[value]))
            elif isinstance(value, int):
                made[name] = train.Feature(int64_list=train.Int64List(value=[value]))
            else:
                made[name] = train.Feature(bytes_list=train.BytesList(value=[value.encode()]))
        train.Example(features=train.Features(feature=made)).SerializeToString()


def parse_loop(path: Path) -> Callable[[], None]:
    """Batches of the file through TensorFlow's own parser, one thread."""
    import tensorflow as tf

    kinds = {"f": tf.float32, "i": tf.int64, "s": tf.string}
    names = [f"{k}{n}" for k, c in (("f", FLOATS), ("i", WHOLE), ("s", TEXTS)) for n in range(c)]
    spec = {name: tf.io.FixedLenFeature([], kinds[name[0]]) for name in names}
    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    options.threading.max_intra_op_parallelism = 1
    dataset = tf.data.TFRecordDataset(str(path)).batch(BATCH)
    dataset = dataset.map(lambda records: tf.io.parse_example(records, spec)).with_options(options)

    def loop() -> None:
        for _ in dataset:
            pass

    return loop


def main() -> None:
    """Prints the figures."""
    args = report.arguments(__doc__, rows=300_000)
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    data = table(args.rows)
    spark = report.quiet_spark("local[1]")
    from spark_strategy.tfrecord import register_tfrecord

    register_tfrecord(spark)
    df = spark.createDataFrame(data).coalesce(1).cache()
    df.count()
    with tempfile.TemporaryDirectory() as folder:
        target = f"{folder}/t"
        report.progress("writing")
        write = rate(args.rows, lambda: df.write.format("tfrecord").mode("overwrite").save(target))
        spark.stop()
        (path,) = Path(target).glob("*.tfrecord")
        figures = measure(data, path)
    ratios = {
        "write": write / figures["example_rows_per_s"],
        "read": figures["read_rows_per_s"] / figures["parse_example_rows_per_s"],
        "read_to_from_string": figures["read_rows_per_s"] / figures["from_string_rows_per_s"],
    }
    report.finish(
        "tfrecord",
        ratio=ratios["write"],
        target="write >= 10 of the Example loop, read >= 0.7 of batched parse_example",
        met=ratios["write"] >= 10 and ratios["read"] >= 0.7,
        check=args.check,
        ratios={name: round(value, 2) for name, value in ratios.items()},
        write_rows_per_s=round(write),
        **{name: round(value) for name, value in figures.items()},
    )


def measure(data: pa.Table, path: Path) -> dict[str, float]:
    """What needs no Spark, in rows per second."""
    import tensorflow as tf
    from pyspark.sql.pandas.types import from_arrow_schema

    from spark_strategy.tfrecord.encoding import encode_batch
    from spark_strategy.tfrecord.features import features_of
    from spark_strategy.tfrecord.files import Place, find_files
    from spark_strategy.tfrecord.options import parse_options
    from spark_strategy.tfrecord.reading import Plan, read_file
    from spark_strategy.tfrecord.wire import Message

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    features = features_of(from_arrow_schema(data.schema).jsonValue())
    batches = data.to_batches(10_000)
    few = data.slice(0, 20_000).to_pylist()
    raw = [record.numpy() for record in tf.data.TFRecordDataset(str(path)).take(20_000)]
    place = Place(f"file://{path}", {})
    (file,) = find_files([place])
    plan = Plan(features, frozenset(), parse_options({}))

    def encode() -> None:
        for batch in batches:
            encode_batch(batch, features, Message.EXAMPLE)

    def read() -> None:
        rows = sum(batch.num_rows for batch in read_file(place, file, plan))
        assert rows == data.num_rows

    report.progress("measuring codec and TensorFlow")
    return {
        "encode_rows_per_s": rate(data.num_rows, encode),
        "example_rows_per_s": rate(len(few), lambda: example_loop(few)),
        "read_rows_per_s": rate(data.num_rows, read),
        "parse_example_rows_per_s": rate(data.num_rows, parse_loop(path)),
        "from_string_rows_per_s": rate(
            len(raw), lambda: [tf.train.Example.FromString(record) for record in raw]
        ),
    }


if __name__ == "__main__":
    main()
