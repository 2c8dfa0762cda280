"""From user names to directories."""

from __future__ import annotations

import os
import posixpath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trio_pop3.backends.maildir import PathPattern
from trio_pop3.backends.maildir.paths import is_safe_component

ALL = "/m/{domain}/{local}/{user}/Maildir"


@pytest.mark.parametrize(
    ("pattern", "user", "path"),
    [
        ("/m/{user}", "alice", "/m/alice"),
        ("/m/{user}", "alice@example.org", "/m/alice@example.org"),
        ("/m/{local}/x", "alice", "/m/alice/x"),
        ("/m/{domain}/{local}/Maildir", "alice@example.org", "/m/example.org/alice/Maildir"),
        ("/m/{domain}/{local}", "odd@name@example.org", "/m/example.org/odd@name"),
        ("/m/{{x}}/{user}", "alice", "/m/{x}/alice"),
        ("/m/{user}", "{local}", "/m/{local}"),
        ("/m/{user}", "zo\xeb", "/m/zo\xeb"),
        ("/m/{user}", "zo\udceb", "/m/zo\udceb"),
    ],
)
def test_good_names(pattern: str, user: str, path: str) -> None:
    assert PathPattern(pattern).path_for(user) == path


BAD_COMPONENTS = ["", ".", "..", ".hidden", "-rf", "a/b", "/etc", "../x", "a\0b", "a\nb", "a\x7f", "a b", "\ud800"]


@pytest.mark.parametrize("name", BAD_COMPONENTS)
def test_bad_names_have_no_path(name: str) -> None:
    """H11."""
    assert PathPattern("/m/{user}").path_for(name) is None
    assert PathPattern("/m/{local}").path_for(name) is None
    assert PathPattern("/m/{local}").path_for(f"{name}@example.org") is None
    assert PathPattern("/m/{domain}/{local}").path_for(f"alice@{name}") is None


def test_domain_needs_one() -> None:
    """H11."""
    assert PathPattern("/m/{domain}/{local}").path_for("alice") is None


@given(st.text(st.sampled_from("./-@ab\0\n{}") | st.characters(), max_size=12))
@example("../../etc/passwd")
@example("alice@..")
def test_no_name_leaves_the_root(user: str) -> None:
    """H11: whatever the name, the path is the pattern with three names in it, each one step down."""
    path = PathPattern(ALL).path_for(user)
    if path is not None:
        assert posixpath.normpath(path) == path
        parts = path.split("/")
        assert (parts[:2], len(parts), parts[-1]) == (["", "m"], 6, "Maildir")
        assert b"\0" not in os.fsencode(path)


@given(st.text(max_size=8))
def test_safe_components_are_components(name: str) -> None:
    """H11."""
    assert is_safe_component(name) == (
        name != "" and name[0] not in ".-" and not any(c <= " " or c in "/\x7f" for c in name)
    )


@pytest.mark.parametrize(
    "pattern",
    ["/m", "/m/{name}", "/m/{}", "/m/{0}", "/m/{user.__class__}", "/m/{user[0]}", "/m/{user!r}", "/m/{user:>9}",
     "/m/{user", "/m/user}", "/m/\0{user}"],
)  # fmt: skip
def test_bad_patterns_are_refused_at_once(pattern: str) -> None:
    with pytest.raises(ValueError, match="pattern"):
        PathPattern(pattern)


def test_a_pattern_shows_itself() -> None:
    assert repr(PathPattern("/m/{user}")) == "PathPattern('/m/{user}')"
