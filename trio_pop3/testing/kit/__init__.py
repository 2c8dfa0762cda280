"""The backend kit: does a backend keep the contract of docs/backends.md? See `check_backend`."""

from __future__ import annotations

from . import cancelling as cancelling
from .run import BackendFault as BackendFault
from .run import Fault as Fault
from .run import KitReport as KitReport
from .run import backend_checks as backend_checks
from .run import check_backend as check_backend
