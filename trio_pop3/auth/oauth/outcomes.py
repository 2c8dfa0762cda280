"""What can come of looking at a token, besides a user; and what to say when the extra is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Refused(Exception):
    """The token is no good. The text is for the log: fixed words or the name of a claim, nothing of the token."""


class Unavailable(Exception):
    """Whether the token is good cannot be said now. The text is for the log and shows neither token nor secret."""


@contextmanager
def imported_extra() -> Iterator[None]:
    """Around imports of what is no dependency of this package. Raises ImportError that says what to install."""
    try:
        yield
    except ImportError as failure:
        raise ImportError(f"{failure}: OAuth needs pip install 'trio-pop3[oauth]'", name=failure.name) from failure
