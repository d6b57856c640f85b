"""MASTER: rank 1 kills its executor; then the session runs again."""

import json
import sys
import time

from pyspark.sql import SparkSession

from spark_strategy import Launcher, MultiWorker, errors, get_context

LINES: list[str] = []
# For a line to reach the driver.
SAID_S = 2.0


def kill_executor():
    """Rank 1 ends the JVM above it with SIGKILL; rank 0 waits for rank 1."""
    import time

    import psutil

    print("child", psutil.Process().pid)
    if get_context().rank == 1:
        java = next(one for one in psutil.Process().parents() if one.name() == "java")
        print("killed at", time.time())
        time.sleep(SAID_S)
        java.kill()
    time.sleep(600)


if __name__ == "__main__":
    spark = SparkSession.builder.master(sys.argv[1]).getOrCreate()
    answer = {}
    try:
        Launcher(MultiWorker(2), logs=LINES.append).run(kill_executor)
    except errors.SparkStrategyError as error:
        killed_at = next(float(line.split()[-1]) for line in LINES if "killed at" in line)
        answer["error"] = type(error).__name__
        answer["message"] = str(error)
        answer["seconds"] = time.time() - killed_at - SAID_S
    answer["children"] = [int(line.split()[-1]) for line in LINES if "| child" in line]
    answer["again"] = Launcher(MultiWorker(2), logs=None).run(lambda: get_context().rank).values
    print(json.dumps(answer))
