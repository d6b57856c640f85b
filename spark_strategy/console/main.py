"""The command line: `spark-strategy`.

Exit status: 0 done, 1 the job failed or missed its mark, 2 the machine or the arguments do not
allow it to start, 130 stopped with Ctrl-C.
"""

from __future__ import annotations

import argparse
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

from spark_strategy.console.preflight import java_problem
from spark_strategy.errors import SparkStrategyError


def positive(text: str) -> int:
    """A whole number above zero, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not above zero")
    return number


def build_parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    parser = argparse.ArgumentParser(
        prog="spark-strategy", description="Distributed Keras training on Apache Spark."
    )
    parser.add_argument("--version", action="version", version=version("spark-strategy"))
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="train on 5,000 real MNIST images, with an embedded Spark",
        description="Trains a small CNN on 5,000 real MNIST images, on an embedded local Spark.",
    )
    demo.add_argument("--workers", type=positive, default=2, help="TensorFlow workers (default 2)")
    demo.add_argument("--epochs", type=positive, default=6, help="passes over the data (default 6)")
    demo.add_argument(
        "--save",
        type=Path,
        default=Path("mnist-cnn.keras"),
        metavar="PATH.keras",
        help="where the trained model goes (default ./mnist-cnn.keras)",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: words after the program's name; those of this process by default.

    Returns:
        The exit status.
    """
    parser = build_parser()
    chosen = parser.parse_args(arguments)
    if chosen.save.suffix != ".keras":
        parser.error(f"--save needs a file name that ends in .keras, not {chosen.save}")
    from spark_strategy.console import demo

    problem = java_problem() or demo.data_problem()
    if problem is not None:
        return complain(problem, status=2)
    try:
        return demo.run(workers=chosen.workers, epochs=chosen.epochs, save=chosen.save)
    except SparkStrategyError as error:
        return complain(str(error), status=1)
    except KeyboardInterrupt:
        return complain("stopped", status=130)


def complain(problem: str, *, status: int) -> int:
    """Says why the command did not do its work; returns the status it was given."""
    sys.stderr.write(f"spark-strategy: {problem}\n")
    return status
