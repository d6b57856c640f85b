"""Answers a Python that cannot run spark-strategy in one line; metadata is in pyproject.toml.

pip before 24.1 reads `requires-python` after the dependencies, so that a user of Python 3.10 would
see an essay about keras versions instead.
"""

import sys

from setuptools import setup

if not (3, 11) <= sys.version_info[:2] < (3, 14):
    sys.exit(
        "spark-strategy needs Python 3.11, 3.12 or 3.13; this is Python %s (%s)."
        % (sys.version.split()[0], sys.executable)
    )

# Each extension is optional: where it does not compile, its package says what is missing or slow.
setup(
    cffi_modules=[
        "spark_strategy/filesystem/build.py:ffi",
        "spark_strategy/tfrecord/build_codec.py:ffibuilder",
    ]
)
