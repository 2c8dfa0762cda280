"""Whether there is a server that lets us in, and in what words to say that there is none."""

from __future__ import annotations

import ssl
from typing import Final

from ..talk import Closed, Reply
from ..transcript import escape
from ..wire import Silent
from .base import clipped, printable
from .settings import Account, Encryption, NoTarget
from .target import MOST_DELAY, LoginRefused, Target, distrust

# What OpenSSL says of octets that are no TLS.
_NO_TLS: Final = frozenset({"WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"})
_MOST_SHOWN: Final = 20


def reach(target: Target) -> Reply:
    """See that there is a server that lets in everybody whom we know; its greeting. Raises NoTarget."""
    where = target.settings.where
    target.begin()
    try:
        greeting = target.connect().greeting
        target.method = target.choose_method()
        _check_delay(target)
        for account in (target.settings.account, target.settings.second):
            target.end(orderly=True)  # nobody is kept out by the one before
            target.begin()
            if account is not None:
                _let_in(target, account)
    except NoTarget:
        raise
    except ssl.SSLError as failure:
        raise NoTarget(f"{where}: {_without_tls(failure, target.settings.encryption)}") from None
    except OSError as failure:
        why = "timed out" if isinstance(failure, TimeoutError) else (failure.strerror or str(failure)).lower()
        raise NoTarget(f"cannot connect to {where}: {why}") from None
    except AssertionError as failure:
        if _is_mute(target, failure):
            raise NoTarget(f"{where} has no greeting: {failure}; if connections begin with TLS there: --tls") from None
        told = printable(clipped(target.conceal(str(failure))))
        raise NoTarget(f"{where} does not speak POP3 as far as a login: {told}") from None
    finally:
        target.end(orderly=True)
    return greeting


def _is_mute(target: Target, failure: AssertionError) -> bool:
    """Whether not one octet came on a connection that begins in clear."""
    in_clear = target.settings.encryption is not Encryption.IMPLICIT
    heard = target.heard or any(entry.who == "S" and entry.data for entry in target.transcript.entries)
    return in_clear and isinstance(failure, (Silent, Closed)) and not heard


def _let_in(target: Target, account: Account) -> None:
    reply = target.try_login(target.connect(), account)
    if reply.ok:
        return
    if reply.code == "IN-USE":
        # Somebody may be in there still: an earlier run, or the user.
        try:
            target.login(account)
        except LoginRefused as refused:
            reply = refused.reply
        else:
            return
    said = printable(clipped(target.conceal(escape(reply.text)))) or "no reason"
    raise NoTarget(f"{target.settings.where} refused the login of {printable(account.user)}: {said}")


def _check_delay(target: Target) -> None:
    if target.login_delay > MOST_DELAY:
        words = (target.capabilities or {})["LOGIN-DELAY"]
        asked = words[0] if len(words[0]) <= _MOST_SHOWN else f"{words[0][:_MOST_SHOWN]}..."
        raise NoTarget(
            f"{target.settings.where} announces LOGIN-DELAY {asked}: more than {MOST_DELAY} s are too long to wait "
            "before each of about 150 logins; see --ignore-login-delay"
        )


def _without_tls(failure: ssl.SSLError, encryption: Encryption) -> str:
    if isinstance(failure, ssl.SSLCertVerificationError):
        return distrust(failure)
    if failure.reason not in _NO_TLS:
        return f"no TLS: {failure.reason or failure}"
    if encryption is Encryption.IMPLICIT:
        return "the server does not speak TLS on this port; --stls?"
    return "what the server says behind its +OK to STLS is no TLS"
