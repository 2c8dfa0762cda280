"""Files opened and read on the event loop: only as far as nothing has to be fetched from anywhere for it.

Linux can be asked for that: openat2 with RESOLVE_CACHED (5.12) opens only what can be found without I/O, preadv with
RWF_NOWAIT (4.14) reads only what is in the page cache. Where the system, a sandbox or the file system does not know
them, which is so on every network file system, nothing is opened here.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
import sys
from collections.abc import Callable
from typing import Final

# The same number on every architecture.
_SYS_OPENAT2: Final = 437
_AT_FDCWD: Final = -100
_RESOLVE_CACHED: Final = 0x20
# Never follows a symbolic link, never waits for a FIFO, as `scan.open_message`.
_HOW: Final = struct.pack("=QQQ", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0, _RESOLVE_CACHED)
# For preadv; 0 where there is no such thing.
NOWAIT: Final[int] = getattr(os, "RWF_NOWAIT", 0)


def _system_call() -> ctypes._NamedFuncPointer | None:
    if not (sys.platform == "linux" and NOWAIT):
        return None
    try:
        call = ctypes.CDLL(None, use_errno=True).syscall
    except (OSError, AttributeError):
        return None  # a static build, or a C library that has none
    call.restype = ctypes.c_long
    call.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t]
    return call


_syscall: Final = _system_call()


def _open(path: bytes) -> int:
    assert _syscall is not None
    fd: int = _syscall(_SYS_OPENAT2, _AT_FDCWD, path, _HOW, len(_HOW))
    if fd < 0:
        raise OSError(ctypes.get_errno(), "not opened at once", path)
    return fd


def whole_file(path: bytes, is_it: Callable[[os.stat_result], bool], longest: int) -> bytes | None:
    """A regular file that `is_it`, and is no longer than that, if all of it can be had at once; else None.

    Why not is for the thread to find out that is asked instead. Blocks for microseconds, never for a disk.
    """
    try:
        fd = _open(path)
    except OSError:
        return None
    try:
        status = os.fstat(fd)
        octets = status.st_size
        if not stat.S_ISREG(status.st_mode) or octets > longest or not is_it(status):
            return None
        buffer = bytearray(octets)
        return bytes(buffer) if os.preadv(fd, [buffer], 0, NOWAIT) == octets else None
    except OSError:
        return None
    finally:
        os.close(fd)


def can_be_asked(path: bytes) -> bool:
    """Whether system and file system can be asked so, tried on a file. Blocking; for threads."""
    if _syscall is None:
        return False
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            os.preadv(fd, [bytearray(1)], 0, NOWAIT)
            os.close(_open(path))
        finally:
            os.close(fd)
    except OSError as failure:
        # It can: the answer was that this would take a while.
        return failure.errno == errno.EAGAIN
    return True
