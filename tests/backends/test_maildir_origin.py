"""What a folder remembers of what it has sent to the trash."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trio_pop3.backends.maildir.origin import TRASHED, folders, remember, trashed

from .maildir_helpers import KINDS, Box, spoil

# Whatever can be the name of a file.
bases = st.binary(min_size=1, max_size=40).filter(lambda name: not {*name} & {*b"/\0:"})


@pytest.fixture
def junk(tmp_path: Path) -> Box:
    return Box(tmp_path / "alice", ".Junk")


@given(names=st.sets(bases, max_size=5))
@example(names={b"\\x41", b"A", b"#", b"a b\n", b"\xff"})
def test_what_was_written_is_read(tmp_path_factory: pytest.TempPathFactory, names: set[bytes]) -> None:
    """P1: for every name that a file can have."""
    box = Box(tmp_path_factory.mktemp("box"))
    remember(box.octets_path, names)
    assert trashed(box.octets_path) == names
    assert stat.S_IMODE((box.path / os.fsdecode(TRASHED)).stat().st_mode) == 0o600


def test_a_damaged_line_is_left_out_and_said(junk: Box, caplog: pytest.LogCaptureFixture) -> None:
    path = junk.path / ".trio-pop3.trashed"
    path.write_bytes(b"a\n\nb c\n\\x4\nd\nhalf")
    assert trashed(junk.octets_path) == {b"a", b"d"}
    assert caplog.messages == [f"'{path}': 4 damaged lines are left out"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_file_is_an_error_that_names_it(junk: Box, kind: str) -> None:
    """H11."""
    spoil(junk.path / ".trio-pop3.trashed", kind)
    with pytest.raises(OSError, match="not a regular file") as caught:
        trashed(junk.octets_path)
    assert caught.value.filename == junk.octets_path + b"/.trio-pop3.trashed"


def test_folders_that_remember(junk: Box, tmp_path: Path) -> None:
    """H11: a link to a folder of somebody else is none."""
    for name in (".Junk", ".Sent"):
        remember(Box(junk.root, name).octets_path, [b"a"])
    Box(junk.root, ".Empty")
    remember(Box(tmp_path, "bob").octets_path, [b"a"])
    (junk.root / ".Bob").symlink_to(tmp_path / "bob")
    assert sorted(folders(os.fsencode(junk.root))) == [b".Junk", b".Sent"]
