"""How Keras' TextVectorization turns a text into tokens, as Spark SQL.

The rules are those of `TextVectorization._preprocess` (Keras 3.15, tf_keras 2.21) and of the
TensorFlow 2.21 operations that it calls, which know bytes rather than letters: `tf.strings.lower`
changes A to Z only, `tf.strings.split` splits at the six ASCII spaces only. Spark's `lower` and
Java's Unicode classes would find other tokens.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pyspark.sql import Column
from pyspark.sql import functions as F  # noqa: N812 - what every Spark program calls it

from spark_strategy.errors import PlanError

_LOWER: Final = ("lower", "lower_and_strip_punctuation")
_STRIP: Final = ("strip_punctuation", "lower_and_strip_punctuation")
_SPACES: Final = r"[ \t\n\x0B\f\r]+"


def tokens(cells: Column, config: Mapping[str, Any], *, single: bool) -> Column:
    """The tokens of each row, in order.

    Args:
        cells: an array of texts, without nulls in it.
        config: of the layer, as its `get_config` gives it.
        single: whether each row is one text.

    Returns:
        An array of strings; null where `cells` is null.

    Raises:
        PlanError: the layer uses a function of its own, or would split rows of several texts.
    """
    for step in ("standardize", "split"):
        if config[step] is not None and not isinstance(config[step], str):
            raise PlanError(
                f"TextVectorization({step}={config[step]!r}): adapt works in Spark SQL and cannot "
                "run a Python function. Make the tokens in Spark (an array of strings per row), "
                "adapt a StringLookup over them, and give this layer its get_vocabulary("
                "include_special_tokens=False) through set_vocabulary."
            )
    texts = _standardized(cells, config["standardize"])
    found = texts if config["split"] is None else _split(texts, config["split"], single=single)
    ngrams = config["ngrams"]
    if ngrams is None:
        return found
    return _ngrams(found, range(1, ngrams + 1) if isinstance(ngrams, int) else ngrams)


def _standardized(texts: Column, how: str | None) -> Column:
    """Each text in lower case and without punctuation, as asked for."""
    # Characters of the first string become those of the second, or nothing where it is shorter.
    old = (string.ascii_uppercase if how in _LOWER else "") + (
        string.punctuation if how in _STRIP else ""
    )
    new = string.ascii_lowercase if how in _LOWER else ""
    return F.transform(texts, lambda text: F.translate(text, old, new)) if old else texts


def _split(texts: Column, how: str, *, single: bool) -> Column:
    """The words or characters of each row's one text."""
    if not single:
        raise PlanError(
            f"TextVectorization(split={how!r}) takes one text per row, as Keras does. Adapt over a "
            "string column, or create the layer with split=None."
        )
    parts = F.split(F.element_at(texts, 1), _SPACES if how == "whitespace" else "")
    return F.filter(parts, lambda part: part != "")


def _ngrams(words: Column, widths: Sequence[int]) -> Column:
    """All runs of neighbouring words, of each of these widths."""
    return F.concat(*(_runs(words, width) for width in widths))


def _runs(words: Column, width: int) -> Column:
    """All runs of `width` neighbouring words, joined by a space; none in a shorter row."""
    starts = F.sequence(F.lit(1), F.size(words) - (width - 1))
    runs = F.transform(starts, lambda start: F.array_join(F.slice(words, start, width), " "))
    return F.when(F.size(words) >= width, runs).otherwise(F.slice(words, 1, 0))
