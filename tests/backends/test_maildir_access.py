"""The way to a Maildir: nobody's links lead to anybody else's mail."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.backend import AuthenticationFailed, MaildropInUse, NoSuchFolder, PermanentFailure, TemporaryFailure
from trio_pop3.backends.maildir import MaildirStore, MaildirTarget, PathPattern, make_maildir
from trio_pop3.backends.maildir.access import ForeignLink, check_way
from trio_pop3.delivery import DeliveryFailed, Envelope
from trio_pop3.lmtp.grammar import Address

from ..driving import CLIENT, run
from .maildir_helpers import Box, inline, open_files

# Somebody who is neither root nor whom the tests run as.
STRANGER = 4711

Link = Callable[[object, Path], None]


def foreign_link(patch: pytest.MonkeyPatch, target: object, path: Path) -> None:
    """A link that somebody else has made: really, or else we take ourselves for somebody else."""
    path.symlink_to(str(target))
    if os.geteuid() == 0:
        os.chown(path, STRANGER, STRANGER, follow_symlinks=False)
    else:
        patch.setattr(os, "geteuid", lambda: STRANGER)


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> Link:
    return partial(foreign_link, monkeypatch)


@pytest.fixture
def box(tmp_path: Path) -> Box:
    box = Box(tmp_path / "root")
    box.put("1700000001.in")
    return box


@pytest.fixture
def bob(box: Box) -> Box:
    """Somebody whose mail alice is after."""
    bob = Box(box.root, "bob")
    bob.put("1700000002.secret")
    make_maildir(bob.path / ".Junk")
    return bob


def opened(box: Box, user: str = "alice", folder: str | None = None, *, follow_symlinks: bool = False) -> list[str]:
    """The unique-ids that a session gets. No descriptor stays open, however it ends."""
    before = open_files()
    try:
        store = MaildirStore(f"{box.root}/{{user}}", run_sync=inline, follow_symlinks=follow_symlinks)
        maildrop = run((store if folder is None else store.folder(folder)).open(user, CLIENT))
        run(maildrop.release())
        return [message.uid for message in maildrop.messages]
    finally:
        assert open_files() == before


PLACES = ["", "cur", "new"]


@pytest.mark.parametrize("place", PLACES)
def test_links_of_others_are_not_followed(
    box: Box, bob: Box, foreign: Link, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    """H11: who owns a Maildir, or the directory it is in, puts a link to somebody else's mail in its place."""
    target = box.path / place
    target.rename(box.root / "old")
    foreign(bob.path / place, target)
    with pytest.raises(PermanentFailure, match="the mail store cannot be read"):
        opened(box)
    uid = STRANGER if os.geteuid() == 0 else os.getuid()
    assert f"a symbolic link of uid {uid} is not followed without follow_symlinks" in caplog.text
    assert not (bob.path / ".trio-pop3.lock").exists()


@pytest.mark.parametrize("place", PLACES)
def test_links_of_ours_are_followed(box: Box, place: str) -> None:
    """Mail is moved to other disks, and whoever runs the server leaves links behind."""
    elsewhere = box.root.parent / "elsewhere"
    (box.path / place).rename(elsewhere)
    (box.path / place).symlink_to(elsewhere)
    assert opened(box) == ["1700000001.in"]


def test_links_of_the_user_that_we_run_as(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is not root, but owns all mail."""
    elsewhere = box.root.parent / "elsewhere"
    box.path.rename(elsewhere)
    box.path.symlink_to(elsewhere)
    if os.geteuid() == 0:
        os.chown(box.path, STRANGER, STRANGER, follow_symlinks=False)
        with monkeypatch.context() as patch:
            patch.setattr(os, "geteuid", lambda: STRANGER)
            status = check_way(os.fsencode(box.root), box.octets_path, [b"cur"])
    else:
        status = check_way(os.fsencode(box.root), box.octets_path, [b"cur"])
    assert os.path.samestat(status, elsewhere.stat())


@pytest.mark.parametrize("place", PLACES)
def test_all_links_are_followed_if_told_so(box: Box, foreign: Link, place: str) -> None:
    elsewhere = box.root.parent / "elsewhere"
    (box.path / place).rename(elsewhere)
    foreign(elsewhere, box.path / place)
    assert opened(box, follow_symlinks=True) == ["1700000001.in"]


def test_a_link_of_ours_to_one_of_others(box: Box, bob: Box, foreign: Link) -> None:
    """Whatever a link leads through is looked at in the same way."""
    foreign(bob.path, box.root / "middle")
    (box.root / "carol").symlink_to("middle")
    with pytest.raises(PermanentFailure):
        opened(box, "carol")


def test_folders_are_looked_at_as_well(box: Box, bob: Box, foreign: Link) -> None:
    foreign(bob.path / ".Junk", box.path / ".Junk")
    with pytest.raises(PermanentFailure):
        opened(box, folder="Junk")
    foreign(box.root / "nowhere", box.path / ".Gone")
    with pytest.raises(PermanentFailure):
        opened(box, folder="Gone")
    (box.path / ".Ours").symlink_to("../nowhere")
    with pytest.raises(NoSuchFolder):
        opened(box, folder="Ours")


def test_the_root_is_as_it_may_be(box: Box, foreign: Link) -> None:
    """What the pattern has before its first field is not for us to judge."""
    foreign(box.root, box.root.parent / "mail")
    store = MaildirStore(f"{box.root.parent}/mail/{{user}}", run_sync=inline)
    maildrop = run(store.open("alice", CLIENT))
    assert len(maildrop.messages) == 1
    run(maildrop.release())


def test_ways_that_do_not_end(box: Box) -> None:
    (box.root / "carol").symlink_to("carol")
    with pytest.raises(PermanentFailure):
        opened(box, "carol")
    (box.root / "dave").symlink_to("alice/new/1700000001.in")
    with pytest.raises(PermanentFailure):
        opened(box, "dave")
    with pytest.raises(TemporaryFailure):
        opened(box, "nobody")


def test_a_relative_pattern(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(box.root)
    for pattern in ("{user}", "./{user}", "../root/{user}"):
        maildrop = run(MaildirStore(pattern, run_sync=inline).open("alice", CLIENT))
        run(maildrop.release())
        assert len(maildrop.messages) == 1


@pytest.mark.parametrize(
    ("pattern", "root"),
    [
        ("/m/{user}", "/m"),
        ("/{user}", "/"),
        ("{user}", "."),
        ("m{user}", "."),
        ("/m/x-{user}/Maildir", "/m"),
        ("/m/{{x}}/{domain}/{local}", "/m/{x}"),
    ],
)
def test_roots_of_patterns(pattern: str, root: str) -> None:
    assert PathPattern(pattern).root == root


@pytest.mark.parametrize("pattern", ["/m/{user}/..", "/m/{domain}/../{local}", "/m/{user}/../x/{local}"])
def test_patterns_that_go_back_up(pattern: str) -> None:
    """H11."""
    with pytest.raises(ValueError, match="must not go back up"):
        PathPattern(pattern)


KINDS = st.lists(st.sampled_from(["directory", "ours", "outside", "foreign", "chain"]), min_size=4, max_size=4)


@given(KINDS)
def test_the_way_is_the_one_that_the_kernel_goes(tmp_path_factory: pytest.TempPathFactory, kinds: list[str]) -> None:
    """H11, as a law: whatever is on the way, it ends where the pattern and our own links lead, or it is not gone to its
    end; without links, or with links that stay in there, that is below the root.
    """
    top = tmp_path_factory.mktemp("way")
    root = top / "root"
    for path in (root, top / "outside", top / "aside"):
        path.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        place = root  # where the next step is made, by the way that the kernel goes
        for n, kind in enumerate(kinds):
            step = place / ("cur" if n == 3 else f"step{n}")
            if kind == "directory":
                step.mkdir()
                place = step
                continue
            real = (top / "outside" if kind == "outside" else place) / f"real{n}"
            real.mkdir()
            match kind:
                case "ours":
                    step.symlink_to(real.name)
                case "outside":
                    step.symlink_to(real)
                case "foreign":
                    foreign_link(patch, real, step)
                case "chain":
                    (top / "aside" / f"{n}").symlink_to(os.path.relpath(real, top / "aside"))
                    step.symlink_to(f"{os.path.relpath(top, place)}/aside/../aside/{n}")
            place = real
        maildir = root / "step0/step1/step2"
        before = open_files()
        if "foreign" in kinds:
            with pytest.raises(ForeignLink):
                check_way(os.fsencode(root), os.fsencode(maildir), [b"cur"])
        else:
            status = check_way(os.fsencode(root), os.fsencode(maildir), [b"cur"])
            assert os.path.samestat(status, maildir.stat())
            assert maildir.resolve().is_relative_to(root) == ("outside" not in kinds[:3])
        assert open_files() == before


@given(st.text(st.sampled_from("./@aA\0\n~-") | st.characters(), max_size=10))
def test_no_name_opens_what_is_not_below_the_root(tmp_path_factory: pytest.TempPathFactory, user: str) -> None:
    """H11, P5: whatever the name, it is refused, or nothing is there: the mail beside the root is never opened."""
    top = tmp_path_factory.mktemp("names")
    for place in (top, top / "a", top / "root" / "only"):
        make_maildir(place)
    store = MaildirStore(f"{top}/root/{{local}}", run_sync=inline)
    if user == "only":
        return
    with pytest.raises((AuthenticationFailed, TemporaryFailure)):
        run(store.open(user, CLIENT))


def test_names_that_differ_in_case(box: Box) -> None:
    """They are two users, as for whoever checks logins; where one directory is both, it has one lock."""
    with pytest.raises(TemporaryFailure):
        opened(box, "Alice")
    (box.root / "Alice").symlink_to("alice")
    store = MaildirStore(f"{box.root}/{{user}}", run_sync=inline)
    held = run(store.open("alice", CLIENT))
    with pytest.raises(MaildropInUse):
        run(store.open("Alice", CLIENT))
    run(held.release())


@pytest.mark.parametrize("place", ["", "new", "tmp"])
async def test_deliveries_go_the_same_way(box: Box, bob: Box, foreign: Link, place: str) -> None:
    """H11: mail for alice is not put where a link of hers leads; and other recipients get theirs."""
    address = Address("x", "example.org")
    target = MaildirTarget(f"{box.root}/{{user}}", run_sync=inline)
    carol = Box(box.root, "carol")
    (box.path / place).rename(box.root / "old")
    foreign(bob.path / place, box.path / place)
    delivery = target.begin(Envelope(None, [(address, "alice"), (address, "carol")], b""))
    await delivery.write(b"mail\r\n")
    with pytest.raises(DeliveryFailed, match="is not followed without follow_symlinks"):
        await delivery.finish(0)
    await delivery.finish(1)
    await delivery.discard()
    assert len(carol.names()) == 1
    assert bob.names() == [b"1700000002.secret"]
    assert list((bob.path / "tmp").iterdir()) == []
    follower = MaildirTarget(f"{box.root}/{{user}}", run_sync=inline, follow_symlinks=True)
    delivery = follower.begin(Envelope(None, [(address, "alice")], b""))
    await delivery.finish(0)
    await delivery.discard()


def test_deliveries_as_the_owner_and_through_any_link() -> None:
    with pytest.raises(ValueError, match="as_owner cannot go with follow_symlinks"):
        MaildirTarget("/m/{user}", follow_symlinks=True, as_owner=True)
