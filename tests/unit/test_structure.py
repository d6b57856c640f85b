"""The shape of the library, kept by its syntax trees (docs/how-it-works.md has the reasons).

Nothing is imported here: each file of spark_strategy/ is parsed and its imports, sizes and habits
are looked at. A module that no row of `MAY_IMPORT` covers fails, so that a new module says where it
belongs before it is used.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "spark_strategy").rglob("*.py"))

FILE_LINES = 300
FUNCTION_LINES = 50

# Modules below share these; they use the standard library only.
PURE = (
    *("bounds", "errors", "topology", "parameter_server", "cluster", "plan", "outcome"),
    *("evaluator", "patience", "child_order", "folder", "data"),
    *("strict_json", "seal"),
)
SPARK = ("pyspark", "pyarrow", "cloudpickle", "psutil")
TENSORFLOW = ("tensorflow", "keras", "tf_keras", "numpy", "cloudpickle")

# Module (or package, for all in it) -> what it may import from the library, and from elsewhere
# besides the standard library. The longest row that fits a module counts.
MAY_IMPORT: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "errors": (("outcome", "topology"), ()),
    "topology": (("errors",), ()),
    "parameter_server": (("errors", "topology"), ()),
    "cluster": (("errors", "topology", "strict_json"), ()),
    "bounds": ((), ()),
    "outcome": (("bounds", "errors", "topology", "data.feed", "strict_json"), ()),
    "plan": (("errors", "topology", "parameter_server", "patience", "data.paths"), ()),
    "patience": (("errors",), ()),
    "strict_json": (("errors",), ()),
    "seal": (("errors", "cluster"), ()),
    "evaluator": (("errors", "strict_json"), ()),
    "child_order": (
        ("errors", "topology", "parameter_server", "patience", "cluster", "plan", "data"),
        (),
    ),
    "folder": (
        ("bounds", "errors", "topology", "cluster", "child_order", "outcome", "evaluator", "data"),
        (),
    ),
    "data": (("errors", "topology", "data"), ()),
    "spark": ((*PURE, "spark"), SPARK),
    "worker": ((*PURE, "worker", "keras", "filesystem"), TENSORFLOW),
    "keras": ((*PURE, "keras"), TENSORFLOW),
    "spark.executors": (PURE, (*SPARK, "py4j")),
    "data.layout": ((), ()),
    "data.schema": (("errors", "data.layout"), ()),
    "data.matrices": ((), ()),
    "data.columns": (("errors", "topology", "data.layout", "data.schema"), ()),
    "data.arrays": (
        ("errors", "data.layout", "data.columns", "data.buffers"),
        ("pyarrow", "numpy"),
    ),
    "data.buffers": ((), ("pyarrow", "numpy")),
    "data.blocks": (("data.arrays", "data.layout", "data.columns"), ("pyarrow", "numpy")),
    "worker.current": (("errors", "topology", "worker"), ("tensorflow",)),
    "data.vectors": (("errors",), ("pyarrow", "numpy")),
    "data.arrow_types": ((), ("pyarrow",)),
    "worker.parquet": (
        ("errors", "data.arrays", "data.arrow_types", "data.columns", "data.vectors"),
        ("pyarrow", "tensorflow"),
    ),
    "worker.blocks": (("data.layout", "data.columns"), ("tensorflow",)),
    "train_function": (("errors",), ()),
    "suggestion": ((), ()),
    "spark_objects": ((), ()),
    "shipping": (("bounds", "errors", "spark_objects", "train_function"), ("cloudpickle",)),
    "late_ranks": (("bounds", "errors", "outcome"), ()),
    "attempt": ((*PURE, "late_ranks", "spark"), ("pyspark",)),
    "barrier": ((*PURE, "spark", "worker"), ("pyspark",)),
    "result": (PURE, ()),
    "call_queue": ((), ()),
    "independent": (
        (*PURE, "attempt", "call_queue", "shipping", "spark", "train_function"),
        ("pyspark",),
    ),
    "fed": ((*PURE, "attempt", "launcher", "result", "spark", "worker"), ()),
    "launcher": (
        (
            *PURE,
            "attempt",
            "fed",
            "independent",
            "result",
            "shipping",
            "spark",
            "train_function",
            "worker",
        ),
        ("pyspark",),
    ),
    "decorate": (
        (*PURE, "fed", "launcher", "result", "suggestion", "train_function", "worker"),
        (),
    ),
    "ml": (("errors",), ()),
    "ml.fit_arguments": ((*PURE, "launcher", "spark", "worker"), ()),
    "ml.model_check": ((*PURE, "launcher", "spark", "worker"), ("pyspark",)),
    "ml.fit": (
        (
            *PURE,
            "fed",
            "keras",
            "launcher",
            "ml",
            "result",
            "shipping",
            "spark",
            "train_function",
            "worker",
        ),
        ("pyspark",),
    ),
    "ml.no_rows": (("keras", "spark"), ()),
    "ml.adapt": (
        ("errors", "spark.arguments", "ml.cells", "ml.tokens"),
        ("pyspark", "numpy", "tensorflow"),
    ),
    "ml.cells": (("errors", "spark.expressions"), ("pyspark",)),
    "ml.tokens": (("errors",), ("pyspark",)),
    "tfrecord": (("errors", "data.paths", "tfrecord"), ("numpy", "pyarrow", "fsspec")),
    "tfrecord.build_codec": ((), ("cffi",)),
    "tfrecord.source": (
        ("errors", "spark.capacity", "spark.session", "tfrecord"),
        ("pyspark", "pyarrow"),
    ),
    "tfrecord.streaming": (("tfrecord",), ("pyspark", "pyarrow")),
    "tfrecord.filters": (("tfrecord",), ("pyspark", "pyarrow")),
    "file_lock": ((), ()),
    "serving": (("file_lock",), ()),
    "data.inputs": (("errors", "data.columns", "data.layout", "data.schema"), ()),
    "data.answers": (("errors", "serving"), ("pyarrow", "numpy")),
    "spark.channel": ((*PURE, "serving"), ()),
    "spark.servers": ((*PURE, "serving", "spark"), ()),
    "spark.scoring": ((*PURE, "serving", "spark"), (*SPARK, "numpy")),
    "worker.serve": (("serving", "worker"), ("tensorflow",)),
    "worker.program": ((*PURE, "serving", "worker", "keras.transport"), TENSORFLOW),
    "worker.room": (("serving",), ()),
    "worker.identity": ((), ("cloudpickle", "h5py")),
    "worker.sources": (("errors", "shipping", "keras", "worker"), TENSORFLOW),
    "ml.converters": ((*PURE, "keras", "launcher"), ("pyspark",)),
    "ml.params": (("data", "ml"), ("pyspark",)),
    "ml.training_params": (("launcher", "ml"), ("pyspark",)),
    "ml.building": (("errors", "keras", "shipping"), ("keras",)),
    "ml.heads": (("errors", "serving"), ("numpy",)),
    "ml.models": (("errors", "keras", "worker", "ml.model_files"), ("keras", "pyspark")),
    "ml.model_files": (
        ("errors", "data.paths", "filesystem", "spark.capacity"),
        ("pyspark", "tensorflow"),
    ),
    "ml.asking": ((*PURE, "spark", "worker"), ("pyspark",)),
    "ml.outputs": (("errors", "serving"), ("pyspark",)),
    "ml.shipment": (("spark",), ("pyspark",)),
    "ml.functions": ((*PURE, "serving", "spark", "ml"), ("pyspark", "pyarrow", "tensorflow")),
    "ml.predict": ((*PURE, "serving", "spark", "worker", "ml"), ("pyspark",)),
    "ml.persistence": (("errors", "spark"), ("pyspark",)),
    "ml.model": (("errors", "spark", "ml"), ("pyspark",)),
    "ml.estimator": ((*PURE, "keras", "launcher", "shipping", "ml"), ("pyspark",)),
    "console": (("", "errors"), ("pyspark", "keras", "numpy", "mlxtend")),
    "": ((*PURE, "decorate", "launcher", "barrier", "result", "worker", "ml"), ()),
    "filesystem": (("errors", "filesystem"), ("fsspec", "tensorflow")),
    "filesystem.build": ((), ("cffi",)),
}


def module_name(path: Path) -> str:
    """Dotted name below spark_strategy; empty for spark_strategy itself."""
    parts = path.relative_to(ROOT / "spark_strategy").with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def covers(row: str, module: str) -> bool:
    """Whether a row of the table speaks of a module: its own name or a package above it."""
    return module == row or (row != "" and module.startswith(row + "."))


def row_of(module: str) -> str:
    """The longest row that fits."""
    rows = [row for row in MAY_IMPORT if covers(row, module)]
    assert rows, f"spark_strategy.{module} has no row in MAY_IMPORT: say where it belongs"
    return max(rows, key=len)


def tree_of(path: Path) -> ast.Module:
    """Syntax tree of a file."""
    return ast.parse(path.read_text(), str(path))


def imported(tree: ast.Module) -> Iterator[str]:
    """Full dotted names of all imports, late and type-checking ones included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def split(name: str) -> tuple[bool, str]:
    """Whether an imported name is the library's own, and which module (or top package) it means."""
    top, _, rest = name.partition(".")
    if top != "spark_strategy":
        return False, top
    parts = rest.split(".")
    while parts and not module_exists(parts):
        parts.pop()
    return True, ".".join(parts)


def module_exists(parts: list[str]) -> bool:
    """Whether these parts name a module of the library."""
    path = ROOT.joinpath("spark_strategy", *parts)
    return path.is_dir() or path.with_suffix(".py").is_file()


def definitions(
    tree: ast.Module,
) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """Public functions and classes of a file, and public methods of its public classes."""
    for node in tree.body:
        if is_public(node):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from filter(is_public, node.body)


def is_public(
    node: ast.stmt,
) -> TypeGuard[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """Whether a statement defines a public name; a property's setter repeats its getter's."""
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return False
    repeated = any(ast.unparse(mark).endswith(".setter") for mark in node.decorator_list)
    return not node.name.startswith("_") and not repeated


def where(path: Path, node: ast.stmt | ast.expr | ast.excepthandler) -> str:
    """File and line, to click on."""
    return f"{path.relative_to(ROOT)}:{node.lineno}"


def calls(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    """Calls by the text of what is called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: module_name(path) or "__init__")


@each_file
def test_imports_follow_the_table(path: Path) -> None:
    """A module imports only what its row allows; the pure core needs no package at all."""
    row = row_of(module_name(path))
    own, packages = MAY_IMPORT[row]
    for name in imported(tree_of(path)):
        ours, target = split(name)
        if ours:
            allowed = any(covers(entry, target) for entry in own) or covers(row, target)
        else:
            allowed = target in sys.stdlib_module_names or target in packages
        assert allowed, f"{path.relative_to(ROOT)} imports {name}"


@each_file
def test_private_keras_stays_in_the_adapter(path: Path) -> None:
    """Only spark_strategy/keras/ names keras.src or tf_keras.src, in code or in a string."""
    if module_name(path).split(".")[0] == "keras":
        return
    for node in ast.walk(tree_of(path)):
        if isinstance(node, (ast.Attribute, ast.Import, ast.ImportFrom)):
            assert "keras.src" not in ast.unparse(node), where(path, node)


@each_file
def test_files_and_functions_stay_short(path: Path) -> None:
    """A file has one job, a function without its docstring fits on a screen."""
    lines = len(path.read_text().splitlines())
    assert lines <= FILE_LINES, f"{path.relative_to(ROOT)} has {lines} lines"
    for node in ast.walk(tree_of(path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            length -= len((ast.get_docstring(node) or "").splitlines())
            assert length <= FUNCTION_LINES, f"{where(path, node)} {node.name}: {length} lines"


@each_file
def test_no_print_global_or_bare_except(path: Path) -> None:
    """A library logs, passes its state along, and catches what it can name."""
    tree = tree_of(path)
    for name, call in calls(tree):
        assert name != "print", where(path, call)
    for node in ast.walk(tree):
        assert not isinstance(node, ast.Global), where(path, node)
        assert not (isinstance(node, ast.ExceptHandler) and node.type is None), where(path, node)


@each_file
def test_only_programs_exit(path: Path) -> None:
    """sys.exit belongs to the command line and to the child's entry point."""
    module = module_name(path)
    if covers("console", module) or module in {"worker.entry", "worker.serve"}:
        return
    for name, call in calls(tree_of(path)):
        assert name not in {"sys.exit", "exit", "quit"}, where(path, call)


@each_file
def test_everything_public_has_a_docstring(path: Path) -> None:
    """Each module, public class and public function says what it gives."""
    tree = tree_of(path)
    assert ast.get_docstring(tree), f"{path.relative_to(ROOT)} has no docstring"
    for node in definitions(tree):
        assert ast.get_docstring(node), f"{where(path, node)} {node.name} has no docstring"


def test_the_table_names_only_modules_that_exist() -> None:
    """A row that outlives its module is taken out."""
    for row in MAY_IMPORT:
        assert module_exists(row.split(".") if row else []), row
