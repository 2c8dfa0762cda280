"""The PROXY protocol on a listener: who is behind the proxy, before anything else is read or said."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import trio

from ..backend import ClientInfo
from ..sansio.errors import RemoteProtocolError
from ..sansio.proxy import ProxyHeader, ProxyHeaderParser
from .pushback import PushBackStream

_RECEIVE_OCTETS: Final = 512


class ProxyHeaderMissing(Exception):
    """The peer sent no header, or none that can be believed. Close without a word."""


async def read_header(
    stream: trio.abc.HalfCloseableStream, client: ClientInfo, seconds: float
) -> tuple[trio.abc.HalfCloseableStream, ClientInfo]:
    """The stream behind the header, and the client it speaks of (HAProxy's PROXY protocol, versions 1 and 2).

    Raises ProxyHeaderMissing, also if the header is not there after so many seconds.
    """
    parser = ProxyHeaderParser()
    with trio.move_on_after(seconds):
        try:
            while data := await stream.receive_some(_RECEIVE_OCTETS):
                if header := parser.feed(bytes(data)):
                    return PushBackStream(stream, parser.rest) if parser.rest else stream, _behind(client, header)
        except RemoteProtocolError as failure:
            raise ProxyHeaderMissing(str(failure)) from None
        except trio.BrokenResourceError:
            raise ProxyHeaderMissing("the connection was lost") from None
        raise ProxyHeaderMissing("the connection was closed")
    raise ProxyHeaderMissing(f"no header in {seconds:g} seconds")


def _behind(proxy: ClientInfo, header: ProxyHeader) -> ClientInfo:
    """The client that the header names, or one that it does not name: it is not on this machine in any case."""
    said: dict[str, Any] = {"loopback": False, "proxied": True, "tls": header.tls}
    if header.source is not None and header.destination is not None:
        (said["host"], said["port"]), (said["local_host"], said["local_port"]) = header.source, header.destination
    if header.unique_id is not None:
        # Any octets; a line end in it would begin a new line in a log.
        said["proxy_session"] = header.unique_id.decode("latin-1").encode("unicode_escape").decode("ascii")
    return replace(proxy, tls_version=header.tls_version, cipher=header.cipher, server_name=header.server_name, **said)
