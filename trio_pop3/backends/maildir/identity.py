"""Working on files as somebody else, in one thread of a process that is root. Linux.

The kernel keeps user, group and supplementary groups per thread. `setfsuid` and `setfsgid` change those of the calling
thread that files are opened and made with, and with them go the powers of root over files (capabilities(7)). glibc's
`setgroups` would change all threads, so the system call is made as it is.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import platform
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeAlias

logger = logging.getLogger("trio_pop3.maildir")

# The number of the system call, with gids of 32 bits, of each kind of machine.
_SETGROUPS: Final = MappingProxyType(
    {
        "x86_64": 116, "aarch64": 159, "riscv64": 159, "loongarch64": 159, "ppc64le": 81, "s390x": 206,
        "armv6l": 206, "armv7l": 206, "i386": 206, "i686": 206,
    }
)  # fmt: skip
# No id at all: nothing changes, and the answer is the id in force.
_ASK: Final = ctypes.c_uint32(0xFFFFFFFF)
# EX_SOFTWARE of sysexits.h.
_EXIT_STATUS: Final = 70

# "nobody", on every Linux.
_NOBODY: Final = 65534
# CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH (capabilities(7)): whoever has one of them may read everything.
_READ_ALL: Final = 1 << 1 | 1 << 2

_libc: Final = ctypes.CDLL(None, use_errno=True)
_thread: Final = threading.local()


class IdentityError(OSError):
    """This thread could not become who it should be."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who file work is done as: a user, one group, and no supplementary groups."""

    uid: int
    gid: int

    @classmethod
    def of_owner(cls, status: os.stat_result) -> Identity:
        """The owner and the group of a directory. Raises IdentityError if that is root, or the group of root."""
        if status.st_uid == 0 or status.st_gid == 0:
            owner = f"uid {status.st_uid}, gid {status.st_gid}"
            raise IdentityError(errno.EPERM, f"it belongs to {owner}, and nobody's mail is touched as root")
        return cls(status.st_uid, status.st_gid)

    @contextmanager
    def assumed(self) -> Iterator[None]:
        """This thread is this user meanwhile. Raises IdentityError, and then it is who it was.

        Threads that are started meanwhile would stay this user: start none. A thread that cannot become again who it
        was would go on to work on the mail of others, so the process ends then; that loses no mail.
        """
        with _switched(self, ()) as server:
            _thread.server = server
            try:
                yield
            finally:
                _thread.server = None


# Who a thread is, supplementary groups and all.
_Whole: TypeAlias = tuple[Identity, Sequence[int]]


@contextmanager
def as_server() -> Iterator[None]:
    """For files that are the server's: within `Identity.assumed` this thread is who it was; elsewhere nothing happens.

    Raises IdentityError.
    """
    server: _Whole | None = getattr(_thread, "server", None)
    if server is None:
        yield
    else:
        with _switched(*server):
            yield


def check_powers() -> None:
    """Try whether this process may do all this, in a thread that ends then. Raises IdentityError if not."""
    if os.geteuid() != 0:
        raise IdentityError(errno.EPERM, "only root can work as the owner of each mail store")
    failures: list[IdentityError] = []

    def attempt() -> None:
        try:
            with Identity(_NOBODY, _NOBODY).assumed():
                if _capabilities() & _READ_ALL:
                    raise IdentityError(errno.EPERM, "the powers of root stay with threads that are somebody else")
        except IdentityError as failure:
            failures.append(failure)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def _capabilities() -> int:
    """Those in force in this thread."""
    with open("/proc/thread-self/status") as status:
        return next(int(line.split()[1], 16) for line in status if line.startswith("CapEff:"))


@contextmanager
def _switched(identity: Identity, groups: Sequence[int]) -> Iterator[_Whole]:
    before = Identity(_in_force(_libc.setfsuid), _in_force(_libc.setfsgid)), os.getgroups()
    try:
        _become(identity, groups)
        yield before
    finally:
        try:
            _become(*before)
        except IdentityError as failure:
            logger.critical("a thread cannot become again who it was, so the server ends: %s", failure)
            os._exit(_EXIT_STATUS)


def _become(identity: Identity, groups: Sequence[int]) -> None:
    """Raises IdentityError. Asks for no groups that are so already: there, and back after a refusal, is no harder."""
    if os.getgroups() != list(groups):
        _set_groups(groups)
    for change, wanted in ((_libc.setfsgid, identity.gid), (_libc.setfsuid, identity.uid)):
        change(ctypes.c_uint32(wanted))
        if _in_force(change) != wanted:  # it never says that it has failed
            raise IdentityError(errno.EPERM, f"this process may not change who it is in threads, to {wanted}")


def _in_force(change: Callable[[ctypes.c_uint32], int]) -> int:
    return change(_ASK) & 0xFFFFFFFF


def _set_groups(groups: Sequence[int]) -> None:
    """Of the calling thread only. Raises IdentityError."""
    number = _SETGROUPS.get(platform.machine())
    if number is None:
        raise IdentityError(errno.ENOSYS, f"how threads change their groups on {platform.machine()} is not known here")
    array = (ctypes.c_uint32 * len(groups))(*groups)
    if _libc.syscall(ctypes.c_long(number), ctypes.c_long(len(groups)), array) != 0:
        raise IdentityError(ctypes.get_errno(), "this process may not change the groups of its threads")


def own(fd: int, maildir: os.stat_result) -> None:
    """What root makes in a Maildir belongs to its owner. Raises OSError."""
    if os.geteuid() == 0:
        os.fchown(fd, maildir.st_uid, maildir.st_gid)
