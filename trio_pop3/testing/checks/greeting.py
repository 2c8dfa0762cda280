"""1xx: what the server says first."""

from __future__ import annotations

import re
from typing import Final

from .base import Group, Level, accepted, expect, says_goodbye
from .needs import APOP
from .target import Target

GREETING: Final = Group("Greeting")
_MSG_ID: Final = re.compile(rb"<[\x21-\x7e]+@[\x21-\x7e]+>")
_MOST_OCTETS: Final = 512


@GREETING("101", "the server speaks first: one line that begins with +OK", Level.MUST, "RFC 1939 section 4",
          "R1939-02")  # fmt: skip
def greets(target: Target) -> None:
    reply = target.dial().reply()
    expect(reply.ok, "the greeting is not +OK")


@GREETING("102", "the greeting is one line, and nothing more is said until the client speaks", Level.MUST,
          "RFC 1939 section 4", "R1939-02", "R1939-29")  # fmt: skip
def greets_once(target: Target) -> None:
    says_goodbye(target.greeted())


@GREETING("103", "the greeting has at most 512 octets, its CRLF included", Level.MUST, "RFC 2449 section 4",
          "R1939-06", "R2449-03")  # fmt: skip
def greets_shortly(target: Target) -> None:
    octets = len(b"+OK \r\n") + len(target.greeted().greeting.text)
    expect(octets <= _MOST_OCTETS, f"the greeting has {octets} octets")


@GREETING("104", "+OK is followed by a space and words, as old clients want it", Level.SHOULD, "RFC 1957",
          "R1957-01")  # fmt: skip
def greets_with_words(target: Target) -> None:
    talk = target.greeted()
    expect(talk.greeting.text, "nothing follows +OK in the greeting")
    expect(accepted(talk, b"QUIT").text, "nothing follows +OK in the reply to QUIT")


@GREETING("105", "a timestamp for APOP is a message id", Level.MUST, "RFC 1939 section 7", "R1939-73", needs=(APOP,))
def timestamp_is_a_message_id(target: Target) -> None:
    timestamp = target.greeted().timestamp
    expect(timestamp and _MSG_ID.fullmatch(timestamp), "what stands in angle brackets is not a message id")


@GREETING("106", "the timestamp for APOP is another one every time", Level.MUST, "RFC 1939 section 7", "R1939-74",
          needs=(APOP,))  # fmt: skip
def timestamps_differ(target: Target) -> None:
    seen = [target.greeted().timestamp for _ in range(3)]
    expect(len(set(seen)) == len(seen), "a timestamp was used twice")
