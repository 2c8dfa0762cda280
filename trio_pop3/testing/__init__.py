"""Proof as a product: a model of POP3, strategies, state machines, a backend kit, a test server, faults, checks.

Everything here works on anybody's client, backend or server, and uses public names only. Names are loaded when they are
first used: importing this costs nothing, and what needs Hypothesis or pytest says so when it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bench import Bench as Bench
    from .benches import maildir_bench as maildir_bench
    from .benches import memory_bench as memory_bench
    from .core import CoreMachine as CoreMachine
    from .dialect import Dialect as Dialect
    from .dialogue import Answer as Answer
    from .dialogue import Dialogue as Dialogue
    from .differential import differential as differential
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
    from .judge import Mismatch as Mismatch
    from .judge import Violation as Violation
    from .kit import BackendFault as BackendFault
    from .kit import KitReport as KitReport
    from .kit import backend_checks as backend_checks
    from .kit import check_backend as check_backend
    from .machines import SessionMachine as SessionMachine
    from .machines import machine_for as machine_for
    from .machines import machine_for_server as machine_for_server
    from .model import Expected as Expected
    from .model import ModelMaildrop as ModelMaildrop
    from .model import ModelSession as ModelSession
    from .model import canonical as canonical
    from .pair import PairMachine as PairMachine
    from .portal import Portal as Portal
    from .replay import replay as replay
    from .running import Failure as Failure
    from .running import JudgedMachine as JudgedMachine
    from .running import run_machine as run_machine
    from .script import Struck as Struck
    from .server import Pop3TestServer as Pop3TestServer
    from .serving import StoredMessage as StoredMessage
    from .serving import TrioPop3Server as TrioPop3Server
    from .serving import open_pop3_server as open_pop3_server
    from .simulation import simulate as simulate
    from .strategies import chunkings as chunkings
    from .strategies import command_lines as command_lines
    from .strategies import dialogues as dialogues
    from .strategies import disconnects as disconnects
    from .strategies import hostile_lines as hostile_lines
    from .strategies import login_lines as login_lines
    from .strategies import mail_lines as mail_lines
    from .strategies import maildrops as maildrops
    from .strategies import malformed_lines as malformed_lines
    from .strategies import messages as messages
    from .strategies import near_lines as near_lines
    from .talk import BadReply as BadReply
    from .talk import Closed as Closed
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
    "BackendFault": "kit",
    "BadReply": "talk",
    "BareLf": "faults",
    "Bench": "bench",
    "BrokenTls": "faults",
    "Capabilities": "faults",
    "Closed": "talk",
    "CoreMachine": "core",
    "Delay": "faults",
    "Dialect": "dialect",
    "Dialogue": "dialogue",
    "DoubledTerminator": "faults",
    "DropAt": "faults",
    "Ending": "faults",
    "Expected": "model",
    "ExtraLine": "faults",
    "FAULT_SCRIPTS": "fault_scripts",
    "Failure": "running",
    "Fault": "faults",
    "GREETING": "faults",
    "JudgedMachine": "running",
    "KitReport": "kit",
    "LongLine": "faults",
    "LostDeletion": "faults",
    "MemoryWire": "wire",
    "Mismatch": "judge",
    "ModelMaildrop": "model",
    "ModelSession": "model",
    "NoReply": "faults",
    "NoTerminator": "faults",
    "PairMachine": "pair",
    "Plan": "faults",
    "Pop3TestServer": "server",
    "Portal": "portal",
    "Refuse": "faults",
    "Reply": "talk",
    "Say": "faults",
    "SessionMachine": "machines",
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
    "Violation": "judge",
    "Wire": "wire",
    "WrongSize": "faults",
    "backend_checks": "kit",
    "canonical": "model",
    "check_backend": "kit",
    "chunkings": "strategies",
    "command_lines": "strategies",
    "dialogues": "strategies",
    "differential": "differential",
    "disconnects": "strategies",
    "hostile_lines": "strategies",
    "login_lines": "strategies",
    "machine_for": "machines",
    "machine_for_server": "machines",
    "mail_lines": "strategies",
    "maildir_bench": "benches",
    "maildrops": "strategies",
    "malformed_lines": "strategies",
    "memory_bench": "benches",
    "messages": "strategies",
    "near_lines": "strategies",
    "open_pop3_server": "serving",
    "replay": "replay",
    "run_machine": "running",
    "simulate": "simulation",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(import_module(f".{home}", __name__), name)
    except ImportError as failure:
        if failure.name not in ("hypothesis", "pytest", "trustme"):
            raise
        needs = f"{__name__}.{name} needs {failure.name}: pip install 'trio-pop3[testing]'"
        raise ImportError(needs, name=failure.name) from failure
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
