"""Reply texts in other languages than English, and which of them a client gets (RFC 6856 section 3).

The package speaks English everywhere; a `Language` is a table from those texts to its own. A text that is not in the
table stays as it is, and what a client reads as data can be in no table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

# A language tag (RFC 5646), as LANG takes it.
_TAG: Final = re.compile(r"[A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8}){0,7}")
# One line with something in it that could not be taken for a response code.
_LINE: Final = re.compile("(?![ \\[])[^\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]+")
_NUMBER: Final = re.compile(r"[0-9]+")
_BEHIND_COLON: Final = ": {}"
# The answers to STAT, to LIST and UIDL with a number, and to LANG with a tag have this form. A unique-id may be any
# word, so no text of this form can be told from an answer.
_DATA: Final = re.compile(r"\{\} [^ ]*")


@dataclass(frozen=True, slots=True)
class Language:
    """One language.

    tag: an RFC 5646 tag such as "de" or "pt-BR".
    description: what LANG lists behind the tag, one line, in the language itself.
    texts: English text -> text in this language. In both, `{}` stands for a whole number, and behind a colon at the
        end for whatever stands there; `{0}`, `{1}` in the translation allow another order. English texts of the form
        "{} word" are refused: they could not be told from the answer to UIDL.

    Raises ValueError for a tag, a description or a text that could not be sent or not be found again.
    """

    tag: str
    description: str
    texts: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)

    def __post_init__(self) -> None:
        if not _TAG.fullmatch(self.tag):
            raise ValueError(f"not a language tag: {self.tag!r}")
        if not _LINE.fullmatch(self.description):
            raise ValueError(f"the description of {self.tag} must be one line of text")
        for english, text in self.texts.items():
            _check(english, text)
        object.__setattr__(self, "texts", MappingProxyType(dict(self.texts)))

    def translate(self, text: str) -> str:
        """An English reply text in this language; unchanged if it is not in the table."""
        if found := self.texts.get(text):
            return found
        numbers = _NUMBER.findall(text)
        if numbers and (found := self.texts.get(_NUMBER.sub("{}", text))):
            return found.format(*numbers)
        head, colon, tail = text.partition(": ")
        if colon and (found := self.texts.get(head + _BEHIND_COLON)):
            return found.format(tail)
        return text


def _check(english: str, text: str) -> None:
    if not _LINE.fullmatch(english) or not _LINE.fullmatch(text):
        raise ValueError(f"not one line of text: {english!r} -> {text!r}")
    places = english.count("{}")
    if _DATA.fullmatch(_NUMBER.sub("{}", english)) or (places and _NUMBER.search(english)):
        raise ValueError(f"cannot be told from other texts: {english!r}")
    marks = [f"\0{place}\0" for place in range(places)]
    try:
        shown = text.format(*marks) if places else text
    except (AttributeError, LookupError, ValueError):
        shown = ""
    if sorted(re.findall("\0[0-9]+\0", shown)) != sorted(marks) or not shown:
        raise ValueError(f"{english!r} has {places} places for numbers, {text!r} has others")


def negotiate(wanted: str, available: Iterable[Language]) -> Language | None:
    """The language for a tag that a client asks for, by lookup (RFC 4647 section 3.4): `de-AT` is served by `de`.

    Letter case does not matter. None if there is none, and for "*", which is the server's own choice.
    """
    if not _TAG.fullmatch(wanted):
        return None
    by_tag = {language.tag.lower(): language for language in available}
    subtags = wanted.lower().split("-")
    while subtags:
        if found := by_tag.get("-".join(subtags)):
            return found
        subtags.pop()
        # A single letter only introduces what followed it.
        if subtags and len(subtags[-1]) == 1:
            subtags.pop()
    return None


ENGLISH: Final = Language("en", "English")

GERMAN: Final = Language(
    "de",
    "Deutsch",
    {
        # Login.
        "send PASS": "bitte PASS senden",
        "maildrop has {} message ({} octets)": "das Postfach enthält {} Nachricht ({} Oktette)",
        "maildrop has {} messages ({} octets)": "das Postfach enthält {} Nachrichten ({} Oktette)",
        "login without encryption is not allowed here": "eine Anmeldung ohne Verschlüsselung ist hier nicht erlaubt",
        "passwords are not taken here": "Kennwörter werden hier nicht angenommen",
        "APOP is not offered here": "APOP wird hier nicht angeboten",
        "mechanisms follow": "es folgen die Anmeldeverfahren",
        "this mechanism is not available": "dieses Anmeldeverfahren ist nicht verfügbar",
        "nobody can log in now, try again later": "zurzeit kann sich niemand anmelden, bitte später",
        "channel binding is offered here, so it must be used": "Kanalbindung wird angeboten und ist zu verwenden",
        "channel binding goes with the mechanisms in -PLUS": "Kanalbindung gehört zu den Verfahren auf -PLUS",
        "unsupported channel binding": "diese Kanalbindung ist nicht verfügbar",
        "name or password too long": "Name oder Kennwort ist zu lang",
        "name or password is not UTF-8": "Name oder Kennwort ist kein UTF-8",
        "this mechanism takes no initial response": "dieses Anmeldeverfahren nimmt keine Anfangsantwort an",
        "authentication cancelled": "die Anmeldung wurde abgebrochen",
        "not base64, authentication ended": "kein Base64, die Anmeldung ist beendet",
        "invalid user name or password": "Benutzername oder Kennwort ist ungültig",
        "maildrop in use by another session": "das Postfach wird von einer anderen Sitzung benutzt",
        "too soon after the last login": "zu kurz nach der letzten Anmeldung",
        "too many logins at once, try again later": (
            "zu viele gleichzeitige Anmeldungen, bitte versuchen Sie es später erneut"
        ),
        "too many connections from your address": "zu viele Verbindungen von Ihrer Adresse",
        # Before and beside it.
        "capability list follows": "es folgt die Liste der Fähigkeiten",
        "begin TLS": "bitte TLS beginnen",
        "TLS is not available here": "TLS ist hier nicht verfügbar",
        "TLS is active already": "TLS ist bereits aktiv",
        "too late for TLS, UTF8 was said": "zu spät für TLS, UTF8 wurde bereits verlangt",
        "UTF8 mode on": "UTF8 ist eingeschaltet",
        "UTF8 is not available here": "UTF8 ist hier nicht verfügbar",
        "languages follow": "es folgen die Sprachen",
        "language changed": "die Sprache wurde gewechselt",
        "this language is not available": "diese Sprache ist nicht verfügbar",
        "updated": "übernommen",
        "bad value in XCLIENT": "ungültiger Wert in XCLIENT",
        "too many hops, closing": "zu viele Zwischenstationen, die Verbindung wird beendet",
        # Messages.
        "{} message follows": "es folgt {} Nachricht",
        "{} messages follow": "es folgen {} Nachrichten",
        "{} octets follow": "es folgen {} Oktette",
        "top of message follows": "es folgt der Anfang der Nachricht",
        "message marked for deletion": "die Nachricht ist zum Löschen vorgemerkt",
        "no such message": "diese Nachricht gibt es nicht",
        "message already deleted": "die Nachricht ist bereits gelöscht",
        "message not available": "die Nachricht ist nicht verfügbar",
        "this message needs UTF8": "diese Nachricht erfordert UTF8",
        "messages cannot be deleted here": "Nachrichten können hier nicht gelöscht werden",
        "nothing done": "nichts zu tun",
        "goodbye": "auf Wiedersehen",
        "deleted messages may not have been removed": ("gelöschte Nachrichten wurden möglicherweise nicht entfernt"),
        "{} deleted message not removed": "{} gelöschte Nachricht wurde nicht entfernt",
        "{} deleted messages not removed": "{} gelöschte Nachrichten wurden nicht entfernt",
        # Lines that are no commands.
        "unknown command": "unbekannter Befehl",
        "command not available": "dieser Befehl ist nicht verfügbar",
        "malformed command line": "fehlerhafte Befehlszeile",
        "command line too long": "die Befehlszeile ist zu lang",
        "command line far too long, closing": "die Befehlszeile ist viel zu lang, die Verbindung wird beendet",
        "command not valid in this state": "dieser Befehl ist in diesem Zustand nicht zulässig",
        "bad arguments, expected: {}": "fehlerhafte Argumente, erwartet wird: {}",
        "too many bad commands, closing": "zu viele fehlerhafte Befehle, die Verbindung wird beendet",
        # Trouble.
        "request failed": "die Anfrage ist fehlgeschlagen",
        "temporary failure, try again later": "vorübergehende Störung, bitte versuchen Sie es später erneut",
        "permanent failure, tell the administrator": "dauerhafte Störung, bitte verständigen Sie die Verwaltung",
        "internal error, try again later": "interner Fehler, bitte versuchen Sie es später erneut",
        "the mail store is not available": "der Nachrichtenspeicher ist nicht verfügbar",
        "the mail store cannot be read": "der Nachrichtenspeicher kann nicht gelesen werden",
        "the mail store does not know how old mail is": "der Nachrichtenspeicher kennt das Alter der Nachrichten nicht",
        "the mailbox is locked by another program": "ein anderes Programm hat das Postfach gesperrt",
        "the mailbox cannot be read": "das Postfach kann nicht gelesen werden",
        "the mailbox must be looked after": "um das Postfach muss sich jemand kümmern",
        "no such folder": "diesen Ordner gibt es nicht",
        "the users cannot be looked up now": "die Benutzer können gerade nicht nachgesehen werden",
        "the mail store takes too long": "der Nachrichtenspeicher braucht zu lange",
        "the mail store returned an inconsistent maildrop": (
            "der Nachrichtenspeicher hat ein widersprüchliches Postfach geliefert"
        ),
        "the mail store returned a message of another size": (
            "der Nachrichtenspeicher hat eine Nachricht von anderer Größe geliefert"
        ),
    },
)

LANGUAGES: Final = (ENGLISH, GERMAN)
