"""The core alone, as a server, against the model: the octets are ours, the answers the model's. Needs Hypothesis."""

from __future__ import annotations

from typing import ClassVar, Final

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from trio_pop3 import sansio as io
from trio_pop3.sansio import NEED_DATA, PAUSED, Pop3Connection, Profile, Role

from . import strategies as ours
from .judge import judged, must
from .model import Expected, ModelMaildrop, ModelSession
from .running import JudgedMachine
from .talk import Talk
from .worlds import DIALECTS

_USERS: Final = (("alice", "secret"), ("bob", "hidden"))


class _CoreWire:
    """What the core has to say, without a server behind it."""

    def __init__(self) -> None:
        self.said = b""

    def send(self, data: bytes) -> None:
        raise NotImplementedError("octets go to the core by hand")

    def receive(self) -> bytes:
        said, self.said = self.said, b""
        must(bool(said), "the core has written less than a whole reply")
        return said

    def finish(self) -> None:
        """Nothing to do."""

    def start_tls(self) -> None:
        raise NotImplementedError("there is no TLS here")

    def close(self) -> None:
        """Nothing to do."""


class CoreMachine(JudgedMachine):
    """Whatever octets come, in whatever pieces, the core reads the commands that the model reads, and no others.

    It hands out one at a time, refuses what is no command or not in its place, and what it writes is what was said. The
    maildrop and the users are the model's: no session is needed.
    """

    profile: ClassVar[Profile] = Profile.DEFAULT

    def __init__(self) -> None:
        super().__init__()
        self.dialect: Final = DIALECTS[self.profile]
        self.maildrops: Final = {user: ModelMaildrop() for user, _ in _USERS}
        self.dial()

    def dial(self) -> None:
        """A new connection; what the last one held is free."""
        for maildrop in self.maildrops.values():
            maildrop.holder = None
        self.core = Pop3Connection(Role.SERVER, profile=self.profile, utf8_user=True)
        self.model = ModelSession(self.maildrops, dict(_USERS), self.dialect)
        self.wire = _CoreWire()
        self.talk = Talk(self.wire, self.transcript)
        must(self.core.next_event() is PAUSED, "the core reads before it has greeted")
        self.wire.said += self.core.send(io.Greeting("hi"))
        self.talk.reply()

    @initialize(mail=st.lists(ours.messages(huge=False), max_size=3))
    def fill(self, mail: list[bytes]) -> None:
        for message in mail:
            self.maildrops["alice"].deliver(message)

    @rule()
    def a_moment_passes(self) -> None:
        """Nothing: see `machines`."""

    @rule(lines=st.lists(ours.command_lines(_USERS), min_size=1, max_size=6), size=ours.sizes)
    @judged
    def octets_come(self, lines: list[bytes], size: int) -> None:
        self.take(lines, size)

    @rule(lines=st.lists(ours.mail_lines(), max_size=6), size=ours.sizes)
    @judged
    def a_login(self, lines: list[bytes], size: int) -> None:
        self.take([b"USER alice", b"PASS secret", *lines], size)

    @precondition(lambda self: self.dialect.bare_lf is not None)
    @rule(line=ours.bare_lines(), size=ours.sizes)
    @judged
    def bare_line_ends(self, line: bytes, size: int) -> None:
        self.take([line], size)

    @rule(last=st.sampled_from([b"", b"QUIT", b"QUIT\r", b"NO", b"RETR 1"]))
    @judged
    def the_client_leaves(self, last: bytes) -> None:
        """Half a line at the end of the stream is no command (A-33), whatever it would be."""
        if last:
            self.core.receive_data(last)
        self.core.receive_data(b"")
        event = self.core.next_event()
        must(isinstance(event, io.ConnectionClosed), f"half a line and the end are read as {event}")
        self.dial()

    def take(self, lines: list[bytes], size: int) -> None:
        """Give the core octets, and answer what it reads as the model would."""
        data = b"".join(line + b"\r\n" for line in lines)
        self.transcript.add("C", data)
        events: list[io.Event] = []
        due = self.dialect.as_read(lines)
        for piece in ours.cut(data, size):
            self.core.receive_data(piece)
            while isinstance(event := self.core.next_event(), io.Event):
                must(self.core.next_event() is PAUSED, "a second event was handed out before the first was answered")
                must(len(events) < len(due), f"one line too many was read: {event}")
                self.answer(event, due[len(events)])
                events.append(event)
            must(event is NEED_DATA, f"the core says {event}")
            if self.model.state == "over":
                break
        must(len(events) == len(due) or self.model.state == "over", f"{len(events)} of {len(due)} lines were read")
        if self.model.state == "over":
            must(self.core.next_event() is NEED_DATA, "something was read behind QUIT")
            self.dial()

    def answer(self, event: io.Event, line: bytes) -> None:
        """Say what the model says, and see that this is what the core writes."""
        expected = self.model.expect(line)
        must(
            isinstance(event, io.BadCommand) == expected.bad,
            f"{line[:80]!r} is {'no' if expected.bad else 'a'} command here, it was read as {event}",
        )
        if isinstance(event, io.BadCommand):
            self.wire.said += self.core.send(event.reply)
        elif expected.challenge:
            self.wire.said += self.core.send(io.Challenge())
        else:
            self._say(event, expected)
        reply = self.talk.reply(multiline=expected.multiline)
        must(reply.ok is (None if expected.challenge else bool(expected.ok)), f"{line[:80]!r} got {reply}")
        if reply.ok and expected.multiline and expected.lines is not None:
            must(reply.lines == expected.lines, f"{line[:80]!r}: {reply.lines!r:.200}, for {expected.lines!r:.200}")
        expected.then(bool(reply.ok))

    def _say(self, event: io.Event, expected: Expected) -> None:
        if not expected.ok:
            self.wire.said += self.core.send(io.Err("no"))
            return
        self.wire.said += self.core.send(io.Ok("fine"))
        if expected.multiline:
            # In two pieces, cut anywhere.
            body = b"".join(line + b"\r\n" for line in expected.lines or ())
            for half in (body[: len(body) // 2], body[len(body) // 2 :]):
                self.wire.said += self.core.send(io.Data(half))
            self.wire.said += self.core.send(io.EndOfBody())
