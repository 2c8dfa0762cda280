"""Run by test_pam in a process of its own, under pam_wrapper: logins as JSON in, what became of them as JSON out.

pam_wrapper takes the place of libpam for programs that are linked with it. python-pam opens libpam by its name, so that
name is led to the wrapper here.
"""

from __future__ import annotations

import ctypes.util
import json
import sys

import trio

from trio_pop3.auth import Pam
from trio_pop3.backend import AuthenticationFailed, ClientInfo, PasswordCredentials, TemporaryFailure

_real_find_library = ctypes.util.find_library


def _find_library(name: str) -> str | None:
    return "libpam_wrapper.so" if name == "pam" else _real_find_library(name)


async def _login(outcomes: list[str], at: int, service: str, user: str, password: str) -> None:
    try:
        outcomes[at] = await Pam(service).authenticate(PasswordCredentials(user, password), ClientInfo("test"))
    except (AuthenticationFailed, TemporaryFailure) as failure:
        outcomes[at] = type(failure).__name__


async def _logins(logins: list[list[str]]) -> list[str]:
    """All at once, each in a thread."""
    outcomes = [""] * len(logins)
    async with trio.open_nursery() as nursery:
        for at, (service, user, password) in enumerate(logins):
            nursery.start_soon(_login, outcomes, at, service, user, password)
    return outcomes


if __name__ == "__main__":
    ctypes.util.find_library = _find_library
    print(json.dumps(trio.run(_logins, json.load(sys.stdin))))
