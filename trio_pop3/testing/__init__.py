"""Proof as a product: a model of POP3, strategies, state machines, a backend kit, a test server, faults, checks.

Everything here works on anybody's client, backend or server, and uses public names only. Names are loaded when they are
first used: importing this costs nothing, and what needs Hypothesis or pytest says so when it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bench import Bench as Bench
    from .dialogue import Answer as Answer
    from .dialogue import Dialogue as Dialogue
    from .portal import Portal as Portal
    from .talk import BadReply as BadReply
    from .talk import Reply as Reply
    from .talk import Talk as Talk
    from .transcript import Transcript as Transcript
    from .wire import MemoryWire as MemoryWire
    from .wire import Silent as Silent
    from .wire import SocketWire as SocketWire
    from .wire import Wire as Wire

# Where each name lives; a test compares it with the imports above.
_HOMES = {
    "Answer": "dialogue",
    "BadReply": "talk",
    "Bench": "bench",
    "Dialogue": "dialogue",
    "MemoryWire": "wire",
    "Portal": "portal",
    "Reply": "talk",
    "Silent": "wire",
    "SocketWire": "wire",
    "Talk": "talk",
    "Transcript": "transcript",
    "Wire": "wire",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
