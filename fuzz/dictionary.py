"""`python -m fuzz.dictionary` writes pop3.dict, the words inputs are built from, out of the tables of the package."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from trio_pop3.auth.schemes import SCHEMES
from trio_pop3.auth.stored import SUFFIXES
from trio_pop3.languages import LANGUAGES
from trio_pop3.lmtp.commands import COMMANDS as LMTP
from trio_pop3.sansio import COMMANDS, ResponseCode
from trio_pop3.sasl import MECHANISMS

PATH: Final = Path(__file__).with_name("pop3.dict")

# What no table has, by the target that needs it.
OTHERS: Final = {
    "lines and bodies": [b"\r\n", b"\n", b"\r", b".", b"..", b"\r\n.\r\n", b"\n.\n", b"\r\n..\r\n", b"\n\n"],
    "arguments": [b" alice", b" secret", b" 1", b" 2", b" 3", b" 0", b" 99999999999", b" ADDR=192.0.2.1", b"TTL="],
    "replies": [b"+OK ", b"-ERR ", b"+ ", b"+OK <1.2@host>", b"1 2\r\n", b"1 uid\r\n"],
    "long runs, and what lies between messages": [b"\xfe", b"\xfd", b"\xfc"],
    "SASL": [
        b"n,,", b"y,,", b"p=tls-server-end-point,,", b"a=", b"n=tim", b",r=", b",m=x", b",x=y", b"c=biws", b",p=",
        b",s=", b",i=4096", b"v=", b"e=other-error", b"=2C", b"=3D", b"\x01", b"auth=Bearer ", b"user=tim", b"host=",
        b"port=", b"tim", b"\0", b"*", b"=", b"AGFsaWNlAHNlY3JldA==",
    ],
    "SASLprep": [word.encode() for word in ("\u00ad", "\u200b", "\u3000", "\u00aa", "\u06271", "\u05d0", "\ufdfa")],
    "PROXY header": [
        b"PROXY ", b"TCP4 ", b"TCP6 ", b"UNKNOWN", b"192.0.2.1 ", b"2001:db8::1 ", b"::ffff:192.0.2.1 ", b"4711 995",
        b"\r\n\r\n\0\r\nQUIT\n", b"\x21\x11\0\x0c", b"\x21\x21\0\x24", b"\x21\x31\0\xd8", b"\x20\0\0\0",
        b"\x20\0\x05\x01", b"\x21\0\x07TLSv1.3", b"\x22\0\x05alice", b"\x02\0\x01a", b"\x03\0\x04", b"\x05\0\x02id",
    ],
    "LMTP": [
        b"LHLO x\r\n", b"MAIL FROM:<a@b>\r\n", b"MAIL FROM:<>", b"RCPT TO:<c@d>\r\n", b"DATA\r\n", b" SIZE=60",
        b" BODY=8BITMIME", b" SMTPUTF8", b"<@x,@y:a@b>", b'<"a\\"b"@[::1]>', b"+x",
    ],
    "users files": [
        b":", b"#", b"alice:", b"{", b"}", b"$6$rounds=", b"$1$", b"$2b$05$", b"$y$j9T$", b"$scrypt$ln=4,r=8,p=1$",
        b"$argon2id$v=19$m=8,t=1,p=1$", b"4096,", b"AAAAAAAAAAAAAAAAAAAAAAAAAAA=", b"\xef\xbb\xbf",
    ],
    "Maildir names": [b"1700000000", b".M1P1.host", b"V801I2c", b",S=9", b",W=10", b":2,", b":2,FRS", b":1,", b"/"],
}  # fmt: skip


def words() -> dict[str, list[bytes]]:
    """Everything, by heading; a word stands under the first one that has it."""
    verbs = [row.verb for row in COMMANDS if row.verb]
    capabilities = {row.capability: None for row in COMMANDS if row.capability}
    return {
        "commands": verbs,
        "commands of LMTP": [verb.encode() for verb in LMTP],
        "capabilities": [tag.encode() for tag in capabilities],
        "response codes": [f"[{code.value}] ".encode() for code in ResponseCode],
        "mechanisms": [name.encode() for name in MECHANISMS],
        "languages": [language.tag.encode() for language in LANGUAGES],
        "password schemes": [f"{{{name}}}".encode() for name in SCHEMES],
        "their encodings": [f".{name}}}".encode() for name in SUFFIXES],
        **OTHERS,
    }


def quoted(word: bytes) -> str:
    """As libFuzzer reads it: printable ASCII, everything else in hexadecimal."""
    plain = (chr(octet) if 0x20 <= octet < 0x7F and octet not in b'"\\' else f"\\x{octet:02x}" for octet in word)
    return f'"{"".join(plain)}"'


def lines() -> Iterator[str]:
    """The file, line by line."""
    yield "# Written by python -m fuzz.dictionary: do not edit."
    seen: set[bytes] = set()
    for heading, group in words().items():
        yield f"# {heading}"
        for word in group:
            if word not in seen:
                yield quoted(word)
            seen.add(word)


def text() -> str:
    """The file."""
    return "".join(f"{line}\n" for line in lines())


if __name__ == "__main__":
    PATH.write_text(text(), encoding="ascii")
