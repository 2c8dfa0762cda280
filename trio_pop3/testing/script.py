"""The faults at work on a server: which strike, and how often they did."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Final

from .faults import Asked, BrokenTls, Fault, Plan, TlsKind


class Armed:
    """A fault at work."""

    __slots__ = ("fault", "strikes")

    def __init__(self, fault: Fault) -> None:
        self.fault: Final = fault
        self.strikes = 0

    @property
    def spent(self) -> bool:
        """Whether it has struck as often as it should."""
        return self.fault.times is not None and self.strikes >= self.fault.times


class Struck:
    """Faults that were put to work together, until the end of a `with` block, or else until the next reset."""

    def __init__(self, armed: tuple[Armed, ...], disarm: Callable[[], object]) -> None:
        self._armed: Final = armed
        self._disarm: Final = disarm

    def through(self, run: Callable[[Callable[[], object]], object]) -> Struck:
        """The same for another thread, which has things done by `run`."""
        return Struck(self._armed, lambda: run(self._disarm))

    @property
    def count(self) -> int:
        """How often they have struck so far, together."""
        return sum(each.strikes for each in self._armed)

    def __repr__(self) -> str:
        return f"<{self.count} strikes of {', '.join(str(each.fault) for each in self._armed)}>"

    def __enter__(self) -> Struck:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._disarm()


class Script:
    """The faults of one server, in order. Its connections ask it about every reply."""

    def __init__(self) -> None:
        self._armed: list[Armed] = []

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Those at work."""
        return tuple(each.fault for each in self._armed)

    def add(self, *faults: Fault) -> tuple[Armed, ...]:
        """Put faults to work behind those that are."""
        for fault in faults:
            if not isinstance(fault, Fault):
                raise TypeError(f"a fault is made by a class of trio_pop3.testing such as DropAt, it is not {fault!r}")
        armed = tuple(map(Armed, faults))
        self._armed += armed
        return armed

    def remove(self, armed: tuple[Armed, ...]) -> None:
        """Let these rest. Does nothing for those that do already."""
        self._armed = [each for each in self._armed if each not in armed]

    def clear(self) -> None:
        """Let all of them rest."""
        self._armed.clear()

    def instead(self, asked: Asked, told: Callable[[Fault], object]) -> Plan | None:
        """What the first fault that wants to says without the command's being done; `told` of those that strike."""
        for each in self._concerned(asked):
            if (plan := each.fault.instead(asked)) is not None:
                each.strikes += 1
                told(each.fault)
                return plan
        return None

    def apply(self, asked: Asked, plan: Plan, told: Callable[[Fault], object]) -> Plan:
        """What all of them make of what is about to be said."""
        for each in self._concerned(asked):
            changed = each.fault.apply(asked, plan)
            if changed is not plan:
                each.strikes += 1
                told(each.fault)
                plan = changed
        return plan

    def tls(self, told: Callable[[Fault], object]) -> TlsKind | None:
        """How the handshake that is due should fail; None if it should not."""
        for each in self._armed:
            if isinstance(each.fault, BrokenTls) and not each.spent:
                each.strikes += 1
                told(each.fault)
                return each.fault.kind
        return None

    def _concerned(self, asked: Asked) -> list[Armed]:
        return [each for each in self._armed if not each.spent and each.fault.concerns(asked)]
