"""Passwords checked by Dovecot over its auth socket: the client side of protocol 1.x, and an authenticator over it."""

from __future__ import annotations

import base64
import logging
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import trio

from ..backend import AuthenticationFailed, ClientInfo, TemporaryFailure
from ..credentials import Credentials, PasswordCredentials

logger = logging.getLogger("trio_pop3.auth")

MOST_LINE_OCTETS: Final = 16_384  # the line end not counted
_CHUNK_OCTETS: Final = 4096
# Each has a connection of its own; by default Dovecot takes 1000 from all its clients together.
_MOST_AT_ONCE: Final = 500

_ESCAPES: Final[Mapping[int, bytes]] = MappingProxyType(
    {0x00: b"\x010", 0x01: b"\x011", 0x09: b"\x01t", 0x0A: b"\x01n", 0x0D: b"\x01r"}
)
_UNESCAPES: Final[Mapping[bytes, bytes]] = MappingProxyType({new[1:]: bytes([old]) for old, new in _ESCAPES.items()})
_ESCAPED: Final = re.compile(rb"\x01(.?)", re.DOTALL)

# In a FAIL: something is out of order. Before Dovecot 2.3 a field of its own, since then a value of `code`.
_TEMPORARY: Final = frozenset({b"temp", b"code=temp_fail"})
# In an OK: the password is right, but this user is not to log in, or has the mail on another host.
_NOT_HERE: Final = frozenset({b"nologin", b"proxy"})


class DovecotProtocolError(Exception):
    """What the other side said is not the protocol. The text shows nothing of it: there may be a password in it."""


def tab_escape(octets: bytes) -> bytes:
    r"""A value that cannot end its field or line: NUL, \001, TAB, LF and CR become \001 and a character."""
    return b"".join(_ESCAPES.get(octet, bytes([octet])) for octet in octets)


def tab_unescape(octets: bytes) -> bytes:
    r"""The value as it was. Any other character behind a \001 stands for itself."""
    return _ESCAPED.sub(lambda match: _UNESCAPES.get(match[1], match[1]), octets)


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a request: the user it authenticates, or None and whether that may change by itself."""

    user: bytes | None
    temporary: bool = False


class AuthDialogue:
    """One PLAIN authentication on one connection, without the connection.

    Send `greeting`; give `receive` what comes and send what it returns, until `answer` is there. The password is sent
    only when the other side has shown that it speaks the protocol.

    Args:
        parameters: of the request: names with values, or with None for a flag.
        response: the octets of the PLAIN message, whatever they are.
    """

    __slots__ = ("_compatible", "_held", "_plain", "_request", "_waiting", "answer")

    def __init__(self, parameters: Iterable[tuple[str, str | None]], response: bytes) -> None:
        fields = [b"AUTH", b"1", b"PLAIN"]
        for name, value in parameters:
            escaped = None if value is None else tab_escape(value.encode("utf-8", "surrogateescape"))
            fields.append(name.encode() if escaped is None else b"%b=%b" % (name.encode(), escaped))
        # It has to be the last: what follows it is not looked at.
        fields.append(b"resp=" + base64.b64encode(response))
        self._request: Final = b"\t".join(fields)
        self._held = b""
        self._compatible = False
        self._plain = False
        self._waiting = False  # for the answer: the request was handed out
        self.answer: Answer | None = None

    @property
    def too_long(self) -> bool:
        """Whether Dovecot would not read the request. No password is that long."""
        return len(self._request) >= MOST_LINE_OCTETS

    @property
    def greeting(self) -> bytes:
        """What to send first. The number identifies this process, on sockets for login processes only."""
        return b"VERSION\t1\t1\nCPID\t%d\n" % os.getpid()

    def receive(self, data: bytes) -> bytes:
        """Take what came, cut anywhere; b"" is the end. Returns what to send now. Raises DovecotProtocolError."""
        if not data and self.answer is None:
            raise DovecotProtocolError("connection closed without an answer")
        *lines, self._held = (self._held + data).split(b"\n")
        out = b"".join(map(self._take, lines))
        if self.answer is None:
            _check_length(self._held)
        return out

    def _take(self, line: bytes) -> bytes:
        if self.answer is not None:
            return b""  # whatever else there is to say
        _check_length(line)
        command, *fields = line.split(b"\t")
        if self._waiting:
            self.answer = _answer(command, fields)
        elif command == b"VERSION":
            if fields[:1] != [b"1"]:
                raise DovecotProtocolError("another version of the protocol")
            self._compatible = True
        elif command == b"MECH":
            self._plain = self._plain or fields[:1] == [b"PLAIN"]
        elif command == b"DONE":
            if not self._compatible:
                raise DovecotProtocolError("no version")
            if not self._plain:
                raise DovecotProtocolError("mechanism PLAIN not offered")
            self._waiting = True
            return self._request + b"\n"
        return b""  # SPID, CUID, COOKIE and what later versions may say of themselves


def _check_length(line: bytes) -> None:
    if len(line) > MOST_LINE_OCTETS:
        raise DovecotProtocolError("line too long")


def _answer(command: bytes, fields: list[bytes]) -> Answer:
    """The answer to request 1, the only one there is."""
    if fields[:1] != [b"1"] or command not in (b"OK", b"FAIL"):
        raise DovecotProtocolError("not an answer to the request")
    if command == b"FAIL":
        return Answer(None, not _TEMPORARY.isdisjoint(fields))
    if not _NOT_HERE.isdisjoint(field.partition(b"=")[0] for field in fields):
        return Answer(None)
    user = next((field[len(b"user=") :] for field in fields if field.startswith(b"user=")), b"")
    if not user:
        raise DovecotProtocolError("no user in the answer")
    return Answer(tab_unescape(user))


class DovecotAuth:
    """An authenticator that lets Dovecot check passwords, against whatever Dovecot has: files, SQL, LDAP, PAM.

    Each login has a connection of its own. To open one costs next to nothing; a login that is cancelled closes it, a
    Dovecot that is restarted is simply there again, and no answer can go to another login. 500 at once; others are told
    to come back later. What cannot be asked, or gets no proper answer, is a temporary failure, with a line in the log.

    Dovecot holds back what it says of wrong passwords, for 2 seconds, and of addresses with many of them, for up to 15
    seconds more.

    Args:
        path: a socket of Dovecot's `service auth`, named `auth-client` there.
        service: what Dovecot's configuration calls it: `%s`, and `protocol pop3 { ... }`.
        timeout: seconds for a login.
    """

    # Plain passwords is all that is asked about.
    login_methods: Final = frozenset({"PLAIN"})

    def __init__(
        self,
        path: str | os.PathLike[str] = "/run/dovecot/auth-client",
        *,
        service: str = "pop3",
        timeout: float = 30.0,
    ) -> None:
        if timeout <= 0:
            raise ValueError("timeout must be more than 0 seconds")
        self._path: Final = os.fspath(path)
        self._service: Final = service
        self._timeout: Final = timeout
        self._asking = 0

    def __repr__(self) -> str:
        return f"DovecotAuth({self._path!r})"

    async def authenticate(self, credentials: Credentials, client: ClientInfo) -> str:
        """The user's name as Dovecot has it. Raises AuthenticationFailed; TemporaryFailure if Dovecot cannot say."""
        if not isinstance(credentials, PasswordCredentials):
            raise AuthenticationFailed
        user, password = credentials.user.encode("utf-8", "surrogateescape"), credentials.octets
        if not user or not password or b"\0" in user + password:
            raise AuthenticationFailed  # RFC 4616 section 2: a NUL would begin another field
        dialogue = AuthDialogue(self._parameters(client), b"\0" + user + b"\0" + password)
        if dialogue.too_long:
            raise AuthenticationFailed
        answer = await self._ask(dialogue, client)
        if answer.user is not None:
            return answer.user.decode("utf-8", "surrogateescape")
        raise TemporaryFailure if answer.temporary else AuthenticationFailed

    def _parameters(self, client: ClientInfo) -> list[tuple[str, str | None]]:
        """What Dovecot is told of a login; it is for its logs, its penalties and its restrictions by address."""
        given: list[tuple[str, str | None]] = [("service", self._service), ("nologin", None)]
        if client.tls or client.loopback:
            given.append(("secured", None))
        ends = {"lip": client.local_host, "rip": client.host, "lport": client.local_port, "rport": client.port}
        return given + [(name, str(value)) for name, value in ends.items() if value is not None]

    async def _ask(self, dialogue: AuthDialogue, client: ClientInfo) -> Answer:
        if self._asking >= _MOST_AT_ONCE:
            raise TemporaryFailure("too many logins at once, try again later")
        self._asking += 1
        try:
            with trio.move_on_after(self._timeout):
                return await self._converse(dialogue)
            trouble = f"no answer within {self._timeout:g} seconds"
        except DovecotProtocolError as failure:
            trouble = str(failure)
        except OSError as failure:
            trouble = failure.strerror or type(failure).__name__
        except trio.BrokenResourceError:
            trouble = "connection lost"
        finally:
            self._asking -= 1
        logger.error("%s: password not checked: Dovecot at %s: %s", client.session, self._path, trouble)
        raise TemporaryFailure

    async def _converse(self, dialogue: AuthDialogue) -> Answer:
        async with await trio.open_unix_socket(self._path) as stream:
            await stream.send_all(dialogue.greeting)
            while dialogue.answer is None:
                if out := dialogue.receive(await stream.receive_some(_CHUNK_OCTETS)):
                    await stream.send_all(out)
            return dialogue.answer
