"""From a user name to a directory, and never out of it; from the name of a folder to a directory in that one."""

from __future__ import annotations

import base64
import glob
import os
import re
import string
from typing import Final

# One path component: nothing that names another directory, hides, looks like an option, or ends a C string.
_COMPONENT: Final = re.compile(r"[^\x00-\x20/\x7f.-][^\x00-\x20/\x7f]*")
_FIELDS: Final = frozenset({"user", "local", "domain"})
# A folder, its levels apart by dots, and none of them empty, so that no dot is first, last, or beside another. Nothing
# that names another directory or ends a C string, and no `~` first, as Dovecot has it.
_FOLDER: Final = re.compile(r"(?!~)[^\x00-\x1f/\x7f.]+(?:\.[^\x00-\x1f/\x7f.]+)*")
_NOT_PRINTABLE_ASCII: Final = re.compile("[^ -~]+")
_NAME_OCTETS: Final = 255


def is_safe_component(name: str) -> bool:
    """Whether a name can be one path component and nothing else: no slash, blank or control, no leading dot or dash."""
    return _COMPONENT.fullmatch(name) is not None


def folder_component(name: str) -> str:
    """The directory, below the Maildir, of a folder such as `Junk` or `Sent.2024`: in Maildir++, with a dot first.

    Other characters than printable ASCII are written in the UTF-7 of IMAP mailbox names (RFC 3501 section 5.1.3), as
    Dovecot and Courier do.

    Raises ValueError for what is no name of a folder.
    """
    if not _FOLDER.fullmatch(name):
        raise ValueError(f"not the name of a folder: {name!a}")
    try:
        component = "." + _NOT_PRINTABLE_ASCII.sub(_in_base64, name.replace("&", "&-"))
    except UnicodeEncodeError:
        raise ValueError(f"not the name of a folder: {name!a}") from None
    if len(component) > _NAME_OCTETS:
        raise ValueError("the name of a folder is too long")
    return component


def _in_base64(match: re.Match[str]) -> str:
    encoded = base64.b64encode(match[0].encode("utf-16-be"), b"+,").decode("ascii")
    return f"&{encoded.rstrip('=')}-"


class PathPattern:
    """A path with `{user}`, `{local}` and `{domain}`, such as `/var/mail/vhosts/{domain}/{local}/Maildir`.

    `{local}` is what stands before the last `@` of the user name, or all of it; `{domain}` what stands behind it.
    Raises ValueError for a pattern with other fields, with formats in them, or with none: all users would share one
    maildrop. Also for one that goes back up, by `..`, behind a field.

    `root`: the directory that holds all that the pattern can lead to, which is what stands before the first component
    with a field in it.
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
        pieces = string.Formatter().parse(pattern)
        fixed, field, behind = "".join(text + "\0" * (name is not None) for text, name, _, _ in pieces).partition("\0")
        if ".." in (field + behind).split("/"):
            raise ValueError(f"a path pattern must not go back up behind a field: {pattern!r}")
        above, slash, _ = fixed.rpartition("/")
        self.root: Final = above or slash or "."
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
