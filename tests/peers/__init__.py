"""Other people's POP3 servers, each with two users and the same mail, on a loopback port: what `trio-pop3 check` is run
against. `python -m tests.peers NAME` starts one. tests/peers/install puts them on a Debian machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import Final

from . import courier, dovecot, mailutils, popa3d
from .base import DEFAULT_MAIL, Peer, reset

__all__ = ["DEFAULT_MAIL", "PEERS", "Peer", "reset"]

PEERS: Final[Mapping[str, Callable[..., AbstractContextManager[Peer]]]] = MappingProxyType(
    {
        courier.NAME: courier.serving,
        dovecot.NAME: dovecot.serving,
        mailutils.NAME: mailutils.serving,
        popa3d.NAME: popa3d.serving,
    }
)
