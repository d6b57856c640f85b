"""classic|connect ADDRESS FOLDER: TFRecord files written and read by executors."""

import json
import sys

from pyspark.sql import SparkSession

from spark_strategy.tfrecord import register_tfrecord

if __name__ == "__main__":
    kind, address, folder = sys.argv[1:]
    builder = SparkSession.builder
    session = builder.remote(address) if kind == "connect" else builder.master(address)
    spark = session.getOrCreate()
    register_tfrecord(spark)
    rows = spark.range(0, 1000, 1, 4).selectExpr("id", "array(id, -id) pair", "id % 2 part")
    writer = rows.write.format("tfrecord").option("partitionBy", "part").mode("overwrite")
    writer.save(folder)
    back = spark.read.format("tfrecord").load(folder)
    try:
        rows.selectExpr("map(id, id) m").write.format("tfrecord").mode("append").save(folder)
        refused = ""
    except Exception as error:
        refused = str(error)
    answer = {
        "schema": back.schema.simpleString(),
        "sum": back.selectExpr("sum(id)", "sum(pair[1])", "sum(part)").first()[:],
        "refused": refused,
    }
    spark.stop()
    print(json.dumps(answer))
