"""Values on their way from a child to the driver."""

from __future__ import annotations

import cloudpickle


def dumps(value: object) -> bytes:
    """The value as bytes that plain ``pickle.loads`` reads."""
    return bytes(cloudpickle.dumps(value))
