"""POP3 over trio streams: listeners, connections, time and limits."""

from __future__ import annotations

from .listeners import Pop3Listener as Pop3Listener
from .listeners import open_listeners as open_listeners
from .options import Options as Options
from .serve import serve as serve
