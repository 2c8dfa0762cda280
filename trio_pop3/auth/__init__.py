"""Who may log in."""

from __future__ import annotations

from .passwd import PasswdFile as PasswdFile
from .passwd import PasswdFileError as PasswdFileError
