"""A wire to a server that is a table, and faulty servers made of a good one, for tests of what talks to servers."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Mapping

from trio_pop3.testing import Silent


class ScriptedWire:
    """The server says these pieces, one at a time, whatever it is told; then it closes, or is silent.

    What was done to the wire is written down in `done`.
    """

    def __init__(self, *pieces: bytes, closes: bool = True) -> None:
        self.pieces = list(pieces)
        self.closes = closes
        self.sent = b""
        self.done: list[str] = []

    def send(self, data: bytes) -> None:
        self.sent += data

    def receive(self) -> bytes:
        if self.pieces:
            return self.pieces.pop(0)
        if not self.closes:
            raise Silent("the script is over")
        return b""

    def finish(self) -> None:
        self.done.append("finish")

    def start_tls(self) -> None:
        self.done.append("start_tls")

    def close(self) -> None:
        self.done.append("close")


Answers = Mapping[bytes, bytes] | Callable[[bytes], bytes]


class AnsweringWire(ScriptedWire):
    """The server answers each line as a table, or a function, says; b"" closes, and so does QUIT, once answered.

    What is not in the table is -ERR.
    """

    def __init__(self, answers: Answers, greeting: bytes = b"+OK\r\n") -> None:
        super().__init__(greeting, closes=False)
        self._answers = answers if callable(answers) else lambda line: answers.get(line, b"-ERR\r\n")
        self._line = b""
        self.lines: list[bytes] = []

    def send(self, data: bytes) -> None:
        super().send(data)
        *lines, self._line = (self._line + data).split(b"\r\n")
        for line in lines:
            self.lines.append(line)
            if answer := self._answers(line):
                self.pieces.append(answer)
                self.closes = self.closes or line == b"QUIT"
            else:
                self.closes = True

    def start_tls(self) -> None:
        raise ssl.SSLError("no TLS here")


def multiline(lines: Iterable[bytes], text: bytes = b"") -> bytes:
    """A reply of several lines, none of which begins with a dot."""
    return b"+OK" + (b" " + text if text else b"") + b"\r\n" + b"".join(line + b"\r\n" for line in lines) + b".\r\n"
