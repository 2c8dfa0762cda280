"""ANONYMOUS, both sides."""

from __future__ import annotations

import pytest

from trio_pop3.credentials import AnonymousCredentials
from trio_pop3.sasl import MECHANISMS, Identity, Malformed, anonymous

from .wire import serve

ANONYMOUS = MECHANISMS["ANONYMOUS"]
BAD = ["x" * 256, "@", "tim@", "@example.com", "a\nb", "\x07", "\u202e", "x" * 244 + "@example.com"]


@pytest.mark.parametrize("trace", ["", "sirhc", "tim@example.com", '"a@b"@example.com', "x" * 255, "\u00e9"])
def test_trace_information(trace: str) -> None:
    """R4505-02, R4505-03."""
    response = next(anonymous(trace))
    assert response.complete
    served = serve(ANONYMOUS, response.data)
    assert served.step() == Identity("anonymous")
    assert served.backend.credentials == AnonymousCredentials("anonymous", trace)


@pytest.mark.parametrize("trace", BAD)
def test_what_is_no_trace_information(trace: str) -> None:
    """R4505-03, A11: too long, half a mail address, or something to upset a log."""
    served = serve(ANONYMOUS, trace.encode())
    with pytest.raises(Malformed):
        served.step()
    assert not served.backend.seen
    with pytest.raises(ValueError, match=r"address|character"):
        anonymous(trace)


def test_not_utf8() -> None:
    with pytest.raises(Malformed):
        serve(ANONYMOUS, b"\xff").step()


def test_off_by_default() -> None:
    """R4505-01."""
    assert not ANONYMOUS.default
