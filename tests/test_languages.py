"""Languages: that nothing the package says is missing in one, that nothing a client reads as data is ever changed."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import trio_pop3
from trio_pop3.languages import ENGLISH, GERMAN, LANGUAGES, Language, negotiate

ROOT = Path(trio_pop3.__file__).parent
COMPLETE = [language for language in LANGUAGES if language is not ENGLISH]

# Texts that say nothing in any language, and why each of the forms cannot be in a table.
DATA = {
    "{} {}",  # STAT, LIST n, UIDL n; and LANG with a tag, whose text has been translated by itself
    "{} messages",  # may be the answer to UIDL for a message whose unique-id is "messages"
    "{} octets",  # the same
}
# Arguments that are made elsewhere, and where their texts are found.
ELSEWHERE = {
    "str(failure)",  # sasl.Malformed, whose texts are collected where it is raised
    "refusal",  # Login.refuses_apop, listed below
    "text",  # sansio.writers: a greeting that is being written
    "safe_text(text, '') or safe_text(usual, BackendError.text)",  # failures, collected where they are raised
    "safe_text(str(failure), 'malformed authentication message')",  # as the first
    "NOT_IN_CLEAR.text",  # another reply's text
}
RETURNED = {"APOP is not offered here"}
# Not said by a server in a session.
SILENT = ("client", "client.py", "testing", "cli", "languages.py")

Texts = dict[str, str]


def trees() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(ROOT.rglob("*.py")):
        place = path.relative_to(ROOT)
        if place.parts[0] not in SILENT:
            yield str(place), ast.parse(path.read_text())


def called(node: ast.AST) -> str:
    """The last part of the name of what is called."""
    function = node.func if isinstance(node, ast.Call) else None
    return getattr(function, "attr", getattr(function, "id", ""))


def module_constants() -> dict[str, ast.expr]:
    """`NAME: Final = "text"` of every module."""
    found: dict[str, ast.expr] = {}
    for _, tree in trees():
        for node in tree.body:
            target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
            if isinstance(target, ast.Name) and isinstance(getattr(node, "value", None), ast.Constant):
                found[target.id] = node.value  # type: ignore[attr-defined]
    return found


CONSTANTS = module_constants()


def texts_of(node: ast.expr) -> list[str]:
    """Every text an expression can be, with `{}` for what is put in; nothing if that cannot be seen from it."""
    match node:
        case ast.Constant(value=str(text)):
            return [text] if text else []
        case ast.Name(id=name) if name in CONSTANTS:
            return texts_of(CONSTANTS[name])
        case ast.IfExp(body=one, orelse=other):
            return texts_of(one) + texts_of(other)
        case ast.JoinedStr(values=values):
            parts = [
                inserted(part.value) if isinstance(part, ast.FormattedValue) else texts_of(part) for part in values
            ]
            return ["".join(chosen) for chosen in itertools.product(*parts)]
    return []


def inserted(node: ast.expr) -> list[str]:
    """`{'' if one else 's'}` is one of two words, anything else a number."""
    if isinstance(node, ast.IfExp) and isinstance(node.body, ast.Constant) and isinstance(node.orelse, ast.Constant):
        return [str(node.body.value), str(node.orelse.value)]
    return ["{}"]


def failures() -> dict[str, ast.ClassDef]:
    """The exceptions whose text a client sees: BackendError and what is derived from it."""
    classes = [node for _, tree in trees() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    found = {node.name: node for node in classes if node.name == "BackendError"}
    for _ in range(4):  # as deep as the hierarchy may be
        found |= {node.name: node for node in classes for base in node.bases if getattr(base, "id", "") in found}
    return found


def of_class(node: ast.ClassDef) -> Iterator[ast.expr]:
    """What is behind `text =` in its body, and what it hands to its base."""
    for part in ast.walk(node):
        target = part.targets[0] if isinstance(part, ast.Assign) else getattr(part, "target", None)
        if part in node.body and getattr(target, "id", "") == "text":
            yield part.value  # type: ignore[attr-defined]
        elif isinstance(part, ast.Call) and ast.unparse(part.func) == "super().__init__" and part.args:
            yield part.args[0]


def arguments() -> Iterator[tuple[str, str, ast.expr]]:
    """Where, to what, and what: every expression that becomes a reply text."""
    classes = failures()
    own = {name for name, node in classes.items() if any(getattr(part, "name", "") == "__init__" for part in node.body)}
    # The text of AuthenticationFailed is always the same, and one with an __init__ of its own is looked into below.
    takers = {"Ok", "Err", "translate", "Malformed", *classes} - {"AuthenticationFailed", *own}
    for place, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and node.args and called(node) in takers:
                yield f"{place}:{node.lineno}", called(node), node.args[0]
    for name, part in classes.items():
        for argument in of_class(part):
            yield name, "class", argument


def said() -> Texts:
    """Text -> a place where the package says it."""
    found = {text: place for place, _, argument in arguments() for text in texts_of(argument)}
    return {**dict.fromkeys(RETURNED, "login.py"), **found}


def test_the_scan_finds_every_kind() -> None:
    assert said().keys() > {
        "send PASS",  # a literal
        "no such message",  # in a constant
        "login without encryption is not allowed here",  # a constant by its name
        "passwords are not taken here",  # behind a condition
        "temporary failure, try again later",  # of a class
        "{} deleted message not removed",  # composed
        "{} deleted messages not removed",
        "language changed",
    }


@pytest.mark.parametrize("language", COMPLETE, ids=lambda language: language.tag)
def test_a_language_has_everything(language: Language) -> None:
    """R6856-22: whatever the package says is said in the language of LANG. A new reply needs a new line there."""
    missing = {text: place for text, place in said().items() if text not in DATA and text not in language.texts}
    assert not missing, f"not in {language.description}"


def test_every_reply_can_be_read_from_the_source() -> None:
    """Or the test above would overlook it: write it as a literal, or explain it in ELSEWHERE."""
    unread = {
        ast.unparse(part): place for place, taker, part in arguments() if taker in ("Ok", "Err") and not texts_of(part)
    }
    assert not {text: place for text, place in unread.items() if text not in ELSEWHERE}


@pytest.mark.parametrize("language", COMPLETE, ids=lambda language: language.tag)
def test_texts_fit_a_status_line(language: Language) -> None:
    """R6856-22: UTF-8, and well within 512 octets with a response code and long numbers."""
    for english, text in language.texts.items():
        assert len(text.encode("utf-8")) < 200
        assert text != english


def test_german_is_german() -> None:
    assert GERMAN.translate("unknown command") == "unbekannter Befehl"
    assert (
        GERMAN.translate("maildrop has 2 messages (320 octets)") == "das Postfach enthält 2 Nachrichten (320 Oktette)"
    )
    assert GERMAN.translate("1 deleted message not removed") == "1 gelöschte Nachricht wurde nicht entfernt"
    assert GERMAN.translate("bad arguments, expected: TOP msg n") == "fehlerhafte Argumente, erwartet wird: TOP msg n"
    assert GERMAN.translate("UTF8 mode on") == "UTF8 ist eingeschaltet"
    assert ENGLISH.translate("unknown command") == "unknown command"


# --- what must stay ------------------------------------------------------------------------------------------------

uids = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=70)


@given(st.integers(0, 10**20), uids | st.sampled_from(["messages", "octets", "1", "a1b2", "{}", "expected:"]))
@example(1, "octets")
def test_data_is_never_changed(number: int, word: str) -> None:
    """R6856-22 is for people: STAT, LIST n and UIDL n stay, whatever a unique-id is."""
    for language in LANGUAGES:
        assert language.translate(f"{number} {word}") == f"{number} {word}"


@given(st.text(max_size=60))
def test_unknown_texts_stay(text: str) -> None:
    """What a backend says in its own words comes through."""
    if text not in GERMAN.texts:
        assert GERMAN.translate(text) == text
    assert GERMAN.translate(f"{text}: {text}") == f"{text}: {text}"


@given(st.lists(st.integers(0, 10**20), min_size=2, max_size=2))
def test_numbers_come_through(numbers: list[int]) -> None:
    other = Language("x-t", "t", {"{} of {}": "{1} davon {0}", "wrong: {}": "falsch: {}"})
    one, two = numbers
    assert other.translate(f"{one} of {two}") == f"{two} davon {one}"
    assert other.translate(f"wrong: {one} {{}}") == f"falsch: {one} {{}}"
    assert other.translate("wrong: a: b") == "falsch: a: b"
    assert other.translate(f"{one} of those") == f"{one} of those"


# --- what a language must be ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("tag", ["", "*", "d e", "de_DE", "de-", "-de", "deutschland", "1a", "de-ä", "a" * 9, "de\n"])
def test_bad_tags(tag: str) -> None:
    with pytest.raises(ValueError, match="not a language tag"):
        Language(tag, "x")


@pytest.mark.parametrize("description", ["", " x", "a\r\nb", "a\0", "[x] y", "\ud800"])
def test_bad_descriptions(description: str) -> None:
    with pytest.raises(ValueError, match="must be one line of text"):
        Language("x-t", description)


@pytest.mark.parametrize(
    ("english", "text", "complaint"),
    [
        ("", "x", "not one line"),
        ("x", "", "not one line"),
        ("x", "a\r\n.", "not one line"),
        ("x", "[SYS/TEMP] x", "not one line"),
        ("{} messages", "{} Nachrichten", "cannot be told"),
        ("7 messages", "sieben", "cannot be told"),
        ("{} {}", "{} {}", "cannot be told"),
        ("UTF8 has {} messages", "{} x", "cannot be told"),
        ("{} are here", "hier", "places for numbers"),
        ("{} are here", "{} {}", "places for numbers"),
        ("{} are {} here", "{} {} {}", "places for numbers"),
        ("{} are {} here", "{0} {0}", "places for numbers"),
        ("{} are here", "{0.real}", "places for numbers"),
        ("{} are here", "{0[0]}", "places for numbers"),
        ("{} are here", "{x}", "places for numbers"),
        ("{} are here", "{", "places for numbers"),
    ],
)
def test_bad_texts(english: str, text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Language("x-t", "test", {english: text})


def test_a_language_is_a_value() -> None:
    texts = {"goodbye": "x"}
    language = Language("x-t", "test", texts)
    texts["goodbye"] = "y"
    assert language.translate("goodbye") == "x"
    assert language == Language("X-T".lower(), "test", {"goodbye": "x"})
    assert language != Language("x-t", "test")
    assert len({language, Language("x-t", "test", {"goodbye": "x"})}) == 1
    assert "goodbye" not in repr(language)


# --- which one -----------------------------------------------------------------------------------------------------

AVAILABLE = [Language(tag, tag) for tag in ("en", "de", "zh-Hant", "pt-BR", "x-klingon")]


@pytest.mark.parametrize(
    ("wanted", "tag"),
    [
        ("de", "de"),
        ("DE", "de"),
        ("de-AT", "de"),
        ("de-at-1996", "de"),
        ("pt-br", "pt-BR"),
        ("pt", None),
        ("pt-PT", None),
        ("zh-Hant-CN-x-private1-private2", "zh-Hant"),  # the example of RFC 4647 section 3.4
        ("de-x-y", "de"),
        ("x-klingon", "x-klingon"),
        ("x-elvish", None),
        ("fr", None),
        ("*", None),
        ("de-*", None),
        ("", None),
        ("d\u00e9", None),
    ],
)
def test_lookup(wanted: str, tag: str | None) -> None:
    """R6856-21, R6856-23: a tag that is served, a more general one, or none, and then nothing changes."""
    found = negotiate(wanted, AVAILABLE)
    assert (None if found is None else found.tag) == tag


def test_the_list_of_languages_is_what_lang_needs() -> None:
    """R6856-25: a tag and a description each, and no tag twice."""
    assert len({language.tag for language in LANGUAGES}) == len(LANGUAGES)
    assert [negotiate(language.tag.upper(), LANGUAGES) for language in LANGUAGES] == list(LANGUAGES)
