"""What holds for every view: it keeps the contract of a backend, and hides none of the powers of the one behind it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from trio_pop3 import backend as be
from trio_pop3.backend import Backend
from trio_pop3.backends.maildir import MaildirStore
from trio_pop3.backends.memory import MemoryBackend
from trio_pop3.backends.views import AtMost, Folders, NewestDays, Union
from trio_pop3.backends.views.union import unique_id
from trio_pop3.backends.views.view import POWERS, View
from trio_pop3.testing import backend_checks, check_backend

from ..driving import CLIENT, run
from .views_helpers import NOW, Shelf, Suspending, view_bench

View_ = Callable[[Any], Backend]


def newest(backend: Any) -> Backend:
    return NewestDays(backend, 1, clock=lambda: NOW)


def union(backend: Any) -> Backend:
    return Union(backend, {"Junk": backend.folder("Junk")})


def all_of_them(backend: Any) -> Backend:
    return Folders(AtMost(newest(union(backend)), 1000))


def junk_uid(uid: str) -> str:
    return unique_id("Junk", uid, lambda _: False)


BENCHES = {
    "NewestDays": (newest, "{user}", str),
    "AtMost": (partial(AtMost, count=1000), "{user}", str),
    "Union, the inbox": (union, "{user}", str),
    "Union, a part": (union, "{user}/Junk", junk_uid),
    "Union, no such part": (lambda b: Union(b, {"No": b.folder("No"), "Junk": b.folder("Junk")}), "{user}", str),
    "Folders": (Folders, "{user}", str),
    "all of them": (all_of_them, "{user}", str),
    "all of them, a part": (all_of_them, "{user}/Junk", junk_uid),
}


@pytest.mark.parametrize(("view", "place", "uid"), BENCHES.values(), ids=BENCHES)
def test_views_keep_the_contract(view: View_, place: str, uid: Callable[[str], str]) -> None:
    """P1, P2, P3: every promise of the kit, cancelled and crashed at every await, none left out."""
    make = partial(view_bench, view, place, uid)
    report = trio.run(partial(check_backend, make), clock=trio.testing.MockClock(autojump_threshold=0))
    assert (set(report.passed), report.skipped) == (set(backend_checks()), {})


def methods_of(protocol: type) -> set[str]:
    return {name for name, value in vars(protocol).items() if not name.startswith("_") and inspect.isfunction(value)}


def test_every_optional_power_is_passed_on() -> None:
    """A protocol that is added to the contract, and forgotten here, is found here."""
    optional = [value for value in vars(be).values() if getattr(value, "_is_runtime_protocol", False)]
    of_maildrops = {"arrivals", "retrieved"}  # tried below, and with each view
    named = set[str]().union(*map(methods_of, [*optional, be.Authenticator]))
    assert named - of_maildrops == set(POWERS)
    assert named - of_maildrops >= {"scram_keys", "authorize", "login_delay", "expiry", "connect", "folder"}


@pytest.mark.parametrize("view", [newest, partial(AtMost, count=1), union, Folders, all_of_them])
def test_a_view_of_a_backend_can_what_that_can(view: View_) -> None:
    process = Suspending(view_bench(Folders).backend._store.disk)  # type: ignore[attr-defined]
    seen = view(process)
    for protocol in (be.ScramSecrets, be.Delegation, be.LoginDelays, be.Expiry, be.ConnectionHooks, be.FolderStore):
        assert isinstance(seen, protocol)
    assert be.login_methods(seen) == process.login_methods
    process.login_methods = frozenset({"PLAIN"})  # may change from one connection to the next
    assert be.login_methods(seen) == {"PLAIN"}


def test_a_view_cannot_what_the_store_cannot() -> None:
    """What is not there must not be announced."""
    seen = AtMost(MaildirStore("/m/{user}"), 1)
    assert isinstance(seen, be.FolderStore)
    for protocol in (be.ScramSecrets, be.Delegation, be.LoginDelays, be.Expiry, be.ConnectionHooks):
        assert not isinstance(seen, protocol)
    assert not hasattr(seen, "authenticate")
    assert not hasattr(AtMost(MemoryBackend(), 1), "folder")
    assert be.login_methods(seen) == {"PLAIN"}


def test_a_view_of_a_store_is_half_a_backend() -> None:
    shelf = Shelf()
    uid = shelf.put()
    backend = be.combine(shelf, AtMost(shelf, 5))
    maildrop = run(backend.open("alice", CLIENT))
    assert [message.uid for message in maildrop.messages] == [uid]


def test_maildrops_hear_what_their_clients_have_got() -> None:
    """An optional power of maildrops: each part of a union hears of its own messages, as it knows them."""
    heard: list[str] = []

    class Curious(Shelf):
        async def open(self, user: str, client: be.ClientInfo) -> Any:
            maildrop = await super().open(user, client)
            maildrop.retrieved = lambda message: heard.append(f"{self.name} {message.uid}")
            return maildrop

        name = "inbox"

    inbox, junk, deaf = Curious(), Curious(), Shelf()
    junk.name = "junk"
    uids = [store.put() for store in (inbox, junk, deaf)]
    view: Any = newest(AtMost(Union(inbox, {"Junk": junk, "Deaf": deaf}), 5))
    maildrop = run(view.open("alice", CLIENT))
    for message in maildrop.messages:
        maildrop.retrieved(message)
    assert heard == [f"inbox {uids[0]}", f"junk {uids[1]}"]
    run(maildrop.release())
    quiets: list[Any] = [AtMost(deaf, 5), Union(deaf, {"Deaf": Shelf()})]
    for quiet in quiets:
        quiet_maildrop = run(quiet.open("alice", CLIENT))
        assert not hasattr(quiet_maildrop, "retrieved")
        run(quiet_maildrop.release())


class Slow:
    """A store that takes its time, and gives its lock back when that is over."""

    def __init__(self, waits: str) -> None:
        self._waits = waits
        self.held = 0
        self.messages: list[be.MessageInfo] = []

    async def _step(self, name: str) -> None:
        await trio.sleep(100 if name == self._waits else 1)

    async def open(self, user: str, client: be.ClientInfo) -> Any:
        await self._step("open")
        self.held += 1
        return self

    async def arrivals(self) -> list[float]:
        await self._step("arrivals")
        return []

    async def release(self) -> None:
        await self._step("release")
        self.held -= 1


@pytest.mark.parametrize("waits", ["open", "arrivals"])
async def test_what_was_locked_is_free_after_a_cancelled_login(
    waits: str, autojump_clock: trio.testing.MockClock
) -> None:
    """P1: giving back takes a while as well, and is not cut."""
    stores = [Slow(""), Slow(""), Slow(waits)]
    view: Any = newest(Union(stores[0], {"Junk": stores[1], "Later": stores[2]}))
    with trio.move_on_after(10):
        await view.open("alice", CLIENT)
    assert trio.current_time() < 20
    assert [store.held for store in stores] == [0, 0, 0]


def test_nothing_is_changed_by_a_view_that_does_nothing() -> None:
    shelf = Shelf()
    maildrop = run(View(shelf).open("alice", CLIENT))
    assert list(maildrop.messages) == []
