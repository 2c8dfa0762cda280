"""A transcript, said again to a server that should answer as it is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from .judge import Judged, must
from .transcript import NOTHING, Entry, Transcript, escape
from .wire import Wire

# A line that ends so is good whatever stands in its place.
_AND_SO_ON: Final = b" ..."
_MOST_SHOWN: Final = 200


def replay(
    text: str,
    dial: Callable[[], Wire],
    *,
    deliver: Callable[..., object] | None = None,
    values: Mapping[str, bytes] = NOTHING,
) -> Transcript:
    r"""Say what the client says in a transcript, and compare what the server answers; returns what was said.

    A line of the server is compared octet for octet; `S: +OK ...` is good for any `+OK`.

    Args:
        text: what a `Transcript` prints, or somebody wrote.
        dial: makes a connection; called for each that the transcript has.
        deliver: puts a message into the maildrop: `deliver(octets)` for `D:` lines, `deliver(user, octets)` for those
            that say whose. Without it the messages must be there.
        values: what stands for each `\{name}`.

    Raises ValueError if the text is no transcript, and Violation, an AssertionError with what was said so far, at the
    first line that is not as it is written.
    """
    written = Transcript.parse(text, values)
    judge = Judged()
    judge.transcript.hide = {octets: name for name, octets in values.items()}
    talks: dict[int, _Replayed] = {}
    try:
        with judge.judging():
            for turn in written.turns():
                if turn.who == "D":
                    judge.transcript.add("D", turn.data, user=turn.user)
                    if deliver is not None:
                        deliver(*([turn.user] if turn.user else []), turn.data)
                    continue
                if turn.number not in talks:
                    talks[turn.number] = _Replayed(dial(), judge.transcript, turn.number)
                talks[turn.number].take(turn)
    finally:
        for talk in talks.values():
            talk.wire.close()
    return judge.transcript


class _Replayed:
    """One connection of a transcript."""

    def __init__(self, wire: Wire, transcript: Transcript, number: int) -> None:
        self.wire: Final = wire
        self._transcript = transcript
        self._number = number
        self._buffer = b""

    def take(self, entry: Entry) -> None:
        """Do what is written, or see that the server does."""
        if entry.who == "S":
            for line in _pieces(entry.data):
                self._expect(line)
            if not entry.data:
                must(not self._buffer and not self._receive(), "the server goes on where it should have closed")
            return
        self._transcript.add("C", entry.data, self._number)
        if entry.data:
            self.wire.send(entry.data)
        else:
            self.wire.finish()

    def _expect(self, line: bytes) -> None:
        end = b"\r\n" if line.endswith(b"\r\n") else b""
        while len(self._buffer) < len(line) if not end else end not in self._buffer:
            must(self._receive(), f"the server closed where {self._shown(line)} was due")
        size = self._buffer.index(end) + 2 if end else len(line)
        got, self._buffer = self._buffer[:size], self._buffer[size:]
        begins = line.removesuffix(end).removesuffix(_AND_SO_ON)
        good = got == line or (line.removesuffix(end).endswith(_AND_SO_ON) and got.startswith(begins))
        must(good, f"the server says {self._shown(got)} where {self._shown(line)} was due")

    def _shown(self, line: bytes) -> str:
        text = escape(line, self._transcript.hide)
        return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."

    def _receive(self) -> bool:
        data = self.wire.receive()
        self._transcript.add("S", data, self._number)
        self._buffer += data
        return bool(data)


def _pieces(data: bytes) -> list[bytes]:
    *lines, rest = data.split(b"\r\n")
    return [line + b"\r\n" for line in lines] + ([rest] if rest else [])
