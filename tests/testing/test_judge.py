"""What is raised, and that the dialogue comes along."""

from __future__ import annotations

import pytest

from trio_pop3.sansio import LocalProtocolError
from trio_pop3.testing import Mismatch, Transcript, Violation
from trio_pop3.testing.judge import Judged, judged, must


class Machine(Judged):
    """Says one thing, then something happens."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0

    @judged
    def step(self, failure: Exception | None, *, times: int = 1) -> None:
        """One step."""
        for _ in range(times):
            self.steps += 1
            self.transcript.add("C", b"NOOP\r\n")
        if failure is not None:
            raise failure

    @judged
    def nested(self, failure: Exception) -> None:
        self.step(failure)


def test_must() -> None:
    must(True, "never")
    with pytest.raises(Mismatch, match=r"^what is wrong$"):
        must(False, "what is wrong")


def test_what_does_not_fail_is_left_alone() -> None:
    machine = Machine()
    machine.step(None, times=2)
    assert machine.steps == 2
    assert not machine.failed
    assert machine.step.__doc__ == "One step."


@pytest.mark.parametrize(
    "failure", [Mismatch("it is wrong"), AssertionError("it is wrong"), LocalProtocolError("it is wrong")]
)
def test_a_finding_comes_with_the_dialogue(failure: Exception) -> None:
    machine = Machine()
    with pytest.raises(Violation) as caught:
        machine.step(failure)
    assert machine.failed
    assert caught.value.message == "it is wrong"
    assert caught.value.transcript is machine.transcript
    assert str(caught.value) == "it is wrong\n\nC: NOOP\n"


def test_a_finding_is_not_wrapped_twice() -> None:
    machine = Machine()
    with pytest.raises(Violation) as caught:
        machine.nested(Mismatch("it is wrong"))
    assert str(caught.value).count("C: NOOP") == 1
    assert machine.failed


@pytest.mark.parametrize("failure", [OSError("no route"), ValueError("no number"), KeyError("no such thing")])
def test_what_is_no_finding_is_not_made_one(failure: Exception) -> None:
    machine = Machine()
    with pytest.raises(type(failure)) as caught:
        machine.step(failure)
    assert caught.value is failure
    assert not machine.failed


def test_what_is_printed_is_short_and_what_is_kept_is_not() -> None:
    transcript = Transcript()
    transcript.add("S", b"x\r\n" * 1000)
    violation = Violation("long", transcript)
    assert "# ... 970 lines ..." in str(violation)
    assert str(violation.transcript).count("S: x") == 1000


def test_octets_that_go_on_and_on_are_clipped_when_secrets_are_concealed() -> None:
    """P5: of a secret that was cut, nobody can find what is left."""
    secret = b"'correct \" horse" * 20
    machine = Machine()
    machine.transcript.hide = {secret: "password"}
    with pytest.raises(Violation) as caught:
        machine.step(Mismatch(f"{b'PASS ' + secret!r} and {b'y' * 300!r} differ, {b'z' * 3!r} does not"))
    assert "horse" not in str(caught.value)
    assert caught.value.message == f"b'PASS \\{{password}}' and b'{'y' * 100}...' differ, b'zzz' does not"
