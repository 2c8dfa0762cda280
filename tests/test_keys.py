"""Keys that outlive a process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from trio_pop3 import keys
from trio_pop3.keys import lasting_key

ID = "3d1219c7c4c5404aaa1f6d2a48adfda4"


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Where the id of the machine may be."""
    found = tmp_path / "first", tmp_path / "second"
    monkeypatch.setattr(keys, "_PLACES", tuple(map(str, found)))
    keys._passing_key.cache_clear()
    return found


def test_a_machine_and_a_purpose_have_one_key(places: tuple[Path, Path]) -> None:
    """H7, H8."""
    places[0].write_text(f"{ID}\n")
    key = lasting_key("salts")
    assert len(key) == 32
    assert lasting_key("salts") == key
    assert lasting_key("others") != key
    assert lasting_key("salts \udcff") != key
    assert ID.encode() not in key
    assert bytes.fromhex(ID) not in key
    places[0].write_text(f"{ID[::-1]}\n")
    assert lasting_key("salts") != key


@pytest.mark.parametrize("first", [None, "", "uninitialized\n", "0" * 32, ID[1:], ID + "0", ID.upper()])
def test_the_second_place_is_asked(places: tuple[Path, Path], first: str | None) -> None:
    places[0].write_text(ID)
    key = lasting_key("salts")
    places[0].unlink()
    if first is not None:
        places[0].write_text(first)
    assert lasting_key("salts") != key
    places[1].write_text(ID)
    assert lasting_key("salts") == key


def test_without_an_id_a_process_has_its_own(places: tuple[Path, Path]) -> None:
    key = lasting_key("salts")
    assert len(key) == 32
    assert lasting_key("salts") == key
    assert lasting_key("others") != key
    keys._passing_key.cache_clear()
    assert lasting_key("salts") != key


@pytest.mark.skipif(keys._machine_id() is None, reason="this machine has no id")
def test_processes_agree() -> None:
    """H7: over a restart, and among workers."""
    command = [sys.executable, "-c", "from trio_pop3.keys import lasting_key; print(lasting_key('x').hex())"]
    outputs = {subprocess.run(command, check=True, capture_output=True, text=True).stdout for _ in range(2)}
    assert outputs == {lasting_key("x").hex() + "\n"}
