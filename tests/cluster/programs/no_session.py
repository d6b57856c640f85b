"""No session of the user's own: the library makes a local one."""

import json
import logging
import os
import sys

from pyspark.sql import SparkSession

from spark_strategy import MultiWorker, distribute, get_context


@distribute(MultiWorker(2), logs=None)
def where():
    """Rank and Python."""
    return get_context().rank, sys.executable


if __name__ == "__main__":
    logging.basicConfig(level="INFO")
    logging.getLogger("py4j").setLevel("WARNING")
    before = SparkSession.getActiveSession()
    os.environ.pop("PYSPARK_PYTHON")
    values = where.run().values
    spark = SparkSession.getActiveSession()
    print(
        json.dumps(
            {
                "before": before is None,
                "values": values,
                "driver": sys.executable,
                "master": spark.sparkContext.master,
                "rows": spark.range(5).count(),
            }
        )
    )
