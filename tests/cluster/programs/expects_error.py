"""MASTER OPTIONS SETTING=VALUE...: a run that must fail to start; prints its error.

OPTIONS is a JSON object of Launcher options.
"""

import json
import os
import sys
import time

from pyspark.sql import SparkSession

from spark_strategy import Launcher, MultiWorker, errors


def visible():
    """What hides or shows GPUs in this rank."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "not set")


if __name__ == "__main__":
    master, options, *settings = sys.argv[1:]
    builder = SparkSession.builder.master(master)
    for setting in settings:
        builder = builder.config(*setting.split("=", 1))
    spark = builder.getOrCreate()
    answer = []
    for option in json.loads(options):
        launcher = Launcher(MultiWorker(2), logs=None, **option)
        began = time.monotonic()
        try:
            answer.append({"values": launcher.run(visible).values})
        except errors.SparkStrategyError as error:
            text, kind = str(error), type(error).__name__
            answer.append({"kind": kind, "text": text, "seconds": time.monotonic() - began})
    print(json.dumps({"answers": answer}))
