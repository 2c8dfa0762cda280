"""A maildrop session in plain Python, obviously right: what the state machine compares the server with."""

from __future__ import annotations

from dataclasses import dataclass, field

from .sansio.test_body import canon


@dataclass
class ModelStore:
    """Messages that are there, in order, and who holds the lock."""

    mail: dict[str, bytes] = field(default_factory=dict)
    holder: object = None


@dataclass
class ModelSession:
    """What one client should see. Replies are a status and the lines of a body, or None if there is none."""

    store: ModelStore
    state: str = "authorization"
    user: str | None = None
    snapshot: list[tuple[str, bytes]] = field(default_factory=list)
    marks: set[int] = field(default_factory=set)

    def command(self, verb: str, *words: str) -> tuple[bool, list[bytes] | None]:
        """The reply to a well-formed command."""
        user, self.user = self.user, self.user if verb == "CAPA" else None
        if verb == "CAPA":
            return True, []
        if verb == "QUIT":
            return self._quit()
        if self.state == "authorization":
            return self._authorization(verb, words, user), None
        return getattr(self, f"_{verb.lower()}", self._refuse)(*words)

    def malformed(self) -> None:
        """A line that is no command."""
        self.user = None

    def gone(self) -> None:
        """The connection is lost."""
        self.state = "over"
        self._unlock()

    def _authorization(self, verb: str, words: tuple[str, ...], user: str | None) -> bool:
        if verb == "USER" and user is None:
            self.user = words[0]
            return True
        if verb == "PASS" and user == "alice" and words[0] == "secret" and self.store.holder is None:
            self.state = "transaction"
            self.store.holder = self
            self.snapshot = list(self.store.mail.items())
            return True
        return False

    def _refuse(self, *_: str) -> tuple[bool, None]:
        return False, None

    def _quit(self) -> tuple[bool, None]:
        for number in self.marks:
            self.store.mail.pop(self.snapshot[number - 1][0], None)
        self.gone()
        return True, None

    def _unlock(self) -> None:
        if self.store.holder is self:
            self.store.holder = None

    def _alive(self, number: str) -> bool:
        return 1 <= int(number) <= len(self.snapshot) and int(number) not in self.marks

    def sizes(self) -> dict[int, int]:
        """Number -> octets of every message that is not marked."""
        return {n: len(canon(m)) for n, (_, m) in enumerate(self.snapshot, 1) if n not in self.marks}

    def _stat(self) -> tuple[bool, list[bytes]]:
        return True, [f"{len(self.sizes())} {sum(self.sizes().values())}".encode()]

    def _list(self, *number: str) -> tuple[bool, list[bytes] | None]:
        if number and not self._alive(*number):
            return False, None
        return True, [f"{n} {size}".encode() for n, size in self.sizes().items() if not number or n == int(*number)]

    def _uidl(self, *number: str) -> tuple[bool, list[bytes] | None]:
        if number and not self._alive(*number):
            return False, None
        wanted = [n for n in self.sizes() if not number or n == int(*number)]
        return True, [f"{n} {self.snapshot[n - 1][0]}".encode() for n in wanted]

    def _retr(self, number: str) -> tuple[bool, list[bytes] | None]:
        if not self._alive(number):
            return False, None
        return True, canon(self.snapshot[int(number) - 1][1]).split(b"\r\n")[:-1]

    def _top(self, number: str, lines: str) -> tuple[bool, list[bytes] | None]:
        ok, rows = self._retr(number)
        if not ok or rows is None or b"" not in rows:
            return ok, rows
        return True, rows[: rows.index(b"") + 1 + int(lines)]

    def _dele(self, number: str) -> tuple[bool, None]:
        if not self._alive(number):
            return False, None
        self.marks.add(int(number))
        return True, None

    def _noop(self) -> tuple[bool, None]:
        return True, None

    def _rset(self) -> tuple[bool, None]:
        self.marks.clear()
        return True, None
