"""Maildirs, as Postfix, Exim, Dovecot and procmail fill them."""

from __future__ import annotations

from .deliver import deliver as deliver
from .deliver import make_maildir as make_maildir
from .delivery import MaildirTarget as MaildirTarget
from .paths import PathPattern as PathPattern
from .quota import Quota as Quota
from .store import MaildirBackend as MaildirBackend
from .store import MaildirOptions as MaildirOptions
from .store import MaildirStore as MaildirStore
