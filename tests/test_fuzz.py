"""The targets of fuzz/ without the fuzzer: seeds, what once broke them, anything, and faults that are planted."""

from __future__ import annotations

import hmac
import importlib
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fuzz
from fuzz import dictionary, harness
from trio_pop3.auth import passwd
from trio_pop3.auth.schemes import Secret
from trio_pop3.auth.stored import BadSecret
from trio_pop3.backends.maildir import names
from trio_pop3.backends.maildir.uids import UidMap
from trio_pop3.backends.memory import MemoryMaildrop
from trio_pop3.lmtp import LmtpConnection, State
from trio_pop3.lmtp import connection as lmtp_connection
from trio_pop3.sansio import (
    COMMANDS,
    BodyEncoder,
    LocalProtocolError,
    RemoteProtocolError,
    body,
    buffer,
    proxy,
    readers,
    writers,
)
from trio_pop3.sasl import saslprep
from trio_pop3.sasl.mechanisms import scram_client, scram_server
from trio_pop3.snapshot import Snapshot

from .sansio.test_body import canon

FUZZ = Path(fuzz.__file__).parent
README = (FUZZ / "README.md").read_text()
NAMES = sorted(path.stem.removeprefix("fuzz_") for path in FUZZ.glob("fuzz_*.py"))


def target(name: str) -> Callable[[bytes], None]:
    test_one_input: Callable[[bytes], None] = importlib.import_module(f"fuzz.fuzz_{name}").test_one_input
    return test_one_input


def files(folder: str, name: str) -> list[Path]:
    return sorted((FUZZ / folder / name).glob("*"))


def test_there_are_targets() -> None:
    """Eight that were promised, and what grew beside them."""
    promised = {"server_bytes", "client_bytes", "pair", "body", "sasl", "proxy", "passwd", "maildir_names"}
    assert promised | {"session", "saslprep", "secret", "lmtp", "uidlists"} == set(NAMES)
    assert {path.name for path in (FUZZ / "seeds").iterdir()} == set(NAMES)
    assert {path.name for path in (FUZZ / "crashers").iterdir()} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_target_is_small_and_explained(name: str) -> None:
    """Under 60 lines, with seeds; README.md has the command and the invariant, word for word."""
    path = FUZZ / f"fuzz_{name}.py"
    assert len(path.read_text().splitlines()) < 60
    assert len(files("seeds", name)) >= 4
    assert f"python -m fuzz.fuzz_{name}\n" in README
    invariant = importlib.import_module(f"fuzz.fuzz_{name}").__doc__
    assert invariant
    assert " ".join(invariant.split()) in " ".join(README.split())


@pytest.mark.parametrize("path", [path for name in NAMES for path in files("seeds", name)], ids=lambda path: path.name)
def test_seeds(path: Path) -> None:
    target(path.parent.name)(path.read_bytes())


@pytest.mark.parametrize("path", [path for name in NAMES for path in files("crashers", name)], ids=lambda p: p.name)
def test_what_once_broke_it(path: Path) -> None:
    target(path.parent.name)(path.read_bytes())


def mutations(name: str) -> st.SearchStrategy[bytes]:
    """Octets, and seeds with something put in or taken out, under other options."""
    words = st.sampled_from([word for group in dictionary.words().values() for word in group])
    seeds = st.sampled_from([path.read_bytes() for path in files("seeds", name)])
    changed = st.builds(
        lambda seed, header, place, taken, put: header + (seed[4:place] + put + seed[place + taken :]),
        seeds, st.binary(min_size=4, max_size=4), st.integers(4, 200), st.integers(0, 5), words | st.binary(max_size=9),
    )  # fmt: skip
    return st.binary(max_size=60) | changed | st.lists(words, max_size=8).map(b"".join)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=3 * settings.default.max_examples)  # type: ignore[union-attr]
@given(st.data())
def test_anything(name: str, data: st.DataObject) -> None:
    """P6."""
    target(name)(data.draw(mutations(name)))


# --- each target can fail ------------------------------------------------------------------------------------------

Patches = Sequence[tuple[Any, str, Any]]


def forgets_a_dot(encoder: BodyEncoder, chunk: bytes) -> bytes:
    encoder.octets += len(chunk)
    return chunk.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def tells(*_: object) -> Any:
    raise BadSecret(f"not a secret: {_[0]}")


async def deletes(maildrop: MemoryMaildrop) -> None:
    await real_commit(maildrop, maildrop.messages[:1])
    await real_release(maildrop)


async def keeps(maildrop: MemoryMaildrop) -> None:
    """The lock, for ever."""


def reads_on(data: bytes) -> Any:
    found = real_read(data)
    return found and (found[0], min(found[1] + 1, len(data)))


def never_drops(received: buffer.ReceiveBuffer, max_line: int, max_dropped: int) -> None:
    return None


def keeps_recipients(connection: LmtpConnection) -> None:
    connection.state, connection._utf8 = State.READY, False


def forgets_what_is_taken(uids: UidMap, base: bytes, path: bytes, nth: int) -> str:
    return names.path_id(path) if nth else uids.uids.get(base) or names.unique_id(base)


real_commit, real_release = MemoryMaildrop.commit, MemoryMaildrop.release
real_delete, real_read = Snapshot.delete, proxy._read
BLIND = SimpleNamespace(digest=hmac.digest, compare_digest=lambda one, other: True)
FAULTS: dict[str, tuple[str, Patches]] = {
    "a dot is not doubled": ("body", [(BodyEncoder, "encode", forgets_a_dot)]),
    "a terminator that is cut is not seen": ("body", [(body, "_partial_end", lambda data: 0)]),
    "and nor is it by a client": ("client_bytes", [(body, "_partial_end", lambda data: 0)]),
    "a line without end is kept": ("server_bytes", [(buffer.ReceiveBuffer, "_drop_unfinished", never_drops)]),
    "half a verb is a command": (
        "server_bytes",
        [(buffer.ReceiveBuffer, "next_line", lambda self, *_: self.take() or None)],
    ),
    "a reader takes any number": ("server_bytes", [(readers, "NUMBER", re.compile(b".*"))]),
    "a number is another one": ("pair", [(writers, "_number", lambda value: b"%d" % (value % 10**10 + 1))]),
    "RSET takes nothing back": ("session", [(Snapshot, "reset", lambda mail: None)]),
    "DELE marks the next one": (
        "session",
        [(Snapshot, "delete", lambda mail, n: real_delete(mail, n % len(mail) + 1))],
    ),
    "STAT counts what is deleted": ("session", [(Snapshot, "left", property(lambda mail: (len(mail), mail.octets)))]),
    "the lock is kept": ("session", [(MemoryMaildrop, "release", keeps)]),
    "sizes leave out the last CRLF": (
        "session",
        [(body.OctetCounter, "finish", lambda counter: max(2, counter.octets))],
    ),
    "TLS begins with what was sent in clear": (
        "server_bytes",
        [(buffer.ReceiveBuffer, "clear", lambda received: None)],
    ),
    "a connection that is lost deletes": ("session", [(MemoryMaildrop, "release", deletes)]),
    "any proof will do": ("sasl", [(scram_server, "is_proof", lambda *_: True)]),
    "any server is believed": ("sasl", [(scram_client, "hmac", BLIND)]),
    "preparing twice changes more": (
        "saslprep",
        [(saslprep, "ucd_3_2_0", SimpleNamespace(normalize=lambda _, s: s[1:]))],
    ),
    "an octet behind the header is taken": ("proxy", [(proxy, "_read", reads_on)]),
    "an error shows a password": ("passwd", [(passwd, "parse_secret", tells)]),
    "a lone LF ends a message": ("lmtp", [(lmtp_connection, "BodyDecoder", partial(body.BodyDecoder, lenient=True))]),
    "a recipient is forgotten": ("lmtp", [(LmtpConnection, "_forget", keeps_recipients)]),
    "any password will do": ("secret", [(Secret, "is_of", lambda self, password: bool(password))]),
    "a name is another one's unique-id": ("maildir_names", [(names, "_HASH", re.compile(rb"(?!)"))]),
    "and so is an imported one": ("uidlists", [(UidMap, "of", forgets_what_is_taken)]),
}
# What goes through as it is, since no target lists it among the outcomes.
OTHERS: dict[str, type[Exception]] = {
    "a reader takes any number": ValueError,
    "sizes leave out the last CRLF": LocalProtocolError,
    "TLS begins with what was sent in clear": RemoteProtocolError,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a target could do nothing at all, and nobody would notice."""
    name, patches = FAULTS[fault]
    target(name)
    for where, what, instead in patches:
        monkeypatch.setattr(where, what, instead)
    found = []
    for path in files("seeds", name) + files("crashers", name):
        try:
            target(name)(path.read_bytes())
        except (AssertionError, OTHERS.get(fault, AssertionError)) as failure:
            found.append(failure)
    assert found


def test_every_target_has_a_fault() -> None:
    assert {name for name, _ in FAULTS.values()} == set(NAMES)


# --- what they share -----------------------------------------------------------------------------------------------


def test_the_dictionary_is_made_of_the_tables() -> None:
    """One word a line, every verb among them; `python -m fuzz.dictionary` writes it anew."""
    assert dictionary.PATH.read_text() == dictionary.text(), "run python -m fuzz.dictionary"
    words = [line for line in dictionary.text().splitlines() if not line.startswith("#")]
    assert {f'"{row.verb.decode()}"' for row in COMMANDS if row.verb} <= set(words)
    assert len(set(words)) == len(words)
    assert all(re.fullmatch(r'"(?:[ !#-\[\]-~]|\\x[0-9a-f]{2})+"', word) for word in words)


@given(st.binary(max_size=40))
def test_every_input_can_be_read(data: bytes) -> None:
    taken = harness.read(data)
    for octets in (data, taken.payload):
        for pieces in taken.cuts(octets):
            assert b"".join(pieces) == octets
            assert all(pieces)


@given(st.lists(st.sampled_from([b"\r", b"\n", b".", b"x"]), max_size=12).map(b"".join))
def test_both_definitions_of_the_canonical_form_agree(message: bytes) -> None:
    assert harness.canon(message) == canon(message)
