"""Names and passwords inside of messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.sasl import Malformed, Rejected
from trio_pop3.sasl.text import MOST_OCTETS, decode_text, encode_text, prepare, prepare_authzid


def test_up_to_1024_octets() -> None:
    """R4616-03."""
    assert decode_text(b"x" * MOST_OCTETS) == "x" * 1024
    with pytest.raises(Malformed, match="too long"):
        decode_text(b"x" * (MOST_OCTETS + 1))


@pytest.mark.parametrize("octets", [b"caf\xe9", b"\xed\xa0\x80", b"\xc0\x80", b"a\0b", b"\xf4\x90\x80\x80"])
def test_octets_that_are_no_name(octets: bytes) -> None:
    """R4616-05, R4422-08, REXT-03: no UTF-8, or NUL; the octets are not in the error."""
    with pytest.raises(Malformed) as failure:
        decode_text(octets)
    assert "0x" not in str(failure.value)
    assert (failure.value.__cause__ is None and failure.value.__suppress_context__) or failure.value.__context__ is None


@given(st.text(max_size=20))
def test_round_trip(text: str) -> None:
    """What can be sent arrives; R4616-02: NUL cannot."""
    if "\0" in text:
        with pytest.raises(ValueError, match="NUL"):
            encode_text(text)
    else:
        assert decode_text(encode_text(text)) == text


def test_what_cannot_be_sent_is_not_shown() -> None:
    """H8: a UnicodeEncodeError would carry the whole text along."""
    with pytest.raises(ValueError, match="not Unicode") as failure:
        encode_text("hunter2\udcff")
    assert not isinstance(failure.value, UnicodeError)
    assert failure.value.__suppress_context__


@pytest.mark.parametrize("text", ["", "\u00ad", "\u0007", "\u0627\u0031", "\udcff"])
def test_nothing_is_nobody(text: str) -> None:
    """R4616-04, R5034-24, H6: empty, empty when prepared, or not to be prepared."""
    with pytest.raises(Rejected):
        prepare(text)


def test_an_empty_authzid_is_none() -> None:
    """R4422-08, R5034-23, R5034-24."""
    assert prepare_authzid("") == ""
    assert prepare_authzid("\u2168") == "IX"
    with pytest.raises(Rejected):
        prepare_authzid("\u00ad")
