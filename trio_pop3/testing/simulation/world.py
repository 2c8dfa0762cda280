"""A day of mail: clients come, mail is delivered, instances crash and are started again, and all of it is watched."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

import trio
import trio.testing

from trio_pop3 import Backend, serve_stream

from .chronicle import Chronicle, seeded
from .clients import Client
from .ledger import Ledger
from .mail import draw
from .store import LEASE, Store, StoreClient
from .watch import TIMEOUTS, Watch
from .wire import Pipe, ServerEnd

# Virtual seconds of the day in which a session begins, on average: 10,000 sessions are a day.
_SECONDS_PER_SESSION: Final = 8.64
_SESSIONS_PER_USER: Final = 25
# Behind the last client, what still runs has so long to end by itself.
_AFTERMATH: Final = 600.0


class Instance:
    """One run of a server, from start to crash or drain."""

    def __init__(self, world: World, name: str, wrap: Callable[[Backend], Backend] | None) -> None:
        self.name: Final = name
        self.alive = True
        self.accepts = True
        self.replaced = False
        self._world: Final = world
        self._client: Final = StoreClient(world.store, self)
        self._backend: Final[Backend] = self._client if wrap is None else wrap(self._client)
        self._shutdown: Final = trio.Event()
        self._scope: Final = trio.CancelScope()
        self._pipes: Final[dict[str, tuple[Pipe, Pipe]]] = {}  # by session
        self._nursery: trio.Nursery | None = None

    async def run(self) -> None:
        """Serve until it crashes, or is drained and done."""
        with self._scope:
            async with trio.open_nursery() as self._nursery:
                await self._shutdown.wait()

    def accept(self, watch: Watch, end: ServerEnd, up: Pipe, down: Pipe) -> None:
        """A client has connected."""
        assert self._nursery is not None
        self._client.watches[watch.session] = watch
        self._pipes[watch.session] = (up, down)
        self._nursery.start_soon(self._serve, watch, end)

    async def _serve(self, watch: Watch, end: ServerEnd) -> None:
        self._world.tasks += 1
        try:
            await serve_stream(
                end,
                self._backend,
                client=watch.client,
                shutdown=self._shutdown,
                insecure_auth=True,
                hostname="pop.example.org",
                **TIMEOUTS,
            )
        except Exception as failure:
            watch.violated("P4", f"serve_stream raised {failure!r}")
        finally:
            self._world.tasks -= 1
            watch.served()
            del self._client.watches[watch.session], self._pipes[watch.session]

    def crash(self) -> None:
        """Nothing remains but what is in the store, its locks among it: those run out by themselves."""
        if not self.alive:
            return
        self._world.chronicle.done(self.name, None, "crashes")
        self._world.crashes += 1
        self.alive = self.accepts = False
        for watch in self._client.watches.values():
            watch.crash()
        for up, down in self._pipes.values():
            up.reset()
            down.reset()
        self._world.store.orphan_all(self)
        self._scope.cancel()
        self._world.start_again(self, self._world.random.uniform(1.0, 30.0))

    def drain(self) -> None:
        """Accepts nobody, and ends when its sessions have."""
        self._world.chronicle.done(self.name, None, "drains")
        self.accepts = False
        for watch in self._client.watches.values():
            watch.excuse = watch.excuse or "shutdown"
        self._shutdown.set()


class World:
    """All of it, made from one seed."""

    def __init__(
        self,
        seed: int,
        sessions: int,
        instances: int,
        trouble: float,
        wrap: Callable[[Backend], Backend] | None,
        progress: Callable[[int], None] | None,
    ) -> None:
        self.chronicle: Final = Chronicle()
        self.ledger: Final = Ledger(self.chronicle)
        self.random: Final = seeded(seed, "world")
        self.crashes = self.drains = self.tasks = 0
        self._seed: Final = seed
        self._sessions: Final = sessions
        self._wrap: Final = wrap
        self._progress: Final = progress
        users = [f"user{number:04d}" for number in range(max(4, sessions // _SESSIONS_PER_USER))]
        self._passwords: Final = {user: f"secret-{user}" for user in users}
        self._seen: Final[dict[str, set[str]]] = {user: set() for user in users}
        self.store: Final = Store(self.chronicle, self.ledger, seeded(seed, "store"), self._passwords, trouble)
        self._running: Final = [Instance(self, f"instance {number}", wrap) for number in range(instances)]
        self._closing = False
        self._servers: trio.Nursery | None = None
        self._clients: trio.Nursery | None = None

    # --- what happens when -----------------------------------------------------------------------------------------

    def _agenda(self) -> list[tuple[float, int, Callable[[], None]]]:
        """Everything that does not come of something else, by time."""
        day = self._sessions * _SECONDS_PER_SESSION
        random, users = self.random, list(self._passwords)
        events: list[tuple[float, Callable[[], None]]] = []
        at, user = 0.0, users[0]
        for number in range(self._sessions):
            if number and random.random() < 0.05:
                at += random.uniform(0.0, 2.0)  # the same user again, perhaps at the same time
            else:
                at, user = self._some_time(day), random.choice(users)
            events.append((at, partial(self._connect, number, user)))
        rest: list[Callable[[], None]] = [self._crash_one, self._drain_one] * (2 + self._sessions // 1000)
        rest += [partial(self.store.deliver, user, draw) for user in random.choices(users, k=2 * self._sessions)]
        events += [(random.uniform(0.0, day), event) for event in rest]
        return [(at, order, event) for order, (at, event) in enumerate(events)]

    def _some_time(self, day: float) -> float:
        """Half of all mail programs look on the minute."""
        at = self.random.uniform(0.0, day)
        return at if self.random.random() < 0.5 else at // 60 * 60 + self.random.uniform(0.0, 2.0)

    def _crash_one(self) -> None:
        self.random.choice(self._running).crash()

    def _drain_one(self) -> None:
        instance = self.random.choice(self._running)
        if instance.accepts:
            self.drains += 1
            instance.drain()
            self.start_again(instance, self.random.choice((0.0, 5.0)))

    def _connect(self, number: int, user: str) -> None:
        random = seeded(self._seed, f"client {number}")
        host = f"192.0.2.{random.randint(2, 254)}"
        accepting = [instance for instance in self._running if instance.accepts]
        if not accepting:
            self._ended("found no server")
            return
        watch = Watch(self.chronicle, self.ledger, number, user, host=host)
        up, down = Pipe(65536), Pipe(random.choice((2000, 16_000, 65536)))
        client = Client(self, watch, up, down, random, password=self._passwords[user], seen=self._seen[user])
        random.choice(accepting).accept(watch, ServerEnd(watch, up, down, overtaken=random.random() < 0.5), up, down)
        assert self._clients is not None
        self._clients.start_soon(self._client, client)

    async def _client(self, client: Client) -> None:
        self._ended(await client.run())

    def _ended(self, how: str) -> None:
        self.chronicle.endings[how] += 1
        if self._progress is not None:
            self._progress(self.chronicle.endings.total())

    def start_again(self, instance: Instance, seconds: float) -> None:
        """Another run in its place, after some time; one only, if it crashes while it is drained."""
        assert self._servers is not None
        if not instance.replaced:
            instance.replaced = True
            self._servers.start_soon(self._start_again, self._running.index(instance), seconds)

    async def _start_again(self, number: int, seconds: float) -> None:
        await trio.sleep(seconds)
        if self._closing:
            return
        name = self._running[number].name
        self._running[number] = instance = Instance(self, name, self._wrap)
        self.chronicle.done(name, None, "starts")
        await instance.run()

    # --- the day ---------------------------------------------------------------------------------------------------

    async def run(self) -> float:
        """The whole day; its virtual seconds. What went wrong is in the chronicle."""
        with self.chronicle.stop, self._listening():
            async with trio.open_nursery() as self._servers:
                for instance in self._running:
                    self._servers.start_soon(instance.run)
                await trio.testing.wait_all_tasks_blocked()
                async with trio.open_nursery() as self._clients:
                    for at, _, event in sorted(self._agenda()):
                        await trio.sleep_until(at)
                        event()
                self._closing = True
                self._servers.cancel_scope.deadline = trio.current_time() + _AFTERMATH
                for instance in self._running:
                    if instance.accepts:
                        instance.drain()
            if self._servers.cancel_scope.cancelled_caught:
                self.chronicle.violated("end", f"{self.tasks} sessions do not end")
            await trio.sleep(LEASE)
            self._look_around()
        return trio.current_time()

    def _look_around(self) -> None:
        """Nothing is left of the day but the mail."""
        if self.tasks:
            self.chronicle.violated("end", f"{self.tasks} tasks remain")
        for user in self._passwords:
            if self.store.locked(user):
                self.chronicle.violated("P1", f"{user} is locked for ever", self.store.locks[user].watch.minutes)
            self.ledger.audit(user, self.store.snapshot(user))
        ledger = self.ledger
        if ledger.delivered != ledger.removed + ledger.lost + ledger.left:
            self.chronicle.violated("P1", "the messages do not add up")

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """The server's log is for us: of one kind of line there must be none, and nobody else wants to see the rest."""
        logger, handler = logging.getLogger("trio_pop3"), _Alarm(self.chronicle)
        before = logger.propagate, logger.level
        logger.addHandler(handler)
        logger.propagate = False
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.propagate = before[0]
            logger.setLevel(before[1])


class _Alarm(logging.Handler):
    """Takes log lines, and is alarmed by what the server says should not have happened."""

    def __init__(self, chronicle: Chronicle) -> None:
        super().__init__()
        self._chronicle: Final = chronicle

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if "should not have happened" in text:
            self._chronicle.violated("end", f"the server's log says: {text.splitlines()[0]}")
