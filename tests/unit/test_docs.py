"""The documentation keeps up with the code."""

import ast
import inspect
import re
from pathlib import Path

import pytest

from spark_strategy import Launcher, errors

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link points at a file or folder of the repository."""
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)}: {target}"


@each_page
def test_python_blocks_compile(page: Path) -> None:
    """Code that a reader copies is at least Python."""
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        compile(block, str(page), "exec")


def test_every_option_is_documented_with_its_default() -> None:
    """options.md has one row per option of Launcher, and none that is gone."""
    rows = dict(
        re.findall(
            r"^\| `(\w+)` \| ([^|]+) \|", (ROOT / "docs/options.md").read_text(), re.MULTILINE
        )
    )
    options = {
        name: parameter.default
        for name, parameter in inspect.signature(Launcher).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    assert set(rows) == set(options)
    for name, default in options.items():
        if isinstance(default, str | int | float | None):
            said = ast.literal_eval(rows[name].strip("` "))
            assert said == default, name


def test_every_error_is_documented() -> None:
    """failures.md names each exception that a caller can meet."""
    text = (ROOT / "docs/failures.md").read_text()
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, Exception) and name != "DataError":
            assert name in text, name
