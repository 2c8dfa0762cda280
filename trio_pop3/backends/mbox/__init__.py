"""mbox files, as /var/mail holds them: many messages in one file, to which delivery appends."""

from __future__ import annotations

from .store import MboxBackend as MboxBackend
from .store import MboxStore as MboxStore
