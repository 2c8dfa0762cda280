"""A server on mail in memory: what is announced is what is sent, and only QUIT deletes, and only what was marked."""

from __future__ import annotations

import re

from trio_pop3 import sansio as pop3

from .harness import Input, canon, read, run, same
from .served import Server, unstuffed

MAIL = [b".\r\n..\n.", b"", "Subject: J\u00fcrgen\nFrom: \u00e4@b\n\nx\n.\ny".encode()]


def look(mail: list[bytes], dialogue: list[tuple[pop3.Event, bytes]], *, as_stored: bool) -> set[int]:
    """Check every reply; the numbers of the messages that are marked in the end."""
    marks: set[int] = set()
    for event, reply, body in ((event, reply, unstuffed(reply)) for event, reply in dialogue):
        left = {n: len(canon(message)) for n, message in enumerate(mail, 1) if n not in marks}
        match event if reply.startswith(b"+OK") else None:
            case pop3.Rset():
                marks.clear()
            case pop3.Dele(number):
                assert number in left, "deleted twice"
                marks.add(number)
            case pop3.Stat() if as_stored:
                assert reply == b"+OK %d %d\r\n" % (len(left), sum(left.values())), "another sum"
            case pop3.List(None) if as_stored:
                assert body == b"".join(b"%d %d\r\n" % line for line in left.items()), "another listing"
            case pop3.Top(number) if as_stored:
                assert canon(mail[number - 1]).startswith(body), "no prefix"
            case pop3.Retr(number):
                announced = re.search(rb"[0-9]+", reply)
                assert number in left and announced and len(body) == int(announced[0]), "another size than announced"
                assert not as_stored or body == canon(mail[number - 1]), "another message"
    return marks


def serve(given: Input, chunks: list[bytes]) -> list[tuple[pop3.Event, bytes]]:
    server = Server(given, [*MAIL, given.payload])
    for chunk in [*chunks, b""]:
        server.receive(chunk)
    marks = look(list(server.mail.values()), server.dialogue, as_stored=not given.flag(11))
    gone = marks if server.user and server.dialogue and isinstance(server.dialogue[-1][0], pop3.Quit) else set()
    kept = [uid for number, uid in enumerate(server.mail, 1) if number not in gone]
    assert list(server.backend.messages("alice")) == kept, "not just what was marked is gone"
    assert not server.backend.locked("alice"), "the lock was kept"
    return server.dialogue


def test_one_input(data: bytes) -> None:
    """P1, P2, P6. The payload is what the client sends, and the last message as well."""
    given = read(data)
    same([serve(given, chunks) for chunks in given.cuts(given.payload)])


if __name__ == "__main__":
    run(test_one_input)
