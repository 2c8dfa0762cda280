"""What can go wrong on the wire, and whose fault it is.

    ProtocolError
    +-- LocalProtocolError    we broke the rules (a bug in the program that drives the core)
    +-- RemoteProtocolError   the peer broke them beyond what a reply can mend

A *client's* bad line is never an exception: it is a `BadCommand` event that carries the reply that is due.
"""

from __future__ import annotations


class ProtocolError(Exception):
    """Base of both; never raised itself."""


class LocalProtocolError(ProtocolError):
    """The program asked the core for something POP3 does not allow here. Nothing was sent, the state is unchanged."""


class RemoteProtocolError(ProtocolError):
    """The peer left the protocol. The connection is in `State.ERROR` and can only be closed."""
