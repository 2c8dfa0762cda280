"""Views: stores in front of others that choose what a maildrop shows. See docs/views.md.

A view is a store like any other, so that views can be put around views. It changes neither a message nor its size, and
deletes nothing that it does not show.
"""

from __future__ import annotations

from .filters import AtMost as AtMost
from .filters import NewestDays as NewestDays
from .folders import Folders as Folders
from .union import Union as Union
