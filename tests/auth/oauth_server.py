"""A small authorization server on a loopback port: it signs tokens, says whose they are, and misbehaves on request."""

from __future__ import annotations

import base64
import functools
import gzip
import json
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from joserfc import jws, jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, Key, KeySet, OKPKey, RSAKey

from trio_pop3.auth.oauth.jose import KEY_TYPES
from trio_pop3.backend import ClientInfo

ISSUER = "https://login.example.org/"
AUDIENCE = "pop3.example.org"
US = ("pop3 server", "s3cret:with/odd chars")
CLIENT = ClientInfo("test", "192.0.2.1", 4711, tls=True)
NOW = 1_800_000_000.0


@functools.cache
def key(kind: str, name: str) -> Key:
    """A private key, made once: "RSA 2048", "EC P-256", "OKP Ed25519"."""
    family, _, size = kind.partition(" ")
    if family == "RSA":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SecurityWarning)  # of short ones
            return RSAKey.generate_key(int(size), {"kid": name})
    if family == "EC":
        return ECKey.generate_key(size, {"kid": name})
    return OKPKey.generate_key(size, {"kid": name})  # type: ignore[arg-type]


def claims(**changes: Any) -> dict[str, Any]:
    """Claims of a good token; a change to None takes a claim away."""
    usual = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "4711",
        "email": "alice@example.org",
        "scope": "openid mail.pop",
        "iat": int(NOW) - 10,
        "nbf": int(NOW) - 10,
        "exp": int(NOW) + 300,
    }
    return {name: value for name, value in {**usual, **changes}.items() if value is not None}


def sign(key: Key, algorithm: str, content: Mapping[str, Any], **header: Any) -> str:
    """A token. Of a header member that is None there is none; by default `kid` is the key's."""
    members = {"alg": algorithm, "kid": key.kid, "typ": "at+jwt", **header}
    shown = {name: value for name, value in members.items() if value is not None}
    registry = jws.JWSRegistry(algorithms=[*KEY_TYPES, "HS256", "none"], strict_check_header=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)
        return jwt.encode(shown, dict(content), key, registry=registry, default_type=None)


class AuthorizationServer:
    """What it does, and what was asked of it.

    keys: it publishes them. active: tokens it knows, and what it says of them.
    behaviour: a name of BEHAVIOURS, instead of an honest answer.
    """

    def __init__(self) -> None:
        self.keys: list[Key] = [key("RSA 2048", "rsa-1"), key("EC P-256", "ec-1"), key("OKP Ed25519", "okp-1")]
        self.active: dict[str, dict[str, Any]] = {}
        self.behaviour: str | None = None
        self.requests: list[str] = []
        self.arrived = threading.Semaphore(0)  # one up for each request
        self.released = threading.Event()  # ends the silence
        self.url = ""

    @property
    def jwks(self) -> dict[str, Any]:
        return dict(KeySet(self.keys).as_dict(private=False))

    def answer(self, path: str, form: Mapping[str, list[str]], authorization: str) -> tuple[int, Any]:
        """Status and JSON of an honest answer."""
        if path == "/jwks":
            return 200, self.jwks
        if authorization != "Basic " + base64.b64encode(b"pop3+server:s3cret%3Awith%2Fodd+chars").decode():
            return 401, {"error": "invalid_client"}
        (token,) = form["token"]
        said = self.active.get(token)
        return 200, {"active": False} if said is None else {"active": True, **said}


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(parse_qs(body.decode()))

    def _answer(self, form: Mapping[str, list[str]]) -> None:
        our = self.server.our
        our.requests.append(f"{self.command} {self.path}")
        our.arrived.release()
        self.close_connection = True
        if our.behaviour is not None:
            BEHAVIOURS[our.behaviour](self)
            return
        status, said = our.answer(self.path, form, self.headers.get("Authorization", ""))
        self.reply(status, json.dumps(said).encode())

    def reply(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def endless(self) -> None:
        """A body without an announced length, until the client has enough."""
        self.send_response(200)
        self.end_headers()
        try:
            while True:
                self.wfile.write(b" " * 65536)
        except OSError:
            self.close_connection = True

    def silent(self) -> None:
        self.server.our.released.wait()

    def no_http(self) -> None:
        self.wfile.write(b"+OK POP3 server ready\r\n")

    def log_message(self, *_: object) -> None:
        """Says nothing on stderr."""


BEHAVIOURS: dict[str, Callable[[_Handler], None]] = {
    "error": lambda handler: handler.reply(500, b"{}"),
    "not found": lambda handler: handler.reply(404, b"{}"),
    "too many": lambda handler: handler.reply(429, b"{}"),
    "redirect": lambda handler: handler.reply(302, b"{}", Location="http://127.0.0.1:9/"),
    "garbage": lambda handler: handler.reply(200, b"{ \xff"),
    "page": lambda handler: handler.reply(200, b"<html>Please log in</html>", Content_Type="text/html"),
    "list": lambda handler: handler.reply(200, b'["active"]'),
    "deep": lambda handler: handler.reply(200, b"[" * 60_000),
    "words": lambda handler: handler.reply(200, b'{"active": "true", "keys": "none"}'),
    "no keys": lambda handler: handler.reply(200, b'{"keys": []}'),
    "nothing": lambda handler: handler.reply(204, b""),
    "compressed": lambda handler: handler.reply(200, gzip.compress(b" " * 10_000_000), Content_Encoding="gzip"),
    "cut": lambda handler: handler.reply(200, b'{"active": true', Content_Length="100"),
    "no HTTP": _Handler.no_http,
    "closes": lambda handler: None,
    "endless": _Handler.endless,
    "silent": _Handler.silent,
}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = True
    request_queue_size = 128

    def __init__(self, our: AuthorizationServer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.our = our


@contextmanager
def serving() -> Iterator[AuthorizationServer]:
    """The server, running in a thread."""
    our = AuthorizationServer()
    with _Server(our) as server:
        our.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield our
        finally:
            our.released.set()
            server.shutdown()
            thread.join()
