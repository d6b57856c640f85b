"""What `import spark_strategy` gives, and what it leaves alone."""

import ast
import subprocess
import sys
from pathlib import Path

import spark_strategy

HEAVY = ("tensorflow", "keras", "tf_keras", "pyspark")


def loaded_after(statement: str) -> set[str]:
    """Which heavy packages a new Python has loaded after a statement."""
    script = f"import sys\n{statement}\nprint(*({set(HEAVY)!r} & sys.modules.keys()))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_import_loads_neither_tensorflow_nor_spark() -> None:
    """The driver may import the library and never pay for, or configure, TensorFlow."""
    assert loaded_after("import spark_strategy") == set()


def test_decorating_loads_no_tensorflow() -> None:
    """Describing a run costs no TensorFlow either."""
    decorate = "from spark_strategy import MultiWorker, distribute as d; d(MultiWorker(2))(print)"
    assert "tensorflow" not in loaded_after(decorate)


def test_all_is_what_is_exported_and_each_name_loads() -> None:
    """No public name is missing from __all__, and none in it is a promise only."""
    listed = spark_strategy.__all__
    assert sorted(listed) == sorted(set(listed))
    for name in listed:
        assert getattr(spark_strategy, name) is not None
    assert sorted(listed) == sorted(exported(Path(spark_strategy.__file__)))
    assert set(listed) <= set(dir(spark_strategy))


def exported(init: Path) -> set[str]:
    """Public names that __init__ imports from the library, those for type checkers included."""
    return {
        name.asname or name.name
        for node in ast.walk(ast.parse(init.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("spark_strategy")
        for name in node.names
        if not (name.asname or name.name).startswith("_")
    }
