"""Any name or password: what was prepared stays as it is, and what is refused is not shown."""

from __future__ import annotations

from trio_pop3.sasl.saslprep import saslprep

from .harness import read, run


def prepared(text: str, *, stored: bool) -> str | None:
    """None if it cannot be done."""
    try:
        return saslprep(text, stored=stored)
    except ValueError as failure:
        assert len(text) < 8 or text not in str(failure), "the error shows the text"
        return None


def test_one_input(data: bytes) -> None:
    """P5, P6. The payload is text; or, as chance seldom makes UTF-8, characters of three octets each."""
    given = read(data)
    triples = (int.from_bytes(given.payload[at : at + 3]) % 0x110000 for at in range(0, 1500, 3) if given.payload[at:])
    text = "".join(map(chr, triples)) if given.flag(0) else given.payload[:1500].decode("utf-8", "surrogateescape")
    compared, stored = prepared(text, stored=False), prepared(text, stored=True)
    assert stored is None or stored == compared, f"stored as what is not found: {text!a}"
    if compared is not None:
        assert prepared(compared, stored=False) == compared, f"never done: {text!a}"
        compared.encode("utf-8")
    if stored is not None:
        assert prepared(stored, stored=True) == stored, f"never done: {text!a}"


if __name__ == "__main__":
    run(test_one_input)
