"""The model, against tables written by hand from PROTOCOL 2.2 and section 7."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.sansio import octets_of
from trio_pop3.testing import Dialect, Expected, Mismatch, ModelMaildrop, ModelSession, Reply, canonical, messages
from trio_pop3.testing.dialect import ANY, DEFAULT, STRICT
from trio_pop3.testing.model import Message

USERS = {"alice": "secret", "bob": " two words ", "j\u00f6rg": "gr\u00fc\u00df"}
MAIL = (b"Subject: 1\r\n\r\na\r\n.\r\nb\r\n", b"no blank line", b"")


def response(user: str, password: str, authorized: str = "") -> bytes:
    return base64.b64encode(f"{authorized}\0{user}\0{password}".encode())


GOOD, BAD = response("alice", "secret"), response("alice", "wrong")
TO_STATE: dict[str, list[bytes]] = {
    "A": [],
    "AU": [b"USER alice"],
    "AS": [b"AUTH PLAIN"],
    "T": [b"USER alice", b"PASS secret"],
}


def fresh(dialect: Dialect = DEFAULT) -> ModelSession:
    store = {user: ModelMaildrop() for user in USERS}
    for message in MAIL:
        store["alice"].deliver(message)
    return ModelSession(store, USERS, dialect)


def say(session: ModelSession, *lines: bytes, ok: bool | None = None) -> Expected:
    """These lines, answered as they must be; with `ok` where either will do. What was expected of the last."""
    for line in lines:
        expected = session.expect(line)
        answer = ok if expected.ok is None and not expected.challenge else expected.ok
        assert answer is not None or expected.challenge, line
        expected.then(bool(answer))
    return expected


def in_state(name: str, dialect: Dialect = DEFAULT) -> ModelSession:
    session = fresh(dialect)
    if TO_STATE[name]:
        say(session, *TO_STATE[name])
    assert state_of(session) == name
    return session


def state_of(session: ModelSession) -> str:
    """As PROTOCOL 2.1 calls it."""
    before_pass = "AU" if session.user else "A"
    return {"authorization": before_pass, "authenticating": "AS", "transaction": "T", "over": "X"}[session.state]


# --- PROTOCOL 2.2 ----------------------------------------------------------------------------------------------------

# `+` is +OK, `-` is -ERR, `!` is -ERR to what is no command here, `?` is a challenge; then the state that follows.
COMMAND_BY_STATE = {
    b"USER alice":             ("+AU", "!A", "!T"),
    b"USER nobody":            ("+AU", "!A", "!T"),
    b"user bob":               ("+AU", "!A", "!T"),
    b"PASS secret":            ("!A", "+T", "!T"),
    b"PASS wrong":             ("!A", "-A", "!T"),
    b"PASS Secret":            ("!A", "-A", "!T"),
    b"PASS  secret":           ("!A", "-A", "!T"),
    b"APOP alice " + b"0" * 32: ("-A", "!A", "!T"),
    b"AUTH PLAIN " + GOOD:     ("+T", "+T", "!T"),
    b"auth plain " + GOOD:     ("+T", "+T", "!T"),
    b"AUTH PLAIN " + BAD:      ("-A", "-A", "!T"),
    b"AUTH PLAIN =":           ("-A", "-A", "!T"),
    b"AUTH PLAIN":             ("?AS", "?AS", "!T"),
    b"AUTH X-NONE":            ("-A", "-A", "!T"),
    b"AUTH X.NONE":            ("!A", "!A", "!T"),
    b"AUTH PLAIN ====":        ("!A", "!A", "!T"),
    b"AUTH PLAIN Zh==":        ("!A", "!A", "!T"),  # bits that are not 0 behind the last octet
    b"AUTH":                   ("+A", "+A", "!T"),
    b"STLS":                   ("-A", "-A", "!T"),
    b"XCLIENT ADDR=192.0.2.1": ("-A", "-A", "!T"),
    b"XCLIENT ADDR":           ("!A", "!A", "!T"),
    b"CAPA":                   ("+A", "+AU", "+T"),
    b"UTF8":                   ("+A", "+AU", "+T"),
    b"LANG":                   ("+A", "+AU", "+T"),
    b"LANG de":                ("+A", "+AU", "+T"),
    b"LANG DE-at":             ("+A", "+AU", "+T"),
    b"LANG *":                 ("+A", "+AU", "+T"),
    b"LANG xx":                ("-A", "-AU", "-T"),
    b"LANG d_e":               ("!A", "!A", "!T"),
    b"STAT":                   ("!A", "!A", "+T"),
    b"LIST":                   ("!A", "!A", "+T"),
    b"LIST 1":                 ("!A", "!A", "+T"),
    b"LIST 4":                 ("!A", "!A", "-T"),
    b"RETR 1":                 ("!A", "!A", "+T"),
    b"TOP 1 0":                ("!A", "!A", "+T"),
    b"UIDL":                   ("!A", "!A", "+T"),
    b"UIDL 1":                 ("!A", "!A", "+T"),
    b"DELE 1":                 ("!A", "!A", "+T"),
    b"NOOP":                   ("!A", "!A", "+T"),
    b"RSET":                   ("!A", "!A", "+T"),
    b"LAST":                   ("!A", "!A", "!T"),
    b"QUIT":                   ("+X", "+X", "+X"),
    b"XYZZY":                  ("!A", "!A", "!T"),
    b"":                       ("!A", "!A", "!T"),
}  # fmt: skip
IN_EXCHANGE = {
    GOOD: "+T",
    BAD: "-A",
    response("alice", "secret", "alice"): "+T",
    response("alice", "secret", "bob"): "-A",
    response("bob", " two words "): "+T",
    response("j\u00f6rg", "gr\u00fc\u00df"): "+T",
    base64.b64encode(b"\0alice"): "-A",
    b"": "-A",
    b"*": "-A",
    b"QUIT": "-A",  # is base64
    b"!": "!A",
    b"* ": "!A",
    b"=": "!A",
}


def told(expected: Expected, session: ModelSession) -> str:
    """What was expected and is now, as the tables have it."""
    mark = "?" if expected.challenge else "+" if expected.ok else "!" if expected.bad else "-"
    return mark + state_of(session)


@pytest.mark.parametrize("number", [0, 1, 2], ids=["A", "AU", "T"])
@pytest.mark.parametrize("line", COMMAND_BY_STATE)
def test_commands_by_state(line: bytes, number: int) -> None:
    """PROTOCOL 2.2, for a server of ours without TLS and APOP."""
    session = in_state(["A", "AU", "T"][number])
    assert told(say(session, line), session) == COMMAND_BY_STATE[line][number]


@pytest.mark.parametrize(("line", "then"), IN_EXCHANGE.items())
def test_lines_of_an_exchange(line: bytes, then: str) -> None:
    """PROTOCOL 2.2: in AS every line is a response, whatever it spells."""
    session = in_state("AS")
    assert told(say(session, line), session) == then


def test_every_verb_of_the_table_is_there() -> None:
    assert {line.split(b" ")[0].upper().decode() for line in COMMAND_BY_STATE} > DEFAULT.verbs


# --- section 7 -------------------------------------------------------------------------------------------------------

T, F = True, False
# What DEFAULT, STRICT and ANY say of a line in TRANSACTION, of three messages.
LATITUDE: dict[bytes, tuple[bool, bool, bool | None]] = {
    b"STAT": (T, T, T),
    b"sTaT": (T, T, T),
    b"STAT\r": (F, F, F),
    b"ST\0AT": (F, F, F),
    b"RETR \xd9\xa1": (F, F, F),
    b"": (F, F, F),
    b" STAT": (F, F, F),
    b"STAT ": (T, F, None),
    b"LIST 1 ": (T, F, None),
    b"LIST ": (T, F, None),
    b"NOOP  ": (T, F, None),
    b"RETR  1": (F, F, None),
    b"RETR\t1": (F, F, F),
    b"STAT x": (F, F, None),
    b"LIST 1 2": (F, F, None),
    b"LIST 4 2": (F, F, F),
    b"DELE 1 2": (F, F, None),
    b"NOOP NOOP": (F, F, None),
    b"QUIT x": (F, F, None),
    b"RETR 001": (T, T, None),
    b"DELE 01": (T, T, None),
    b"RETR 004": (F, F, F),
    b"RETR 0": (F, F, F),
    b"RETR +1": (F, F, F),
    b"RETR -1": (F, F, F),
    b"RETR 1_0": (F, F, F),
    b"RETR 1.0": (F, F, F),
    b"RETR 9999999999": (F, F, F),
    b"RETR 99999999999": (F, F, F),
    b"LIST 4294967297": (F, F, F),
    b"RETR": (F, F, F),
    b"DELE": (F, F, F),
}
# The same for lines that only servers with these commands know.
MORE_LATITUDE: dict[bytes, tuple[bool, bool, bool | None]] = {
    b"TOP 1": (F, F, F),
    b"TOP 1 -1": (F, F, F),
    b"TOP 1 x": (F, F, F),
    b"TOP 1 00": (T, T, T),
    b"TOP 1 99999999999999999999": (T, T, T),
    b"TOP 1  1": (F, F, None),
    b"TOP 1 1 1": (F, F, None),
    b"TOP 01 1": (T, T, None),
    b"UIDL ": (T, F, None),
    b"UTF8": (T, F, None),
}
FULL = replace(ANY, verbs=DEFAULT.verbs)


@pytest.mark.parametrize("number", [0, 1, 2], ids=["DEFAULT", "STRICT", "ANY"])
@pytest.mark.parametrize("line", [*LATITUDE, *MORE_LATITUDE])
def test_latitude(line: bytes, number: int) -> None:
    """A-02 to A-11, A-39."""
    session = in_state("T", (DEFAULT, STRICT, FULL)[number])
    expected = session.expect(line)
    assert expected.ok is {**LATITUDE, **MORE_LATITUDE}[line][number]
    if line in LATITUDE:
        assert in_state("T", (DEFAULT, STRICT, ANY)[number]).expect(line).ok is expected.ok


@pytest.mark.parametrize("line", MORE_LATITUDE)
def test_a_server_refuses_commands_that_it_has_not(line: bytes) -> None:
    expected = in_state("T", ANY).expect(line)
    assert (expected.ok, expected.bad) == (False, True)


@pytest.mark.parametrize(
    ("line", "state", "verdicts"),
    [
        (b"USER " + b"x" * 505, "A", (T, T, None)),
        (b"USER " + b"x" * 506, "A", (F, F, None)),
        (b"PASS " + b"x" * 506, "AU", (F, F, F)),
        (b"AUTH ", "A", (T, F, F)),  # PROTOCOL 8.4
        (b"AUTH PLAIN " + b"A" * 600, "A", (F, F, F)),
        (b"USER", "A", (F, F, F)),
        (b"USER a\x01", "A", (F, F, F)),
        (b"USER a\x7f", "A", (F, F, F)),
        (b"USER \xff", "A", (F, F, F)),
        (b"USER j\xc3\xb6rg", "A", (T, T, T)),
        (b"USER nobody", "A", (T, T, None)),  # RFC 1939 section 13
        (b"USER a b", "A", (F, F, None)),
        (b"PASS", "AU", (F, F, F)),
        (b"PASS ", "AU", (F, F, F)),
        (b"PASS a\0b", "AU", (F, F, F)),
        (b"PASS a\rb", "AU", (F, F, F)),
        (b"APOP alice 0", "A", (F, F, F)),
        (b"APOP alice", "A", (F, F, F)),
        (b"XCLIENT", "A", (F, F, F)),
    ],
)
def test_latitude_before_the_login(line: bytes, state: str, verdicts: tuple[bool | None, ...]) -> None:
    for dialect, verdict in zip((DEFAULT, STRICT, ANY), verdicts, strict=True):
        assert in_state(state, dialect).expect(line).ok is verdict


def test_a_line_of_auth_may_be_long() -> None:
    """A-04: it is read, though it does not let anybody in; another line of that length is none."""
    line = b"AUTH PLAIN " + b"A" * 600
    assert not in_state("A").expect(line).bad
    assert in_state("T").expect(line).bad
    assert in_state("A").expect(b"USER " + b"x" * 600).bad
    assert in_state("AU").expect(b"PASS " + b"x" * 600).bad


def test_a_password_is_all_behind_one_space() -> None:
    """A-14."""
    session = fresh()
    assert say(session, b"USER bob", b"PASS  two words ").ok
    assert state_of(session) == "T"


def test_what_is_refused_for_its_form_has_done_nothing() -> None:
    """And what is not refused has done what it says."""
    for line in (b"RSET x", b"QUIT x", b"DELE 2 x", b"DELE 02"):
        session = in_state("T", ANY)
        say(session, b"DELE 1")
        say(session, line, ok=False)
        assert (state_of(session), session.marks) == ("T", {1})
    done = {b"RSET x": ("T", set()), b"DELE 2 x": ("T", {1, 2}), b"DELE 02": ("T", {1, 2})}
    for line, (state, marks) in done.items():
        session = in_state("T", ANY)
        say(session, b"DELE 1")
        say(session, line, ok=True)
        assert (state_of(session), session.marks) == (state, marks)
    session = in_state("T", ANY)
    say(session, b"DELE 1")
    say(session, b"QUIT x", ok=True)
    assert state_of(session) == "X"
    assert len(session.store["alice"].messages) == 2


KEEPS = replace(DEFAULT, keeps_user=True)


@pytest.mark.parametrize(("dialect", "verdict"), [(DEFAULT, False), (STRICT, False), (ANY, None), (KEEPS, True)])
@pytest.mark.parametrize("between", [b"NOOP", b"XYZZY", b"STAT"])
def test_pass_must_follow_user_or_may_not(between: bytes, dialect: Dialect, verdict: bool | None) -> None:
    """A-15."""
    session = in_state("AU", dialect)
    say(session, between)
    expected = session.expect(b"PASS secret")
    assert expected.ok is verdict
    assert session.expect(b"PASS wrong").ok is False
    expected.then(expected.ok is not False)
    assert state_of(session) == ("A" if verdict is False else "T")
    assert not session.doubt


@pytest.mark.parametrize(
    ("dialect", "verdict", "after"), [(DEFAULT, False, "A"), (ANY, None, "AU"), (KEEPS, None, "AU")]
)
def test_user_twice(dialect: Dialect, verdict: bool | None, after: str) -> None:
    """A-15."""
    session = in_state("AU", dialect)
    expected = session.expect(b"USER bob")
    assert expected.ok is verdict
    expected.then(verdict is None)
    assert state_of(session) == after
    if verdict is None:
        assert session.expect(b"PASS  two words ").ok is True
        assert session.expect(b"PASS secret").ok is False
    # Refused, the first one may be known still.
    session = in_state("AU", ANY)
    say(session, b"USER bob", ok=False)
    assert session.expect(b"PASS secret").ok is None


def test_a_maildrop_is_for_one_at_a_time() -> None:
    """A-42: whoever comes second is refused, with any mechanism, until the first is gone."""
    first = in_state("T")
    second = ModelSession(first.store, USERS)
    assert not say(second, b"USER alice", b"PASS secret").ok
    assert not say(second, b"AUTH PLAIN " + GOOD).ok
    first.gone()
    assert say(second, b"AUTH PLAIN " + GOOD).ok
    first.gone()  # holds nothing any more
    assert second.maildrop is not None and second.maildrop.holder is second


# --- mail ------------------------------------------------------------------------------------------------------------


def test_what_is_said_of_messages() -> None:
    """A-18, A-19, A-23, A-24, A-28: sizes are those of what is sent, and what is marked is not there."""
    session = in_state("T")
    assert say(session, b"STAT").text == b"3 40"
    assert say(session, b"LIST").lines == (b"1 23", b"2 15", b"3 2")
    assert say(session, b"LIST 2").text == b"2 15"
    assert say(session, b"RETR 1").lines == (b"Subject: 1", b"", b"a", b".", b"b")
    assert say(session, b"RETR 3").lines == (b"",)
    assert say(session, b"DELE 2").ok
    for line in (b"DELE 2", b"RETR 2", b"LIST 2", b"UIDL 2", b"TOP 2 0"):
        expected = say(session, line)
        assert (expected.ok, expected.bad) == (False, False)
    assert say(session, b"STAT").text == b"2 25"
    assert say(session, b"LIST").lines == (b"1 23", b"3 2")
    assert say(session, b"RSET", b"STAT").text == b"3 40"


@pytest.mark.parametrize(("dialect", "more"), [(DEFAULT, False), (ANY, True)])
def test_more_words_in_listings(dialect: Dialect, more: bool) -> None:
    """RFC 1939 section 5; messages are themselves and nothing more."""
    session = in_state("T", dialect)
    assert [say(session, line).more for line in (b"STAT", b"LIST", b"LIST 1")] == [more] * 3
    assert not say(session, b"RETR 1").more


def test_a_snapshot_is_what_was_there_at_the_login() -> None:
    session = in_state("T")
    session.store["alice"].deliver(b"later")
    assert say(session, b"STAT").text == b"3 40"
    assert say(session, b"DELE 1", b"QUIT").ok
    assert [message.octets for message in session.store["alice"].messages] == [
        b"no blank line\r\n",
        b"\r\n",
        b"later\r\n",
    ]


def test_only_what_was_marked_at_a_quit_in_transaction_goes() -> None:
    """P1, A-33."""
    for lines in ([b"DELE 1", b"RSET", b"QUIT"], [b"QUIT"]):
        session = in_state("T")
        say(session, *lines)
        assert len(session.store["alice"].messages) == 3
    session = in_state("T")
    say(session, b"DELE 1")
    session.gone()
    assert len(session.store["alice"].messages) == 3
    assert session.store["alice"].holder is None
    session = in_state("AU")
    say(session, b"QUIT")
    assert len(session.store["alice"].messages) == 3


def test_two_messages_with_the_same_octets_are_two() -> None:
    session = fresh()
    maildrop = session.store["bob"]
    for _ in range(2):
        maildrop.deliver(b"x")
    kept = maildrop.messages[1]
    say(session, b"USER bob", b"PASS  two words ", b"DELE 1", b"QUIT")
    assert maildrop.messages == [kept]


@pytest.mark.parametrize("ok", [True, False])
def test_a_commit_that_may_fail(ok: bool) -> None:
    """What was marked is in doubt behind an -ERR, and gone behind a +OK; what was not is not in question."""
    session = in_state("T")
    session.commit_may_fail = lambda: True
    maildrop = session.store["alice"]
    first = maildrop.messages[0]
    assert session.expect(b"QUIT").ok is True  # with nothing to do nothing fails
    say(session, b"DELE 1")
    say(session, b"QUIT", ok=ok)
    assert state_of(session) == "X"
    assert maildrop.doubtful == ([] if ok else [first])
    assert (first in maildrop.messages) is not ok
    assert maildrop.holder is None


def test_quit_cannot_fail_before_the_login() -> None:
    session = in_state("AU")
    session.commit_may_fail = lambda: True
    assert session.expect(b"QUIT").ok is True


# --- TOP -------------------------------------------------------------------------------------------------------------


def test_top() -> None:
    """A-20."""
    message = Message(MAIL[0])
    assert message.top(0) == (b"Subject: 1", b"")
    assert message.top(2) == (b"Subject: 1", b"", b"a", b".")
    assert message.top(10**18) == message.lines


@pytest.mark.parametrize(
    ("message", "lines"),
    {b"": (b"",), b"a\r\nb": (b"a", b"b"), b"\r\na": (b"",), b"a\rb\r\n": (b"a\rb",)}.items(),
)
def test_top_without_a_blank_line_is_all(message: bytes, lines: tuple[bytes, ...]) -> None:
    assert Message(canonical(message)).top(0) == lines


@given(messages(huge=False), st.integers(0, 20))
def test_top_is_the_beginning(message: bytes, count: int) -> None:
    """P2: of what RETR sends; and one line more is at most one line more."""
    whole = Message(canonical(message))
    top = whole.top(count)
    assert whole.lines[: len(top)] == top
    assert whole.top(count + 1)[: len(top)] == top
    assert len(whole.top(count + 1)) - len(top) in (0, 1)
    assert b"\r\n".join((*whole.lines, b"")) == whole.octets


@pytest.mark.parametrize(
    ("count", "lines"), {b"1": 3, b"0" * 30 + b"1": 3, b"9" * 30: 5, b"1" + b"0" * 18: 5, b"0": 2}.items()
)
def test_how_many_lines(count: bytes, lines: int) -> None:
    """A-10: a count is as large as it likes."""
    assert len(say(in_state("T"), b"TOP 1 " + count).lines or ()) == lines


# --- canonical -------------------------------------------------------------------------------------------------------


@given(messages())
def test_canonical(message: bytes) -> None:
    """A-23 to A-28: as long as the server says, CRLF and no bare LF, and done once is done."""
    form = canonical(message)
    assert len(form) == octets_of(message)
    assert form.endswith(b"\r\n")
    assert form.count(b"\n") == form.count(b"\r\n")
    assert canonical(form) == form
    # Nothing else has changed.
    assert form.replace(b"\r\n", b"\n").rstrip(b"\n") == message.replace(b"\r\n", b"\n").rstrip(b"\n")


@pytest.mark.parametrize(
    ("message", "form"),
    {
        b"": b"\r\n",
        b"a": b"a\r\n",
        b"a\n": b"a\r\n",
        b"a\r": b"a\r\r\n",
        b"a\r\r\n": b"a\r\r\n",
        b"\n\r\n\r": b"\r\n\r\n\r\r\n",
        b"\0\xff": b"\0\xff\r\n",
    }.items(),
)
def test_canonical_forms(message: bytes, form: bytes) -> None:
    assert canonical(message) == form


# --- uids ------------------------------------------------------------------------------------------------------------


def uidl(*rows: bytes) -> Reply:
    return Reply(True, b"", rows)


def test_uids_are_learnt_and_then_known() -> None:
    """P3."""
    session = in_state("T")
    listing = say(session, b"UIDL")
    assert listing.ok and listing.multiline
    listing.check(uidl(b"1 a", b"2 b", b"3 c"))
    listing.check(uidl(b"1 a", b"2 b", b"3 c"))
    say(session, b"UIDL 2").check(Reply(True, b"2 b"))
    assert [message.uid for message in session.store["alice"].messages] == [b"a", b"b", b"c"]
    say(session, b"DELE 2")
    say(session, b"UIDL").check(uidl(b"1 a", b"3 c"))
    say(session, b"QUIT")
    session.store["alice"].deliver(b"new")
    again = ModelSession(session.store, USERS)
    say(again, *TO_STATE["T"])
    say(again, b"UIDL").check(uidl(b"1 a", b"2 c", b"3 d"))


@pytest.mark.parametrize(
    ("rows", "wrong"),
    [
        ((b"1 a", b"2 b"), "UIDL has 2 lines, for 3 messages"),
        ((b"1 a", b"2 b", b"3 c", b"4 d"), "UIDL has 4 lines, for 3 messages"),
        ((b"1 a", b"2 a", b"3 c"), "belongs, or belonged, to another message"),
        ((b"1 a", b"3 b", b"2 c"), "unique-id of message 2 was due, this came: b'3 b'"),
        ((b"1 a", b"02 b", b"3 c"), "unique-id of message 2 was due"),
        ((b"1 a", b"2", b"3 c"), "a unique-id is 1 to 70 octets"),
        ((b"1 a", b"2 ", b"3 c"), "a unique-id is 1 to 70 octets"),
        ((b"1 a", b"2 b x", b"3 c"), "a unique-id is 1 to 70 octets"),
        ((b"1 a", b"2  b", b"3 c"), "a unique-id is 1 to 70 octets"),
        ((b"1 a", b"2 \xff", b"3 c"), "a unique-id is 1 to 70 octets"),
        ((b"1 a", b"2 " + b"b" * 71, b"3 c"), "a unique-id is 1 to 70 octets"),
    ],
)
def test_uids_that_cannot_be(rows: tuple[bytes, ...], wrong: str) -> None:
    """A-29, RFC 1939 section 7."""
    with pytest.raises(Mismatch, match=wrong):
        say(in_state("T"), b"UIDL").check(uidl(*rows))
    if b" " in rows[1] and len(rows) == 3 and "another" not in wrong:
        with pytest.raises(Mismatch, match=wrong):
            say(in_state("T"), b"UIDL 2").check(Reply(True, rows[1]))


def test_uids_that_move() -> None:
    maildrop = ModelMaildrop()
    for message in (b"1", b"2", b"3"):
        maildrop.deliver(message)
    first, second, third = maildrop.messages
    maildrop.learn(first, b"a")
    maildrop.learn(second, b"!" + b"~" * 69)
    with pytest.raises(Mismatch, match="that was b'a' has another unique-id now: b'b'"):
        maildrop.learn(first, b"b")
    maildrop.messages.remove(first)
    with pytest.raises(Mismatch, match="belonged, to another message"):
        maildrop.learn(third, b"a")  # also when the other is gone for good
    maildrop.learn(third, b"b")  # nobody has it: what was refused was not learnt
    assert third.uid == b"b"


# --- what is compared ------------------------------------------------------------------------------------------------


def expected_of(text: bytes | None = None, lines: tuple[bytes, ...] | None = None, *, more: bool = False) -> Expected:
    return Expected(True, lambda ok: None, text=text, lines=lines, more=more)


def test_what_must_be_the_same_is() -> None:
    expected_of().check(Reply(True, b"anything", (b"at", b"all")))
    expected_of(b"2 320").check(Reply(True, b"2 320"))
    expected_of(b"2 320", more=True).check(Reply(True, b"2 320 octets"))
    expected_of(lines=()).check(Reply(True, b"", ()))
    expected_of(lines=(b"1 2", b"2 3"), more=True).check(Reply(True, b"", (b"1 2", b"2 3 x")))


@pytest.mark.parametrize(
    ("expected", "reply", "wrong"),
    [
        (expected_of(b"2 320"), Reply(True, b"2 320 octets"), "the reply is b'2 320 octets', it must be b'2 320'"),
        (expected_of(b"2 320", more=True), Reply(True, b"2 3200"), "the reply is"),
        (expected_of(b"2 320"), Reply(True, b""), "the reply is b''"),
        (expected_of(lines=(b"a", b"b")), Reply(True, b"", (b"a", b"c")), "line 2 is b'c', it must be b'b'"),
        (expected_of(lines=(b"a", b"b")), Reply(True, b"", (b"a",)), "1 lines came, 2 were due"),
        (expected_of(lines=(b"a",)), Reply(True, b"", (b"a", b"b")), "2 lines came, 1 were due"),
        (expected_of(lines=(b"a",)), Reply(True, b""), "0 lines came, 1 were due"),
        (expected_of(lines=(b"1 2",)), Reply(True, b"", (b"1 2 x",)), "line 1 is"),
    ],
)
def test_what_must_be_the_same_and_is_not(expected: Expected, reply: Reply, wrong: str) -> None:
    with pytest.raises(Mismatch, match=wrong):
        expected.check(reply)


def test_capabilities_are_compared_if_they_are_known() -> None:
    assert say(fresh(), b"CAPA").lines is None
    known = replace(DEFAULT, capabilities=(b"TOP", b"UIDL"))
    assert say(fresh(known), b"CAPA").lines == (b"TOP", b"UIDL")


def test_lists_of_mechanisms_and_languages() -> None:
    session = fresh()
    assert say(session, b"AUTH").lines == (b"SCRAM-SHA-256", b"SCRAM-SHA-1", b"PLAIN")
    assert say(session, b"LANG").lines == (b"en English", b"de Deutsch")
    assert say(session, b"LANG *").text == b"en"
    assert say(session, b"LANG DE-at").text == b"de"
    assert say(fresh(replace(DEFAULT, mechanisms=())), b"AUTH PLAIN " + GOOD).ok is False
