"""Who may log in."""

from __future__ import annotations

from .cache import GoodLogins as GoodLogins
from .pam import Pam as Pam
from .passwd import PasswdFile as PasswdFile
from .passwd import PasswdFileError as PasswdFileError
