"""`python -m trio_pop3` is the `trio-pop3` command."""

from __future__ import annotations

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
