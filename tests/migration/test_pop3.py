"""Asking an old server over POP3: which of its messages is which of ours."""

from __future__ import annotations

import ssl
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.backends.maildir.scan import Whereabouts, snapshot
from trio_pop3.migration.mail import OurMail
from trio_pop3.migration.old import OldIds, SourceError
from trio_pop3.migration.pop3 import Matching, OldMessage, OldServer, parse_url, read_old_server
from trio_pop3.testing import FAULT_SCRIPTS, DropAt, NoReply, Pop3TestServer, Refuse, Uids, WrongSize

from ..backends.maildir_helpers import Box
from .test_fingerprint import prints


def message(name: str, body: str = "body\n") -> bytes:
    return f"From: bob@example.org\nSubject: {name}\nMessage-ID: <{name}@example.org>\n\n{body}".encode()


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def read(server: Pop3TestServer, box: Box, *, password: str = "secret", **options: Any) -> OldIds:
    """What the command does."""
    files = Whereabouts(box.octets_path)
    matching = Matching(OurMail(files, snapshot(files)))
    old = options.pop("old", OldServer(server.host, server.port, "alice", tls=False))
    context = options.pop("context", None) or ssl.create_default_context()
    found = trio.run(
        lambda: read_old_server(old, password, context, matching.doubtful, **{"patience": 20.0, **options})
    )
    return matching.result(found)


def retrieved(server: Pop3TestServer) -> list[str]:
    return [line for line in server.asked if line.startswith("RETR")]


# --- which is which ---------------------------------------------------------------------------------------------------


def test_messages_are_known_again_by_their_headers(pop3_server: Pop3TestServer, box: Box) -> None:
    """Whatever their names and order here, and without fetching one."""
    old = {name: pop3_server.deliver("alice", message(name)) for name in ("one", "two", "three")}
    for number, name in enumerate(("three", "one", "two")):
        box.put(f"{number}.{name}", message(name))
    box.put("9.new", message("new"))
    found = read(pop3_server, box)
    assert found.uids == {b"1.one": old["one"], b"2.two": old["two"], b"0.three": old["three"]}
    assert [*found.uids] == [b"1.one", b"2.two", b"0.three"]  # as the old server numbers them
    assert (found.unsure, found.remarks) == ([], [])
    assert retrieved(pop3_server) == []


def test_line_ends_and_fields_of_servers_do_not_matter(pop3_server: Pop3TestServer, box: Box) -> None:
    """With other line ends a size is the same; with a field more it is not, and the message is fetched."""
    crlf = pop3_server.deliver("alice", message("crlf").replace(b"\n", b"\r\n"))
    status = pop3_server.deliver("alice", b"Status: RO\n" + message("status"))
    cut = pop3_server.deliver("alice", message("cut", "no line end"))
    box.put("1.crlf", message("crlf"))
    box.put("2.status", message("status"))
    box.put("3.cut", message("cut", "no line end\n\n"))
    assert read(pop3_server, box).uids == {b"1.crlf": crlf, b"2.status": status, b"3.cut": cut}
    assert len(retrieved(pop3_server)) == 2


def test_one_header_and_different_bodies(pop3_server: Pop3TestServer, box: Box) -> None:
    """P3: a newsletter without Message-ID. Only these are fetched."""
    first = pop3_server.deliver("alice", message("same", "first\n"))
    other = pop3_server.deliver("alice", message("other"))
    second = pop3_server.deliver("alice", message("same", "later\n"))
    box.put("1.later", message("same", "later\n"))
    box.put("2.other", message("other"))
    box.put("3.first", message("same", "first\n"))
    assert read(pop3_server, box).uids == {b"3.first": first, b"2.other": other, b"1.later": second}
    assert len(retrieved(pop3_server)) == 2


def test_a_header_without_message_id_is_not_enough(pop3_server: Pop3TestServer, box: Box) -> None:
    """P1: reports of a machine may have the same header and size, and another text."""
    pop3_server.deliver("alice", b"Subject: all is well\n\n1 of 9\n")
    box.put("1.a", b"Subject: all is well\n\n2 of 9\n")
    found = read(pop3_server, box)
    assert (found.uids, found.unsure) == ({}, [b"1.a"])


def test_the_same_header_is_not_enough(pop3_server: Pop3TestServer, box: Box) -> None:
    """P1: a message that clients have never seen must not get the unique-id of one that they have."""
    pop3_server.deliver("alice", message("same", "on the old server\n"))
    box.put("1.a", message("same", "a new message, with another text\n"))
    found = read(pop3_server, box)
    assert (found.uids, found.unsure) == ({}, [b"1.a"])
    assert found.remarks == ["1 message of the old server was not found here"]


def test_messages_that_are_alike_are_paired_in_order(pop3_server: Pop3TestServer, box: Box) -> None:
    """F5: the same mail delivered twice, and once more since."""
    uids = [pop3_server.deliver("alice", message("twice")) for _ in range(2)]
    for number in range(3):
        box.put(f"{number}.twice", message("twice"))
    found = read(pop3_server, box)
    assert found.uids == {b"0.twice": uids[0], b"1.twice": uids[1]}
    assert found.unsure == []
    assert found.remarks == ["messages that are alike to the last octet were paired in their order"]


def test_an_old_server_that_counts_wrong(pop3_server: Pop3TestServer, box: Box) -> None:
    """Courier does, for messages with CRLF: then content decides."""
    uid = pop3_server.deliver("alice", message("one"))
    box.put("1.one", message("one"))
    with pop3_server.fault(WrongSize(3)):
        assert read(pop3_server, box).uids == {b"1.one": uid}
    assert len(retrieved(pop3_server)) == 1


def test_an_old_server_without_top(pop3_server: Pop3TestServer, box: Box) -> None:
    """R1939-55."""
    uids = [pop3_server.deliver("alice", message(str(number))) for number in range(3)]
    for number in range(3):
        box.put(f"{number}.x", message(str(number)))
    pop3_server.faults = [Refuse("TOP")]
    assert [*read(pop3_server, box).uids.values()] == uids
    assert len(retrieved(pop3_server)) == 3


def test_an_empty_maildrop_and_an_empty_maildir(pop3_server: Pop3TestServer, box: Box) -> None:
    assert read(pop3_server, box).uids == {}
    pop3_server.deliver("alice", message("one"))
    found = read(pop3_server, box)
    assert (found.uids, found.remarks) == ({}, ["1 message of the old server was not found here"])


def test_more_messages_than_are_asked_for_at_a_time(pop3_server: Pop3TestServer, box: Box) -> None:
    wanted = {}
    for number in range(230):
        wanted[f"{number:03d}.x".encode()] = pop3_server.deliver("alice", message(str(number)))
        box.put(f"{number:03d}.x", message(str(number)))
    assert read(pop3_server, box).uids == wanted
    assert retrieved(pop3_server) == []


def test_nothing_is_deleted(pop3_server: Pop3TestServer, box: Box) -> None:
    """P1."""
    pop3_server.deliver("alice", message("one"))
    read(pop3_server, box)
    assert len(pop3_server.maildrop("alice")) == 1
    assert not any(line.startswith("DELE") for line in pop3_server.asked)


class Ours:
    """Our mail, without files. Counts whole messages read."""

    def __init__(self, contents: list[bytes]) -> None:
        self._contents = {b"%d.x" % number: content for number, content in enumerate(contents)}
        self.messages = {base: SimpleNamespace(octets=len(content)) for base, content in self._contents.items()}

    def header_print(self, base: bytes) -> bytes:
        return prints(self._contents[base]).header

    def whole_print(self, base: bytes) -> bytes:
        return prints(self._contents[base]).whole


contents = st.lists(
    st.sampled_from([message(name, body) for name in "ab" for body in ("1\n", "2\n", "33\n")]), max_size=8
)


@given(contents, contents)
def test_whatever_is_there_and_there(theirs: list[bytes], ours: list[bytes]) -> None:
    """P1, P3: who gets an old unique-id has the same content; as many get one as can; the rest is accounted for."""
    matching = Matching(cast(OurMail, Ours(ours)))
    fetched = {}
    for n, content in enumerate(theirs, 1):
        header, whole, named = prints(content)
        fetched[n] = OldMessage(f"u{n}", len(content), header, named, whole)
    old = {n: replace(each, whole=None) for n, each in fetched.items()}
    for n in matching.doubtful(old):
        old[n] = fetched[n]
    found = matching.result(old)
    by_base = {b"%d.x" % number: content for number, content in enumerate(ours)}
    pairs = [(by_base[base], theirs[int(uid[1:]) - 1]) for base, uid in found.uids.items()]
    assert len(set(found.uids.values())) == len(found.uids)
    assert len({prints(content).header for content in ours + theirs}) <= 2
    shared = Counter(ours) & Counter(theirs)
    same = [one for one, other in pairs if one == other]
    assert Counter(same) <= shared
    # One header with a Message-ID, one size, and nobody else with that header: that is taken for one message.
    for one, other in pairs:
        assert one == other or (len(one) == len(other) and sum(c.startswith(one[:50]) for c in ours) == 1)
    assert len(pairs) >= shared.total()
    assert not set(found.unsure) & set(found.uids)


# --- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (Refuse("PASS"), "refuses: not now"),
        (Refuse("UIDL"), "refuses: not now"),
        (DropAt(20, command="LIST"), "cannot talk to|does not speak"),
        (NoReply("PASS"), "says nothing for 0.3 seconds"),
        (Uids("x" * 600), "does not speak POP3"),
    ],
)
def test_an_old_server_that_fails(pop3_server: Pop3TestServer, box: Box, fault: Any, why: str) -> None:
    """One sentence, and no half of an answer."""
    for number in range(5):
        pop3_server.deliver("alice", message(str(number)))
    pop3_server.faults = [fault]
    with pytest.raises(SourceError, match=why) as caught:
        read(pop3_server, box, patience=0.3)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("script", [name for name in FAULT_SCRIPTS if "TLS" not in name])
def test_every_bad_server_there_is(pop3_server: Pop3TestServer, box: Box, script: str) -> None:
    """P1, P3: a failure in one sentence, or who gets a unique-id is who has it there."""
    for name in ("one", "two", "two"):
        uid = pop3_server.deliver("alice", message(name))
        box.put(uid, message(name))
    pop3_server.faults = FAULT_SCRIPTS[script]
    try:
        found = read(pop3_server, box, patience=0.5)
    except SourceError as failure:
        said = str(failure)
    else:
        said = "it is well"
        assert len(found.uids) == 3
        assert script.startswith("uids") or all(base.decode() == uid for base, uid in found.uids.items())
    assert "\n" not in said


def test_a_wrong_password(pop3_server: Pop3TestServer, box: Box) -> None:
    """P5: it is not in the sentence."""
    with pytest.raises(SourceError, match=r"^127\.0\.0\.1 refuses: \[AUTH\]") as caught:
        read(pop3_server, box, password="guessed")
    assert "guessed" not in str(caught.value)


def test_nobody_listens(pop3_server: Pop3TestServer, box: Box) -> None:
    with pytest.raises(SourceError, match=r"^cannot talk to 127\.0\.0\.1 port 1: .*refused"):
        read(pop3_server, box, old=OldServer("127.0.0.1", 1, "alice", tls=False))


# --- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the server were on another machine."""
    monkeypatch.setattr(OldServer, "is_here", property(lambda _: False))


def test_tls_from_the_first_octet(pop3_server: Pop3TestServer, box: Box) -> None:
    uid = pop3_server.deliver("alice", message("one"))
    box.put("1.one", message("one"))
    old = OldServer(pop3_server.host, pop3_server.tls_port, "alice", tls=True)
    assert read(pop3_server, box, old=old, context=pop3_server.client_context).uids == {b"1.one": uid}
    with pytest.raises(SourceError, match=r"cannot talk to .*certificate verify failed"):
        read(pop3_server, box, old=old)


@pytest.mark.usefixtures("elsewhere")
def test_stls_is_used_where_it_is_offered(pop3_server: Pop3TestServer, box: Box) -> None:
    """P5: and a certificate that is not good is a failure, not a reason to go on in clear."""
    uid = pop3_server.deliver("alice", message("one"))
    box.put("1.one", message("one"))
    assert read(pop3_server, box, context=pop3_server.client_context).uids == {b"1.one": uid}
    assert "STLS" in pop3_server.asked
    with pytest.raises(SourceError, match=r"cannot talk to .*certificate verify failed"):
        read(pop3_server, box)


def test_who_is_on_this_machine() -> None:
    here = ("localhost", "127.0.0.1", "127.9.9.9", "::1")
    assert all(OldServer(host, 110, "a", tls=False).is_here for host in here)
    assert not any(
        OldServer(host, 110, "a", tls=False).is_here for host in ("192.0.2.1", "localhost.example.org", "::2")
    )


# --- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("pop3://alice@old.example.org", OldServer("old.example.org", 110, "alice", tls=False)),
        ("pop3s://alice%40example.org@old/", OldServer("old", 995, "alice@example.org", tls=True)),
        ("pop3s://alice@[2001:db8::1]:1995", OldServer("2001:db8::1", 1995, "alice", tls=True)),
    ],
)
def test_addresses(url: str, server: OldServer) -> None:
    assert parse_url(url) == server


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("imap://alice@old", "not an address of a POP3 server"), ("pop3://old", "write pop3://USER@HOST"),
        ("pop3://alice@", "write pop3://"), ("pop3://alice@old:port", "write pop3://"),
        ("pop3://alice@old:99999", "write pop3://"), ("pop3://alice@old/inbox", "nothing may follow"),
        ("pop3://[", "write pop3://"), ("pop3://alice:hunter2@old", "use --password-file"),
    ],
)  # fmt: skip
def test_what_is_no_address(url: str, why: str) -> None:
    """P5: a password is not repeated."""
    with pytest.raises(SourceError) as caught:
        parse_url(url)
    assert why in str(caught.value)
    assert "hunter2" not in str(caught.value)
