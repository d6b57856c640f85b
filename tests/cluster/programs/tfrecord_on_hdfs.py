"""TFRecords on HDFS: HDFS-URI -> what was seen, as one line of JSON. HADOOP_CONF_DIR names it."""

import json
import sys

from pyspark.sql import SparkSession

from spark_strategy import Launcher, MultiWorker, get_context
from spark_strategy.tfrecord import register_tfrecord


def train(folder, uri):
    """The records by TensorFlow's own reader, and by this rank's share."""
    import tensorflow as tf

    features = {
        "id": tf.io.FixedLenFeature([], tf.int64),
        "name": tf.io.FixedLenFeature([], tf.string),
        "pair": tf.io.FixedLenFeature([2], tf.float32),
    }

    def rows(batches):
        columns = [{name: x.numpy().tolist() for name, x in batch.items()} for batch in batches]
        return [
            [number, name.decode(), pair]
            for one in columns
            for number, name, pair in zip(one["id"], one["name"], one["pair"], strict=True)
        ]

    files = tf.io.gfile.glob(f"{uri}/part-*.tfrecord.gz")
    whole = tf.data.TFRecordDataset(files, "GZIP").batch(64)
    share = get_context().tfrecords(folder, features=features, batch_size=64)
    return {
        "whole": rows(whole.map(lambda records: tf.io.parse_example(records, features))),
        "share": rows(share),
        "steps": int(share.cardinality()),
    }


def main(uri):
    """Writes twice below the user's home, reads back, and runs two workers on it."""
    spark = (
        SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    )
    register_tfrecord(spark)
    folder = "records"  # as Spark's own: relative to the user's home
    rows = spark.range(0, 300, 1, 4).selectExpr(
        "id", "concat('ü', id) name", "array(float(id), float(-id)) pair"
    )
    # Other rows are there before.
    rows.limit(7).write.format("tfrecord").mode("append").save(folder)
    before = spark.read.format("tfrecord").load(folder).count()
    writer = rows.write.format("tfrecord").option("compression", "gzip").mode("overwrite")
    writer.save(folder)
    home = f"{uri}/user/{spark.sparkContext.sparkUser()}/{folder}"
    back = spark.read.format("tfrecord").load(home).select(rows.columns)
    found = {
        "before": before,
        "schema": back.schema.simpleString(),
        "back": [list(row) for row in back.orderBy("id").collect()],
        # Spark's own view of the folder, by Hadoop's client.
        "names": [
            row.path.rpartition("/")[2]
            for row in spark.read.format("binaryFile").load(home).select("path").collect()
        ],
        "ranks": list(Launcher(MultiWorker(2), spark=spark).run(train, folder, home).values),
    }
    spark.stop()
    print(json.dumps(found))


main(sys.argv[1])
