"""Options of `trio-pop3 serve` that say where it listens, with which certificates, and whom it believes."""

from __future__ import annotations

import argparse
import errno
from collections.abc import Sequence
from typing import Any, Final

from ..rules import Headers
from ..server import Networks, Pop3Listener, Tls, TlsError, open_listeners
from ..server.listeners import close_all, split_options
from .failure import Failure, reason

DEFAULT_ADDRESS: Final = "127.0.0.1:1110"


def add_to(parser: argparse.ArgumentParser) -> None:
    """The options."""
    listening = parser.add_argument_group(
        "where it listens",
        "ADDRESS is HOST:PORT, [IPV6]:PORT, unix:PATH, fd:N or systemd; behind it may stand ,proxy for connections "
        "that begin with a header of the PROXY protocol.",
    )
    listening.add_argument(
        "--listen",
        metavar="ADDRESS",
        action="append",
        help=f"may be repeated (default: {DEFAULT_ADDRESS})",
    )
    listening.add_argument(
        "--tls-listen", metavar="ADDRESS", action="append", help="connections begin with TLS; may be repeated"
    )
    encryption = parser.add_argument_group("TLS", "With a certificate, STLS is served on --listen.")
    encryption.add_argument(
        "--cert", metavar="FILE", action="append", default=[],
        help="certificate and chain (PEM); may be repeated, and is chosen by the name that a client asks for",
    )  # fmt: skip
    encryption.add_argument(
        "--key", metavar="FILE", action="append", default=[], help="its key, one for each --cert, in the same order"
    )
    encryption.add_argument("--require-tls", action="store_true", help="nobody logs in without TLS, wherever from")
    trust = parser.add_argument_group("whom it believes", "NETWORK is an address, a network such as 10.0.0.0/8, "
        "`loopback` or `unix`; each may be repeated.")  # fmt: skip
    trust.add_argument(
        "--proxy-from", metavar="NETWORK", action="append", default=[], help="proxies on addresses with ,proxy"
    )
    trust.add_argument(
        "--xclient-from", metavar="NETWORK", action="append", default=[], help="proxies that may use XCLIENT"
    )
    trust.add_argument(
        "--trust",
        metavar="NETWORK",
        action="append",
        help="wrong passwords from here cost no time (default: this host)",
    )
    speech = parser.add_argument_group("what it says")
    speech.add_argument(
        "--headers", choices=[choice.value for choice in Headers], default=Headers.PASS.value,
        help="messages with 8-bit headers for clients that do not say UTF8: sent as they are, with the header "
        "rewritten in ASCII, or not at all (default: pass)",
    )  # fmt: skip
    speech.add_argument(
        "--hostname", metavar="NAME", help="in APOP timestamps and SASL challenges (default: this host's)"
    )


def options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `serve` that these options stand for. Raises Failure."""
    asked = [split_options(address)[1] for address in addresses(arguments)]
    if any("tls" in options for options in asked) and not arguments.cert:
        raise Failure("an address that begins with TLS (--tls-listen, or ,tls) needs --cert and --key", 2)
    if any("proxy" in options for options in asked) != bool(arguments.proxy_from):
        raise Failure("an address with ,proxy needs --proxy-from, and --proxy-from needs such an address", 2)
    chosen: dict[str, Any] = {
        "tls": certificates(arguments),
        "require_tls": arguments.require_tls,
        "headers": Headers(arguments.headers),
        "hostname": arguments.hostname,
        "proxy_from": networks("--proxy-from", arguments.proxy_from),
        "xclient_from": networks("--xclient-from", arguments.xclient_from),
    }
    if arguments.trust is not None:
        chosen["trusted"] = networks("--trust", arguments.trust)
    return chosen


def networks(option: str, texts: Sequence[str]) -> Networks:
    """Raises Failure for a text that is no network."""
    try:
        return Networks(texts)
    except ValueError as failure:
        raise Failure(f"{option}: {failure}", 2) from None


def certificates(arguments: argparse.Namespace) -> Tls | None:
    """Certificates and keys in pairs, as they were given. Raises Failure."""
    if len(arguments.cert) != len(arguments.key):
        raise Failure("give one --key for each --cert, in the same order", 2)
    if not arguments.cert:
        for option in ("require_tls", "client_ca"):
            if getattr(arguments, option):
                raise Failure(f"--{option.replace('_', '-')} needs --cert and --key", 2)
        return None
    try:
        return Tls(*zip(arguments.cert, arguments.key, strict=True), client_ca=arguments.client_ca)
    except TlsError as failure:
        raise Failure(str(failure)) from None


def addresses(arguments: argparse.Namespace) -> list[str]:
    """Where to listen. With --tls-listen alone, nowhere in clear."""
    encrypted = [f"{address},tls" for address in arguments.tls_listen or ()]
    return (arguments.listen or ([] if encrypted else [DEFAULT_ADDRESS])) + encrypted


async def listen(addresses: Sequence[str]) -> list[Pop3Listener]:
    """All of them or none. Raises Failure."""
    listeners: list[Pop3Listener] = []
    try:
        for address in addresses:
            try:
                listeners += await open_listeners([address])
            except ValueError as failure:
                raise Failure(str(failure), 2) from None
            except OSError as failure:
                raise Failure(f"cannot listen on {address}: {_advice(failure)}") from None
    except BaseException:
        await close_all(listeners)
        raise
    return listeners


def _advice(failure: OSError) -> str:
    advice = {
        errno.EADDRINUSE: "; stop the other server, or name another port with --listen",
        errno.EACCES: "; ports below 1024 need CAP_NET_BIND_SERVICE, or a socket from systemd (--listen systemd)",
    }
    return reason(failure) + advice.get(failure.errno or 0, "")
