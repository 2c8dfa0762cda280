"""The table of faults."""

from __future__ import annotations

from typing import Any

from ..backends import Drop, Process

# Each with the checks that fail: first the one that names the fault, then those that cannot help seeing it too.
FAULTS: dict[type[Process], tuple[str, ...]] = {}


def fails(*names: str) -> Any:
    """Enter a backend, or one with these maildrops."""

    def enter(broken: Any) -> Any:
        process = type(broken.__name__, (Process,), {"drops": broken}) if issubclass(broken, Drop) else broken
        FAULTS[process] = names
        return broken

    return enter
