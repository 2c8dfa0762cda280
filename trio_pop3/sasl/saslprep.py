"""SASLprep (RFC 4013): names and passwords that look the same become the same."""

from __future__ import annotations

import stringprep
from collections.abc import Callable
from typing import Final
from unicodedata import ucd_3_2_0

# RFC 4013 section 2.3. The tables of RFC 3454 know Unicode 3.2, and so must the normalization.
_PROHIBITED: Final[tuple[Callable[[str], bool], ...]] = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def saslprep(text: str, *, stored: bool) -> str:
    """The prepared text. It is empty if nothing in it counts, which is for the caller to refuse.

    Args:
        text: any text. Lone surrogates, which are what octets became that were no UTF-8, are refused.
        stored: it is to be kept, and must not hold characters that Unicode 3.2 did not know, because nobody knows what
            they will be equal to. False is for what is only compared ("query strings", RFC 3454 section 7).

    Raises ValueError, without the text in it.
    """
    if text.isascii() and text.isprintable():
        return text
    # U+200B is in both tables; like most, we map it to nothing.
    mapped = "".join(
        " " if stringprep.in_table_c12(character) else character
        for character in text
        if not stringprep.in_table_b1(character)
    )
    prepared = ucd_3_2_0.normalize("NFKC", mapped)
    # A text of a thousand characters has a few dozen different ones: looking at those only keeps this short.
    characters = set(prepared)
    if any(prohibited(character) for character in characters for prohibited in _PROHIBITED):
        raise ValueError("prohibited character")
    if stored and any(map(stringprep.in_table_a1, characters)):
        raise ValueError("character that is not in Unicode 3.2")
    _check_direction(prepared, characters)
    return prepared


def _check_direction(prepared: str, characters: set[str]) -> None:
    """RFC 3454 section 6: what is written from right to left is so from one end to the other."""
    if not any(map(stringprep.in_table_d1, characters)):
        return
    if any(map(stringprep.in_table_d2, characters)):
        raise ValueError("characters of both directions")
    if not (stringprep.in_table_d1(prepared[0]) and stringprep.in_table_d1(prepared[-1])):
        raise ValueError("right-to-left text with another character at an end")
