"""Where connections come from: TCP, UNIX and inherited sockets, and the cap that is taken before a connection is."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import stat
from collections.abc import Iterable
from typing import Final, final

import trio

_TCP: Final = re.compile(r"(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:\[\]]*)):(?P<port>[0-9]{1,5})")
_FD: Final = re.compile(r"fd:(?P<fd>[0-9]{1,9})")
_OPTION: Final = re.compile(r"tls|proxy|mode=[^/]*")
_MODE: Final = re.compile(r"mode=([0-7]{3,4})")
# What fits into the kernel's address of a UNIX socket, and Linux wants a zero octet behind it: unix(7).
_UNIX_PATH_OCTETS: Final = 107
# The first inherited descriptor of systemd's socket activation.
_SYSTEMD_FIRST_FD: Final = 3


def _text(name: tuple[str, int] | str | bytes) -> str:
    """A socket name the way `open_listeners` takes it."""
    if isinstance(name, tuple):
        return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"
    return f"unix:{os.fsdecode(name)}"


@final
class Pop3Listener(trio.abc.Listener[trio.SocketStream]):
    """A listening socket whose connections count against a cap.

    A place is taken while the connection still waits in the kernel's queue, so that accepting never runs out of file
    descriptors; whoever handles the stream gives the place back.

    `address` is what a client connects to: `127.0.0.1:110`, `[::1]:110` or `unix:/path`. `port` is the TCP port, or
    None. `tls`: connections begin with a TLS handshake (RFC 8314). `proxy`: they begin, before that, with a header of
    the PROXY protocol.
    """

    def __init__(
        self, listener: trio.SocketListener, *, unlink: str | None = None, tls: bool = False, proxy: bool = False
    ) -> None:
        self.tls = tls
        self.proxy = proxy
        self.socket: Final = listener.socket
        self.places: trio.Semaphore | None = None
        self._listener = listener
        self._unlink = unlink
        self._inode = os.stat(unlink).st_ino if unlink is not None else None
        name = self.socket.getsockname()
        self.port: Final[int | None] = int(name[1]) if isinstance(name, tuple) else None
        self.address: Final = _text(name)

    def __repr__(self) -> str:
        return f"<Pop3Listener {self}>"

    def __str__(self) -> str:
        """The address with its options, as `open_listeners` takes it."""
        return self.address + ",tls" * self.tls + ",proxy" * self.proxy

    async def accept(self) -> trio.SocketStream:
        """The next connection. Cancelled, it has taken none, and no place."""
        if self.places is None:
            return await self._listener.accept()
        await trio.lowlevel.wait_readable(self.socket)
        await self.places.acquire()
        try:
            return await self._listener.accept()
        except BaseException:
            self.places.release()
            raise

    async def aclose(self) -> None:
        """Stop listening; a UNIX socket's file is removed if it is still ours."""
        if self._unlink is not None:
            with contextlib.suppress(OSError):
                if os.stat(self._unlink).st_ino == self._inode:
                    os.unlink(self._unlink)
            self._unlink = None
        await self._listener.aclose()


async def open_listeners(addresses: Iterable[str], *, backlog: int | None = None) -> list[Pop3Listener]:
    """Listening sockets for addresses, all of them or none.

    Behind an address may stand `,tls` (connections begin with TLS) and `,proxy` (with a header of the PROXY protocol),
    behind `unix:PATH` also `,mode=660`, the octal permissions of the socket: who may write to it may connect.
    An address is `HOST:PORT` (an empty HOST or `*` is every address, IPv4 and IPv6, with one port for both, port 0
    too), `[IPV6]:PORT`, `unix:PATH`, `fd:N` for an inherited listening socket, or `systemd` for all that systemd
    passed on.

    Raises ValueError for an address of no known form, OSError if one cannot be had; nothing stays open then.
    """
    opened: list[Pop3Listener] = []
    try:
        for address in addresses:
            opened += await _open(address, backlog)
    except BaseException:
        await close_all(opened)
        raise
    return opened


async def close_all(listeners: Iterable[Pop3Listener | trio.SocketListener]) -> None:
    """Close every one of them, even if this task is cancelled: `aclose_forcefully` would stop behind the first."""
    with trio.CancelScope(shield=True):
        for listener in listeners:
            await listener.aclose()


async def _open(specification: str, backlog: int | None) -> list[Pop3Listener]:
    address, options = split_options(specification)
    modes = [_mode(option) for option in options if option.startswith("mode=")]
    if modes and not (address.startswith("unix:") and len(modes) == 1):
        raise ValueError(f"one mode, and of a UNIX socket only: {specification!r}")
    listeners = await _open_address(address, backlog, modes[0] if modes else None)
    for listener in listeners:
        listener.tls, listener.proxy = "tls" in options, "proxy" in options
    return listeners


def split_options(specification: str) -> tuple[str, set[str]]:
    """An address, and what stands behind it."""
    options: set[str] = set()
    while _OPTION.fullmatch(option := specification.rpartition(",")[2]) and option != specification:
        options.add(option)
        specification = specification.rpartition(",")[0]
    return specification, options


def _mode(option: str) -> int:
    if (match := _MODE.fullmatch(option)) is None:
        raise ValueError(f"a mode is three or four octal digits, as mode=660, not {option!r}")
    return int(match[1], 8)


async def _open_address(address: str, backlog: int | None, mode: int | None) -> list[Pop3Listener]:
    if address.startswith("unix:"):
        return [_open_unix(address.removeprefix("unix:"), backlog, mode)]
    if address == "systemd":
        return [_inherit(fd) for fd in _systemd_descriptors()]
    if match := _FD.fullmatch(address):
        return [_inherit(int(match["fd"]))]
    if (match := _TCP.fullmatch(address)) and int(match["port"]) <= 65535:
        host = match["v6"] or match["host"]
        try:
            return await open_tcp(None if host in ("", "*") else host, int(match["port"]), backlog=backlog)
        except UnicodeError:  # what Python says of a label that is empty, too long or of no known script
            raise ValueError(f"not a host name: {host!r}") from None
    forms = "HOST:PORT, [IPV6]:PORT, unix:PATH, fd:N or systemd"
    raise ValueError(f"not an address to listen on: {address!r} (use {forms})")


async def open_tcp(host: str | None, port: int, *, backlog: int | None = None) -> list[Pop3Listener]:
    """TCP listeners on every address of a host, or on every address there is; with port 0 they share one free port.

    Raises OSError if the address cannot be had.
    """
    for _ in range(16):
        listeners = await trio.open_tcp_listeners(port, host=host, backlog=backlog)
        ports = {listener.socket.getsockname()[1] for listener in listeners}
        if len(ports) == 1:
            return [Pop3Listener(listener) for listener in listeners]
        # Port 0 was given once per address family: ask for the first one's port in all of them.
        await close_all(listeners)
        try:
            candidates = await trio.open_tcp_listeners(ports.pop(), host=host, backlog=backlog)
        except OSError:
            continue
        return [Pop3Listener(listener) for listener in candidates]
    raise OSError(errno.EADDRINUSE, "no port is free in every address family")


def _open_unix(path: str, backlog: int | None, mode: int | None) -> Pop3Listener:
    if not path:
        raise ValueError("unix: needs a path")
    if len(os.fsencode(path)) > _UNIX_PATH_OCTETS:
        raise OSError(errno.ENAMETOOLONG, f"path too long, more than {_UNIX_PATH_OCTETS} octets", path)
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        if mode is not None:
            os.chmod(path, mode)  # nobody can connect before it listens
        sock.listen(backlog or socket.SOMAXCONN)
        return Pop3Listener(trio.SocketListener(trio.socket.from_stdlib_socket(sock)), unlink=path)
    except BaseException:
        sock.close()
        raise


def _remove_stale(path: str) -> None:
    """A socket file nobody listens on any more is in the way; anything else is somebody's."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise OSError(errno.EADDRINUSE, "the path exists and is not a socket", path)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1)
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)
            else:
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), path)


def _inherit(fd: int) -> Pop3Listener:
    try:
        sock = socket.socket(fileno=fd)
    except OSError as failure:
        raise OSError(failure.errno, f"fd:{fd} is not an open socket") from None
    try:
        if sock.type != socket.SOCK_STREAM or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise OSError(errno.EINVAL, f"fd:{fd} is not a listening stream socket")
    except BaseException:
        sock.detach()  # it is not ours to close
        raise
    sock.set_inheritable(False)
    return Pop3Listener(trio.SocketListener(trio.socket.from_stdlib_socket(sock)))


def _systemd_descriptors() -> range:
    """The descriptors passed by systemd.socket(5). Raises OSError if there are none for this process."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or not os.environ.get("LISTEN_FDS", "").isdecimal():
        raise OSError(errno.ENOENT, "systemd passed no sockets to this process")
    return range(_SYSTEMD_FIRST_FD, _SYSTEMD_FIRST_FD + int(os.environ["LISTEN_FDS"]))
