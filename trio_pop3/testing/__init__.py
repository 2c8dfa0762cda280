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
    from .fault_scripts import FAULT_SCRIPTS as FAULT_SCRIPTS
    from .faults import GREETING as GREETING
    from .faults import Asked as Asked
    from .faults import BareLf as BareLf
    from .faults import BrokenTls as BrokenTls
    from .faults import Capabilities as Capabilities
    from .faults import Delay as Delay
    from .faults import DoubledTerminator as DoubledTerminator
    from .faults import DropAt as DropAt
    from .faults import Ending as Ending
    from .faults import ExtraLine as ExtraLine
    from .faults import Fault as Fault
    from .faults import LongLine as LongLine
    from .faults import LostDeletion as LostDeletion
    from .faults import NoReply as NoReply
    from .faults import NoTerminator as NoTerminator
    from .faults import Plan as Plan
    from .faults import Refuse as Refuse
    from .faults import Say as Say
    from .faults import Slow as Slow
    from .faults import StallAt as StallAt
    from .faults import Uids as Uids
    from .faults import Unstuffed as Unstuffed
    from .faults import WrongSize as WrongSize
    from .portal import Portal as Portal
    from .script import Struck as Struck
    from .server import Pop3TestServer as Pop3TestServer
    from .serving import StoredMessage as StoredMessage
    from .serving import TrioPop3Server as TrioPop3Server
    from .serving import open_pop3_server as open_pop3_server
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
    "Asked": "faults",
    "BadReply": "talk",
    "BareLf": "faults",
    "Bench": "bench",
    "BrokenTls": "faults",
    "Capabilities": "faults",
    "Delay": "faults",
    "Dialogue": "dialogue",
    "DoubledTerminator": "faults",
    "DropAt": "faults",
    "Ending": "faults",
    "ExtraLine": "faults",
    "FAULT_SCRIPTS": "fault_scripts",
    "Fault": "faults",
    "GREETING": "faults",
    "LongLine": "faults",
    "LostDeletion": "faults",
    "MemoryWire": "wire",
    "NoReply": "faults",
    "NoTerminator": "faults",
    "Plan": "faults",
    "Pop3TestServer": "server",
    "Portal": "portal",
    "Refuse": "faults",
    "Reply": "talk",
    "Say": "faults",
    "Silent": "wire",
    "Slow": "faults",
    "SocketWire": "wire",
    "StallAt": "faults",
    "StoredMessage": "serving",
    "Struck": "script",
    "Talk": "talk",
    "Transcript": "transcript",
    "TrioPop3Server": "serving",
    "Uids": "faults",
    "Unstuffed": "faults",
    "Wire": "wire",
    "WrongSize": "faults",
    "open_pop3_server": "serving",
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
