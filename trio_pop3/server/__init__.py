"""POP3 over trio streams: listeners, connections, time and limits."""

from __future__ import annotations

from .listeners import Pop3Listener as Pop3Listener
from .listeners import open_listeners as open_listeners
from .lmtp import LmtpOptions as LmtpOptions
from .lmtp import serve_lmtp as serve_lmtp
from .networks import Networks as Networks
from .options import Options as Options
from .options import make_options as make_options
from .serve import serve as serve
from .stream import serve_stream as serve_stream
from .tls import Tls as Tls
from .tls import TlsError as TlsError
