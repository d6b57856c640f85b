"""A lock that is a file: removed by whoever holds it, dropped by the kernel with its holder."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Final

_RETRY_S: Final = 0.01


def locked_file(path: Path, deadline: float) -> int:
    """A descriptor of the locked file that has this path, also if it was removed meanwhile."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.fstat(file).st_ino == path.stat().st_ino:
                return file
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(file)
                raise TimeoutError(f"others hold {path}") from None
        except OSError:  # removed between the two looks at it
            pass
        os.close(file)
        time.sleep(_RETRY_S)
