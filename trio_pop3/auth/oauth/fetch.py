"""Asking an authorization server something over HTTPS, with bounds on time and octets. The one user of httpx2.

Each question opens a connection and closes it before the answer is given: nothing outlives the call, and a call that is
cancelled leaves nothing behind. A kept connection would save a TLS handshake for each question, and cost somebody the
duty to close it; what is asked often is cached instead.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Mapping
from typing import Final

import httpx2
import trio

from .outcomes import Unavailable

# No compression: a few octets of it can become any number.
_HEADERS: Final = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "trio-pop3"}
_PORTS: Final = range(1, 65_536)


class Endpoint:
    """A URL that can be asked.

    Proxies that the environment names are used for https, never for a loopback address by http.

    Args:
        url: https, or http for a loopback address. Raises ValueError for others, and if a password is in it.
        timeout: seconds for a question and its answer, everything included.
        most_octets: of an answer.
        tls: for https; by default what the system trusts.
    """

    def __init__(self, url: str, *, timeout: float, most_octets: int, tls: ssl.SSLContext | None = None) -> None:
        try:
            parts = httpx2.URL(url)
        except httpx2.InvalidURL as failure:
            raise ValueError(f"not a URL: {failure}") from None
        if parts.userinfo:
            raise ValueError("a URL with a user name or a password in it would end in logs")
        encrypted = parts.scheme == "https"
        if not parts.host or (parts.port or 1) not in _PORTS:
            raise ValueError(f"{url}: a URL without a host, or with a port that is none")
        if not encrypted and not (parts.scheme == "http" and _loopback(parts.host)):
            raise ValueError(f"{url}: expected an https URL, or an http URL of a loopback address")
        if timeout <= 0:
            raise ValueError("timeout must be more than 0 seconds")
        self._url: Final = parts
        self._timeout: Final = timeout
        self._most_octets: Final = most_octets
        self._by_environment: Final = encrypted
        # Made once: to read the system's certificates takes longer than a login may hold up the others.
        self._tls: Final = tls or ssl.create_default_context()
        self.shown: Final = str(parts.copy_with(query=None, fragment=None))

    async def ask(self, form: Mapping[str, str] | None = None, *, authorization: str | None = None) -> bytes:
        """What it answers to a GET, or to a POST of a form: all of it, with status 200. Raises Unavailable."""
        try:
            with trio.move_on_after(self._timeout):
                return await self._exchange(form, {} if authorization is None else {"Authorization": authorization})
        except httpx2.HTTPError as failure:
            # The text of a failure to connect is about us and the way there; that of others may quote what was sent.
            detail = f" ({failure})" if isinstance(failure, httpx2.ConnectError) and str(failure) else ""
            raise Unavailable(f"{self.shown}: {type(failure).__name__}{detail}") from None
        raise Unavailable(f"{self.shown}: no answer within {self._timeout:g} seconds")

    async def _exchange(self, form: Mapping[str, str] | None, headers: Mapping[str, str]) -> bytes:
        async with (
            httpx2.AsyncClient(verify=self._tls, trust_env=self._by_environment, timeout=None) as client,
            client.stream(
                "GET" if form is None else "POST", self._url, data=form, headers={**_HEADERS, **headers}
            ) as response,
        ):
            if response.status_code != httpx2.codes.OK:
                raise Unavailable(f"{self.shown}: HTTP status {response.status_code}")
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise Unavailable(f"{self.shown}: a compressed answer, which was not asked for")
            return await self._body(response)

    async def _body(self, response: httpx2.Response) -> bytes:
        answer = bytearray()
        with trio.CancelScope() as enough:
            async for chunk in response.aiter_raw():
                answer += chunk
                if len(answer) > self._most_octets:
                    # Not left by a break: what httpx2 iterates over inside would be closed by the garbage collector.
                    enough.cancel()
        if len(answer) > self._most_octets:
            raise Unavailable(f"{self.shown}: an answer of more than {self._most_octets} octets")
        return bytes(answer)


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
