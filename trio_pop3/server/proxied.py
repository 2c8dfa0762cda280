"""The PROXY protocol on a listener: who is behind the proxy, before anything else is read or said."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

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
    """The client that the header names. It is not on this machine, whatever its address: its octets came by a proxy."""
    if header.local or header.source is None or header.destination is None:
        return proxy
    (host, port), (local_host, local_port) = header.source, header.destination
    return replace(
        proxy,
        host=host,
        port=port,
        local_host=local_host,
        local_port=local_port,
        loopback=False,
        tls=header.tls,
        tls_version=header.tls_version,
        cipher=header.cipher,
        server_name=header.server_name,
        proxy_session=None if header.unique_id is None else header.unique_id.decode("ascii", "backslashreplace"),
    )
