"""What goes over a wire, as command lines and as whole replies. Made without the core that is tried here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final


class Asked:
    """What a client has sent, and how much of it the server has read."""

    def __init__(self) -> None:
        self.lines: Final[list[bytes]] = []  # sent whole, without their ends
        self.read = 0  # how many of them the server has read whole
        self.logins: Final[list[tuple[str, str, int]]] = []  # of those read: name, password, number of the next line
        self._rest = b""  # behind the last whole line
        self._sent_octets = self._read_octets = 0
        self._ends: Final[list[int]] = []  # of each line, in octets sent

    def sent(self, data: bytes) -> None:
        """Octets are on their way."""
        *whole, self._rest = (self._rest + data).split(b"\r\n")
        for line in whole:
            self._sent_octets += len(line) + 2
            self.lines.append(line)
            self._ends.append(self._sent_octets)

    def taken(self, octets: int) -> None:
        """The server has read so many more."""
        self._read_octets += octets
        while self.read < len(self._ends) and self._ends[self.read] <= self._read_octets:
            verb, _, secret = self.lines[self.read].partition(b" ")
            before, _, name = self.lines[self.read - 1].partition(b" ") if self.read else (b"", b"", b"")
            self.read += 1
            if (before, verb) == (b"USER", b"PASS"):
                self.logins.append((name.decode(), secret.decode(), self.read))

    def marks(self, login: int, messages: int) -> tuple[set[int], list[int], bool]:
        """What the lines mean that the server has read behind a login, for a maildrop with so many messages.

        Numbers of the messages marked; numbers in RETR and TOP; whether there is a QUIT.
        """
        marked: set[int] = set()
        fetched: list[int] = []
        for line in self.lines[self.logins[login][2] : self.read]:
            verb, _, rest = line.partition(b" ")
            named = number(rest)
            if verb == b"QUIT":
                return marked, fetched, True
            if verb == b"RSET":
                marked.clear()
            elif named is not None and 1 <= named <= messages and named not in marked:
                if verb == b"DELE":
                    marked.add(named)
                elif verb in (b"RETR", b"TOP"):
                    fetched.append(named)
        return marked, fetched, False


class Framing:
    """Octets of a server as whole replies.

    has_body: whether the reply that comes next has a body if it is `+OK`.
    """

    def __init__(self, has_body: Callable[[], bool]) -> None:
        self.octets = 0  # in replies that are whole
        self.status: bytes | None = None  # of a reply whose body goes on
        self._has_body: Final = has_body
        self._said: Final = bytearray()
        self._searched = 0

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bytes | None]]:
        """The replies that these octets make whole: status line, and the body without dot-stuffing."""
        self._said.extend(data)
        while True:
            if self.status is None:
                status = self._until(b"\r\n")
                if status is None:
                    return
                if not (status.startswith(b"+OK") and self._has_body()):
                    yield status, None
                    continue
                self.status = status
                # As if a line had just ended: the body may be empty.
                self._said[:0] = b"\r\n"
                self.octets -= 2
            body = self._until(b"\r\n.\r\n")
            if body is None:
                return
            status, self.status = self.status, None
            yield status, (body + b"\r\n").replace(b"\r\n.", b"\r\n")[2:]

    def _until(self, end: bytes) -> bytes | None:
        found = self._said.find(end, self._searched)
        if found < 0:
            self._searched = max(0, len(self._said) - len(end) + 1)
            return None
        taken = bytes(self._said[:found])
        del self._said[: found + len(end)]
        self.octets += found + len(end)
        self._searched = 0
        return taken


def number(text: bytes) -> int | None:
    """The number that an argument begins with."""
    word = text.partition(b" ")[0]
    return int(word) if word.isdigit() else None
