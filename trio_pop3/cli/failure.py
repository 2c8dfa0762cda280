"""How a command fails."""

from __future__ import annotations

import os


class Failure(Exception):
    """One sentence for the person at the keyboard, and the exit status."""

    def __init__(self, sentence: str, status: int = 1) -> None:
        super().__init__(sentence)
        self.status = status


def reason(failure: OSError) -> str:
    """What the system says went wrong, without Python's decoration."""
    return (failure.strerror or os.strerror(failure.errno or 0)).lower()
