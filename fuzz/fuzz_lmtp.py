"""Whatever an LMTP client sends, cut anywhere: a reply for each command, for each recipient, and the same messages."""

from __future__ import annotations

from trio_pop3 import lmtp
from trio_pop3.lmtp.grammar import MAX_DROPPED_LINE, read_path
from trio_pop3.sansio import PAUSED, Signal

from .harness import read, run, same

CODES = {lmtp.Data: 354, lmtp.Quit: 221}
FORGETS = (lmtp.Lhlo, lmtp.Rset, lmtp.EndOfContent)


def converse(chunks: list[bytes], max_size: int) -> tuple[list[str], list[bytes]]:
    """Events in words, and the messages that were not too large."""
    connection = lmtp.LmtpConnection(hostname="here", max_size=max_size)
    connection.send(lmtp.Reply(220, "", "x"))
    said, messages, message, recipients = list[str](), list[bytes](), bytearray(), 0
    for chunk in [*chunks, b""]:
        connection.receive_data(chunk)
        while not isinstance(event := connection.next_event(), Signal | lmtp.ConnectionClosed):
            if isinstance(event, lmtp.Content):
                message += event.octets
                continue
            said.append(repr(event))
            replies, reply = 1, lmtp.Reply(CODES.get(type(event), 250), "", "ok")
            if isinstance(event, lmtp.EndOfContent):
                messages += [] if event.too_large else [bytes(message)]
                message.clear()
                replies = connection.replies_due
                assert replies == recipients > 0, "a reply is missing"
            elif isinstance(event, lmtp.Rcpt):
                assert read_path(f"<{event.recipient}>") == (event.recipient, ""), "it is another's address"
            elif isinstance(event, lmtp.BadCommand):
                reply = event.reply
            recipients = 0 if isinstance(event, FORGETS) else recipients + isinstance(event, lmtp.Rcpt)
            for _ in range(replies):
                assert connection.next_event() is PAUSED, "it goes on without a reply"
                connection.send_extensions() if isinstance(event, lmtp.Lhlo) else connection.send(reply)
        assert connection.unread < MAX_DROPPED_LINE, "a line without end is kept"
    return said, messages


def test_one_input(data: bytes) -> None:
    """P6."""
    given = read(data)
    rows = given.payload.split(b"\r\n")
    _, messages = same([converse(chunks, 50 if given.flag(0) else 50_000) for chunks in given.cuts(given.payload)])
    for message in messages:
        size = message.count(b"\r\n")
        found = [rows[n + 1 : n + 2 + size] for n, row in enumerate(rows) if row.strip().upper() == b"DATA"]
        bodies = [[row.removeprefix(b".") for row in body[:size]] for body in found if body[size:] == [b"."]]
        assert message in [b"".join(row + b"\r\n" for row in body) for body in bodies], "nobody has sent that"


if __name__ == "__main__":
    run(test_one_input)
