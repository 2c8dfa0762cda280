"""What guessing passwords costs: time, for the network it comes from, and for nobody else."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from ..backend import ClientInfo
from .networks import Networks, responsible

_THIS_MACHINE: Final = Networks(("loopback",))
# Seconds, by failures known. Dovecot's: short enough that no mail client gives up on a user who is not to blame.
_DELAYS: Final = (0.0, 2.0, 4.0, 8.0, 15.0)
# Failures are forgotten so many seconds after the last one. In that time a guesser who does not care gets sixty guesses
# at full price on each connection; one who waits for it gets a handful cheap ones, so that waiting does not pay. For
# somebody who mistyped, it is over in a quarter of an hour.
_MEMORY_SECONDS: Final = 900.0
# Wrong pairs of a network that are recognised: the phones in an office which still have the old password.
_PAIRS: Final = 10


@dataclass(slots=True)
class _Record:
    """What is known of a network from which credentials were wrong."""

    failures: int = 0
    last: float = 0.0  # when it last failed, on the clock
    pairs: OrderedDict[bytes, None] = field(default_factory=OrderedDict)  # least recently seen first


class Penalty:
    """How long an attempt to log in has to wait, for all connections of a server.

    Counted per IPv4 address and IPv6 /64. Each known failure moves a network on along 0, 2, 4, 8 and 15 seconds; so do
    every `at_once` attempts from there whose end is not known yet, as all of them may turn out to be guesses. Nobody
    ever waits longer than 15 seconds, and no user is waited for: strangers cannot lock anybody out.

    The same wrong pair of name and secret again is a forgotten device, which does not move it on. A success changes
    nothing: who owns one account could otherwise log in between guesses to make them free. Failures are forgotten a
    quarter of an hour after the last.

    Args:
        exempt: networks that never wait, and are not remembered: proxies and webmail, where many users share an
            address.
        clock: the time in seconds; must not go back.
        most: networks with failures that are remembered. Past that, the one is forgotten that failed least recently.
        at_once: attempts at a time that weigh as much as one failure. With 1, users behind one address who have done
            nothing wrong would make each other wait, and while they wait, more.

    Raises ValueError if `most` or `at_once` is less than 1.
    """

    def __init__(self, exempt: Networks, *, clock: Callable[[], float], most: int = 10_000, at_once: int = 10) -> None:
        for name, value in (("most", most), ("at_once", at_once)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value!r}")
        self._exempt: Final = exempt
        self._clock: Final = clock
        self._most: Final = most
        self._at_once: Final = at_once
        self._records: Final[OrderedDict[str, _Record]] = OrderedDict()  # least recently failed first
        self._in_flight: Final[dict[str, int]] = {}

    def enter(self, client: ClientInfo) -> float:
        """An attempt begins: the seconds to wait before its credentials are looked at. Pair it with `leave`."""
        if self._is_exempt(client):
            return _DELAYS[0]
        self._forget()
        network = responsible(client.host)
        others = self._in_flight.get(network, 0)
        self._in_flight[network] = others + 1
        record = self._records.get(network)
        step = others // self._at_once + (0 if record is None else record.failures)
        return _DELAYS[min(step, len(_DELAYS) - 1)]

    def leave(self, client: ClientInfo, *, failed: bool, pair: bytes | None) -> None:
        """An attempt that entered has ended, or was given up.

        `failed`: the credentials were wrong. `pair`: what tells the same wrong credentials from others, if that is
        known (`Credentials.fingerprint`); without it each failure counts. Raises KeyError if none has entered.
        """
        if self._is_exempt(client):
            return
        network = responsible(client.host)
        self._in_flight[network] -= 1
        if not self._in_flight[network]:
            del self._in_flight[network]
        if failed:
            self._forget()
            self._failed(self._records.get(network) or _Record(), network, pair)

    def _is_exempt(self, client: ClientInfo) -> bool:
        # Behind two proxies everybody may come from 127.0.0.1, and is not on this machine for that.
        return client.host in self._exempt and not (client.proxied and client.host in _THIS_MACHINE)

    def _failed(self, record: _Record, network: str, pair: bytes | None) -> None:
        if pair is not None:
            known = pair in record.pairs
            record.pairs[pair] = None
            record.pairs.move_to_end(pair)
            if known:
                return
            if len(record.pairs) > _PAIRS:
                record.pairs.popitem(last=False)
        record.failures += 1
        record.last = self._clock()
        self._records[network] = record
        self._records.move_to_end(network)
        if len(self._records) > self._most:
            self._records.popitem(last=False)

    def _forget(self) -> None:
        """Drop the records whose time is over; they are in the order of their last failures."""
        now = self._clock()
        while self._records:
            network, record = next(iter(self._records.items()))
            if now - record.last < _MEMORY_SECONDS:
                return
            del self._records[network]

    @property
    def in_flight(self) -> int:
        """Attempts that have entered and not left, exempt ones left out."""
        return sum(self._in_flight.values())

    def __len__(self) -> int:
        """Networks whose failures are remembered."""
        return len(self._records)
