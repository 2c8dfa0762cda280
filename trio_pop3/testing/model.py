"""A maildrop session in plain Python, obviously right: what the state machines compare servers with.

It shares no code with the core or the session. A line goes in, what must be answered comes out; where the RFCs leave
room, a `Dialect` says what a server does with it, or that either will do.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NamedTuple

from .dialect import DEFAULT, Dialect
from .judge import Mismatch, must
from .talk import Reply
from .transcript import octets

# How many words may stand behind a verb, and whether its +OK is followed by a body then.
_WORDS: Final[Mapping[str, tuple[int, int]]] = MappingProxyType(
    {
        "USER": (1, 1), "APOP": (2, 2), "AUTH": (0, 2), "STLS": (0, 0), "CAPA": (0, 0), "UTF8": (0, 0), "LANG": (0, 1),
        "QUIT": (0, 0), "STAT": (0, 0), "LIST": (0, 1), "UIDL": (0, 1), "RETR": (1, 1), "TOP": (2, 2), "DELE": (1, 1),
        "NOOP": (0, 0), "RSET": (0, 0), "XCLIENT": (1, 99),
    }
)  # fmt: skip
_NUMBERED: Final = frozenset({"LIST", "UIDL", "RETR", "TOP", "DELE"})
_TRANSACTION: Final = _NUMBERED | {"STAT", "NOOP", "RSET"}
_ANYWHERE: Final = frozenset({"CAPA", "LANG"})
_NUMBER: Final = re.compile(rb"[0-9]{1,10}")
_UID: Final = re.compile(rb"[\x21-\x7e]{1,70}")
_LANGUAGE: Final = re.compile(rb"\*|[A-Za-z0-9]{1,8}(-[A-Za-z0-9]{1,8}){0,7}")
_ATTRIBUTE: Final = re.compile(rb"[A-Za-z0-9-]{1,32}=[\x21-\x7e]*")
_MECHANISM: Final = re.compile(rb"[A-Za-z0-9_-]{1,20}")


def canonical(message: bytes) -> bytes:
    """A message as it must be sent: every line ends in CRLF, the last one too (RFC 1939 section 11)."""
    message = re.sub(rb"(?<!\r)\n", b"\r\n", message)
    return message if message.endswith(b"\r\n") else message + b"\r\n"


@dataclass(slots=True, eq=False)
class Message:
    """A message in the store: two with the same octets are two. Its uid is known once it was told, for ever."""

    octets: bytes  # canonical
    uid: bytes | None = None
    size: int = -1  # as it is announced

    def __post_init__(self) -> None:
        if self.size < 0:
            self.size = len(self.octets)

    @property
    def lines(self) -> tuple[bytes, ...]:
        return tuple(self.octets.split(b"\r\n")[:-1])

    def top(self, count: int) -> tuple[bytes, ...]:
        """The header, the blank line, so many lines of the body. Without a blank line all of it is header."""
        lines = self.lines
        return lines[: lines.index(b"") + 1 + count] if b"" in lines else lines


@dataclass(slots=True)
class ModelMaildrop:
    """One user's mail: what is there, what may be gone, who holds the lock, and every uid that ever was."""

    messages: list[Message] = field(default_factory=list)
    doubtful: list[Message] = field(default_factory=list)  # marked at a QUIT that was answered -ERR
    holder: ModelSession | None = None
    uids: dict[bytes, Message] = field(default_factory=dict)
    shared_uids: bool = False  # whether messages with the same octets may share one

    def deliver(self, message: bytes) -> None:
        """Add a message at the end."""
        self.messages.append(Message(canonical(message)))

    def learn(self, message: Message, uid: bytes) -> None:
        """The server calls a message so. Raises Mismatch if it must not (RFC 1939 section 7)."""
        if not _UID.fullmatch(uid):
            raise Mismatch(f"a unique-id is 1 to 70 octets in 0x21-0x7E, not {uid!r}")
        if message.uid is not None and message.uid != uid:
            raise Mismatch(f"the message that was {message.uid!r} has another unique-id now: {uid!r}")
        other = self.uids.setdefault(uid, message)
        if other is not message and not (self.shared_uids and other.octets == message.octets):
            raise Mismatch(f"the unique-id {uid!r} belongs, or belonged, to another message")
        message.uid = uid


class Expected(NamedTuple):
    """What must be answered to a line."""

    ok: bool | None  # None: either
    then: Callable[[bool], None]  # what comes of the answer
    text: bytes | None = None  # what stands behind a +OK
    lines: tuple[bytes, ...] | None = None  # the body of a +OK
    more: bool = False  # more words may follow in each of these
    learn: Callable[[Reply], None] | None = None  # what else a +OK tells; raises Mismatch
    multiline: bool = False  # whether a +OK has a body
    challenge: bool = False  # `+ ` is what must come
    bad: bool = False  # the line is no command, or none that has its place here

    def check(self, reply: Reply) -> None:
        """Compare a +OK. Raises Mismatch."""
        if self.text is not None:
            self._same("the reply", reply.text, self.text)
        if self.lines is not None:
            got = reply.lines or ()
            for number, (line, expected) in enumerate(zip(got, self.lines, strict=False), 1):
                self._same(f"line {number}", line, expected)
            must(len(got) == len(self.lines), f"{len(got)} lines came, {len(self.lines)} were due")
        if self.learn is not None:
            self.learn(reply)

    def _same(self, what: str, got: bytes, expected: bytes) -> None:
        same = got == expected or (self.more and got.startswith(expected + b" "))
        must(same, f"{what} is {got!r}, it must be {expected!r}")


class _Parsed(NamedTuple):
    verb: str
    words: list[bytes]
    sure: bool  # whether its form alone leaves no room for -ERR


@dataclass(slots=True, eq=False)
class ModelSession:
    """What one client should see.

    For each line: `expected = session.expect(line)`, compare, then `expected.then(ok)` with what the answer was.
    """

    store: Mapping[str, ModelMaildrop]
    passwords: Mapping[str, str]
    dialect: Dialect = DEFAULT
    commit_may_fail: Callable[[], bool] = lambda: False
    state: str = "authorization"
    user: str | None = None
    doubt: bool = False  # whether the server still knows the user is not sure
    maildrop: ModelMaildrop | None = None
    snapshot: list[Message] = field(default_factory=list)
    marks: set[int] = field(default_factory=set)

    # --- a line ----------------------------------------------------------------------------------------------------

    def expect(self, line: bytes) -> Expected:
        """What must be answered to a line, its CRLF taken off."""
        if self.state == "authenticating":
            return self._response(line)
        parsed = self._parse(line)
        if parsed is None or parsed.verb not in self.dialect.verbs:
            return self._refused()
        if not self._in_place(parsed):
            return self._refused()
        expected: Expected = getattr(self, f"_{parsed.verb.lower()}")(*parsed.words)
        if parsed.verb not in ("PASS", *_ANYWHERE, "UTF8"):
            expected = self._forgetting(expected)
        return expected if parsed.sure or expected.challenge else self._either(expected)

    def gone(self) -> None:
        """The connection is over, however: nothing is removed by that."""
        self.state = "over"
        if self.maildrop is not None and self.maildrop.holder is self:
            self.maildrop.holder = None

    def _parse(self, line: bytes) -> _Parsed | None:
        """Verb and words; None for a line that must be refused for its form."""
        first, space, rest = line.partition(b" ")
        verb = first.upper().decode("latin-1")
        verdicts: list[bool | None] = [True]
        # A line of AUTH is as long as its mechanism needs (RFC 5034 section 4).
        if len(line) + 2 > self.dialect.most_octets and not (verb == "AUTH" and self.state == "authorization"):
            verdicts.append(self.dialect.longer_lines)
        if verb == "PASS":
            verdicts.append(bool(rest) and b"\0" not in rest and b"\r" not in rest)
            return _parsed(verb, [rest], verdicts)
        stripped = rest.rstrip(b" ")
        if space and (stripped != rest or not rest):
            verdicts.append(self.dialect.trailing_spaces)
        words = stripped.split(b" ") if stripped else []
        if b"" in words:
            verdicts.append(self.dialect.doubled_spaces)
            words = [word for word in words if word]
        least, most = _WORDS.get(verb, (0, 0))
        if verb not in _WORDS or len(words) < least:
            return None
        if verb == "AUTH" and not words:
            verdicts.append(self.dialect.auth_alone)
        if len(words) > most:
            verdicts.append(self.dialect.extra_words)
            words = words[:most]
        return _parsed(verb, words, [*verdicts, *self._judge_words(verb, words)])

    def _judge_words(self, verb: str, words: Sequence[bytes]) -> list[bool | None]:
        if verb in _NUMBERED:
            numbers = words[:1]
            if verb == "TOP" and not re.fullmatch(rb"[0-9]+", words[1]):
                return [False]
            if not all(_NUMBER.fullmatch(word) for word in numbers):
                return [False]
            return [self.dialect.leading_zeros if any(word.startswith(b"0") for word in numbers) else True]
        if verb in ("USER", "APOP"):
            name = words[0]
            good = not re.search(rb"[\x00-\x20\x7f]", name) and _utf8(name)
            digest = verb == "USER" or re.fullmatch(rb"[0-9A-Fa-f]{32}", words[1]) is not None
            return [good and digest]
        if verb == "UTF8" and self.state == "transaction":
            return [self.dialect.late_utf8]
        if verb == "XCLIENT":
            return [all(_ATTRIBUTE.fullmatch(word) is not None for word in words)]
        if verb == "LANG" and words:
            return [_LANGUAGE.fullmatch(words[0]) is not None]
        if verb == "AUTH" and words:
            initial = len(words) == 1 or words[1] == b"=" or _decoded(words[1]) is not None
            return [_MECHANISM.fullmatch(words[0]) is not None and initial]
        return [True]

    def _in_place(self, parsed: _Parsed) -> bool:
        verb = parsed.verb
        if self.state == "transaction":
            return verb in _TRANSACTION | _ANYWHERE | {"QUIT", "UTF8"}
        if verb == "PASS":
            return self.user is not None
        if verb in ("USER", "APOP") and self.user is not None and not self.doubt:
            return self.dialect.keeps_user is not False and verb == "USER"
        return verb not in _TRANSACTION

    def _either(self, expected: Expected) -> Expected:
        """For a line that a server may take for a command: if it is refused, nothing has happened."""

        def then(ok: bool) -> None:
            if ok:
                expected.then(ok)
            else:
                self._forget()

        return expected._replace(ok=None if expected.ok else expected.ok, then=then)

    def _refused(self) -> Expected:
        def then(ok: bool) -> None:
            self._forget()

        return Expected(False, then, bad=True)

    def _forget(self) -> None:
        """PASS must follow USER directly; not every server insists."""
        if self.dialect.keeps_user is None:
            self.doubt = self.user is not None
        elif not self.dialect.keeps_user:
            self.user = None

    def _forgetting(self, expected: Expected) -> Expected:
        def then(ok: bool) -> None:
            self._forget()
            expected.then(ok)

        return expected._replace(then=then)

    # --- AUTHORIZATION ---------------------------------------------------------------------------------------------

    def _user(self, name: bytes) -> Expected:
        def then(ok: bool) -> None:
            if ok:
                self.user, self.doubt = name.decode("utf-8", "surrogateescape"), False

        # A server may say here already that it knows nobody of that name, though it should not (RFC 1939 section 13).
        # And one that still knows of another user may insist on PASS.
        sure = self.user is None and name.decode("utf-8", "surrogateescape") in self.passwords
        return Expected(True if sure or self.dialect.keeps_user is False else None, then)

    def _pass(self, password: bytes) -> Expected:
        user, doubt = self.user, self.doubt

        def then(ok: bool) -> None:
            self.user, self.doubt = None, False
            if ok and user is not None:
                self._enter(user)

        good = user is not None and self._opens(user, password)
        return Expected((None if doubt else True) if good else False, then)

    def _apop(self, name: bytes, digest: bytes) -> Expected:
        return Expected(False, _nothing)

    def _stls(self) -> Expected:
        return Expected(False, _nothing)

    def _xclient(self, *attributes: bytes) -> Expected:
        return Expected(False, _nothing)

    def _auth(self, mechanism: bytes = b"", initial: bytes | None = None) -> Expected:
        if not mechanism:
            return self._listing(name.encode() for name in self.dialect.mechanisms)
        if mechanism.upper() != b"PLAIN" or "PLAIN" not in self.dialect.mechanisms:
            return Expected(False, _nothing)
        if initial is None:
            return Expected(None, self._exchange, challenge=True)
        return self._plain(b"" if initial == b"=" else _decoded(initial) or b"")

    def _exchange(self, ok: bool) -> None:
        self.state = "authenticating"

    def _response(self, line: bytes) -> Expected:
        """A line inside an exchange of PLAIN, whatever it would be elsewhere."""
        data = None if line == b"*" else _decoded(line)

        def over(ok: bool) -> None:
            self.state = "authorization"

        if data is None:
            return Expected(False, over, bad=line != b"*")
        expected = self._plain(data)

        def then(ok: bool) -> None:
            over(ok)
            expected.then(ok)

        return expected._replace(then=then)

    def _plain(self, message: bytes) -> Expected:
        authzid, _, rest = message.partition(b"\0")
        name, nul, password = rest.partition(b"\0")
        user = name.decode("utf-8", "surrogateescape")
        good = bool(nul) and authzid in (b"", name) and self._opens(user, password)

        def then(ok: bool) -> None:
            if ok:
                self._enter(user)

        return Expected(good, then)

    def _opens(self, user: str, password: bytes) -> bool:
        """Whether these credentials open a maildrop now."""
        known = self.passwords.get(user)
        return known is not None and octets(known) == password and self.store[user].holder is None

    def _enter(self, user: str) -> None:
        self.state = "transaction"
        self.maildrop = self.store[user]
        self.maildrop.holder = self
        self.snapshot = list(self.maildrop.messages)

    # --- in both states --------------------------------------------------------------------------------------------

    def _capa(self) -> Expected:
        return Expected(True, _nothing, lines=self.dialect.capabilities, multiline=True)

    def _utf8(self) -> Expected:
        return Expected(True, _nothing)

    def _lang(self, tag: bytes | None = None) -> Expected:
        languages = dict(self.dialect.languages)
        if tag is None:
            return self._listing(f"{name} {description}".encode() for name, description in languages.items())
        wanted = tag.decode().lower()
        own = next(iter(languages), "")
        found = own if wanted == "*" else next((name for name in languages if wanted.split("-")[0] == name), None)
        return Expected(found is not None, _nothing, text=(found or "").encode(), more=True)

    def _quit(self) -> Expected:
        maildrop = self.maildrop

        def then(ok: bool) -> None:
            marked = [self.snapshot[number - 1] for number in sorted(self.marks)]
            self.gone()
            if maildrop is not None and ok:
                maildrop.messages = [message for message in maildrop.messages if message not in marked]
            elif maildrop is not None:
                maildrop.doubtful += marked

        return Expected(None if self.marks and self.commit_may_fail() else True, then)

    # --- TRANSACTION -----------------------------------------------------------------------------------------------

    @property
    def left(self) -> dict[int, Message]:
        """Number -> message of all that are not marked."""
        return {n: message for n, message in enumerate(self.snapshot, 1) if n not in self.marks}

    def _stat(self) -> Expected:
        octets = sum(message.size for message in self.left.values())
        return self._text(f"{len(self.left)} {octets}".encode())

    def _list(self, word: bytes | None = None) -> Expected:
        def line(number: int) -> bytes:
            return f"{number} {self.snapshot[number - 1].size}".encode()

        if word is None:
            return self._listing(map(line, self.left))
        return self._about(word, lambda number: self._text(line(number)))

    def _uidl(self, word: bytes | None = None) -> Expected:
        def learn(number: int, text: bytes) -> None:
            first, _, uid = text.partition(b" ")
            if first != str(number).encode():
                raise Mismatch(f"the unique-id of message {number} was due, this came: {text!r}")
            assert self.maildrop is not None
            self.maildrop.learn(self.snapshot[number - 1], uid)

        def check(reply: Reply) -> None:
            numbers, lines = list(self.left), reply.lines or ()
            if len(numbers) != len(lines):
                raise Mismatch(f"UIDL has {len(lines)} lines, for {len(numbers)} messages that are not deleted")
            for number, text in zip(numbers, lines, strict=True):
                learn(number, text)

        if word is None:
            return Expected(True, _nothing, learn=check, multiline=True)
        return self._about(word, lambda number: Expected(True, _nothing, learn=lambda reply: learn(number, reply.text)))

    def _retr(self, word: bytes) -> Expected:
        return self._about(word, lambda number: self._body(self.snapshot[number - 1].lines))

    def _top(self, word: bytes, count: bytes) -> Expected:
        # More lines than anybody has are all of them; int() of very many digits takes its time.
        lines = int(count[-18:]) if not count[:-18].strip(b"0") else 10**18
        return self._about(word, lambda number: self._body(self.snapshot[number - 1].top(lines)))

    def _dele(self, word: bytes) -> Expected:
        return self._about(word, lambda number: Expected(True, lambda ok: self.marks.add(number)))

    def _noop(self) -> Expected:
        return Expected(True, _nothing)

    def _rset(self) -> Expected:
        return Expected(True, lambda ok: self.marks.clear())

    def _about(self, word: bytes, expected: Callable[[int], Expected]) -> Expected:
        """A command about one message: refused if there is none of that number, or if it is marked."""
        return expected(int(word)) if int(word) in self.left else Expected(False, _nothing)

    def _text(self, text: bytes) -> Expected:
        return Expected(True, _nothing, text=text, more=self.dialect.more_in_listings)

    def _listing(self, lines: Iterable[bytes]) -> Expected:
        return self._body(tuple(lines))._replace(more=self.dialect.more_in_listings)

    def _body(self, lines: tuple[bytes, ...]) -> Expected:
        return Expected(True, _nothing, lines=lines, multiline=True)


def _parsed(verb: str, words: list[bytes], verdicts: Sequence[bool | None]) -> _Parsed | None:
    return None if False in verdicts else _Parsed(verb, words, None not in verdicts)


def _nothing(ok: bool) -> None:
    pass


def _utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def _decoded(text: bytes) -> bytes | None:
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return data if base64.b64encode(data) == text else None
