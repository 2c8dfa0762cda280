"""What the targets share: how an input is read, how a coroutine is driven, how the fuzzer is started."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import FunctionType
from typing import Any, Final, TypeVar

from trio_pop3.sansio import Data, Event, Profile

T = TypeVar("T")
HERE: Final = Path(__file__).parent
END: Final = b"\r\n.\r\n"  # of a body
MOST_WAITING: Final = 16 * 1024  # octets of a line that has not ended: what a SASL line may have

# What a fuzzer would have to find octet by octet: 0xFE, which is nowhere in UTF-8, stands for a long run. Six of them
# overrun every limit of the core.
_LONG: Final = b"\xfe"
_RUN: Final = b"A" * 3000
_MOST_RUNS: Final = 6


@dataclass(frozen=True, slots=True)
class Input:
    """An input: two octets of options, two that say how the payload is cut, and the payload."""

    options: int  # 16 bits
    sizes: tuple[int, int]  # octets of every odd and every even piece, 1 to 256; more if there would be too many
    payload: bytes

    def flag(self, bit: int) -> bool:
        """One of the options."""
        return bool(self.options >> bit & 1)

    def cut(self, octets: bytes) -> list[bytes]:
        """In pieces, none of them empty."""
        size, following = (size + len(octets) // 128 for size in self.sizes)
        pieces, start = [], 0
        while start < len(octets):
            pieces.append(octets[start : start + size])
            start, size, following = start + size, following, size
        return pieces

    def cuts(self, octets: bytes) -> list[list[bytes]]:
        """What must not make a difference: whole, in pieces, and, if it is short, octet by octet."""
        single = [octets[n : n + 1] for n in range(len(octets))] if len(octets) <= 128 else []
        return [[octets] if octets else [], self.cut(octets), *([single] if single else [])]


def read(data: bytes) -> Input:
    """Every string of octets is an input."""
    header = data[:4].ljust(4, b"0")
    payload = data[4:].replace(_LONG, _RUN, _MOST_RUNS)
    return Input(header[0] | header[1] << 8, (header[2] + 1, header[3] + 1), payload)


def finish(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never waits."""
    try:
        work.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    work.close()
    raise AssertionError("the coroutine waited for something")


def joined(events: Iterable[Event]) -> list[Event]:
    """The pieces of each body as one: where it is cut is no part of what was said."""
    whole: list[Event] = []
    for event in events:
        last = whole[-1] if whole else None
        if isinstance(event, Data) and isinstance(last, Data):
            whole[-1] = Data(last.data + event.data)
        else:
            whole.append(event)
    return whole


def canon(message: bytes) -> bytes:
    """A message as a client gets it, line by line: CRLF behind each, a last one if it is missing."""
    *lines, rest = message.split(b"\n")
    whole = b"".join(line.removesuffix(b"\r") + b"\r\n" for line in lines)
    return whole + rest + b"\r\n" if rest or not lines else whole


def options_of(given: Input) -> dict[str, Any]:
    """The arguments of a server's core."""
    short = given.flag(3)
    return {
        "profile": Profile.STRICT if given.flag(0) else Profile.DEFAULT,
        "space_in_user": given.flag(1),
        "utf8_user": given.flag(2),
        "max_line": 255 if short else 512,
        "max_dropped": 600 if short else 8192,
    }


def same(outcomes: Sequence[T]) -> T:
    """The one outcome of all ways to cut an input."""
    assert all(outcome == outcomes[0] for outcome in outcomes), f"it depends on the cuts: {outcomes!r:.2000}"
    return outcomes[0]


def run(test_one_input: Callable[[bytes], None]) -> None:
    """Fuzz, as the command line says in libFuzzer's words; files or folders there take the place of ours."""
    try:
        atheris: Any = import_module("atheris")
    except ModuleNotFoundError:
        sys.exit("atheris is missing: pip install --group fuzz")
    name = Path(sys.argv[0]).stem.removeprefix("fuzz_")
    for function in gc.get_objects():
        if isinstance(function, FunctionType) and (function.__module__ or "").startswith("trio_pop3"):
            atheris.instrument_func(function)
    corpus, seeds, crashers = (HERE / folder / name for folder in ("corpus", "seeds", "crashers"))
    for folder in (corpus, crashers):
        folder.mkdir(parents=True, exist_ok=True)
    usual = [f"-dict={HERE / 'pop3.dict'}", f"-artifact_prefix={crashers}/", "-timeout=10", "-print_final_stats=1"]
    options = [word for word in sys.argv[1:] if word.startswith("-")]
    paths = [word for word in sys.argv[1:] if not word.startswith("-")] or [str(corpus), str(seeds)]
    atheris.Setup([sys.argv[0], *usual, *options, *paths], test_one_input)
    atheris.Fuzz()
