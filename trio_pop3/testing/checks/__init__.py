"""Conformance checks for any POP3 server: what `trio-pop3 check` makes, and a function to make them with."""

from __future__ import annotations

from typing import Final

from trio_pop3 import Profile as Profile

from .authorization import AUTHORIZATION
from .base import Check as Check
from .base import Level as Level
from .base import Outcome as Outcome
from .base import Verdict as Verdict
from .capabilities import CAPABILITIES
from .greeting import GREETING
from .robustness import ROBUSTNESS
from .runner import Report as Report
from .runner import run_checks as run_checks
from .sasl import SASL
from .target import Account as Account
from .target import Encryption as Encryption
from .target import NoTarget as NoTarget
from .target import Settings as Settings
from .target import Target as Target
from .tls import TLS
from .transaction import TRANSACTION
from .update import UPDATE

CHECKS: Final[tuple[Check, ...]] = tuple(
    check
    for group in (GREETING, AUTHORIZATION, SASL, TRANSACTION, UPDATE, CAPABILITIES, TLS, ROBUSTNESS)
    for check in group.checks
)
