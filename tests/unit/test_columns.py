"""What a schema and its declarations become, and what is refused."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from spark_strategy.data.columns import Column, ColumnSpec, specs_of, with_lengths
from spark_strategy.data.matrices import common_dtype, is_exact
from spark_strategy.data.schema import position_of
from spark_strategy.errors import PlanError

VECTOR = {
    "type": "udt",
    "class": "org.apache.spark.ml.linalg.VectorUDT",
    "pyClass": "pyspark.ml.linalg.VectorUDT",
    "sqlType": {"type": "struct", "fields": []},
}


def schema(**columns: Any) -> dict[str, Any]:
    """As ``DataFrame.schema.jsonValue()`` gives it."""
    fields = [
        {"name": name, "type": kind, "nullable": True, "metadata": {}}
        for name, kind in columns.items()
    ]
    return {"type": "struct", "fields": fields}


def array(element: Any) -> dict[str, Any]:
    """An array's type."""
    return {"type": "array", "elementType": element, "containsNull": True}


def only(kind: Any, column: Column | None = None) -> ColumnSpec:
    """The spec of a column ``x``."""
    [spec] = specs_of(schema(x=kind), {"x": column} if column else {})
    return spec


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("boolean", "bool"),
        ("byte", "int8"),
        ("short", "int16"),
        ("integer", "int32"),
        ("long", "int64"),
        ("float", "float32"),
        ("double", "float64"),
        ("decimal(10,2)", "float64"),
        ("string", "string"),
        ("string collate UNICODE_CI", "string"),
        ("char(3)", "string"),
        ("varchar(10)", "string"),
        ("binary", "string"),
        ("date", "int32"),
        ("timestamp", "int64"),
        ("timestamp_ntz", "int64"),
    ],
)
def test_each_scalar_type_has_a_dtype_alone_and_in_arrays(kind: str, dtype: str) -> None:
    """The element of an array becomes what it becomes outside of one."""
    spec = only(kind)
    assert (spec.dtype, spec.shape, spec.depth, spec.needs_length) == (dtype, (), 0, False)
    for nested, depth in ((array(kind), 1), (array(array(kind)), 2)):
        spec = only(nested, Column(ragged=True))
        assert (spec.dtype, spec.shape, spec.depth) == (dtype, (None,) * depth, depth)
        assert spec.ragged_rank == depth


def test_a_struct_becomes_its_fields() -> None:
    """Names are dotted; a path tells a dot in a name from a struct."""
    inner = schema(c="float", **{"d.e": "long"})
    specs = specs_of(schema(a="byte", b=inner), {"b.c": Column(dtype="float64")})
    assert [(spec.name, spec.path, spec.dtype) for spec in specs] == [
        ("a", ("a",), "int8"),
        ("b.c", ("b", "c"), "float64"),
        ("b.d.e", ("b", "d.e"), "int64"),
    ]


def test_a_vector_is_an_array_of_doubles_that_the_driver_converts() -> None:
    """Its length is looked up, or declared."""
    spec = only(VECTOR)
    assert (spec.is_vector, spec.dtype, spec.depth) == (True, "float64", 1)
    assert spec.needs_length
    assert only(VECTOR, Column(shape=(3,), dtype="float32")).row_bytes == 12
    assert not only(array("double")).is_vector


def test_an_undeclared_length_is_looked_up() -> None:
    """Only where it is needed, and then the column is like a declared one."""
    kinds = schema(image=array("float"), tokens=array("long"), y="long")
    specs = specs_of(kinds, {"tokens": Column(ragged=True)})
    assert [spec.needs_length for spec in specs] == [True, False, False]
    found = with_lengths(specs, {"image": 784, "tokens": 5})
    assert [spec.shape for spec in found] == [(784,), (None,), ()]
    assert not any(spec.needs_length for spec in found)
    assert [spec.row_bytes for spec in found] == [784 * 4, None, 8]
    assert [spec.row_bytes for spec in specs] == [None, None, 8]


def test_an_empty_array_tells_no_length() -> None:
    """A tensor of no values is nobody's wish."""
    with pytest.raises(PlanError, match=r"first array in column 'x' is empty.*ragged=True"):
        with_lengths([only(array("float"))], {"x": 0})


@pytest.mark.parametrize(
    ("kind", "column", "lengths"),
    [
        (array("float"), Column(shape=(28, 28, 1)), (784,)),
        (array("float"), Column(shape=(5, 2), pad=0), (10,)),
        (array("float"), Column(ragged=True), (None,)),
        (array("float"), Column(shape=(None,), ragged=True), (None,)),
        (array(array("float")), Column(shape=(5, 5)), (5, 5)),
        (array(array("float")), Column(shape=(5, 5, 3)), (5, 15)),
        (array(array("float")), Column(ragged=True), (None, None)),
        (array(array("float")), Column(shape=(None, None), ragged=True), (None, None)),
        (array(array("float")), Column(shape=(None, 2, 3), ragged=True), (None, 6)),
        ("long", Column(shape=()), ()),
    ],
)
def test_shapes_say_how_long_arrays_are(
    kind: Any, column: Column, lengths: tuple[int | None, ...]
) -> None:
    """The outer arrays are as long as the first dimension; the innermost hold the others."""
    assert only(kind, column).lengths == lengths


def test_specs_travel() -> None:
    """To the executors, by pickle."""
    spec = only(array("float"), Column(shape=(2,), fill=0))
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert pickle.loads(pickle.dumps(Column(pad=1, shape=(2,)))) == Column(pad=1, shape=(2,))


def test_a_declaration_may_be_meant_for_another_dataframe() -> None:
    """``frames.py`` refuses what none of them has."""
    assert len(specs_of(schema(x="long"), {"y": Column(dtype="float32")})) == 1


@pytest.mark.parametrize(
    ("kind", "printed"),
    [
        ({"type": "map", "keyType": "string", "valueType": "long"}, "map<string, long>"),
        (array({"type": "map", "keyType": "string", "valueType": "long"}), "array<map<"),
        ("interval", "interval"),
        ("interval day to second", "interval day to second"),
        ("interval year to month", "interval year to month"),
        ("variant", "variant"),
        ("void", "void"),
        ("time(6)", "time"),
        (array(schema(a="long")), "array<struct>"),
        (array(array(array("long"))), "array<array<array<long>>>"),
        ({"type": "udt", "pyClass": "my.Point", "sqlType": "string"}, "udt my.Point"),
        (array(VECTOR), "array<vector>"),
        (schema(v={"type": "udt", "class": "a.B"}), "udt a.B"),
        (schema(v=VECTOR), "vector inside a struct"),
    ],
)
def test_what_no_tensor_holds_is_refused_by_name_and_type(kind: Any, printed: str) -> None:
    """On the driver, before anything is launched."""
    with pytest.raises(PlanError) as refused:
        only(kind)
    assert "'x" in str(refused.value)
    assert printed in str(refused.value)


@pytest.mark.parametrize(
    ("kind", "column", "text"),
    [
        ("string", Column(dtype="float32"), "is string and cannot become float32. Cast it"),
        ("float", Column(dtype="string"), "is float and cannot become string"),
        ("double", Column(dtype="int64"), "is double and cannot become int64"),
        ("decimal(9,0)", Column(dtype="int64"), "cannot become int64"),
        ("long", Column(dtype="bool"), "cannot become bool"),
        ("long", Column(shape=(3,)), "is long, one value per row"),
        ("long", Column(ragged=True), "is long, one value per row"),
        (array(array("long")), Column(), "nobody says how long its arrays are"),
        (
            array(array("long")),
            Column(shape=(4,)),
            r"Column(shape=(4,), ragged=False) does not fit",
        ),
        (array("long"), Column(shape=()), "does not fit"),
        (array("long"), Column(shape=(None, 3), ragged=True), "does not fit"),
        (array("long"), Column(shape=(None, None), ragged=True), "does not fit"),
        (array(array("long")), Column(shape=(None,), ragged=True), "does not fit"),
        ("string", Column(fill=0), "becomes string, which cannot hold Column(fill=0)"),
        ("long", Column(fill="none"), "becomes int64, which cannot hold Column(fill='none')"),
        ("long", Column(fill=0.5), "cannot hold Column(fill=0.5)"),
        ("long", Column(fill=float("nan")), "cannot hold Column(fill=nan)"),
        ("byte", Column(fill=128), "cannot hold Column(fill=128)"),
        ("byte", Column(dtype="uint8", fill=-1), "cannot hold Column(fill=-1)"),
        ("boolean", Column(fill=2), "cannot hold Column(fill=2)"),
        ("float", Column(fill=1e39), "becomes float32, which cannot hold Column(fill=1e+39)"),
        ("float", Column(fill=10**400), "becomes float32, which cannot hold"),
        (array("long"), Column(pad="", shape=(3,)), "cannot hold Column(pad='')"),
    ],
)
def test_a_declaration_that_does_not_fit_the_type_is_refused(
    kind: Any, column: Column, text: str
) -> None:
    """The message has the column, its type and what was declared."""
    with pytest.raises(PlanError) as refused:
        only(kind, column)
    assert "Column 'x'" in str(refused.value)
    assert text in str(refused.value)


@pytest.mark.parametrize(
    ("kind", "fill"),
    [
        ("boolean", False),
        ("byte", -128),
        ("byte", 3.0),
        ("double", float("nan")),
        ("float", float("-inf")),
        ("decimal(9,2)", -1),
        ("binary", ""),
    ],
)
def test_a_fill_that_fits_is_taken(kind: str, fill: Any) -> None:
    """NaN among numbers, say."""
    assert only(kind, Column(fill=fill)).fill is fill


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"dtype": "float"}, "Column(dtype) is one of bool, int8,"),
        ({"dtype": "bfloat16"}, "found 'bfloat16'"),
        ({"fill": [0]}, "Column(fill) is a number or a string, found [0]"),
        ({"pad": b"", "shape": (3,)}, "Column(pad) is a number or a string, found b''"),
        ({"pad": 0}, "needs the shape to pad to, as in shape=(100,)"),
        ({"pad": 0, "ragged": True}, "Choose one of them"),
        ({"shape": [3]}, "is a tuple of whole numbers above 0"),
        ({"shape": 3}, "is a tuple of whole numbers above 0"),
        ({"shape": (3, 0)}, "found (3, 0)"),
        ({"shape": (True,)}, "found (True,)"),
        ({"shape": (3, None), "ragged": True}, "found (3, None)"),
        ({"shape": (None, 3)}, "Column(shape=(None, 3), ragged=False): a ragged column"),
        ({"shape": (3,), "ragged": True}, "has None for the lengths that vary"),
    ],
)
def test_a_declaration_that_contradicts_itself_is_refused(
    fields: dict[str, Any], text: str
) -> None:
    """Where it is written, not where it is used."""
    with pytest.raises(PlanError) as refused:
        Column(**fields)
    assert text in str(refused.value)


def test_two_columns_of_one_name_are_refused() -> None:
    """Also a dotted name beside a struct."""
    with pytest.raises(PlanError, match=r"Two columns are called 'a.b'"):
        specs_of(schema(**{"a.b": "long", "a": schema(b="long")}), {})


def test_no_columns_are_refused() -> None:
    """There would be nothing to count rows by."""
    with pytest.raises(PlanError, match="no columns"):
        specs_of(schema(), {})


@pytest.mark.parametrize(
    ("dtypes", "common"),
    [
        (["float32"], "float32"),
        (["bool", "bool"], "bool"),
        (["bool", "int8"], "int8"),
        (["int32", "int64"], "int64"),
        (["uint8", "int8"], "int16"),
        (["int8", "float16"], "float16"),
        (["int16", "float16"], "float32"),
        (["int32", "float32"], "float64"),
        (["int64", "float32"], "float64"),
        (["float32", "float64"], "float64"),
    ],
)
def test_columns_side_by_side_lose_no_digits(dtypes: list[str], common: str) -> None:
    """The smallest dtype that holds all values of each; of int64 and floats the largest float."""
    assert common_dtype(dtypes) == common
    assert common_dtype(reversed(dtypes)) == common
    extremes = {"int8": -(2**7), "uint8": 2**8 - 1, "int16": 2**15 - 1, "int32": 2**31 - 1}
    for dtype in dtypes:
        if dtype in extremes:
            assert is_exact(dtype, common)
            assert np.array([extremes[dtype]], dtype).astype(common) == extremes[dtype]
    assert is_exact("int64", common) == (common == "int64")


def test_a_column_is_found_by_its_exact_name() -> None:
    """A name of its own comes before a struct's field; any characters; case counts."""
    inner = schema(b="float", **{"c.d": "long"})
    fields = [
        *schema(a=inner, **{"a.b": "int", "*": "int", "i`d": "int", "": "int", "id": "int"})[
            "fields"
        ],
        *schema(ID="int", id="int", **{"p.q": inner})["fields"],
    ]
    table = {"type": "struct", "fields": fields}
    names = ["a", "a.b", "*", "i`d", "", "ID", "a.c.d", "p.q.b"]
    assert [position_of(table, name) for name in names] == [0, 1, 2, 3, 4, 6, 0, 8]
    with pytest.raises(PlanError, match="Two columns are called 'id'"):
        position_of(table, "id")
    for unknown in ("Id", "a.x", "id.b", "p"):
        with pytest.raises(PlanError, match=f"no column '{unknown}'; the columns are a, a.b, "):
            position_of(table, unknown)
