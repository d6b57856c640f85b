"""Describes the C part of the codec to cffi; ``setup.py`` compiles it where there is a compiler."""

from __future__ import annotations

import re
from pathlib import Path

from cffi import FFI

_HERE = Path(__file__).parent

ffibuilder = FFI()
# cffi reads declarations, but neither comments with quotes nor the preprocessor.
ffibuilder.cdef(re.sub(r"/\*.*?\*/", "", (_HERE / "codec.h").read_text(), flags=re.DOTALL))
ffibuilder.set_source(
    "spark_strategy.tfrecord._codec",
    "#include <stdint.h>\n" + (_HERE / "codec.h").read_text(),
    sources=["spark_strategy/tfrecord/codec.c"],
    include_dirs=["spark_strategy/tfrecord"],
    depends=["spark_strategy/tfrecord/codec.h"],
    extra_compile_args=["-O2"],
    optional=True,  # without a compiler the installation succeeds, and pure.py does the work
)
