"""Text of strangers does nothing to a terminal."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maildaemon_http.printable import json_text, printable

ANYTHING = st.text(st.characters(exclude_categories=()))


def is_harmless(text: str) -> bool:
    return all(char.isprintable() or unicodedata.category(char) == "Zs" for char in text)


@given(ANYTHING)
def test_nothing_that_moves_hides_or_reorders_is_left(text: str) -> None:
    shown = printable(text)
    assert is_harmless(shown)
    assert printable(shown) == shown
    shown.encode("utf-8")  # not even half of a surrogate pair


@given(ANYTHING.filter(is_harmless))
def test_printable_text_is_left_as_it_is(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("a\r\nb\tc", "a\\r\\nb\\tc"),
        ("\x9b2J \x7f \x00", "\\x9b2J \\x7f \\x00"),
        ("\ud800 \U000e0041", "\\ud800 \\U000e0041"),
        ("Größe\u00a0[bold]10[/bold] 😀", "Größe\u00a0[bold]10[/bold] 😀"),
    ],
)
def test_what_is_escaped_is_visible(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.recursive(ANYTHING, lambda inner: st.lists(inner) | st.dictionaries(ANYTHING, inner), max_leaves=5))
def test_json_is_as_harmless_and_means_the_same(document: object) -> None:
    text = json_text(document)
    assert is_harmless(text.replace("\n", ""))
    assert json.loads(text) == document
