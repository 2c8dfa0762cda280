"""XCLIENT: what a trusted proxy says of its client (Dovecot's command; there is no RFC)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from .backend import ClientInfo

_PORT: Final = re.compile(r"[0-9]{1,5}")
_HOPS: Final = re.compile(r"[0-9]{1,4}")
_SESSION: Final = re.compile(r"[A-Za-z0-9+/=._-]{1,64}")
_SERVER_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,253}")


class ProxyLoop(Exception):
    """The number of hops is used up: proxies hand this connection around in a circle."""


def _address(value: str) -> str:
    address = ipaddress.ip_address(value)
    return str(getattr(address, "ipv4_mapped", None) or address)


def _port(value: str) -> int:
    if not _PORT.fullmatch(value) or int(value) > 65535:
        raise ValueError(value)
    return int(value)


def _matching(pattern: re.Pattern[str]) -> Callable[[str], str]:
    def read(value: str) -> str:
        if not pattern.fullmatch(value):
            raise ValueError(value)
        return value

    return read


# XCLIENT attribute -> the field of ClientInfo it says, and how it is read. Others are skipped, as Dovecot does.
_FIELDS: Final[Mapping[str, tuple[str, Callable[[str], Any]]]] = {
    "ADDR": ("host", _address),
    "PORT": ("port", _port),
    "DESTADDR": ("local_host", _address),
    "DESTPORT": ("local_port", _port),
    "DESTNAME": ("server_name", _matching(_SERVER_NAME)),
    "SESSION": ("proxy_session", _matching(_SESSION)),
    "CLIENT-TRANSPORT": ("tls", lambda value: value.upper() == "TLS"),
}


def client_behind(proxy: ClientInfo, attributes: tuple[tuple[str, str], ...]) -> ClientInfo:
    """The client that a proxy speaks for. Raises ValueError for a value without sense, ProxyLoop for no hops left.

    It is on this machine only if the proxy says nothing of where it is. What was learnt of the proxy's own TLS is no
    property of the client: neither version and cipher, nor the certificate, nor channel binding data.
    """
    said: dict[str, Any] = {}
    for name, value in attributes:
        if name == "TTL":
            if not _HOPS.fullmatch(value):
                raise ValueError(value)
            if int(value) == 0:
                raise ProxyLoop
        elif name in _FIELDS:
            field, read = _FIELDS[name]
            said[field] = read(value)
    if "host" in said:
        said |= {"loopback": False, "proxied": True}
    return replace(proxy, tls_version=None, cipher=None, certificate=None, end_point=None, **said)
