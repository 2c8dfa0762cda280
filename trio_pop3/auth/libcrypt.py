"""crypt(3) through the system's libcrypt: every hash that /etc/shadow may hold, yescrypt included.

Called through ctypes: Python 3.13 has no `crypt` module any more, and ctypes lets other threads run meanwhile.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
from collections.abc import Callable
from typing import Final

# struct crypt_data of libxcrypt is 32 KiB; glibc's old one was 128 KiB and a bit.
_CRYPT_DATA_OCTETS: Final = 256 * 1024


class LibcryptMissing(Exception):
    """This system has no libcrypt, so crypt(3) hashes cannot be checked."""


@functools.cache
def _crypt_r() -> Callable[[bytes, bytes, object], bytes | None]:
    for name in (ctypes.util.find_library("crypt"), "libcrypt.so.1", "libcrypt.so.2"):
        if name is not None:
            try:
                function = ctypes.CDLL(name).crypt_r
            except (OSError, AttributeError):
                continue
            function.restype = ctypes.c_char_p
            function.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
            return function
    raise LibcryptMissing("no libcrypt on this system")


def crypt(password: bytes, setting: bytes) -> bytes | None:
    """The hash of a password under a setting (a hash begins with its setting); None if the setting is of no known kind.

    Blocking and slow on purpose: call it in a thread. Raises LibcryptMissing.
    """
    if b"\0" in password or b"\0" in setting:
        return None
    data = ctypes.create_string_buffer(_CRYPT_DATA_OCTETS)
    result = _crypt_r()(password, setting, data)
    # libxcrypt reports failure by a string that begins with an asterisk and is no hash.
    return None if result is None or result.startswith(b"*") else result
