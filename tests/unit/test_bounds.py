"""Text and exceptions of others stay within bounds, whatever their own code does."""

from __future__ import annotations

from typing import Any

import pytest

from spark_strategy import bounds


class OddError(Exception):
    """Each of its own methods does what none should."""

    def __str__(self) -> str:
        raise SystemExit("no")

    def __repr__(self) -> str:
        return repr(self)


class Text(str):
    """A text with methods of its own."""

    __slots__ = ()

    def __len__(self) -> int:
        raise ZeroDivisionError

    def __getitem__(self, key: Any) -> str:
        raise ZeroDivisionError


class SaysError(Exception):
    """Says what it was given."""

    def __str__(self) -> str:
        return self.args[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize("text", ["", "short", "x" * 10])
def test_what_fits_is_not_touched(text: str) -> None:
    """The very same text."""
    assert bounds.cut(text, 10) == text
    assert bounds.cut_middle(text, 10) == text
    assert bounds.text_of(text, 10) == text


def test_what_is_cut_says_how_much_is_missing() -> None:
    """At the end, or in the middle, with most of the end."""
    assert bounds.cut("abcdefgh", 3) == "abc... cut, 5 characters more"
    assert bounds.cut_middle("abcdefgh", 4) == "a\n... cut, 4 characters here ...\nfgh"
    assert bounds.text_of(SaysError("y" * 1500), 2) == "yy... cut, 1,498 characters more"


def test_text_whose_own_code_fails_is_replaced() -> None:
    """Also by sys.exit, by a recursion, or by a text that is none."""
    assert bounds.text_of(OddError()) == "<OddError: str() raised SystemExit>"
    assert bounds.shown(OddError()) == "<OddError: repr() raised RecursionError>"
    assert bounds.text_of(SaysError(5)) == "<SaysError: str() raised TypeError>"


def test_a_subclass_of_str_has_no_say() -> None:
    """What comes back is a plain text of the same letters."""
    text = bounds.text_of(SaysError(Text("abc")), 10)

    assert type(text) is str
    assert text == "abc"
    assert bounds.text_of(SaysError(Text("abc")), 2) == "ab... cut, 1 characters more"


def test_a_circle_of_causes_is_walked_once() -> None:
    """Itself, two that cause each other, and one that is in a group as well."""
    alone, one, two = ValueError("alone"), ValueError("one"), ValueError("two")
    alone.__cause__ = alone
    one.__cause__, two.__context__ = two, one
    group = ExceptionGroup("group", [one, two, alone])

    assert list(bounds.exceptions_behind(alone)) == [alone]
    assert list(bounds.exceptions_behind(one)) == [one, two]
    assert list(bounds.exceptions_behind(group)) == [group, one, two, alone]


def test_a_walk_ends_after_a_number_of_steps() -> None:
    """A chain of any length, and a group of any size."""
    last = ValueError("0")
    for number in range(1, 10_000):
        before, last = last, ValueError(str(number))
        last.__cause__ = before

    assert len(list(bounds.exceptions_behind(last))) == bounds.MOST_EXCEPTIONS
    group = ExceptionGroup("group", [ValueError("x") for _ in range(10_000)])
    assert len(list(bounds.exceptions_behind(group))) == bounds.MOST_EXCEPTIONS


def test_attributes_are_the_interpreters_own() -> None:
    """A class can hide its cause, its frames, its class and its dictionary; it is not asked."""

    class Meta(type):
        def __getattribute__(cls, name: str) -> Any:
            raise ZeroDivisionError

    def refuse(self: object) -> Any:
        raise ZeroDivisionError

    names = ("__cause__", "__context__", "__traceback__", "__suppress_context__", "__class__")
    kind = Meta("Hides", (Exception,), {name: property(refuse) for name in names})
    error = kind("text")
    error.add_note("a note")
    BaseException.__dict__["__cause__"].__set__(error, ValueError("cause"))

    assert bounds.name_of(error) == "Hides"
    assert bounds.frames_of(error) is None
    assert str(bounds.cause_of(error)) == "cause"
    assert len(list(bounds.exceptions_behind(error))) == 2
    assert bounds.notes_of(error) == ["a note"]


@pytest.mark.parametrize("notes", [5, "text", [1, "kept"], property(lambda self: 1 / 0)])
def test_notes_are_texts_in_a_list(notes: object) -> None:
    """Whatever else stands there is left out."""
    error = ValueError("x")
    error.__notes__ = notes  # type: ignore[assignment]

    assert bounds.notes_of(error) == (["kept"] if isinstance(notes, list) else [])


def test_a_buffer_refuses_before_it_keeps() -> None:
    """Up to its size, and not a byte more."""
    buffer = bounds.BoundedBuffer(5)
    buffer.write(b"abc")
    with pytest.raises(bounds.TooLargeError, match="more than 5 bytes"):
        buffer.write(memoryview(b"def"))
    buffer.write(bytearray(b"de"))

    assert buffer.getvalue() == b"abcde"
