"""Our client and our server on a wire that cuts anywhere: each gets what the other sent, and in the end they agree."""

from __future__ import annotations

from trio_pop3 import sansio as pop3

from .harness import options_of, read, run
from .paired import COMMANDS, Pair

BY_OCTET = {ord(letter): command for letter, command in COMMANDS.items()}
ANSWERS = {ord("+"): pop3.Ok("fine"), ord("-"): pop3.Err("no", pop3.ResponseCode.AUTH), ord("="): pop3.Challenge(b"?")}


def test_one_input(data: bytes) -> None:
    """P6. Each octet is an act, or a number: of octets that arrive with the next `>` or `<`, and in the next body."""
    given = read(data)
    pair, number = Pair(options_of(given)["profile"]), 255
    for place, octet in enumerate(given.payload[:1000]):
        if octet in BY_OCTET:
            pair.ask(BY_OCTET[octet])
        elif octet in ANSWERS:
            pair.answer(ANSWERS[octet], given.payload[place : place + number % 64])
        elif octet == ord(">"):
            pair.move(number, 0)
        elif octet == ord("<"):
            pair.move(0, number)
        elif octet == ord("*"):
            pair.move(len(pair.to_server), len(pair.to_client))
        elif octet == ord("!"):
            pair.settle()
        else:
            number = octet
    pair.settle()


if __name__ == "__main__":
    run(test_one_input)
