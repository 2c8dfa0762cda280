"""EXTERNAL, both sides."""

from __future__ import annotations

import pytest

from trio_pop3.credentials import CertificateCredentials
from trio_pop3.sasl import MECHANISMS, Identity, Malformed, Rejected, ServerContext, external

from .wire import CERTIFICATE, serve

EXTERNAL = MECHANISMS["EXTERNAL"]
CONTEXT = ServerContext(certificate=CERTIFICATE)


@pytest.mark.parametrize("authzid", ["", "tom", "\u00fcser"])
def test_the_backend_is_asked_whose_certificate_it_is(authzid: str) -> None:
    """REXT-02, REXT-03, REXT-04, R4422-08: one message and no further challenge."""
    client = external(authzid)
    response = next(client)
    assert response.complete
    served = serve(EXTERNAL, response.data, CONTEXT)
    assert served.step() == Identity("tim", authzid)
    assert served.backend.credentials == CertificateCredentials("", CERTIFICATE, authzid=authzid)


def test_without_a_certificate_nobody_is_asked() -> None:
    """REXT-01."""
    served = serve(EXTERNAL, b"")
    with pytest.raises(Rejected):
        served.step()
    assert not served.backend.seen


def test_a_certificate_of_nobody() -> None:
    """REXT-02: the backend cannot say whose it is."""
    exchange = EXTERNAL.start(CONTEXT, b"")
    next(exchange)
    with pytest.raises(Rejected):
        exchange.throw(Rejected("nobody's"))


@pytest.mark.parametrize(
    ("authzid", "failure"),
    [
        (b"to\0m", Malformed),
        (b"\xff", Malformed),
        (b"x" * 1025, Malformed),
        (b"\x07", Rejected),
        (b"\xc2\xad", Rejected),
    ],
)
def test_bad_authzid(authzid: bytes, failure: type[Exception]) -> None:
    """REXT-03, R4422-05, R4422-08, R5034-24."""
    with pytest.raises(failure):
        serve(EXTERNAL, authzid, CONTEXT).step()


def test_what_cannot_be_sent() -> None:
    """R4422-08."""
    with pytest.raises(ValueError, match="NUL"):
        external("to\0m")
