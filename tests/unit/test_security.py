"""What docs/security.md claims and no other test shows."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from spark_strategy import Launcher, MultiWorker
from spark_strategy.child_order import ChildOrder
from spark_strategy.cluster import Fence
from spark_strategy.data.paths import FileRoot
from spark_strategy.errors import PlanError
from spark_strategy.filesystem.places import Scheme
from spark_strategy.outcome import Timings
from spark_strategy.plan import Capacity, LaunchPlan, Orders
from spark_strategy.result import RunResult
from spark_strategy.spark.environment import Versions
from spark_strategy.spark.task_order import TaskOrder
from spark_strategy.tfrecord.files import Place
from spark_strategy.tfrecord.options import parse_options

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/security.md").read_text()
HIDDEN = "hunter2"
ENV = {"TOKEN": HIDDEN, "TF_SECRET": HIDDEN, "NCCL_DEBUG": "INFO"}
# A module that unpickles says in security.md from whom.
UNPICKLES = {
    "folder": "the task's folder, by the child and the guard",
    "keras/transport": "a model inside a pickle that is being read",
    "ml/building": "the driver's own model",
    "ml/estimator": "a saved estimator",
    "ml/fit": "the driver's own model",
    "ml/predict": "what the driver has pickled itself",
    "parameter_server": "the driver's own partitioner",
    "result": "sealed values and exceptions",
    "serving": "a server's folder",
    "shipping": "the driver's own function",
    "spark/stage": "the order in a broadcast",
    "worker/check_folder": "the driver's own folder",
    "worker/entry": "the driver's function",
    "worker/model_check": "the driver's own model",
    "worker/serve": "a server's folder",
    "worker/sources": "the driver's own model",
}


def unpickling(tree: ast.Module) -> bool:
    """Whether code of a module reads a pickle."""
    return any(
        isinstance(node, ast.Call) and re.search(r"pickle\.loads?$", ast.unparse(node.func))
        for node in ast.walk(tree)
    )


def test_only_these_modules_unpickle() -> None:
    """A new place has to say whose bytes it reads."""
    package = ROOT / "spark_strategy"
    found = {
        str(path.relative_to(package).with_suffix(""))
        for path in package.rglob("*.py")
        if unpickling(ast.parse(path.read_text()))
    }

    assert found <= set(UNPICKLES)
    assert not any("wire" in name or "control" in name or "meeting" in name for name in found)


def test_every_test_that_the_page_names_exists() -> None:
    """A claim without its test is no claim."""
    defined = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    }

    assert set(re.findall(r"`(test_\w+)`", PAGE)) <= defined
    assert all((ROOT / path).exists() for path in re.findall(r"`(tests/[\w/]+\.py)`", PAGE))


def values_that_are_shown() -> list[Any]:
    """Everything that holds an environment or storage options."""
    orders, fence, root = Orders(env=ENV), Fence("run", 0), FileRoot(hadoop=ENV)
    topology = MultiWorker(2)
    return [
        Launcher(topology, env=ENV),
        orders,
        LaunchPlan(topology, orders, Capacity("local[2]", 2)),
        str(LaunchPlan(topology, orders, Capacity("local[2]", 2))),
        TaskOrder(
            topology, orders, fence, HIDDEN.encode(), b"", Versions.here(), 0.0, "", (), True
        ),
        ChildOrder(topology, 0, fence, "auto", True, None, 1.0, files=root),
        root,
        Scheme("s3", "s3", {"secret": HIDDEN}),
        Place("s3://b/k", {"secret": HIDDEN}),
        parse_options({"storageOptions": f'{{"secret": "{HIDDEN}"}}'}),
    ]


@pytest.mark.parametrize("shown", values_that_are_shown(), ids=lambda one: type(one).__name__)
def test_values_of_env_and_storage_options_are_not_shown(shown: Any) -> None:
    """Neither in a repr nor in a plan."""
    assert HIDDEN not in repr(shown)
    assert HIDDEN not in str(shown)


def test_a_plan_names_the_variables() -> None:
    """Names yes, values no."""
    plan = LaunchPlan(MultiWorker(2), Orders(env=ENV), Capacity("local[2]", 2))

    assert "NCCL_DEBUG, TF_SECRET, TOKEN" in str(plan)


@pytest.mark.parametrize(
    "env",
    [
        [("TOKEN", HIDDEN)],
        HIDDEN,
        {f"TOKEN={HIDDEN}": ""},
        {"": HIDDEN},
        {"TOKEN": f"{HIDDEN}\0"},
        {"TOKEN": HIDDEN.encode()},
        {"TF_CONFIG": HIDDEN},
    ],
)
def test_a_refusal_of_env_does_not_quote_its_values(env: Any) -> None:
    """The message goes to logs and notebooks."""
    with pytest.raises(PlanError) as refused:
        Launcher(MultiWorker(2), env=env)
    assert HIDDEN not in str(refused.value)


def test_a_refusal_of_storage_options_does_not_quote_them() -> None:
    """Also where they are not JSON."""
    for text in (f"{{'secret': '{HIDDEN}'}}", f'["{HIDDEN}"]'):
        with pytest.raises(PlanError, match="storageOptions") as refused:
            parse_options({"storageOptions": text})
        assert HIDDEN not in str(refused.value)


def test_a_result_has_the_values_of_harmless_variables_only() -> None:
    """Others of the reported prefixes by name."""
    settings = Launcher(MultiWorker(2), env=ENV)._settings()
    result = RunResult(1, (1,), Timings(), 1, ("h",), (0,), settings)

    assert settings == {"communication": "auto", "NCCL_DEBUG": "INFO", "TF_SECRET": "(set)"}
    assert HIDDEN not in result.summary() + repr(result)
