"""User names and limits, against definitions written another way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.sansio import grammar
from trio_pop3.sansio.grammar import NAMES, clip


@pytest.mark.parametrize("spaces", [False, True])
@pytest.mark.parametrize("utf8", [False, True])
def test_octets_of_a_name(spaces: bool, utf8: bool) -> None:
    """A-03, A-12, R6856-17: 8-bit octets only where UTF-8 names are on, spaces only where they are."""
    allowed = set(range(0x21, 0x7F)) | ({0x20} if spaces else set()) | (set(range(0x80, 0x100)) if utf8 else set())
    assert {octet for octet in range(256) if NAMES[spaces, utf8].fullmatch(bytes([octet]))} == allowed
    assert not NAMES[spaces, utf8].fullmatch(b"")


@given(st.text(st.sampled_from("x\u00e9\u20ac\u20ad\U0001f4ec\U0001f4ed"), min_size=1, max_size=12), st.data())
def test_a_clipped_text_has_whole_characters_and_as_many_as_fit(text: str, data: st.DataObject) -> None:
    """R1939-06."""
    line = text.encode()
    limit = data.draw(st.integers(0, len(line) - 1))
    fitting = max(count for count in range(len(text)) if len(text[:count].encode()) <= limit)
    assert clip(line, limit) == text[:fitting].encode()


def test_limits() -> None:
    """R2449-01, R5034-20, H3, A-04: what the RFCs ask for is inside, and each limit contains the one below."""
    assert 255 <= grammar.MAX_COMMAND_LINE < grammar.MAX_DROPPED_LINE < grammar.MAX_SASL_LINE
    # 12 KiB in base64 is what tokens have been seen to need.
    assert grammar.MAX_SASL_LINE >= 12 * 1024 + 2
