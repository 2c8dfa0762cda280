"""Backends that break one promise each, and what the kit has to say of them."""

from __future__ import annotations

from . import cancelling as cancelling
from . import logins as logins
from . import mail as mail
from . import removing as removing
from .table import FAULTS as FAULTS
