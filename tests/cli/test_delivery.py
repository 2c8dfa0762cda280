"""What `deliver` and `serve --lmtp` have in common; see also test_deliver and test_lmtp."""

from __future__ import annotations

import pytest

from trio_pop3.cli import delivery
from trio_pop3.cli.failure import Failure


@pytest.mark.parametrize(
    ("text", "octets"),
    [("1", 1), ("1k", 1024), ("1K", 1024), ("500m", 500 * 2**20), ("2G", 2**31), ("2g", 2**31), ("1t", 2**40)],
)
def test_sizes_as_people_write_them(text: str, octets: int) -> None:
    assert delivery.octets("--quota", text) == octets


@pytest.mark.parametrize("text", ["", "0", "0k", "k", "1kb", "-1", "1.5M", "1 M", "1\u212a", "1" * 13])
def test_what_is_no_size(text: str) -> None:
    """The Kelvin sign is a K to Python, where letter case is ignored."""
    with pytest.raises(Failure, match="--quota is a number of octets, as 500M or 2G, not") as caught:
        delivery.octets("--quota", text)
    assert caught.value.status == 2
