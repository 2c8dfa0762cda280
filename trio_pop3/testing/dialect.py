"""Where the RFCs leave room, and what a server does there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

_MINIMAL_VERBS: Final = frozenset({"USER", "PASS", "QUIT", "STAT", "LIST", "RETR", "DELE", "NOOP", "RSET"})
_MORE_VERBS: Final = frozenset({"TOP", "UIDL", "CAPA", "AUTH", "UTF8", "LANG", "APOP", "STLS", "XCLIENT", "LAST"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Dialect:
    """What a server does where the RFCs leave room: True is `+OK`, False is `-ERR`, None is either."""

    trailing_spaces: bool | None = None  # `STAT `
    doubled_spaces: bool | None = None  # `RETR  1`
    extra_words: bool | None = None  # `RETR 1 x`
    leading_zeros: bool | None = None  # `RETR 007`
    bare_lf: bool | None = None  # a line that ends in LF alone
    auth_alone: bool | None = None  # `AUTH`, which lists mechanisms
    late_utf8: bool | None = None  # `UTF8` after the login
    keeps_user: bool | None = None  # USER is still good after another command, so that PASS may follow
    more_in_listings: bool = True  # words behind the size of LIST and the total of STAT (RFC 1939 section 5)
    may_close: bool = True  # a line that is refused may be the last
    shared_uids: bool = True  # messages with the same octets may share a unique-id (RFC 1939 section 7)
    bare_end: bool = True  # sizes may leave out a CRLF at the end that is added when the message is sent
    longer_lines: bool | None = None  # a command line of more than `most_octets`, its CRLF included
    most_octets: int = 255
    verbs: frozenset[str] = _MINIMAL_VERBS
    mechanisms: tuple[str, ...] = ()  # of which PLAIN can be followed; what `AUTH` alone lists
    languages: tuple[tuple[str, str], ...] = ()  # tag and description; the first is the server's own
    capabilities: tuple[bytes, ...] | None = None  # the lines of CAPA in either state, if they are known
    pipelining: bool = False

    def as_read(self, lines: Sequence[bytes]) -> list[bytes]:
        """What a server reads of lines that were sent with a CRLF each: more, if it takes a bare LF for an end."""
        if self.bare_lf is not True:
            return list(lines)
        return [part.removesuffix(b"\r") for line in lines for part in (line + b"\r").split(b"\n")]


# What `trio_pop3.serve` speaks, in its two profiles.
DEFAULT: Final = Dialect(
    trailing_spaces=True,
    doubled_spaces=False,
    extra_words=False,
    leading_zeros=True,
    bare_lf=True,
    auth_alone=True,
    late_utf8=True,
    keeps_user=False,
    more_in_listings=False,
    may_close=False,
    shared_uids=False,
    bare_end=False,
    longer_lines=False,
    most_octets=512,
    verbs=_MINIMAL_VERBS | _MORE_VERBS,
    mechanisms=("SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"),
    languages=(("en", "English"), ("de", "Deutsch")),
    pipelining=True,
)
STRICT: Final = replace(DEFAULT, trailing_spaces=False, bare_lf=False, auth_alone=False, late_utf8=False)
# Any server: whatever the RFCs do not forbid.
ANY: Final = Dialect()
