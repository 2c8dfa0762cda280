"""A disk that can be cut off from the program at any system call that changes it, or from its power, or that fails.

While it is entered, what `os` does to files is counted, and at a chosen call the program is dead: that call and all
that follow do nothing and raise `Died`, also those of whoever cleans up. `cut_power` then leaves on the disk what was
synced, and of the rest any part: of each file any of the writes since its last fsync, of each directory the first few
changes of names since its own. With `error`, the call fails with it instead, and so does every write after it.
"""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


class Died(BaseException):
    """The program does not get any further."""


Names = dict[str, int]


class Disk:
    """`root` and the directories in it, whose names are changed by the calls that are counted, and by nobody else."""

    def __init__(self, root: Path, die_at: int = 0, torn: bool = False, error: int | None = None) -> None:
        self.calls: list[str] = []
        self.dead = False
        self._die_at = die_at
        self._torn = torn
        self._error = error
        self._patch = pytest.MonkeyPatch()
        self._root = os.fspath(root)
        self._names: dict[str, Names] = {}
        self._content: dict[int, bytes] = {}
        self._renamed: dict[str, list[Callable[[Names], None]]] = {}
        self._written: dict[int, list[tuple[int, bytes | None]]] = {}
        self.look()

    def look(self) -> None:
        """All that is there now is on the disk."""
        for directory, subdirectories, files in os.walk(self._root):
            self._names[directory] = {name: os.stat(f"{directory}/{name}").st_ino for name in files + subdirectories}
            for name in files:
                path = f"{directory}/{name}"
                self._content[os.stat(path).st_ino] = Path(path).read_bytes()

    def __enter__(self) -> Disk:
        for name in ("open", "pwrite", "write", "ftruncate", "fsync", "rename", "link", "unlink", "mkdir"):
            self._patch.setattr(os, name, self._counted(name, getattr(os, name), getattr(self, f"_{name}")))
        return self

    def __exit__(self, *_: object) -> None:
        self._patch.undo()

    def _counted(self, name: str, real: Callable[..., Any], note: Callable[..., None]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            if self.dead:
                raise Died
            if name == "open" and not args[1] & (os.O_CREAT | os.O_TRUNC):
                return real(*args, **options)
            self.calls.append(name)
            if self._error is not None and 0 < self._die_at <= len(self.calls):
                if len(self.calls) == self._die_at or name in ("pwrite", "write"):
                    raise OSError(self._error, os.strerror(self._error))
            elif len(self.calls) == self._die_at:
                self.dead = True
                if self._torn and name == "pwrite":
                    fd, data, at = args
                    half = data[: len(data) // 2]
                    real(fd, half, at)
                    self._pwrite(None, fd, half, at)
                raise Died
            before = os.path.lexists(args[0]) if name == "open" else None
            done = real(*args, **options)
            note(done if before is None else (done, before), *args)
            return done

        return call

    def _change(self, path: str | bytes, change: Callable[[Names], None]) -> None:
        self._renamed.setdefault(os.path.dirname(os.fsdecode(path)), []).append(change)

    def _open(self, done: tuple[int, bool], path: bytes, flags: int, *_: object) -> None:
        fd, existed = done
        inode, name = os.fstat(fd).st_ino, os.path.basename(os.fsdecode(path))
        if not existed:
            self._content[inode] = b""
            self._written[inode] = []
            self._change(path, lambda names: names.update({name: inode}))
        elif flags & os.O_TRUNC:
            self._written.setdefault(inode, []).append((0, None))

    def _pwrite(self, _: object, fd: int, data: bytes, at: int) -> None:
        self._written.setdefault(os.fstat(fd).st_ino, []).append((at, bytes(data)))

    def _write(self, _: object, fd: int, data: bytes) -> None:
        self._pwrite(None, fd, data, 0)

    def _ftruncate(self, _: object, fd: int, size: int) -> None:
        self._written.setdefault(os.fstat(fd).st_ino, []).append((size, None))

    def _rename(self, _: object, old: bytes, new: bytes) -> None:
        one, other = (os.path.basename(os.fsdecode(path)) for path in (old, new))
        self._change(old, lambda names: names.update({other: names.pop(one)}))

    def _link(self, _: object, old: bytes, new: bytes) -> None:
        inode, name = os.stat(old).st_ino, os.path.basename(os.fsdecode(new))
        self._change(new, lambda names: names.update({name: inode}))

    def _unlink(self, _: object, path: bytes) -> None:
        name = os.path.basename(os.fsdecode(path))
        self._change(path, lambda names: names.__delitem__(name))

    def _mkdir(self, _: object, path: bytes, *__: object) -> None:
        inode, name = os.stat(path).st_ino, os.path.basename(os.fsdecode(path))
        self._names[os.fsdecode(path)] = {}
        self._change(path, lambda names: names.update({name: inode}))

    def _fsync(self, _: object, fd: int) -> None:
        status = os.fstat(fd)
        if stat.S_ISDIR(status.st_mode):
            directory = os.readlink(f"/proc/self/fd/{fd}")
            for change in self._renamed.pop(directory, []):
                change(self._names[directory])
        else:
            self._content[status.st_ino] = _applied(self._content[status.st_ino], self._written.pop(status.st_ino, []))

    def cut_power(self, rng: random.Random) -> None:
        """Leave what the disk had, and whatever else it may have had time for."""
        for directory, changes in self._renamed.items():
            for change in changes[: rng.randint(0, len(changes))]:
                change(self._names[directory])
        for inode, writes in self._written.items():
            some = [write for write in writes if rng.random() < 0.5]
            self._content[inode] = _applied(self._content.get(inode, b""), some)
        for directory, names in self._names.items():
            above, _, own = directory.rpartition("/")
            lost = directory != self._root and own not in self._names.get(above, {})
            for name in set(os.listdir(directory)) | set(names):
                path = Path(directory, name)
                if path.is_dir():
                    continue
                if lost or name not in names:
                    path.unlink(missing_ok=True)
                elif path.exists() and path.stat().st_ino == names[name]:
                    with path.open("r+b") as file:  # the same file, with other octets in it
                        file.truncate(0)
                        file.write(self._content[names[name]])
                else:
                    path.write_bytes(self._content[names[name]])
                    path.chmod(0o600)


def _applied(content: bytes, writes: list[tuple[int, bytes | None]]) -> bytes:
    for at, data in writes:
        if data is None:
            content = content[:at].ljust(at, b"\0")
        else:
            content = content[:at].ljust(at, b"\0") + data + content[at + len(data) :]
    return content
