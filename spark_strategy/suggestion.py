"""The nearest known name, for messages about a name that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """A question to append to a message, such as ``" Did you mean 'epochs'?"``.

    Args:
        name: what was given.
        known: the names there are.

    Returns:
        An empty text where nothing is near.
    """
    near = difflib.get_close_matches(str(name), list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""
