"""Options of `serve` that say where it listens, with which certificates, and whom it believes."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import trustme

from trio_pop3.cli import network
from trio_pop3.cli.failure import Failure
from trio_pop3.rules import Headers
from trio_pop3.server import Networks


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    network.add_to(parser)
    parser.add_argument("--client-ca")
    return parser.parse_args(words)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A certificate and its key."""
    directory = tmp_path_factory.mktemp("tls")
    issued = trustme.CA().issue_cert("pop.example.org")
    certificate, key = directory / "cert.pem", directory / "key.pem"
    certificate.write_bytes(issued.cert_chain_pems[0].bytes())
    key.write_bytes(issued.private_key_pem.bytes())
    return str(certificate), str(key)


def test_defaults() -> None:
    arguments = parse()
    assert network.addresses(arguments) == ["127.0.0.1:1110"]
    options = network.options(arguments)
    assert options["tls"] is None
    assert options["headers"] is Headers.PASS
    assert "trusted" not in options


def test_with_certificates_and_trust(pair: tuple[str, str]) -> None:
    certificate, key = pair
    arguments = parse(
        *("--tls-listen", "[::1]:995,proxy", "--cert", certificate, "--key", key, "--require-tls"),
        *("--proxy-from", "10.0.0.0/8", "--xclient-from", "loopback", "--trust", "192.0.2.1", "--headers", "refuse"),
    )
    assert network.addresses(arguments) == ["[::1]:995,proxy,tls"]
    options = network.options(arguments)
    assert options["tls"] is not None
    assert options["require_tls"]
    assert options["headers"] is Headers.REFUSE
    assert options["proxy_from"] == Networks(["10.0.0.0/8"])
    assert options["trusted"] == Networks(["192.0.2.1"])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--cert", "a"), "give one --key for each --cert"),
        (("--tls-listen", "127.0.0.1:0"), "begins with TLS .* needs --cert and --key"),
        (("--listen", "127.0.0.1:0,tls"), "begins with TLS .* needs --cert and --key"),
        (("--listen", "127.0.0.1:0,proxy"), "an address with ,proxy needs --proxy-from"),
        (("--proxy-from", "10.0.0.0/8"), "--proxy-from needs such an address"),
        (("--require-tls",), "--require-tls needs --cert and --key"),
        (("--client-ca", "x"), "--client-ca needs --cert and --key"),
        (("--cert", "/nowhere", "--key", "/nowhere"), "/nowhere"),
        (("--listen", "127.0.0.1:0,proxy", "--proxy-from", "10.0.0.1/8"), "--proxy-from: .*10.0.0.1/8"),
        (("--trust", "everybody"), "--trust: .*everybody"),
    ],
)
def test_what_makes_no_sense_is_said(words: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(Failure, match=sentence):
        network.options(parse(*words))


def test_a_key_of_another_certificate(pair: tuple[str, str], tmp_path: Path) -> None:
    """G8: one sentence that names the file, and no key in it."""
    other = tmp_path / "other.pem"
    other.write_bytes(trustme.CA().issue_cert("x.example").private_key_pem.bytes())
    with pytest.raises(Failure) as caught:
        network.options(parse("--cert", pair[0], "--key", str(other)))
    assert str(other) in str(caught.value)
    assert "PRIVATE" not in str(caught.value)
