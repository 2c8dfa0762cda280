"""What a client offers to prove who it is, one class for each kind. Secrets are never part of a repr.

Names and passwords are text; octets that were not UTF-8 are lone surrogates in it, so that
`text.encode("utf-8", "surrogateescape")` gives back exactly what was on the wire.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, quote_plus

# Characters of a secret that is not searched for.
_FEW: Final = 4


@dataclass(frozen=True, slots=True)
class Credentials:
    """Base of all kinds. `user` is the authentication identity, "" where the kind does not name one.

    `authzid` is the authorization identity (RFC 4422 section 3.4.1): whose maildrop is asked for, "" for one's own.
    """

    user: str
    authzid: str = field(default="", kw_only=True)

    def redact(self, text: str) -> str:
        """The text without the secret, for a log. Exceptions are known to quote what they choked on."""
        return text

    def fingerprint(self, key: bytes) -> bytes | None:
        """The same for the same user and secret, and of no use without the key; None if the secret is not seen."""
        return None


@dataclass(frozen=True, slots=True)
class PasswordCredentials(Credentials):
    """From USER and PASS, PLAIN or LOGIN.

    `as_sent` is the password as it was on the wire, before SASLprep (RFC 6856 section 2.2): not every password was
    prepared when it was stored.
    """

    password: str = field(repr=False)
    as_sent: str | None = field(default=None, repr=False, kw_only=True, compare=False)

    @property
    def octets(self) -> bytes:
        """The password as it was on the wire."""
        return self.password.encode("utf-8", "surrogateescape")

    @property
    def unprepared(self) -> PasswordCredentials | None:
        """The same with the password as it was sent, if that is another."""
        if self.as_sent is None or self.as_sent == self.password:
            return None
        return PasswordCredentials(self.user, self.as_sent, authzid=self.authzid)

    def redact(self, text: str) -> str:
        if self.unprepared is not None:
            text = self.unprepared.redact(text)
        return _hide_quoted(text, self.password, f"\0{self.user}\0{self.password}", f"{self.user}:{self.password}")

    def fingerprint(self, key: bytes) -> bytes | None:
        return _keyed(key, self.user, self.authzid, self.password)


@dataclass(frozen=True, slots=True)
class ApopCredentials(Credentials):
    """From APOP: MD5 over the greeting's timestamp and the shared secret (RFC 1939 section 7)."""

    timestamp: str
    digest: bytes = field(repr=False)

    def matches(self, secret: str) -> bool:
        """Whether the digest was made with this secret; takes the same time whatever the answer."""
        octets = self.timestamp.encode() + secret.encode("utf-8", "surrogateescape")
        return hmac.compare_digest(hashlib.md5(octets, usedforsecurity=False).digest(), self.digest)

    def redact(self, text: str) -> str:
        return _hide(text, self.digest.hex(), self.digest.hex().upper(), repr(self.digest)[2:-1])


@dataclass(frozen=True, slots=True)
class CramMd5Credentials(Credentials):
    """From CRAM-MD5: HMAC-MD5 of the challenge under the shared secret (RFC 2195)."""

    challenge: bytes
    digest: bytes = field(repr=False)

    def matches(self, secret: str) -> bool:
        """Whether the digest was made with this secret; takes the same time whatever the answer."""
        computed = hmac.digest(secret.encode("utf-8", "surrogateescape"), self.challenge, "md5")
        return hmac.compare_digest(computed, self.digest)

    def redact(self, text: str) -> str:
        return _hide(text, self.digest.hex(), self.digest.hex().upper(), repr(self.digest)[2:-1])


@dataclass(frozen=True, slots=True)
class TokenCredentials(Credentials):
    """From OAUTHBEARER or XOAUTH2: a bearer token (RFC 6750), and in `user` the name the client gave, if it did."""

    token: str = field(repr=False)

    def redact(self, text: str) -> str:
        return _hide_quoted(text, self.token)

    def fingerprint(self, key: bytes) -> bytes | None:
        return _keyed(key, self.user, self.authzid, self.token)


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """A TLS client certificate that the server's authorities vouch for.

    `fields` is what `ssl.SSLSocket.getpeercert` gives: subject, subjectAltName, issuer, serialNumber, ...; `der` the
    certificate itself.
    """

    fields: Mapping[str, Any]
    der: bytes = field(repr=False)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate, 64 lower-case hex digits."""
        return hashlib.sha256(self.der).hexdigest()

    def names(self, kind: str) -> tuple[str, ...]:
        """The subject alternative names of a kind: "email", "DNS", ..."""
        return tuple(value for name, value in self.fields.get("subjectAltName", ()) if name == kind)

    def subject(self, attribute: str) -> tuple[str, ...]:
        """Values of an attribute of the subject: "commonName", "emailAddress", ..."""
        return tuple(value for part in self.fields.get("subject", ()) for name, value in part if name == attribute)


@dataclass(frozen=True, slots=True)
class CertificateCredentials(Credentials):
    """From EXTERNAL: the certificate of the TLS handshake (RFC 4422 appendix A). `user` is "": it is for the backend

    to say whose certificate this is.
    """

    certificate: ClientCertificate


@dataclass(frozen=True, slots=True)
class AnonymousCredentials(Credentials):
    """From ANONYMOUS (RFC 4505). `user` is "anonymous"; `trace` is what the client says of itself, perhaps nothing."""

    trace: str


@dataclass(frozen=True, slots=True)
class ScramKeys:
    """What a server keeps of a password for SCRAM (RFC 5802 section 3); it cannot be used to log in elsewhere.

    Made of the SASLprep'd password: `salted = PBKDF2(password, salt, iterations)`, `stored_key = H(HMAC(salted,
    "Client Key"))`, `server_key = HMAC(salted, "Server Key")`. At least 4096 iterations.
    """

    salt: bytes
    iterations: int
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)


def _keyed(key: bytes, *parts: str) -> bytes:
    """A keyed hash of several texts, each with its length before it, so that no two lists look alike."""
    message = b"".join(
        len(octets).to_bytes(8, "big") + octets for octets in (part.encode("utf-8", "surrogatepass") for part in parts)
    )
    return hmac.digest(key, message, "sha256")


def _hide_quoted(text: str, secret: str, *messages: str) -> str:
    """The text without this secret, however Python, a URL or JSON has quoted it, and without messages in base64."""
    octets = secret.encode("utf-8", "surrogateescape")
    quoted = (repr(secret)[1:-1], ascii(secret)[1:-1], repr(octets)[2:-1])
    in_json = (json.dumps(secret, ensure_ascii=strict)[1:-1] for strict in (True, False))
    in_url = (quote(octets), quote(octets, safe=""), quote_plus(octets))
    wrapped = (base64.b64encode(part.encode("utf-8", "surrogateescape")).decode() for part in (secret, *messages))
    # A text that holds both kinds of quotes is shown with the single ones escaped.
    return _hide(text, secret, *quoted, *(form.replace("'", "\\'") for form in quoted), *in_json, *in_url, *wrapped)


def _hide(text: str, *secrets: str) -> str:
    """The text without these; what is empty hides nothing.

    A short one stands in many words, and where it was taken out of them one could read what it is.
    """
    if secrets[0] and len(secrets[0]) < _FEW:
        return "(not shown, as it might show a password)"
    for secret in filter(None, secrets):
        text = text.replace(secret, "********")
    return text
