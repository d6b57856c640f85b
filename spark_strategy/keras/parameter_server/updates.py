"""Keras 3 adds to a variable by reading it and writing the sum, which loses what others add.

``Variable.assign_add(x)`` is ``assign(self + x)`` (backend/common/variables.py), and metrics write
``variable.assign(variable + x)`` themselves. Under asynchronous workers two of them read the same
old value: 273 iterations after 400 steps (measured). Here such a write becomes the one operation
that adds on the parameter server, under the variable's lock. The repair can go when Keras adds
natively.
"""

from __future__ import annotations

from typing import Any, Final

from spark_strategy.keras.parameter_server.coordination import is_coordinated
from spark_strategy.keras.repair import Repair, takes

_SUMS: Final = frozenset({"Add", "AddV2"})
_SAME: Final = frozenset({"Identity", "EnsureShape"})


def _variable() -> Any:
    from keras.src.backend.tensorflow import core

    return core.Variable


def _fits() -> bool:
    return takes(_variable(), "_direct_assign", "self", "value")


def _faulty() -> bool:
    """Fixed when assign_add is no longer made of assign; metrics follow it."""
    return set(_variable().assign_add.__code__.co_names) == {"assign"}


def _mend() -> None:
    variable = _variable()
    assign = variable._direct_assign

    def direct_assign(self: Any, value: Any) -> None:
        import tensorflow as tf

        if tf.executing_eagerly() or not is_coordinated(tf.distribute.get_strategy()):
            assign(self, value)
        elif (added := _added(self._value, value)) is not None:
            self._value.assign_add(tf.broadcast_to(added, self._value.shape))
        elif (taken := _taken(self._value, value)) is not None:
            self._value.assign_sub(tf.broadcast_to(taken, self._value.shape))
        else:
            assign(self, value)

    variable._direct_assign = direct_assign


def _added(variable: Any, value: Any) -> Any:
    """What ``value`` adds to the variable; None if it is something else."""
    operation = _source(value)
    if operation.type in _SUMS:
        left, right = operation.inputs
        if _reads(left, variable):
            return right
        if _reads(right, variable):
            return left
    return None


def _taken(variable: Any, value: Any) -> Any:
    """What ``value`` takes from the variable; None if it is something else."""
    operation = _source(value)
    if operation.type == "Sub" and _reads(operation.inputs[0], variable):
        return operation.inputs[1]
    return None


def _reads(tensor: Any, variable: Any) -> bool:
    """Whether the tensor is the variable's value as read in this graph."""
    import tensorflow as tf

    operation = _source(tensor)
    if operation.type != "ReadVariableOp":
        return False
    # In a graph a handle stands for the one outside.
    return operation.inputs[0] is tf.compat.v1.get_default_graph().capture(variable.handle)


def _source(tensor: Any) -> Any:
    operation = tensor.op
    while operation.type in _SAME:
        operation = operation.inputs[0].op
    return operation


ATOMIC_UPDATES = Repair(
    "atomic updates", "variables.py KerasVariable.assign_add", _fits, _faulty, _mend
)
