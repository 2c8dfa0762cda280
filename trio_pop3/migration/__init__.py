"""What clients know of an old server: its unique-ids, read from its files, from its mail, or asked of it over POP3.

Every reader returns `OldIds`: base name of a Maildir file -> unique-id. `merge` says what becomes of the map of a
Maildir (`trio_pop3.backends.maildir.uids`), `compare` what clients would download again.
"""

from __future__ import annotations
