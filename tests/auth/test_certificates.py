"""Whose certificate is it?"""

from __future__ import annotations

from typing import Any

import pytest

from trio_pop3 import backend as be
from trio_pop3.auth.certificates import NAMES, CertificateUsers
from trio_pop3.credentials import CertificateCredentials, ClientCertificate, Credentials, PasswordCredentials

from ..driving import CLIENT, run


def certificate(
    *, common: tuple[str, ...] = (), old: tuple[str, ...] = (), email: tuple[str, ...] = (), der: bytes = b"DER"
) -> ClientCertificate:
    subject = [*((("commonName", name),) for name in common), *((("emailAddress", name),) for name in old)]
    others = [("email", name) for name in email]
    return ClientCertificate({"subject": tuple(subject), "subjectAltName": tuple(others)}, der)


def who(users: CertificateUsers, shown: ClientCertificate) -> str | None:
    try:
        return run(users.authenticate(CertificateCredentials("", shown), CLIENT))
    except be.AuthenticationFailed:
        return None


@pytest.mark.parametrize(
    ("name", "shown", "user"),
    [
        ("email", certificate(email=("a@example.org",)), "a@example.org"),
        ("email", certificate(old=("a@example.org",)), "a@example.org"),
        ("email", certificate(old=("old@example.org",), email=("a@example.org",)), "a@example.org"),
        ("email", certificate(email=("a@example.org", "b@example.org")), None),
        ("email", certificate(old=("a@example.org", "b@example.org")), None),
        ("email", certificate(common=("alice",)), None),
        ("email", certificate(email=("",)), None),
        ("email", ClientCertificate({}, b""), None),
        ("common-name", certificate(common=("alice",), email=("b@example.org",)), "alice"),
        ("common-name", certificate(common=("alice", "bob")), None),
        ("common-name", certificate(email=("a@example.org",)), None),
    ],
)
def test_the_name_in_the_certificate(name: str, shown: ClientCertificate, user: str | None) -> None:
    """REXT-02: exactly one, or the derivation fails."""
    assert who(CertificateUsers(name), shown) == user


def test_known_certificates() -> None:
    """REXT-02, R2595-09: with a list of them, what stands in one does not matter."""
    shown = certificate(email=("bob@example.org",))
    users = {shown.fingerprint: "alice"}
    known = CertificateUsers(users=users)
    users.clear()
    assert who(known, shown) == "alice"
    assert who(known, certificate(email=("bob@example.org",), der=b"another")) is None
    assert who(CertificateUsers(users={}), shown) is None
    assert who(CertificateUsers(users={shown.fingerprint: ""}), shown) is None


@pytest.mark.parametrize("credentials", [PasswordCredentials("alice", "secret"), Credentials("alice")])
def test_nothing_else_will_do(credentials: Credentials) -> None:
    """REXT-01, H6."""
    with pytest.raises(be.AuthenticationFailed):
        run(CertificateUsers().authenticate(credentials, CLIENT))
    assert CertificateUsers.login_methods == {"EXTERNAL"}


@pytest.mark.parametrize("name", ["", "mail", "commonName", None])
def test_other_names_are_not_names(name: Any) -> None:
    with pytest.raises(ValueError, match="email, common-name"):
        CertificateUsers(name)
    assert set(NAMES) == {"email", "common-name"}


async def test_only_who_is_known() -> None:
    """REXT-02: a certificate of the authority is not enough where there is a list of users."""
    users = CertificateUsers(known={"a@example.org"}.__contains__)
    for name, good in (("a@example.org", True), ("b@example.org", False)):
        certificate = ClientCertificate({"subjectAltName": (("email", name),)}, b"")
        credentials = CertificateCredentials("", certificate)
        if good:
            assert await users.authenticate(credentials, CLIENT) == name
        else:
            with pytest.raises(be.AuthenticationFailed):
                await users.authenticate(credentials, CLIENT)
