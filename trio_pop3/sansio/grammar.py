"""Grammar and limits: RFC 1939, RFC 2449 sections 3 and 4. Bytes in, bytes out; nothing here has state."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

CRLF: Final = b"\r\n"

# RFC 2449 section 4: a server with CAPA accepts 255 octets; clients overrun that, so we take 512, CRLF included.
MAX_COMMAND_LINE: Final = 512
# A SASL line, or AUTH with its initial response: Kerberos tickets and OAuth tokens of 12 KiB are seen.
MAX_SASL_LINE: Final = 16 * 1024
# Past this many octets without a line end the peer is not speaking POP3: answer once and close.
MAX_DROPPED_LINE: Final = 8192
# RFC 1939 section 3: a first reply line, CRLF included.
MAX_STATUS_LINE: Final = 512
# What a client puts up with from a server that overruns the line above.
MAX_TOLERATED_STATUS_LINE: Final = 4096

# keyword = 3*4VCHAR; private ones (XCLIENT) are longer. Matched after upper-casing.
KEYWORD: Final = re.compile(rb"[\x21-\x7e]{1,32}")
# A user name: param = 1*VCHAR, with spaces where the server allows them, with UTF-8 where it announced `UTF8 USER`.
NAMES: Final[Mapping[tuple[bool, bool], re.Pattern[bytes]]] = MappingProxyType(
    {
        (spaces, utf8): re.compile(rb"[\x%d-\x7e%s]+" % (20 if spaces else 21, rb"\x80-\xff" if utf8 else b""))
        for spaces in (False, True)
        for utf8 in (False, True)
    }
)
# The rest of a PASS line: any octet a password may hold. CR and LF end lines, NUL ends C strings.
PASSWORD: Final = re.compile(rb"[^\r\n\x00]+")
# Never int() on unchecked input: it takes "+1", " 1", "1_0" and non-ASCII digits.
NUMBER: Final = re.compile(rb"[0-9]{1,10}")
DIGITS: Final = re.compile(rb"[0-9]+")
# sasl-mech, RFC 5034 section 5, in upper case.
MECHANISM: Final = re.compile(rb"[A-Z0-9_-]{1,20}")
# A language tag of LANG, or its wildcard (RFC 6856 section 3.2, RFC 5646).
LANGUAGE: Final = re.compile(rb"\*|[A-Za-z0-9]{1,8}(?:-[A-Za-z0-9]{1,8}){0,7}")
# One attribute of XCLIENT.
ATTRIBUTE: Final = re.compile(rb"([A-Za-z0-9-]{1,32})=([\x21-\x7e]*)")
# APOP digest: MD5 in hex. The RFC says lower case; servers accept both.
HEX_DIGEST: Final = re.compile(rb"[0-9A-Fa-f]{32}")
# unique-id, RFC 1939 section 7.
UID: Final = re.compile(r"[\x21-\x7e]{1,70}")
# The msg-id in an APOP greeting (RFC 822 addr-spec in angle brackets, as servers really send it).
TIMESTAMP: Final = re.compile(r"<[\x21-\x3b\x3d\x3f-\x7e]+@[\x21-\x3b\x3d\x3f-\x7e]+>")
# resp-code at the start of a reply text, RFC 2449 section 3.
RESPONSE_CODE: Final = re.compile(r"\[([\x21-\x2e\x30-\x5c\x5e-\x7e]+(?:/[\x21-\x2e\x30-\x5c\x5e-\x7e]+)*)\] ?")


def clip(line: bytes, limit: int) -> bytes:
    """The longest prefix of at most `limit` octets, of a line that has more, without cutting a UTF-8 character."""
    while limit and line[limit] & 0xC0 == 0x80:
        limit -= 1
    return line[:limit]
