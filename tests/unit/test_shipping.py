"""Functions on their way."""

import pickle

from spark_strategy import shipping


def test_functions_keep_the_file_they_are_from() -> None:
    """So that a worker's traceback has it; also those inside, and those sent alone."""
    travelled, _, _ = pickle.loads(shipping.pickled(lambda: lambda: 1, (), {}))
    alone = pickle.loads(shipping.by_value(lambda: 1))

    assert travelled.__code__.co_filename == __file__
    assert travelled().__code__.co_filename == __file__
    assert alone.__code__.co_filename == __file__
