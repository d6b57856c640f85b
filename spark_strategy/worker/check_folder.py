"""The folder that the driver and the process of a model check share: both ends of their protocol.

========== ======= ===========================================================
file       written means
========== ======= ===========================================================
order.pkl  driver  the model function and the columns (:class:`CheckOrder`)
answer     process what was found (:class:`Answer`, JSON); it appears whole
========== ======= ===========================================================
"""

from __future__ import annotations

import json
import pickle
from dataclasses import asdict, dataclass
from pathlib import Path

from spark_strategy.data.columns import ColumnSpec
from spark_strategy.data.paths import FileRoot
from spark_strategy.worker.selection import Selection


@dataclass(frozen=True, slots=True)
class CheckOrder:
    """What is to be checked.

    Attributes:
        model: the pickled model function.
        selection: which columns become features, label and weight.
        specs: the columns.
        files: where paths without a scheme are.
        directory: the driver's working directory.
        python_path: the folders that the driver imports from.
    """

    model: bytes
    selection: Selection
    specs: tuple[ColumnSpec, ...]
    files: FileRoot
    directory: str
    python_path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a check has found.

    Attributes:
        mistake: what would fail on every rank, and what to do; empty if nothing was found.
        doubt: what failed here and may succeed on the executors; empty if nothing did.
    """

    mistake: str = ""
    doubt: str = ""


@dataclass(frozen=True, slots=True)
class CheckFolder:
    """Reads and writes the files above."""

    path: Path

    def prepare(self, order: CheckOrder) -> None:
        """Driver: what is to be checked."""
        (self.path / "order.pkl").write_bytes(pickle.dumps(order))

    def read_order(self) -> CheckOrder:
        """Process: what is to be checked."""
        order: CheckOrder = pickle.loads((self.path / "order.pkl").read_bytes())
        return order

    def write(self, answer: Answer) -> None:
        """Process: what was found."""
        partial = self.path / "answer.partial"
        partial.write_text(json.dumps(asdict(answer)), encoding="utf-8")
        partial.rename(self.path / "answer")

    def read(self) -> Answer | None:
        """Driver: what was found; None as long as nothing is said."""
        try:
            return Answer(**json.loads((self.path / "answer").read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
