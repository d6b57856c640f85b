"""Importing TensorFlow and Keras faster."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def of_what_stays() -> Iterator[None]:
    """Let Python look for no garbage meanwhile, and never among what was made meanwhile.

    TensorFlow's modules are hundreds of thousands of objects that stay, which the collector walks
    again and again while they are imported: 1.4 of 6.3 s of a core (TensorFlow 2.21 with Keras
    3.15, *measured*).
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
