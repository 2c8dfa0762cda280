"""Start a server, print what `trio-pop3 check` has to be told of it, and serve until Ctrl-C."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import signal

from . import PEERS, Peer


def arguments(peer: Peer) -> str:
    """A line for a shell; what stands behind `#` is for people."""
    words = [f"{peer.host}:{peer.port}", "--user", peer.user, "--password", peer.password]
    words += ["--second-user", f"{peer.second_user}:{peer.second_password}"]
    words += ["--reset", peer.reset_command]
    tls = "no TLS" if peer.tls_port is None else f"STLS, and TLS on port {peer.tls_port}, signed by {peer.ca}"
    return f"{shlex.join(words)}  # {peer.name} {peer.version}, {tls}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.peers", description=__doc__)
    parser.add_argument("name", choices=PEERS, metavar="NAME", help=", ".join(PEERS))
    name = parser.parse_args().name
    # An end like that by Ctrl-C, so that its folder is removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), PEERS[name]() as peer:
        print(arguments(peer), flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
