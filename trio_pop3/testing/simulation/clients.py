"""Clients of every kind: what each wants to do and how it ends is drawn before it begins."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from random import Random
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import trio

from .watch import Told, Watch
from .wire import Pipe

if TYPE_CHECKING:
    from .world import World

# How a client means to end, in so many of 1,000 sessions.
ENDINGS: Final = {
    "quits": 700,
    "quits in one go": 120,  # QUIT in one piece with what comes before it
    "drops": 40,  # the connection, at any octet that goes either way
    "resets": 40,
    "half a line": 30,  # and then the end of what it sends
    "quits by half": 20,  # QUIT without its line end
    "says no more": 20,  # and reads to the end
    "goes to sleep": 12,
    "never reads": 10,
    "talks nonsense": 8,
}
_NONSENSE: Final = (b"XYZZY", b"GET / HTTP/1.1", b"\xff\xfe\x00", b"+OK", b"a" * 700, b"RETR one", b"LIST 0 0 0", b".")
_HALVES: Final = (b"DELE 1", b"RETR", b"D", b"QUIT now", b"NOOP \r")
# What a mail program asks for at most in one session.
_MOST: Final = 10

_Habit: TypeAlias = "Callable[[Client], Coroutine[Any, Any, None]]"


class Ended(Exception):
    """The session is over; the text says how."""


class Client:
    """One session.

    Args:
        watch: what it says is told to this, and what it is told is read from this, so far as it has been read.
        up, down: the connection.
        password: the right one.
        seen: unique-ids that this user's mail program has fetched; it is added to.
    """

    def __init__(
        self, world: World, watch: Watch, up: Pipe, down: Pipe, random: Random, *, password: str, seen: set[str]
    ) -> None:
        self.ending: Final = random.choices(list(ENDINGS), list(ENDINGS.values()))[0]
        self._world: Final = world
        self._watch: Final = watch
        self._up: Final = up
        self._down: Final = down
        self._random: Final = random
        self._password: Final = password
        self._seen: Final = seen
        self._pipelines: Final = random.random() < 0.4
        self._pause: Final = 2.0 if random.random() < 0.01 else 0.0  # behind every read
        self._mouthful: Final = 4096 if self._pause else 65536
        self._held = b""  # sent with the next piece
        self._heard = self._sent = 0
        # At which octet a client that drops does.
        cuts = self.ending in ("drops", "resets")
        self._cut_sent: Final = random.randint(0, 150) if cuts and random.random() < 0.5 else None
        self._cut_heard: Final = random.randint(0, 2000) if cuts and self._cut_sent is None else None

    async def run(self) -> str:
        """The whole session; how it ended."""
        if self._pause:
            self._watch.excuse = "reads slowly"
        try:
            await self._session()
        except Ended as end:
            return str(end)
        except trio.BrokenResourceError:
            return "was reset"
        finally:
            self._leave()
        return self.ending

    def _leave(self, how: str = "closes") -> None:
        if not self._down.deaf and not self._down.broken:
            self._watch.left(how)
        self._up.end()
        self._down.leave()

    # --- the wire --------------------------------------------------------------------------------------------------

    async def _send(self, data: bytes) -> None:
        data, self._held = self._held + data, b""
        if self._cut_sent is not None and self._sent + len(data) >= self._cut_sent:
            await self._up.send(data[: self._cut_sent - self._sent], self._watch.sent)
            self._cut()
        self._sent += len(data)
        if self._random.random() < 0.3:
            await trio.sleep(self._random.expovariate(20))
        for piece in self._pieces(data):
            await self._up.send(piece, self._watch.sent)

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        if self._random.random() < 0.1 and len(data) > 1:
            at = self._random.randrange(1, len(data))
            yield data[:at]
            data = data[at:]
        yield data

    def _cut(self) -> None:
        if self.ending == "resets":
            self._watch.left("resets the connection")
            self._up.reset()
            self._down.reset()
        else:
            self._leave("drops the connection")
        raise Ended(self.ending)

    async def _receive(self) -> None:
        data = await self._down.receive(self._mouthful)
        if not data:
            raise Ended("was left")
        self._heard += len(data)
        if self._cut_heard is not None and self._heard >= self._cut_heard:
            self._cut()
        if self._pause:
            await trio.sleep(self._pause)

    async def _settle(self) -> Told:
        """Read until everything that was asked is answered; the last reply."""
        replies = self._watch.told_all
        due = self._watch.asked
        while len(replies) <= due or replies[due].end > self._heard:
            await self._receive()
        return replies[due]

    async def _ask(self, *lines: bytes) -> list[Told]:
        """Send lines, together or one after the other, and read the replies."""
        before = self._watch.asked
        if self._pipelines:
            await self._send(b"".join(line + b"\r\n" for line in lines))
        else:
            for line in lines:
                await self._send(line + b"\r\n")
                await self._settle()
        await self._settle()
        return self._watch.told_all[before + 1 :]

    # --- the session -----------------------------------------------------------------------------------------------

    async def _session(self) -> None:
        # Some do not wait for the greeting.
        if self._random.random() < 0.9 and not (await self._settle()).ok:
            raise Ended("was refused")
        await self._log_in()
        if self.ending == "never reads":
            self._watch.excuse = "reads nothing"
            await self._send(b"LIST\r\nRETR 1\r\nRETR 2\r\n" * self._random.randint(1, 100))
            await self._watch.over.wait()
            return
        await self._random.choices(_HABITS, _OFTEN)[0](self)
        await _LAST_WORDS.get(self.ending, Client._quit)(self)

    async def _log_in(self) -> None:
        user = self._watch.user.encode()
        wrong = self._random.choice((1, 1, 2, 4)) if self._random.random() < 0.04 else 0
        for attempt in range(6):
            password = b"guess%d" % attempt if attempt < wrong else self._password.encode()
            reply = (await self._ask(b"USER " + user, b"PASS " + password))[-1]
            if reply.ok:
                return
            # Another session of the user, perhaps of an instance that has crashed.
            if attempt >= wrong:
                if self._random.random() < 0.6:
                    break
                await trio.sleep(self._random.uniform(0.5, 25.0))
        await self._quit()
        raise Ended("could not log in")

    async def _count(self, verb: bytes = b"STAT") -> int:
        (reply,) = await self._ask(verb)
        return int(reply.line.split()[1]) if verb == b"STAT" else len(reply.lines)

    async def _poll(self) -> None:
        """Keeps mail on the server, fetches what is new, and removes what is old."""
        if not await self._count():
            return
        (reply,) = await self._ask(b"UIDL")
        numbers = {line.split()[1].decode(): int(line.split()[0]) for line in reply.lines}
        new = [(uid, number) for uid, number in numbers.items() if uid not in self._seen][:_MOST]
        for uid, number in new:
            (reply,) = await self._ask(b"RETR %d" % number)
            if reply.ok:
                self._seen.add(uid)
        old = list(numbers.values())[:-4]
        if old:
            await self._ask(*[b"DELE %d" % number for number in old[: 2 * _MOST]])

    async def _fetch(self) -> None:
        """Takes everything, and leaves nothing that it has got."""
        for number in range(1, min(await self._count(b"LIST"), _MOST) + 1):
            (reply,) = await self._ask(b"RETR %d" % number)
            if reply.ok:
                await self._ask(b"DELE %d" % number)

    async def _blind(self) -> None:
        """Does not look before it asks."""
        lines = [b"STAT", b"UIDL"]
        for number in range(1, self._random.randint(2, 5)):
            lines += [b"RETR %d" % number, b"DELE %d" % number]
        if self.ending == "quits in one go":
            self._held = b"".join(line + b"\r\n" for line in lines)
        else:
            await self._ask(*lines)

    async def _browse(self) -> None:
        """Anything, in any order."""
        most = await self._count() + 1
        lines = []
        for _ in range(self._random.randint(3, 20)):
            verb = self._random.choice((b"LIST", b"UIDL", b"RETR", b"TOP", b"DELE", b"DELE", b"RSET", b"NOOP", b"CAPA"))
            number = b" %d" % self._random.randint(0, most)
            if verb == b"TOP":
                number += b" %d" % self._random.choice((0, 1, 5, 1000))
            alone = verb in (b"RSET", b"NOOP", b"CAPA") or (verb in (b"LIST", b"UIDL") and self._random.random() < 0.5)
            lines.append(verb if alone else verb + number)
        await self._ask(*lines)

    async def _look(self) -> None:
        """Whether there is mail."""
        await self._ask(b"STAT")

    # --- the end ---------------------------------------------------------------------------------------------------

    async def _quit(self) -> None:
        if self._random.random() < 0.03:  # behind QUIT nothing is answered
            self._held += b"QUIT\r\nNOOP\r\n"
            due = self._watch.asked + self._held.count(b"\r\n") - 1
            await self._send(b"")
            while len(self._watch.told_all) < due + 1 or self._watch.told_all[due].end > self._heard:
                await self._receive()
        else:
            await self._send(b"QUIT\r\n")
            await self._settle()

    async def _quit_by_half(self) -> None:
        """A QUIT that is none, and the end."""
        await self._send(self._random.choice((b"QUIT", b"QUIT\r", b"QUI")))
        await self._say_no_more()

    async def _half_a_line(self) -> None:
        await self._send(self._random.choice(_HALVES))
        await self._say_no_more()

    async def _say_no_more(self) -> None:
        await self._send(b"")
        self._watch.left("says no more")
        self._up.end()
        await self._read_to_the_end()

    async def _sleep(self) -> None:
        """Until the server has had enough."""
        await self._read_to_the_end()

    async def _read_to_the_end(self) -> None:
        while True:
            try:
                await self._receive()
            except Ended:
                return

    async def _talk_nonsense(self) -> None:
        for _ in range(self._random.randint(1, 12)):
            await self._ask(self._random.choice(_NONSENSE))
        await self._quit()


_HABITS: Final[list[_Habit]] = [Client._look, Client._poll, Client._fetch, Client._blind, Client._browse]
_OFTEN: Final = (30, 33, 15, 8, 14)
_LAST_WORDS: Final[dict[str, _Habit]] = {
    "half a line": Client._half_a_line,
    "quits by half": Client._quit_by_half,
    "says no more": Client._say_no_more,
    "goes to sleep": Client._sleep,
    "talks nonsense": Client._talk_nonsense,
}
