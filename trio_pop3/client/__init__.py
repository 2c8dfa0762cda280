"""A small POP3 client on trio, over the client role of the core."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from .client import Pop3Client as Pop3Client
from .client import Status as Status
from .wire import MOST_LISTING_OCTETS
from .wire import Reply as Reply
from .wire import ReplyError as ReplyError


@asynccontextmanager
async def connect(
    host: str,
    port: int | None = None,
    *,
    tls: ssl.SSLContext | None = None,
    stls: bool = False,
    max_listing: int = MOST_LISTING_OCTETS,
    max_message: int | None = None,
    lenient_terminator: bool = False,
    insecure_auth: bool = False,
) -> AsyncIterator[Pop3Client]:
    """Connect, read the greeting, and close at the end of the block.

        async with connect("127.0.0.1", 1110) as client:
            await client.login("demo", "secret")
            print(await client.stat())
            await client.quit()

    With `tls` the connection begins with TLS (RFC 8314, port 995 unless told otherwise); with `stls` as well it begins
    in clear and is upgraded before anything else, or not used. `ssl.create_default_context()` checks who the server is.

    Leaving the block without `quit` deletes nothing. Other arguments as for `Pop3Client`. Raises OSError if there is no
    connection to be had, ReplyError if the server refuses it, RemoteProtocolError if it speaks something else.
    """
    stream: trio.abc.Stream
    if tls is None and stls:
        raise ValueError("stls=True needs a context in tls")
    implicit = tls is not None and not stls
    stream = await trio.open_tcp_stream(host, port if port is not None else 995 if implicit else 110)
    if tls is not None and not stls:
        stream = trio.SSLStream(stream, tls, server_hostname=host, https_compatible=True)
    async with Pop3Client(
        stream,
        max_listing=max_listing,
        max_message=max_message,
        lenient_terminator=lenient_terminator,
        insecure_auth=insecure_auth,
    ) as client:
        await client.greeting()
        if tls is not None and stls:
            await client.stls(tls, host)
        yield client
