"""A maildrop session in plain Python, obviously right: what test_session_machine compares the session with.

Not the model of `trio_pop3.testing`, on purpose: it was written from the requirements by itself, and knows exact CAPA
lines, language texts and mechanisms, which a model for any server cannot. A mistake would have to stand in both.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Final

from .sansio.test_body import canon

# alice and her password, as PLAIN has them.
GOOD: Final = base64.b64encode(b"\0alice\0secret").decode("ascii")
CAPABILITIES: Final = [
    b"USER", b"SASL SCRAM-SHA-256 SCRAM-SHA-1 PLAIN", b"UTF8 USER", b"LANG", b"TOP", b"UIDL", b"PIPELINING",
    b"RESP-CODES", b"AUTH-RESP-CODE", b"IMPLEMENTATION trio_pop3",
]  # fmt: skip


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
    language: str = "en"
    user: str | None = None
    snapshot: list[tuple[str, bytes]] = field(default_factory=list)
    marks: set[int] = field(default_factory=set)

    def command(self, verb: str, *words: str) -> tuple[bool | None, list[bytes] | None]:
        """The reply to a well-formed command; None instead of a status is a challenge."""
        user, self.user = self.user, self.user if verb in ("CAPA", "UTF8", "LANG") else None
        if verb in ("CAPA", "UTF8", "LANG"):
            return getattr(self, f"_{verb.lower()}")(*words)  # type: ignore[no-any-return]
        if verb == "QUIT":
            return self._quit()
        if self.state != "authorization":
            return getattr(self, f"_{verb.lower()}", self._refuse)(*words)
        if verb == "AUTH":
            return self._begin(*words)
        return self._authorization(verb, words, user), None

    def response(self, line: bytes) -> bool:
        """A line inside an exchange of PLAIN, whatever it would be elsewhere."""
        self.state = "authorization"
        return line == GOOD.encode() and self.authenticated("alice", "secret")

    def authenticated(self, user: str, password: str) -> bool:
        """What becomes of these credentials; however they came."""
        if self.state != "authorization" or (user, password) != ("alice", "secret") or self.store.holder is not None:
            return False
        self.state = "transaction"
        self.store.holder = self
        self.snapshot = list(self.store.mail.items())
        return True

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
        return verb == "PASS" and user is not None and self.authenticated(user, words[0])

    def _begin(self, *words: str) -> tuple[bool | None, list[bytes] | None]:
        if not words:
            return True, [b"SCRAM-SHA-256", b"SCRAM-SHA-1", b"PLAIN"]
        if words == ("PLAIN",):
            self.state = "authenticating"
            return None, None
        return words == ("PLAIN", GOOD) and self.authenticated("alice", "secret"), None

    def _capa(self) -> tuple[bool, list[bytes]]:
        return True, CAPABILITIES

    def _utf8(self) -> tuple[bool, None]:
        return True, None

    def _lang(self, *tag: str) -> tuple[bool, list[bytes] | None]:
        if not tag:
            return True, [b"en English", b"de Deutsch"]
        self.language = {"*": "en", "de-AT": "de", "de": "de"}.get(tag[0], self.language)
        return tag[0] in ("*", "de-AT", "de"), None

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
