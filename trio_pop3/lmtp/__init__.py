"""LMTP without I/O, the receiving side (RFC 2033): octets in, events out; replies in, octets out.

connection = LmtpConnection(hostname="mail.example.org")
connection.receive_data(octets)
event = connection.next_event()     # Lhlo, Mail, Rcpt, Data, Content, EndOfContent, ..., NEED_DATA or PAUSED
octets = connection.send(Reply(250, "2.1.5", "ok"))
"""

from __future__ import annotations

from .commands import State as State
from .connection import LmtpConnection as LmtpConnection
from .events import BadCommand as BadCommand
from .events import Command as Command
from .events import ConnectionClosed as ConnectionClosed
from .events import Content as Content
from .events import Data as Data
from .events import EndOfContent as EndOfContent
from .events import Event as Event
from .events import Lhlo as Lhlo
from .events import Mail as Mail
from .events import Noop as Noop
from .events import Quit as Quit
from .events import Rcpt as Rcpt
from .events import Rset as Rset
from .events import Vrfy as Vrfy
from .replies import Reply as Reply
