"""Ready-made bad servers, by name, for a client test that is run with all of them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from .faults import (
    GREETING,
    BareLf,
    BrokenTls,
    Capabilities,
    DoubledTerminator,
    DropAt,
    ExtraLine,
    Fault,
    LongLine,
    LostDeletion,
    NoReply,
    NoTerminator,
    Refuse,
    Say,
    Slow,
    StallAt,
    Uids,
    Unstuffed,
    WrongSize,
)

_LOGIN: Final = ("PASS", "APOP", "AUTH")

# name -> faults. None of them waits: where the server says nothing at all, it is the client's patience that counts.
FAULT_SCRIPTS: Final[Mapping[str, tuple[Fault, ...]]] = MappingProxyType(
    {
        "greeting refused": (Refuse(GREETING, "SYS/TEMP", "too many connections"),),
        "greeting is garbage": (Say(GREETING, b"220 mail.example ESMTP\r\n"),),
        "greeting never comes": (NoReply(GREETING),),
        "greeting is endless": (LongLine(100_000, command=GREETING),),
        "login in use, once": (Refuse(_LOGIN, "IN-USE", "maildrop in use", times=1),),
        "login refused by a store that is down": (Refuse(_LOGIN, "SYS/TEMP", "try again later"),),
        "login answered by +ERR": (Say(_LOGIN, b"+ERR no\r\n", done=False),),
        "no CAPA": (Refuse("CAPA", text="unknown command"),),
        "no UIDL, no TOP": (
            Capabilities(without=("UIDL", "TOP")),
            Refuse(("UIDL", "TOP"), text="unknown command"),
        ),
        "sizes too small": (WrongSize(-7),),
        "sizes too large": (WrongSize(7),),
        "uids all the same": (Uids("same"),),
        "uids blank": (Uids(""),),
        "uids over-long": (Uids("{number:0200}"),),
        "uids new each time": (Uids("{connection}-{uid}"),),
        "message without terminator": (NoTerminator("RETR"),),
        "message without terminator, then closed": (NoTerminator("RETR", then_close=True),),
        "message with two terminators": (DoubledTerminator("RETR"),),
        "message without dot-stuffing": (Unstuffed(),),
        "message cut off": (DropAt(30),),
        "message cut off by a reset": (DropAt(30, reset=True),),
        "message stalls": (StallAt(30),),
        "message refused, once": (Refuse("RETR", "SYS/TEMP", "message not available", times=1),),
        "lines end in LF": (BareLf(),),
        "octets one by one": (Slow(1, 0.0),),
        "two replies to each DELE": (ExtraLine("DELE"),),
        "no reply to DELE": (NoReply("DELE"),),
        "deletions lost": (LostDeletion(),),
        "no reply to QUIT": (DropAt(0, command="QUIT"),),
        "TLS never begins": (BrokenTls("garbage"),),
        "TLS with an expired certificate": (BrokenTls("expired"),),
        "TLS with the certificate of another": (BrokenTls("wrong name"),),
        "STLS with text in clear behind it": (ExtraLine("STLS"),),
    }
)
