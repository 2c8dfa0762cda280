"""The binding to libcrypt."""

from __future__ import annotations

import ctypes
import threading

import pytest

from trio_pop3.auth import libcrypt


@pytest.mark.parametrize(
    "setting", [b"$1$salt", b"$5$salt", b"$6$salt", b"$2b$05$abcdefghijklmnopqrstuu", b"$y$j9T$abcdefghijklmnop"]
)
def test_every_kind_of_shadow_hash(setting: bytes) -> None:
    """ECOSYSTEM e: yescrypt, the Debian default, included."""
    hashed = libcrypt.crypt(b"password", setting)
    assert hashed is not None
    assert hashed.startswith(setting)
    assert libcrypt.crypt(b"password", hashed) == hashed
    assert libcrypt.crypt(b"other", hashed) != hashed


@pytest.mark.parametrize(
    ("password", "setting"), [(b"x", b"$9$odd"), (b"x", b"*0"), (b"a\0b", b"$6$salt"), (b"x", b"$6\0")]
)
def test_what_cannot_be_hashed_is_none(password: bytes, setting: bytes) -> None:
    assert libcrypt.crypt(password, setting) is None


def test_threads_do_not_mix() -> None:
    results: dict[int, bytes | None] = {}

    def work(number: int) -> None:
        results[number] = libcrypt.crypt(b"%d" % number, b"$5$salt")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: libcrypt.crypt(b"%d" % number, b"$5$salt") for number in range(8)}


def test_a_system_without_libcrypt(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> object:
        raise OSError(name)

    libcrypt._crypt_r.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", missing)
    try:
        with pytest.raises(libcrypt.LibcryptMissing):
            libcrypt.crypt(b"x", b"$6$salt")
    finally:
        libcrypt._crypt_r.cache_clear()
