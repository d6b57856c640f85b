"""Functions on their way."""

import pickle
import threading

import pytest

from spark_strategy import shipping
from spark_strategy.errors import PlanError


def test_functions_keep_the_file_they_are_from() -> None:
    """So that a worker's traceback has it; also those inside, and those sent alone."""
    travelled, _, _ = pickle.loads(shipping.pickled(lambda: lambda: 1, (), {}))
    alone = pickle.loads(shipping.by_value(lambda: 1))

    assert travelled.__code__.co_filename == __file__
    assert travelled().__code__.co_filename == __file__
    assert alone.__code__.co_filename == __file__


def test_a_function_is_pickled_once_for_all_its_calls() -> None:
    """Each call's bytes hold the same function, read by plain pickle as those of a single call."""
    pickled = 0

    class Heavy:
        def __reduce__(self) -> tuple[type[bytes], tuple[bytes]]:
            nonlocal pickled
            pickled += 1
            return bytes, (b"heavy",)

    heavy = Heavy()
    shared = shipping.SharedFunction(lambda n, by=1: (heavy, n * by))
    payloads = [shared.with_arguments({"n": n}) for n in range(5)]

    for n, payload in enumerate(payloads):
        function, args, kwargs = pickle.loads(payload)
        assert args == ()
        assert function(**kwargs) == (b"heavy", n)
    assert pickled == 1


def test_an_argument_that_cannot_be_pickled_is_named() -> None:
    """Before it is sent anywhere; the function alone was fine."""
    shared = shipping.SharedFunction(print)

    with pytest.raises(PlanError, match="argument 'lock', a lock, cannot be pickled"):
        shared.with_arguments({"lock": threading.Lock()})
    with pytest.raises(PlanError, match="The function itself comes first"):
        shipping.SharedFunction(3)  # type: ignore[arg-type]


def test_what_is_pickled_may_pickle_a_function_in_turn() -> None:
    """Pickling runs the objects' own code; it does not wait for itself."""

    class Nested:
        def __reduce__(self) -> tuple[type[bytes], tuple[bytes]]:
            return bytes, (shipping.by_value(lambda: 1),)

    _, (inner,), _ = pickle.loads(shipping.pickled(print, (Nested(),), {}))
    assert pickle.loads(inner)() == 1
