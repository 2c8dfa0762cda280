"""Our own messages, and the X-UIDL fields in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from trio_pop3.backends.maildir.scan import Whereabouts, snapshot
from trio_pop3.migration.mail import OurMail, read_x_uidl

from ..backends.maildir_helpers import Box, open_files
from .test_fingerprint import prints


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def mail_of(box: Box) -> OurMail:
    files = Whereabouts(box.octets_path)
    return OurMail(files, snapshot(files))


def test_prints_are_those_of_the_files(box: Box) -> None:
    """A large one is read in pieces, and no file stays open."""
    contents = {"1.a": b"Subject: x\n\nbody\n", "2.b": b"Subject: y\r\n\r\n" + b"line\r\n" * 200_000}
    for name, content in contents.items():
        box.put(name, content)
    mail = mail_of(box)
    before = open_files()
    for name, content in contents.items():
        assert (mail.header_print(name.encode()), mail.whole_print(name.encode())) == prints(content)[:2]
    assert open_files() == before


def test_a_file_that_moves_is_found_again(box: Box) -> None:
    box.put("1.a", b"X-UIDL: 7\n\n")
    mail = mail_of(box)
    box.move("new/1.a", "cur/1.a:2,S")
    assert read_x_uidl(mail).uids == {b"1.a": "7"}


def test_only_the_first_of_two_with_one_base_name(box: Box) -> None:
    """The other can have no line in a map."""
    box.put("1.a", b"X-UIDL: first\n\n")
    box.put("1.a:2,S", b"X-UIDL: second\n\n", part="cur")
    import os

    os.utime(box.path / "new" / "1.a", (1, 1))
    assert read_x_uidl(mail_of(box)).uids == {b"1.a": "first"}


@pytest.mark.parametrize(
    ("content", "uid"),
    [
        (b"Subject: x\nX-UIDL: abc\nX-UIDL: later\n\n", "abc"), (b"x-uidl:abc\n\nX-UIDL: body\n", "abc"),
        (b"X-UIDL: \t abc \r\nTo: y\r\n\r\n", "abc"), (b"X-UIDL:\n abc\n\n", "abc"),
        (b"X-UIDL: )<%\"!pl=\"!@#\n\n", ')<%"!pl="!@#'), (b"Subject: x\n\nX-UIDL: body\n", None),
        (b"X-UIDLS: abc\n\n", None), (b"Subject: x\n X-UIDL: folded\n\n", None), (b"X-UIDL: \xe9\n\n", "\xe9"),
        (b"X-UIDL:\n\n", ""), (b"X-UIDL: abc", "abc"),
    ],
)  # fmt: skip
def test_x_uidl(box: Box, content: bytes, uid: str | None) -> None:
    """The first field of the header; whether it can be a unique-id is for `merge` to say."""
    box.put("1.a", content)
    assert read_x_uidl(mail_of(box)).uids == ({} if uid is None else {b"1.a": uid})


def test_a_header_may_come_in_pieces(box: Box) -> None:
    """A blank line and a field across the pieces in which a file is read; a megabyte is enough."""
    box.put("1.a", b"A: " + b"x" * (256 * 1024 - 9) + b"\nX-UIDL: abc\n\nbody\n")
    box.put("2.b", b"A: " + b"x" * (2 * 1024 * 1024) + b"\nX-UIDL: late\n\n")
    assert read_x_uidl(mail_of(box)).uids == {b"1.a": "abc"}
