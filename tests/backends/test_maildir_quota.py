"""Maildir++ quotas: `maildirsize` is a cache, and the Maildir is what counts."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from trio_pop3.backends.maildir import Quota, deliver, make_maildir
from trio_pop3.backends.maildir.quota import Usage, counted
from trio_pop3.delivery import OverQuota, OverQuotaForNow


@pytest.fixture
def box(tmp_path: Path) -> Path:
    make_maildir(tmp_path / "box")
    return tmp_path / "box"


def size_file(box: Path) -> str:
    return (box / "maildirsize").read_text()


def test_up_to_the_limit_and_not_an_octet_more(box: Path) -> None:
    quota = Quota(100)
    deliver(box, b"x" * 60, quota)
    deliver(box, b"x" * 40, quota)
    assert size_file(box) == "0S\n0 0\n60 1\n40 1\n"
    with pytest.raises(OverQuotaForNow):
        deliver(box, b"x", quota)
    with pytest.raises(OverQuota):
        deliver(box, b"x", Quota(100, bounce=True))
    assert counted(str(box)) == (100, 2)
    assert list((box / "tmp").iterdir()) == []


def test_what_was_deleted_makes_room(box: Path) -> None:
    """Nobody writes down what POP3 deletes: it is counted before anybody is refused."""
    name = deliver(box, b"x" * 100, Quota(100))
    (box / "new" / name).unlink()
    deliver(box, b"x" * 100, Quota(100))
    assert size_file(box) == "0S\n0 0\n100 1\n"


def test_the_limit_of_the_file(box: Path) -> None:
    """As Courier and Dovecot keep it: octets and messages; and no file is no limit."""
    quota = Quota()
    deliver(box, b"x" * 10, quota)
    assert not (box / "maildirsize").exists()
    (box / "maildirsize").write_text("1000S,2C\n          10 1\n")
    deliver(box, b"x" * 20, quota)
    assert size_file(box).endswith("20 1\n")
    with pytest.raises(OverQuotaForNow):
        deliver(box, b"x", quota)
    (box / "maildirsize").write_text("0S,0C\n10 1\n")
    deliver(box, b"x", quota)


@pytest.mark.parametrize("stands", ["1000000S,5C", "10S", "0S"])
def test_a_limit_of_our_own_is_not_written_where_other_programs_have_theirs(box: Path, stands: str) -> None:
    """Whether or not the file is written anew: the first line stays, and ours alone is what counts."""
    (box / "maildirsize").write_text(f"{stands}\n0 0\n")
    deliver(box, b"x" * 60, Quota(100))
    assert size_file(box) == f"{stands}\n0 0\n60 1\n"
    with pytest.raises(OverQuotaForNow):
        deliver(box, b"x" * 60, Quota(100))
    assert size_file(box) == f"{stands}\n60 1\n"
    deliver(box, b"x" * 60, Quota(200))
    assert size_file(box) == f"{stands}\n60 1\n60 1\n"


def test_one_trial_leaves_no_limit(box: Path) -> None:
    """What was given once is not in force for whoever goes by the file."""
    with pytest.raises(OverQuotaForNow):
        deliver(box, b"x" * 20, Quota(10))
    deliver(box, b"x" * 20, Quota())
    assert size_file(box) == "0S\n0 0\n20 1\n"


@pytest.mark.parametrize(
    ("quota", "limit"), [(Quota(100), "100 octets"), (Quota(), "1000 octets, 1 message"), (Quota(1), "1 octet")]
)
def test_who_is_over_quota_is_told_so(box: Path, quota: Quota, limit: str) -> None:
    deliver(box, b"x" * 60)
    (box / "maildirsize").write_text("1000S,1C,0S\n")
    with pytest.raises(OverQuotaForNow) as caught:
        deliver(box, b"x" * 50, quota)
    assert str(caught.value) == (
        f"{box} is over quota: it holds 60 octets, 1 message, the message has 50 octets, and the limit is {limit}"
    )


@pytest.mark.parametrize(
    "noise", [b"", b"\n", b"what", b"0S\nx y\n", b"0S\n-50 -1\n", b"0S\n", b"0S\n" + b"0 0\n" * 2000]
)
def test_a_file_of_noise_is_made_anew(box: Path, noise: bytes) -> None:
    deliver(box, b"x" * 60)
    (box / "maildirsize").write_bytes(noise)
    with pytest.raises(OverQuotaForNow):
        deliver(box, b"x" * 50, Quota(100))
    assert size_file(box) == "0S\n60 1\n"


def test_what_counts(box: Path) -> None:
    """Folders do, names without a size too; what is marked as deleted does not, nor Trash."""
    for folder, name, size in (
        ("", "1.a,S=1000", 1), ("", "2.b:2,S", 30), ("", "3.c,S=5:2,T", 5), ("", ".hidden", 7), (".Sent", "4.d", 200),
        (".Trash", "5.e", 9), (".not", "", 0),
    ):  # fmt: skip
        path = box / folder
        if name:
            make_maildir(path)
            (path / "cur" / name).write_bytes(b"x" * size)
        else:
            path.mkdir()
    assert counted(str(box)) == Usage(1230, 3)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EACCES])
def test_a_file_that_cannot_be_written_costs_no_mail(box: Path, error: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def fail(path: str, flags: int, *args: int, **options: int) -> int:
        if str(path).endswith("maildirsize") and flags & os.O_APPEND:
            raise OSError(error, os.strerror(error))
        return real(path, flags, *args, **options)

    monkeypatch.setattr(os, "open", fail)
    deliver(box, b"x" * 10, Quota(100))
    assert counted(str(box)) == (10, 1)


def test_a_fifo_keeps_nobody(box: Path) -> None:
    """P4: whoever owns the Maildir could keep every thread that delivers."""
    quota = Quota()
    os.mkfifo(box / "maildirsize")
    quota.add(str(box), 10)
    with pytest.raises(PermissionError, match="not a regular file"):
        quota.check(str(box), 10)
