"""Scripted connections through a driver, and what was logged of them."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from trio_pop3.backend import ClientInfo
from trio_pop3.server.driver import Driver
from trio_pop3.server.options import DEFAULTS, Options

from .helpers import LOCAL, Script

MIB = 1024 * 1024
TOO_SLOW = b"-ERR [SYS/TEMP] the mail store takes too long\r\n"
INTERNAL = b"-ERR [SYS/TEMP] internal error, try again later\r\n"


def summaries(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The summary lines logged so far."""
    return [record.getMessage() for record in caplog.records if " reason=" in record.getMessage()]


def reason(caplog: pytest.LogCaptureFixture) -> str:
    """Why the only session ended."""
    (line,) = summaries(caplog)
    return line.partition(" reason=")[2]


def run_script(script: Script, backend: Any, options: Options = DEFAULTS, client: ClientInfo = LOCAL) -> bytes:
    """Run a whole connection without a second task; what the client heard."""

    async def main() -> None:
        await Driver(script, backend, client, options).run()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return bytes(script.heard)
