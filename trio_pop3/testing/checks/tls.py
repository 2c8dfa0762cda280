"""7xx: STLS and implicit TLS."""

from __future__ import annotations

import ssl
import warnings
from typing import Final

from ..talk import Reply
from ..wire import Silent
from .base import Group, Level, Skip, accepted, expect, in_step, refused, says_goodbye
from .needs import ANY_TLS, ENCRYPTED, IMPLICIT_TLS, STLS, USER
from .target import CheckedTalk, Encryption, Target, capabilities_of

TLS: Final = Group("TLS")
MUST, SHOULD = Level.MUST, Level.SHOULD


@TLS("701", "STLS is answered with +OK, then TLS begins, and the login is what comes next", MUST,
     "RFC 2595 section 4", "R2595-05", "R2595-08", needs=(STLS,))  # fmt: skip
def stls(target: Target) -> None:
    talk = _upgraded(target.greeted())
    refused(talk, b"NOOP")
    target.log_in(talk)
    in_step(talk)


@TLS("702", "a server with STLS has CAPA", MUST, "RFC 2595 section 4", "R2595-01", needs=(STLS,))
def stls_needs_capa(target: Target) -> None:
    accepted(target.greeted(), b"CAPA", multiline=True)
    accepted(_upgraded(target.greeted()), b"CAPA", multiline=True)


@TLS("703", "STLS with an argument is refused", MUST, "RFC 2595 section 4", "R2595-03", "R1939-13", needs=(STLS,))
def stls_takes_no_argument(target: Target) -> None:
    """G2."""
    talk = target.greeted()
    refused(talk, b"STLS x")
    says_goodbye(talk)


@TLS("704", "STLS is refused after the login", MUST, "RFC 2595 section 4", "R2595-04", "R1939-14")
def no_stls_after_login(target: Target) -> None:
    """G2."""
    talk = target.login()
    refused(talk, b"STLS")
    in_step(talk)


@TLS("705", "STLS is not announced under TLS, nor after the login", MUST, "RFC 2595 section 4", "R2595-02",
     needs=(STLS,))  # fmt: skip
def stls_is_announced_where_it_works(target: Target) -> None:
    talk = _upgraded(target.greeted())
    expect("STLS" not in (capabilities_of(talk) or ()), "STLS is announced under TLS")
    target.log_in(talk)
    expect("STLS" not in (capabilities_of(talk) or ()), "STLS is announced after the login")


@TLS("706", "STLS is refused under TLS", SHOULD, "RFC 2595 section 4", "R2595-06", needs=(ENCRYPTED,))
def no_stls_under_tls(target: Target) -> None:
    """G2. The RFC permits to refuse it."""
    talk = target.connect()
    refused(talk, b"STLS")
    says_goodbye(talk)


@TLS("707", "a command sent behind STLS in the same segment has no effect", MUST, "RFC 8314 appendix A", "R2595-19",
     needs=(STLS,))  # fmt: skip
def no_injection(target: Target) -> None:
    """A-35, G1."""
    reply = _said_under_tls(target, b"NOOP\r\n", b"QUIT")
    expect(reply is None or reply.ok, "the first reply under TLS is not that to QUIT: what was in clear was answered")


@TLS("708", "half a command sent behind STLS is not the beginning of the next one", MUST, "RFC 8314 appendix A",
     "R2595-19", needs=(STLS,))  # fmt: skip
def no_half_injection(target: Target) -> None:
    """G1: a server that keeps what it has read here gets QUIT."""
    reply = _said_under_tls(target, b"QU", b"IT")
    expect(reply is None or not reply.ok, "what was sent in clear and what was sent under TLS made one command")


@TLS("709", "STLS forgets a USER that came before it", MUST, "RFC 1939 section 7", "R1939-67", "R2595-19",
     needs=(STLS, USER))  # fmt: skip
def user_is_forgotten(target: Target) -> None:
    """G3."""
    talk, account = target.greeted(), target.settings.account
    if not talk.ask(b"USER " + account.name).ok:
        raise Skip("USER is refused in clear")
    _upgraded(talk)
    refused(talk, b"PASS " + account.secret)


@TLS("710", "after a handshake that fails nothing is said in clear", MUST, "RFC 2595 section 4", "R2595-05",
     needs=(STLS,))  # fmt: skip
def silent_after_failure(target: Target) -> None:
    """G4."""
    talk = target.greeted()
    accepted(talk, b"STLS")
    talk.send(b"NOOP", b"NOOP", b"QUIT")
    try:
        said = talk.wire.receive()
    except Silent:
        return
    talk.transcript.add("S", said, talk.number)
    expect(not said.startswith((b"+OK", b"-ERR")), "a command in clear was answered where a handshake was due")


@TLS("711", "TLS 1.2 or later is there", MUST, "RFC 8314 section 4", "R8314-05", needs=(ANY_TLS,))
def modern_tls(target: Target) -> None:
    context = target.settings.tls
    expect(_handshake(target, _limited(context, ssl.TLSVersion.TLSv1_2, None)), "there is no handshake with it")


@TLS("712", "TLS 1.1 and older are not there", SHOULD, "RFC 8997 section 3", "R8997-01", needs=(ANY_TLS,))
def no_old_tls(target: Target) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the versions, which is what this is about
        context = _limited(target.settings.tls, ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1)
        context.set_ciphers("ALL:@SECLEVEL=0")
        expect(not _handshake(target, context), "there is a handshake with TLS 1.1 or older")


@TLS("713", "where connections begin with TLS, the login is what comes next", MUST, "RFC 8314 section 3.1",
     "R8314-01", "R8314-02", needs=(IMPLICIT_TLS,))  # fmt: skip
def implicit_tls(target: Target) -> None:
    talk = target.greeted()
    refused(talk, b"STAT")
    target.log_in(talk)
    in_step(talk)


@TLS("714", "TLS is ended with an alert before the connection is closed", SHOULD, "RFC 8314 section 3.4", "R8314-04",
     needs=(ENCRYPTED,))  # fmt: skip
def closes_tls(target: Target) -> None:
    talk = target.connect()
    says_goodbye(talk)
    expect(not talk.socket.truncated, "the connection was closed without one")


def _upgraded(talk: CheckedTalk, behind: bytes = b"") -> CheckedTalk:
    """STLS, and in the same segment what stands behind it."""
    talk.send_octets(b"STLS\r\n" + behind)
    expect(talk.reply().ok, "STLS was refused")
    talk.start_tls()
    return talk


def _said_under_tls(target: Target, behind: bytes, line: bytes) -> Reply | None:
    """The first reply under TLS, after something was sent behind STLS; None if the server would rather close."""
    talk = target.greeted()
    try:
        _upgraded(talk, behind)
    except OSError:
        return None
    talk.send(line)
    try:
        return talk.reply()
    except AssertionError:
        if talk.ended:
            return None
        raise


def _limited(context: ssl.SSLContext, least: ssl.TLSVersion, most: ssl.TLSVersion | None) -> ssl.SSLContext:
    """A context that trusts as another one does, with other versions."""
    limited = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    limited.check_hostname = context.check_hostname
    limited.verify_mode = context.verify_mode
    limited.load_verify_locations(cadata=b"".join(context.get_ca_certs(binary_form=True)) or None)
    limited.minimum_version = least
    if most is not None:
        limited.maximum_version = most
    return limited


def _handshake(target: Target, context: ssl.SSLContext) -> bool:
    """Whether there is one, with another context."""
    try:
        talk = target.dial(context)
        if target.settings.encryption is not Encryption.IMPLICIT:
            talk.reply()
            _upgraded(talk)
        return bool(talk.ask(b"QUIT").ok)
    except OSError:
        return False
