"""Any message, cut anywhere, arrives in its canonical form, of the announced size, and its top is a prefix of it."""

from __future__ import annotations

from trio_pop3.sansio import BodyDecoder, BodyEncoder, OctetCounter, TopCutter, octets_of

from .harness import END, canon, read, run, same


def encoded(chunks: list[bytes]) -> tuple[bytes, int]:
    encoder = BodyEncoder()
    wire = b"".join([encoder.encode(chunk) for chunk in chunks]) + encoder.finish(empty_line=True)
    return wire, encoder.octets


def decoded(chunks: list[bytes], *, lenient: bool = False) -> tuple[bytes, bytes, bool]:
    decoder, body = BodyDecoder(lenient=lenient), b""
    for index, chunk in enumerate(chunks, 1):
        body += decoder.decode(chunk)
        if decoder.done:
            return body, decoder.rest + b"".join(chunks[index:]), True
    return body, b"", False


def counted(counter: OctetCounter, chunks: list[bytes]) -> int:
    for chunk in chunks:
        counter.update(chunk)
    return counter.finish()


def top(chunks: list[bytes], lines: int) -> bytes:
    cutter = TopCutter(lines)
    return b"".join([cutter.cut(chunk) for chunk in chunks if not cutter.done])


def test_one_input(data: bytes) -> None:
    """P2. The payload is a message, and then what a server sends."""
    given = read(data)
    message, lines, whole = given.payload, given.options & 15, canon(given.payload)
    wire, octets = same([encoded(chunks) for chunks in given.cuts(message)])
    assert octets == len(whole) == octets_of(message), "another size than was announced"
    assert same([counted(OctetCounter(), chunks) for chunks in given.cuts(message)]) == octets, "another count"
    assert (b"\r\n" + wire).find(END) == len(wire) - len(END) + 2, "the terminator is not at the end, or not there"
    assert same([decoded(chunks) for chunks in given.cuts(wire + message)]) == (whole, message, True), "another message"

    start = same([top(chunks, lines) for chunks in given.cuts(message)])
    rows = whole.split(b"\r\n")[:-1]
    shown = rows[: rows.index(b"") + 1 + lines] if b"" in rows else rows
    assert canon(start) == b"".join(row + b"\r\n" for row in shown), "not the top"
    assert message.startswith(start), "the top is no prefix"

    body = same([decoded(chunks) for chunks in given.cuts(message + END)])[0]
    rows = (message + END).split(b"\r\n")
    assert body == b"".join(row.removeprefix(b".") + b"\r\n" for row in rows[: rows.index(b".")]), "not unstuffed"
    same([decoded(chunks, lenient=True) for chunks in given.cuts(message)])


if __name__ == "__main__":
    run(test_one_input)
