"""`python -m trio_pop3.testing.simulation`: one day of mail, and what became of it."""

from __future__ import annotations

import argparse
import secrets
import sys
import time
from collections.abc import Callable, Sequence

from . import SimulationFailure, simulate

_EXIT_FAILED = 1
_EXIT_USAGE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 if everything held, 1 if something did not, 2 if it could not be run."""
    parser = argparse.ArgumentParser(
        prog="python -m trio_pop3.testing.simulation",
        description="Many POP3 sessions on a store with injected faults, in virtual time, all from one seed.",
    )
    parser.add_argument("--seed", type=int, help="what the day is made from (default: another one every time)")
    parser.add_argument("--sessions", type=int, default=10_000, help="how many; 10000 are a day (default)")
    parser.add_argument("--instances", type=int, default=2, help="servers on the one store (default: 2)")
    parser.add_argument("--trouble", type=float, default=1.0, help="how often the store fails, 0 to 20 (default: 1)")
    options = parser.parse_args(arguments)
    seed = secrets.randbelow(2**32) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    started = time.perf_counter()
    try:
        report = simulate(
            seed,
            sessions=options.sessions,
            instances=options.instances,
            trouble=options.trouble,
            progress=_progress(options.sessions),
        )
    except SimulationFailure as failure:
        print(failure)
        return _EXIT_FAILED
    except (ValueError, ImportError) as failure:
        parser.print_usage(sys.stderr)
        print(f"{parser.prog}: error: {failure}", file=sys.stderr)
        return _EXIT_USAGE
    print(report.table())
    print(f"{time.perf_counter() - started:.1f} s")
    return 0


def _progress(sessions: int) -> Callable[[int], None] | None:
    """Shows a person how far it is."""
    if not sys.stderr.isatty():
        return None

    def show(ended: int) -> None:
        if ended % 50 == 0 or ended == sessions:
            end = "\n" if ended == sessions else ""
            print(f"\r{ended} of {sessions} sessions", end=end, file=sys.stderr, flush=True)

    return show


if __name__ == "__main__":
    sys.exit(main())
