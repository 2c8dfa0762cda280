"""Options of `trio-pop3 serve` that say who may log in, and how."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, Final

from ..auth import PasswdFile
from ..auth.certificates import NAMES, CertificateUsers
from ..auth.first_of import FirstOf
from ..backend import Authenticator
from ..sasl import MECHANISMS
from .failure import Failure, reason

# Extras are imported by what needs them, and say themselves which one is missing.
_NO_EXTRA: Final = (ImportError, ValueError)


def add_to(parser: argparse.ArgumentParser) -> None:
    """The options."""
    group = parser.add_argument_group("who may log in", "With several, the first that accepts a login counts.")
    group.add_argument("--passwd-file", metavar="FILE", help="lines name:{SCHEME}secret, as Dovecot's passwd-file")
    group.add_argument("--dovecot-auth", metavar="SOCKET", help="ask the auth-client socket of a Dovecot")
    group.add_argument("--pam", metavar="SERVICE", help="ask PAM, as this service (extra: pam)")
    group.add_argument(
        "--oauth-jwks", metavar="URL", help="accept tokens signed by these keys; or a file (extra: oauth)"
    )
    group.add_argument("--oauth-issuer", metavar="URL", help="who must have issued them")
    group.add_argument("--oauth-audience", metavar="NAME", help="for whom they must be")
    group.add_argument("--oauth-introspect", metavar="URL", help="ask this endpoint about tokens (extra: oauth)")
    group.add_argument("--oauth-client", metavar="ID", help="who asks it")
    group.add_argument("--oauth-secret-file", metavar="FILE", help="holds what it knows us by")
    group.add_argument("--oauth-claim", metavar="NAME", help="of a token, the user (default: email; username if asked)")
    group.add_argument("--oauth-scope", metavar="SCOPE", default="", help="a token must have")
    group.add_argument(
        "--client-ca",
        metavar="FILE",
        help="ask for TLS client certificates of these authorities; with a users file, its users' only",
    )
    group.add_argument(
        "--certificate-name", choices=NAMES, default="email", help="what in them is the user (default: email)"
    )
    group.add_argument(
        "--insecure-auth", action="store_true", help="take passwords in clear from other machines, for all to read"
    )
    group.add_argument(
        "--mechanism", metavar="NAME", action="append", type=str.upper, choices=MECHANISMS,
        help=f"offer these SASL mechanisms only; may be repeated ({', '.join(MECHANISMS)})",
    )  # fmt: skip
    group.add_argument("--apop", action="store_true", help="offer APOP; needs passwords stored as {PLAIN}")
    group.add_argument("--login-delay", type=int, metavar="SECONDS", help="between two logins of a user")


def authenticator(arguments: argparse.Namespace, users: PasswdFile | None) -> Authenticator:
    """Everything that was asked for, as one; `users`: those of the users file. Raises Failure."""
    found: list[Authenticator] = []
    known: Callable[[str], bool] | None = None
    if users is not None:
        found.append(users)
        known = users.knows
    for make in (_dovecot, _pam, _signed_tokens, _introspected_tokens):
        try:
            found.extend(make(arguments))
        except _NO_EXTRA as failure:
            raise Failure(str(failure), 2) from None
        except OSError as failure:
            raise Failure(f"{failure.filename}: {reason(failure)}") from None
    if arguments.client_ca is not None:
        found.append(CertificateUsers(arguments.certificate_name, known=known))
    if not found:
        raise Failure(
            "say who may log in: --passwd-file, --dovecot-auth, --pam, --oauth-jwks, --oauth-introspect or --client-ca",
            2,
        )
    return found[0] if len(found) == 1 else FirstOf(*found)


def known_users(users: Authenticator) -> int | None:
    """How many there are, if that can be known."""
    return len(users.users) if isinstance(users, PasswdFile) else None


def _dovecot(arguments: argparse.Namespace) -> list[Authenticator]:
    if arguments.dovecot_auth is None:
        return []
    from ..auth.dovecot import DovecotAuth

    return [DovecotAuth(arguments.dovecot_auth)]


def _pam(arguments: argparse.Namespace) -> list[Authenticator]:
    if arguments.pam is None:
        return []
    from ..auth.pam import Pam

    return [Pam(arguments.pam)]


def _claim(arguments: argparse.Namespace, otherwise: str) -> dict[str, Any]:
    return {"user_claim": arguments.oauth_claim or otherwise, "scope": arguments.oauth_scope.split()}


def _signed_tokens(arguments: argparse.Namespace) -> list[Authenticator]:
    if arguments.oauth_jwks is None:
        return []
    if not (arguments.oauth_issuer and arguments.oauth_audience):
        raise ValueError("--oauth-jwks needs --oauth-issuer and --oauth-audience")
    from ..auth.oauth import JwtTokens

    return [
        JwtTokens(
            jwks=arguments.oauth_jwks,
            issuer=arguments.oauth_issuer,
            audience=arguments.oauth_audience,
            **_claim(arguments, "email"),
        )
    ]


def _introspected_tokens(arguments: argparse.Namespace) -> list[Authenticator]:
    if arguments.oauth_introspect is None:
        return []
    if not (arguments.oauth_client and arguments.oauth_secret_file):
        raise ValueError("--oauth-introspect needs --oauth-client and --oauth-secret-file")
    from ..auth.oauth import IntrospectedTokens

    return [
        IntrospectedTokens(
            endpoint=arguments.oauth_introspect,
            client_id=arguments.oauth_client,
            client_secret=_read(arguments.oauth_secret_file),
            **_claim(arguments, "username"),
        )
    ]


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except OSError as failure:
        raise Failure(f"{path}: {reason(failure)}") from None
