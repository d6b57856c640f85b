"""Acts on the model around the events of a Keras callback list, where several processes train."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from spark_strategy.keras.collective import is_multi_worker

Act = Callable[[Any], None]


def before(events: Any, name: str, act: Act) -> None:
    """Lets ``act(model)`` run ahead of the callbacks' own event."""
    event = getattr(events, name)

    @functools.wraps(event)
    def both(self: Any, *args: Any, **kwargs: Any) -> None:
        _act_on_model(self, act)
        event(self, *args, **kwargs)

    setattr(events, name, both)


def after(events: Any, name: str, act: Act) -> None:
    """Lets ``act(model)`` run behind the callbacks' own event."""
    event = getattr(events, name)

    @functools.wraps(event)
    def both(self: Any, *args: Any, **kwargs: Any) -> None:
        event(self, *args, **kwargs)
        _act_on_model(self, act)

    setattr(events, name, both)


def _act_on_model(events: Any, act: Act) -> None:
    # Keras 3 has the model in _model (a property named model besides), tf_keras in model.
    model = getattr(events, "_model", None) or getattr(events, "model", None)
    if model is not None and is_multi_worker(model.distribute_strategy):
        act(model)
