"""From a user name to a directory, and never out of it."""

from __future__ import annotations

import glob
import os
import re
import string
from typing import Final

# One path component: nothing that names another directory, hides, looks like an option, or ends a C string.
_COMPONENT: Final = re.compile(r"[^\x00-\x20/\x7f.-][^\x00-\x20/\x7f]*")
_FIELDS: Final = frozenset({"user", "local", "domain"})


def is_safe_component(name: str) -> bool:
    """Whether a name can be one path component and nothing else: no slash, blank or control, no leading dot or dash."""
    return _COMPONENT.fullmatch(name) is not None


class PathPattern:
    """A path with `{user}`, `{local}` and `{domain}`, such as `/var/mail/vhosts/{domain}/{local}/Maildir`.

    `{local}` is what stands before the last `@` of the user name, or all of it; `{domain}` what stands behind it.
    Raises ValueError for a pattern with other fields, with formats in them, or with none: all users would share one
    maildrop.
    """

    def __init__(self, pattern: str) -> None:
        try:
            parts = [(name, spec, how) for _, name, spec, how in string.Formatter().parse(pattern) if name is not None]
        except ValueError as failure:
            raise ValueError(f"not a path pattern: {pattern!r} ({failure})") from None
        fields = {name for name, _, _ in parts}
        plain = not any(spec or how for _, spec, how in parts)
        if not fields or not fields <= _FIELDS or not plain or "\0" in pattern:
            raise ValueError(f"a path pattern holds {{user}}, {{local}} or {{domain}}, and nothing else: {pattern!r}")
        self._pattern: Final = pattern
        self._fields: Final = fields

    @property
    def glob(self) -> str:
        """A pattern of the module `glob` for the directories of all users; other directories may fit it as well."""
        parts = string.Formatter().parse(self._pattern)
        return "".join(glob.escape(text) + ("" if field is None else "*") for text, field, _, _ in parts)

    def __repr__(self) -> str:
        return f"PathPattern({self._pattern!r})"

    def path_for(self, user: str) -> str | None:
        """The directory of a user; None if the name does not fit the pattern or could lead out of it."""
        local, at, domain = user.rpartition("@")
        # Without an @, rpartition would make a domain of it all.
        values = {"user": user, "local": local, "domain": domain} if at else {"user": user, "local": user, "domain": ""}
        if not all(is_safe_component(values[field]) for field in self._fields):
            return None
        path = self._pattern.format_map(values)
        try:
            os.fsencode(path)
        except UnicodeEncodeError:
            return None
        return path
