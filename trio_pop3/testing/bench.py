"""A backend on the workbench: what the harness needs to know to try it."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from trio_pop3 import Backend

T = TypeVar("T")

TWO_USERS: Mapping[str, str] = {"alice": "secret", "bob": "hidden"}


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A fresh backend with users whose maildrops are empty, and the ways to handle it from outside.

    A function that makes one of these is what `check_backend` and `machine_for` take. Callables may be plain or
    asynchronous; they are called in the trio loop that the backend runs in.
    """

    backend: Backend
    # deliver(user, message): add a message, any octets, at the end of a maildrop. A store that cannot hold some octets,
    # because it keeps text, says so by ValueError: then another message is tried.
    deliver: Callable[[str, bytes], object]
    # name -> password; the first is tried most, and a second one shows that maildrops are apart.
    users: Mapping[str, str] = field(default_factory=lambda: TWO_USERS)
    # Another view of the same store, as a new process would have it. None for a store that ends with its object.
    reopen: Callable[[], Backend | Awaitable[Backend]] | None = None
    # Forget all that dies with a process, locks that the kernel would free among it, without a word to the backend.
    # Then `reopen` must give a store that works. None if there is nothing that could be left behind.
    crash: Callable[[], object] | None = None
    # While this is entered, removing a message fails for some or all that are marked.
    failing_commit: Callable[[], AbstractContextManager[Any]] | None = None
    # While this is entered, a maildrop cannot be read, as when a disk or a database is gone.
    failing_open: Callable[[], AbstractContextManager[Any]] | None = None
    # remove(user, uid): take a message away behind the back of whoever has the maildrop open.
    remove: Callable[[str, str], object] | None = None
    # same(delivered, retrieved): for a store that adds to what it is given, such as a Received line; whether that is
    # still the same message. None for a store that changes nothing but line ends.
    same: Callable[[bytes, bytes], bool] | None = None
    # False for a store that is documented to let several sessions have one maildrop.
    exclusive: bool = True
    close: Callable[[], object] | None = None  # called in the end, whatever happened


MakeBench: TypeAlias = Callable[[], Bench | Awaitable[Bench]]


async def called(function: Callable[..., T | Awaitable[T]], *arguments: object) -> T:
    """What a function of a bench gives, be it plain or asynchronous."""
    given = function(*arguments)
    return await given if inspect.isawaitable(given) else given
