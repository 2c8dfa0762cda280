"""EXTERNAL (RFC 4422 appendix A): TLS has said already who the client is."""

from __future__ import annotations

from ...credentials import CertificateCredentials
from ..exchange import ClientExchange, Rejected, ServerContext, ServerExchange, last, verify
from ..text import decode_text, encode_text, prepare_authzid


def external_server(context: ServerContext, message: bytes) -> ServerExchange:
    """The message is the authorization identity; whose certificate it is, the backend says."""
    authzid = decode_text(message)
    if context.certificate is None:
        raise Rejected("no client certificate")
    return (yield from verify(CertificateCredentials("", context.certificate, authzid=prepare_authzid(authzid))))


def external(authzid: str = "") -> ClientExchange:
    """Log in as the owner of the certificate that TLS has presented.

    `authzid` is whose maildrop is wanted, if not the owner's. Raises ValueError if it cannot be sent.
    """
    return last(encode_text(authzid))
