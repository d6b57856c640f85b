"""adapt gives a layer what the layer's own adapt finds in the collected rows."""

import pickle
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from pyspark.ml.linalg import Vectors
from pyspark.sql import DataFrame, SparkSession

from spark_strategy.errors import PlanError
from spark_strategy.ml.adapt import adapt

# TensorFlow's variables under NumPy 2; Keras copies them when it saves, tf_keras when it bins.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

both = pytest.mark.parametrize("library", [keras, tf_keras], ids=["keras", "tf_keras"])

# Ties, the empty string, letters whose order differs between bytes and locales, a reserved token.
WORDS = ["b", "a", "b", "c", "Z", "é", "é", "zz", "", "😀", "[UNK]", "ß", "a,b", "null"]
TEXTS = [
    "The quick, brown fox; jumped over the lazy dog!",
    "the DOG's  tail\twas\nlong\r\x0b\x0c ",
    "ÀÉ İstanbul ẞ \u017f \u212a",  # letters that only a Unicode-aware lower() changes
    "no\u00a0break\u2003spaces\u0085here\x1c\x1d",  # spaces that only Unicode calls so
    "emoji 😀😀 e\u0301 [UNK] [unk]",
    "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~",
    "",
    "   ",
    "a b a b a",
    "“curly” — dashes …",
]


@pytest.fixture(scope="module", autouse=True)
def few_partitions(spark: SparkSession) -> Iterator[None]:
    """Ten rows need no 200 partitions."""
    spark.conf.set("spark.sql.shuffle.partitions", 2)
    yield
    spark.conf.unset("spark.sql.shuffle.partitions")


def one_column(spark: SparkSession, cells: Sequence[Any], kind: str) -> DataFrame:
    """A DataFrame of the one column x."""
    return spark.createDataFrame([(cell,) for cell in cells], f"x {kind}")


def vocabulary(layer: Any) -> list[Any]:
    """The learned tokens, in order."""
    return [str(token) for token in layer.get_vocabulary()]


def agree(ours: Any, theirs: Any, inputs: Any) -> None:
    """Two layers give the same output."""
    np.testing.assert_allclose(
        np.asarray(ours(inputs)), np.asarray(theirs(inputs)), rtol=1e-5, atol=1e-6
    )


@pytest.fixture(scope="module")
def numbers() -> np.ndarray:
    """200 rows of three features, one of which is far from zero and hardly varies."""
    return np.random.default_rng(1).normal([0, -50, 1e5], [1, 20, 8], (200, 3))


@pytest.fixture(scope="module")
def features(spark: SparkSession, numbers: np.ndarray) -> DataFrame:
    """The same numbers as scalars, as an array and as a Spark ML vector."""
    rows = [(*row, row, Vectors.dense(row)) for row in numbers.tolist()]
    return spark.createDataFrame(rows, ["a", "b", "c.d", "array", "vector"])


@both
@pytest.mark.parametrize(
    ("column", "invert"), [(["a", "b", "c.d"], False), ("array", True), ("vector", False)]
)
def test_normalization_per_feature(
    library: Any, features: DataFrame, numbers: np.ndarray, column: Any, invert: bool
) -> None:
    """Scalars side by side, arrays and vectors give the moments of the matrix of rows."""
    ours, theirs = (library.layers.Normalization(invert=invert) for _ in range(2))
    adapt(ours, features, column)
    theirs.adapt(numbers)
    np.testing.assert_allclose(ours.adapt_mean.numpy(), numbers.mean(0), rtol=1e-6)
    np.testing.assert_allclose(ours.adapt_variance.numpy(), numbers.var(0), rtol=1e-6)
    if library is keras:  # tf_keras adds up in float32 and loses the third variance
        agree(ours, theirs, numbers.astype("float32"))


@both
def test_normalization_of_all_values(
    library: Any, features: DataFrame, numbers: np.ndarray
) -> None:
    """axis=None has one mean for all; a scalar column then feeds batches of rank 1."""
    for column, values in (("a", numbers[:, 0]), (["a", "b"], numbers[:, :2])):
        ours, theirs = (library.layers.Normalization(axis=None) for _ in range(2))
        adapt(ours, features, column)
        theirs.adapt(values)
        agree(ours, theirs, values.astype("float32"))


@both
def test_normalization_of_a_scalar_column(
    library: Any, features: DataFrame, numbers: np.ndarray
) -> None:
    """With the default axis a scalar column is a matrix of one feature."""
    ours, theirs = library.layers.Normalization(), library.layers.Normalization()
    adapt(ours, features, "b")
    theirs.adapt(numbers[:, 1:2])
    agree(ours, theirs, numbers[:, 1:2].astype("float32"))


def test_normalization_is_adapted_inside_a_model(features: DataFrame, numbers: np.ndarray) -> None:
    """A layer that was built with its model is given its state all the same."""
    layer = keras.layers.Normalization()
    model = keras.Sequential([keras.Input((3,)), layer])
    adapt(layer, features, "array")
    normal = (numbers - numbers.mean(0)) / numbers.std(0)
    np.testing.assert_allclose(model.predict(numbers, verbose=0), normal, atol=1e-2)


@both
@pytest.mark.parametrize(
    ("max_tokens", "mask_token", "output_mode"),
    [(None, None, "int"), (5, "", "int"), (5, "c", "one_hot"), (None, "c", "multi_hot")],
)
def test_string_lookup(
    library: Any, spark: SparkSession, max_tokens: int, mask_token: str, output_mode: str
) -> None:
    """The same tokens in the same order, ties, masks and the bound included."""

    def layer() -> Any:
        return library.layers.StringLookup(
            max_tokens=max_tokens, mask_token=mask_token, output_mode=output_mode
        )

    ours, theirs = layer(), layer()
    adapt(ours, one_column(spark, WORDS, "string"), "x")
    theirs.adapt(np.array(WORDS))
    assert vocabulary(ours) == vocabulary(theirs)
    agree(ours, theirs, tf.constant([["b"], ["unseen"], ["é"]]))


@both
def test_integer_lookup(library: Any, spark: SparkSession) -> None:
    """Integers are ordered as numbers; -1 stays the token for the unknown."""
    values = [3, 10, 9, 9, -1, -7, 10, 2**40, 0]
    ours, theirs = (library.layers.IntegerLookup(num_oov_indices=2) for _ in range(2))
    adapt(ours, one_column(spark, values, "long"), "x")
    theirs.adapt(np.array(values))
    assert vocabulary(ours) == vocabulary(theirs)


@both
@pytest.mark.parametrize("pad", [False, True])
def test_string_lookup_weighs_by_document_frequency(
    library: Any, spark: SparkSession, pad: bool
) -> None:
    """tf_idf counts the rows in which a token occurs, empty rows among all of them."""
    rows = [["a", "b", "a"], ["b"], [], ["c", "c", "a"], ["d"]]

    def layer() -> Any:
        return library.layers.StringLookup(
            output_mode="tf_idf", max_tokens=8, pad_to_max_tokens=pad
        )

    ours, theirs = layer(), layer()
    adapt(ours, one_column(spark, rows, "array<string>"), "x")
    theirs.adapt(tf.data.Dataset.from_tensors(tf.ragged.constant(rows)))
    assert vocabulary(ours) == vocabulary(theirs)
    agree(ours, theirs, tf.constant([["a", "b", "c", "unseen"]]))


def test_columns_side_by_side_share_a_vocabulary(spark: SparkSession) -> None:
    """Several string columns are learned from as the columns of a matrix."""
    pairs = [("JFK", "LAX"), ("LAX", "JFK"), ("LAX", "BOS")]
    ours, theirs = keras.layers.StringLookup(), keras.layers.StringLookup()
    adapt(ours, spark.createDataFrame(pairs, ["origin", "dest"]), ["origin", "dest"])
    theirs.adapt(np.array(pairs))
    assert vocabulary(ours) == vocabulary(theirs)


@both
@pytest.mark.parametrize("split", [None, "whitespace", "character"])
def test_text_vectorization_finds_the_same_tokens(
    library: Any, spark: SparkSession, split: str
) -> None:
    """Texts are cut as TensorFlow cuts them, where Unicode and bytes disagree too."""
    texts = one_column(spark, TEXTS, "string")
    for standardize in (None, "lower", "strip_punctuation", "lower_and_strip_punctuation"):
        ours, theirs = (
            library.layers.TextVectorization(standardize=standardize, split=split) for _ in "ab"
        )
        adapt(ours, texts, "x")
        theirs.adapt(np.array(TEXTS))
        assert vocabulary(ours) == vocabulary(theirs), standardize


@both
@pytest.mark.parametrize(
    ("ngrams", "output_mode"), [(2, "multi_hot"), ((1, 3), "tf_idf"), ((4,), "count")], ids=str
)
def test_text_vectorization_of_ngrams(
    library: Any, spark: SparkSession, ngrams: Any, output_mode: str
) -> None:
    """Runs of words, the most frequent of them, and their weights."""

    def layer() -> Any:
        return library.layers.TextVectorization(
            ngrams=ngrams, output_mode=output_mode, max_tokens=12
        )

    ours, theirs = layer(), layer()
    adapt(ours, one_column(spark, TEXTS, "string"), "x")
    theirs.adapt(np.array(TEXTS))
    assert vocabulary(ours) == vocabulary(theirs)
    agree(ours, theirs, tf.constant(TEXTS))


def test_text_vectorization_of_tokens(spark: SparkSession) -> None:
    """Rows that are tokens already are standardized and joined to ngrams, not split."""
    rows = [["New York", "B"], ["b", "new york"], ["", "b"]]
    ours, theirs = (keras.layers.TextVectorization(split=None, ngrams=2) for _ in range(2))
    adapt(ours, one_column(spark, rows, "array<string>"), "x")
    theirs.adapt(np.array(rows))
    assert vocabulary(ours) == vocabulary(theirs)


@both
def test_discretization_of_few_values(library: Any, spark: SparkSession) -> None:
    """With fewer values than quantiles the boundaries are the layer's own."""
    values = np.random.default_rng(2).normal(size=(300, 1)).astype("float32")
    ours, theirs = (library.layers.Discretization(num_bins=4) for _ in range(2))
    adapt(ours, one_column(spark, values[:, 0].tolist(), "float"), "x")
    theirs.adapt(tf.data.Dataset.from_tensors(values))
    np.testing.assert_allclose(ours.bin_boundaries, theirs.bin_boundaries, rtol=1e-6)


@both
def test_discretization_of_many_values(library: Any, spark: SparkSession) -> None:
    """Each boundary is the quantile it stands for, to the layer's epsilon."""
    layer = library.layers.Discretization(num_bins=5, epsilon=0.02)
    adapt(layer, spark.range(20_000).selectExpr("pow(id, 2) AS x"), "x")
    ranks = np.sqrt(np.array(layer.bin_boundaries)) / 20_000
    np.testing.assert_allclose(ranks, [0.2, 0.4, 0.6, 0.8], atol=0.02)


# Keras stores nothing for layers without variables, and says so when it loads.
@pytest.mark.filterwarnings("ignore:Skipping nested container:UserWarning")
@pytest.mark.parametrize("carry", ["file", "pickle"])
def test_the_state_travels_with_the_model(
    spark: SparkSession, features: DataFrame, numbers: np.ndarray, tmp_path: Path, carry: str
) -> None:
    """A model of adapted layers computes the same after .keras and after pickle."""
    # Keras keeps a vocabulary as lines, which some Unicode spaces would break.
    texts = [text for text in TEXTS if text.isascii()]
    scale, bins = keras.layers.Normalization(), keras.layers.Discretization(num_bins=3)
    words = keras.layers.TextVectorization(output_mode="tf_idf")
    codes = keras.layers.StringLookup(output_mode="one_hot", max_tokens=6)
    adapt(scale, features, "array")
    adapt(bins, features, "a")
    adapt(words, one_column(spark, texts, "string"), "x")
    adapt(codes, one_column(spark, WORDS, "string"), "x")
    number, text = keras.Input((3,)), keras.Input((), dtype="string")
    code = keras.Input((1,), dtype="string")
    parts = [scale(number), keras.ops.cast(bins(number), "float32"), words(text), codes(code)]
    model = keras.Model([number, text, code], keras.layers.Concatenate()(parts))
    inputs = [
        tf.constant(numbers[: len(texts)], "float32"),
        tf.constant(texts),
        tf.constant(WORDS[: len(texts)])[:, None],
    ]
    expected = np.asarray(model(inputs))
    if carry == "file":
        model.save(tmp_path / "model.keras")
        model = keras.models.load_model(tmp_path / "model.keras")
    else:
        model = pickle.loads(pickle.dumps(model))
    np.testing.assert_allclose(np.asarray(model(inputs)), expected)


REFUSED: list[tuple[Callable[[], Any], str, str, str]] = [
    (lambda: keras.layers.Hashing(3), "text", "Hashing", "It adapts Normalization, StringLookup"),
    (lambda: keras.layers.Normalization(axis=0), "a", "axis=", "pass mean and variance"),
    (lambda: keras.layers.Normalization(mean=0, variance=1), "a", "mean and variance", "leave"),
    (keras.layers.Normalization, "text", "column 'text' holds string", "Cast it first"),
    (keras.layers.Normalization, "lost", "'lost', which the DataFrame lacks", "It has a, holes"),
    (keras.layers.Normalization, [], "no column", "Name at least one"),
    (keras.layers.Normalization, "holes", "1 null or NaN values in column 'holes'", "dropna"),
    (keras.layers.Normalization, ["a", "holes"], "values in column 'holes'", "fillna"),
    (keras.layers.Normalization, "uneven", "2 rows have a first value and only 1", "Pad"),
    (keras.layers.Normalization, "gaps", "1 null or empty arrays in column 'gaps'", "dropna"),
    (lambda: keras.layers.Discretization(num_bins=2), "holes", "1 null or NaN values", "dropna"),
    (lambda: keras.layers.Discretization([0.5]), "a", "its bin_boundaries", "leave adapt out"),
    (keras.layers.StringLookup, "nulls", "1 rows with nulls in column 'nulls'", "fillna"),
    (keras.layers.StringLookup, "a", "learns from strings", "holds double"),
    (lambda: keras.layers.StringLookup(vocabulary=["a"]), "text", "its vocabulary", "leave"),
    (lambda: keras.layers.StringLookup(num_oov_indices=2, max_tokens=2), "text", "none", "Raise"),
    (keras.layers.IntegerLookup, "a", "learns from integers", "holds double"),
    (lambda: keras.layers.TextVectorization(split=str.split), "text", "split=", "set_vocabulary"),
    (lambda: keras.layers.TextVectorization(standardize=str), "text", "standardize=", "StringLo"),
    (keras.layers.TextVectorization, "words", "one text per row", "split=None"),
    (keras.layers.TextVectorization, "nulls", "1 rows with nulls", "dropna"),
    (lambda: keras.layers.TextVectorization(split=None, ngrams=2), "words", "1 rows with n", "fil"),
]


@pytest.mark.parametrize(("layer", "column", "found", "advice"), REFUSED)
def test_refusals_say_what_was_found(
    spark: SparkSession, layer: Callable[[], Any], column: Any, found: str, advice: str
) -> None:
    """What Spark cannot learn is refused with the value found and the way out."""
    rows = [
        (1.0, float("nan"), "a", None, [1.0], [1.0], ["a", None]),
        (2.0, 3.0, "b", "x", [1.0, 2.0], None, ["b"]),
    ]
    schema = (
        "a double, holes double, text string, nulls string, uneven array<double>, "
        "gaps array<double>, words array<string>"
    )
    with pytest.raises(PlanError) as refused:
        adapt(layer(), spark.createDataFrame(rows, schema), column)
    assert found in str(refused.value)
    assert advice in str(refused.value)


@pytest.mark.parametrize(
    ("layer", "kind"),
    [
        (keras.layers.Normalization, "double"),
        (keras.layers.StringLookup, "string"),
        (lambda: keras.layers.Discretization(num_bins=2), "double"),
    ],
)
def test_an_empty_dataframe_teaches_nothing(
    spark: SparkSession, layer: Callable[[], Any], kind: str
) -> None:
    """No rows are an error, not a layer that silently knows nothing."""
    with pytest.raises(PlanError, match=r"nothing to learn in column 'x'"):
        adapt(layer(), spark.createDataFrame([], f"x {kind}"), "x")


def test_a_layer_built_for_other_features_is_refused(features: DataFrame) -> None:
    """The number of features of a built layer and of the column must agree."""
    layer = keras.layers.Normalization()
    layer.build((None, 2))
    with pytest.raises(PlanError, match=r"built for \(2,\) features, .* has \(3,\)"):
        adapt(layer, features, "array")
