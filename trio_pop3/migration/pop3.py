"""Asking the old server over POP3, and finding its messages among ours: by header and size, or by all they hold."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import unquote, urlsplit

import trio

from ..client import Pop3Client, ReplyError, connect
from ..sansio import LocalProtocolError, RemoteProtocolError, Top
from .fingerprint import Fingerprint
from .mail import OurMail
from .old import OldIds, SourceError

# Headers asked for at a time, and the most octets that they may have together.
_AT_ONCE: Final = 100
_MOST_BATCH_OCTETS: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class OldServer:
    """Where an old server is, and who asks. `tls`: from the first octet; otherwise STLS is used if it is offered."""

    host: str
    port: int
    user: str
    tls: bool

    @property
    def is_here(self) -> bool:
        """Whether what we say to it does not leave this machine."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse_url(url: str) -> OldServer:
    """`pop3://USER@HOST[:PORT]` or `pop3s://`; an `@` in the user name may be written `%40`. Raises SourceError."""
    rule = "write pop3://USER@HOST[:PORT] or pop3s://USER@HOST[:PORT]"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise SourceError(f"not an address of a POP3 server; {rule}") from None
    if parts.password is not None:
        raise SourceError("no password in the address: others on this machine can see it; use --password-file")
    if parts.scheme not in ("pop3", "pop3s") or not parts.hostname or not parts.username:
        raise SourceError(f"not an address of a POP3 server: {url!r}; {rule}")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise SourceError(f"nothing may follow the port: {url!r}; {rule}")
    tls = parts.scheme == "pop3s"
    return OldServer(parts.hostname, port or (995 if tls else 110), unquote(parts.username), tls)


@dataclass(frozen=True, slots=True)
class OldMessage:
    """A message of the old server, and its digests. `whole` is None if it was not needed."""

    uid: str
    octets: int
    header: bytes = b""
    named: bool = False  # see `Prints`
    whole: bytes | None = None


# Numbers of the messages that have to be fetched to be known again.
Doubtful = Callable[[Mapping[int, OldMessage]], Collection[int]]


async def read_old_server(
    server: OldServer,
    password: str,
    context: ssl.SSLContext,
    doubtful: Doubtful,
    *,
    patience: float,
    insecure_auth: bool = False,
) -> Mapping[int, OldMessage]:
    """Log in, list, and take a digest of every header, and of the whole messages that `doubtful` names.

    Nothing is deleted. RETR may mark messages as seen; without TOP every message is fetched. `patience`:
    seconds without progress. Cancelled, it closes the connection. Raises SourceError.
    """
    try:
        with trio.move_on_after(patience) as scope:

            def progress() -> None:
                scope.deadline = trio.current_time() + patience

            async with connect(
                server.host, server.port, tls=context if server.tls else None, insecure_auth=insecure_auth
            ) as client:
                if not server.tls and not server.is_here and "STLS" in await client.capa():
                    await client.stls(context, server.host)
                await client.login(server.user, password)
                found = await _messages(client, progress)
                for number in sorted(await trio.to_thread.run_sync(doubtful, found)):
                    message = found[number]
                    if message.whole is None:
                        found[number] = await _fetched(client, number, message, progress)
                await client.quit()
                return found
        raise SourceError(f"{server.host} says nothing for {patience:g} seconds")
    except ReplyError as failure:
        raise SourceError(f"{server.host} refuses: {failure}") from None
    except LocalProtocolError as failure:
        raise SourceError(f"cannot ask {server.host}: {failure}") from None
    except RemoteProtocolError as failure:
        raise SourceError(f"{server.host} does not speak POP3: {failure}") from None
    except (OSError, trio.BrokenResourceError) as failure:
        raise SourceError(f"cannot talk to {server.host} port {server.port}: {_reason(failure)}") from None


def _reason(failure: BaseException) -> str:
    """What the system or the TLS library says of it."""
    cause: BaseException | None
    while (
        cause := failure.exceptions[0] if isinstance(failure, BaseExceptionGroup) else failure.__cause__
    ) is not None:
        failure = cause
    said = failure.strerror if isinstance(failure, OSError) else None
    return str(said or failure or type(failure).__name__)


async def _messages(client: Pop3Client, progress: Callable[[], None]) -> dict[int, OldMessage]:
    uids = await client.uidl()
    progress()
    sizes = await client.list()
    progress()
    if uids.keys() != sizes.keys():
        raise RemoteProtocolError("UIDL and LIST name different messages")
    numbers = sorted(uids)
    found: dict[int, OldMessage] = {}
    for start in range(0, len(numbers), _AT_ONCE):
        batch = numbers[start : start + _AT_ONCE]
        for number, reply in zip(
            batch, await client.pipeline([Top(n, 0) for n in batch], max_octets=_MOST_BATCH_OCTETS), strict=True
        ):
            message = OldMessage(uids[number], sizes[number])
            if reply.body is None:  # no TOP here, or not of this one
                found[number] = await _fetched(client, number, message, progress)
            else:
                fingerprint = Fingerprint()
                fingerprint.update(reply.body)
                prints = fingerprint.finish()
                found[number] = replace(message, header=prints.header, named=prints.named)
        progress()
    return found


async def _fetched(client: Pop3Client, number: int, message: OldMessage, progress: Callable[[], None]) -> OldMessage:
    fingerprint = Fingerprint()
    async with client.retrieve(number) as pieces:
        async for piece in pieces:
            fingerprint.update(piece)
            progress()
    prints = fingerprint.finish()
    return replace(message, header=prints.header, named=prints.named, whole=prints.whole)


class Matching:
    """Which of the old server's messages is which of ours. Blocking: it reads our files."""

    def __init__(self, mail: OurMail) -> None:
        self._mail: Final = mail
        self._ours: Final[dict[bytes, list[bytes]]] = {}
        for base in mail.messages:
            self._ours.setdefault(mail.header_print(base), []).append(base)

    def doubtful(self, old: Mapping[int, OldMessage]) -> Collection[int]:
        """Messages for which header and size do not decide.

        Several have that header, or one has another size, or the header is such that others may have the same.
        """
        return {
            number
            for header, numbers in _by_header(old).items()
            if header in self._ours and not self._plain(old, header, numbers)
            for number in numbers
        }

    def _plain(self, old: Mapping[int, OldMessage], header: bytes, numbers: Sequence[int]) -> bool:
        ours, first = self._ours[header], old[numbers[0]]
        same_size = first.octets == self._mail.messages[ours[0]].octets
        return len(numbers) == len(ours) == 1 and first.named and same_size

    def result(self, old: Mapping[int, OldMessage]) -> OldIds:
        """What there is to know, after those that were doubtful have been fetched. Raises OSError."""
        pairs: dict[int, bytes] = {}
        unsure: list[bytes] = []
        by_order = 0
        for header, numbers in _by_header(old).items():
            ours = self._ours.get(header, [])
            if ours and self._plain(old, header, numbers):
                pairs[numbers[0]] = ours[0]
                continue
            theirs: dict[bytes, list[int]] = {}
            for number in numbers:
                theirs.setdefault(old[number].whole or b"", []).append(number)
            left = dict.fromkeys(ours)
            for base in ours:
                same = theirs.get(self._mail.whole_print(base), [])
                if same:
                    by_order += len(same) > 1
                    pairs[same.pop(0)] = base
                    del left[base]
            if any(theirs.values()):
                unsure += left
        return OldIds(
            {base: old[number].uid for number, base in sorted(pairs.items())},
            unsure,
            _remarks(len(old) - len(pairs), by_order),
        )


def _by_header(old: Mapping[int, OldMessage]) -> Mapping[bytes, Sequence[int]]:
    groups: dict[bytes, list[int]] = {}
    for number in sorted(old):
        groups.setdefault(old[number].header, []).append(number)
    return groups


def _remarks(missing: int, by_order: int) -> Sequence[str]:
    remarks = []
    if missing:
        were = "message of the old server was" if missing == 1 else "messages of the old server were"
        remarks.append(f"{missing} {were} not found here")
    if by_order:
        remarks.append("messages that are alike to the last octet were paired in their order")
    return remarks
