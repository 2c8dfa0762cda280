"""Check number -> a server on which it must not pass; and servers that differ from the usual one, where it must."""

from __future__ import annotations

import base64
import re
import ssl
import warnings
from collections.abc import Callable
from typing import Any, Final

from .faulty_server import OTHER, OTHER_PASSWORD, PASSWORD, USER, Conversation, Fault, RememberingGate, Reply

OK, ERR = b"+OK\r\n", b"-ERR no\r\n"
# Connections, and timestamps, before the first check.
BEFORE: Final = 8
_NO_ONE: Final = b"trio-pop3-check-nobody"


def _when(pattern: bytes, what: Reply, *, inside: bool | None = None) -> Fault:
    """What is said to lines that match, logged in or not; everything else is right."""
    compiled = re.compile(pattern, re.DOTALL)

    def reply(talk: Conversation, line: bytes | None) -> bytes:
        fits = line is not None and compiled.fullmatch(line) and inside in (None, talk.inside)
        return what(talk, line) if fits else talk.honest(line)

    return Fault(reply=reply)


def says(pattern: bytes, reply: bytes, *, inside: bool | None = None) -> Fault:
    """This, and nothing happens."""
    return _when(pattern, lambda talk, line: reply, inside=inside)


def reads(pattern: bytes, change: Callable[[bytes], bytes], *, inside: bool | None = None) -> Fault:
    """Takes a line for another one."""
    return _when(pattern, lambda talk, line: talk.honest(change(line or b"")), inside=inside)


def rewrites(pattern: bytes, old: bytes, new: bytes, *, inside: bool | None = None) -> Fault:
    """Says what is right, with something in it replaced; `old` is a regular expression."""
    return _when(pattern, lambda talk, line: re.sub(old, new, talk.honest(line), flags=re.DOTALL), inside=inside)


def does(pattern: bytes, what: Callable[[Conversation, bytes], bytes], *, inside: bool | None = None) -> Fault:
    """Whatever else."""
    return _when(pattern, lambda talk, line: what(talk, line or b""), inside=inside)


def greets(old: bytes, new: bytes) -> Fault:
    """A greeting with something in it replaced, but for those that come before the checks."""

    def reply(talk: Conversation, line: bytes | None) -> bytes:
        said = talk.honest(line)
        before = BEFORE if talk.server.fault.timestamp else BEFORE // 2
        return re.sub(old, new, said) if line is None and talk.number > before else said

    return Fault(reply=reply)


def with_(fault: Fault, **changes: Any) -> Fault:
    for name, value in changes.items():
        setattr(fault, name, value)
    return fault


def _unlocked(talk: Conversation, line: bytes) -> bytes:
    talk.server.backend._locked.clear()
    return talk.honest(line)


def _gives_lock_away(talk: Conversation, line: bytes) -> bytes:
    said = talk.honest(line)
    if b"[IN-USE]" in said:
        talk.server.backend._locked.clear()
    return said


def _lingering_lock(talk: Conversation, line: bytes | None) -> bytes:
    memory = talk.server.memory
    if line == b"QUIT" and talk.inside:
        memory["lingers"] = True
    elif line and line.startswith(b"PASS") and memory.pop("lingers", False):
        return b"-ERR [IN-USE] wait\r\n"
    return talk.honest(line)


def _refuses_after_failure(talk: Conversation, line: bytes | None) -> bytes:
    said = talk.honest(line)
    if line is not None and (b"[AUTH]" in said or (talk.memory.get("failed") and not line.startswith(b"CAPA"))):
        talk.memory["failed"] = True
        return ERR
    return said


def _in_use_for_strangers(talk: Conversation, line: bytes) -> bytes:
    locked = talk.server.backend.locked(USER)
    said = talk.honest(line)
    return b"-ERR [IN-USE] wait\r\n" if locked and b"[AUTH]" in said else said


def _other_waits(talk: Conversation, line: bytes) -> bytes:
    return b"-ERR wait\r\n" if talk.server.backend.locked(USER) else talk.honest(line)


def _anybodys_password(talk: Conversation, line: bytes) -> bytes:
    return talk.honest(b"PASS " + PASSWORD.encode() if talk.last == b"USER " + USER.encode() else line)


def _names_unknown(talk: Conversation, line: bytes) -> bytes:
    said = talk.honest(line)
    return b"-ERR [AUTH] no such user\r\n" if talk.last.endswith(_NO_ONE) else said


def _removes(talk: Conversation, line: bytes) -> bytes:
    """The first message goes with the first QUIT."""
    said = talk.honest(line)
    mail = talk.server.backend._mail[USER]
    if mail:
        mail.pop(next(iter(mail)))
    return said


def _deletes_at_once(talk: Conversation, line: bytes) -> bytes:
    said = talk.honest(line)
    if said.startswith(b"+OK"):
        uids = list(talk.server.backend._mail[USER])
        talk.server.backend._mail[USER].pop(uids[int(line.split()[1]) - 1 - talk.memory.get("gone", 0)])
        talk.memory["gone"] = talk.memory.get("gone", 0) + 1
    return said


def _remembers(key: str, *, of_server: bool) -> Callable[[Conversation, bytes], bytes]:
    """Says what it said the first time."""

    def what(talk: Conversation, line: bytes) -> bytes:
        memory = talk.server.memory if of_server else talk.memory
        said = talk.honest(line)
        return bytes(memory.setdefault(key, said))

    return what


def _new_every_time(talk: Conversation, line: bytes) -> bytes:
    talk.server.memory["count"] = count = talk.server.memory.get("count", 0) + 1
    return talk.honest(line).replace(b"\r\n\r\n", b"\r\nX-Count: %d\r\n\r\n" % count, 1)


def _deletes_for_bob(talk: Conversation, line: bytes) -> bytes:
    before = len(talk.server.backend.messages(USER))
    said = talk.honest(line)
    if len(talk.server.backend.messages(USER)) < before:
        talk.server.backend._mail[OTHER].clear()
    return said


def _numbers(listing: bytes, change: Callable[[int, int], tuple[int, int]]) -> bytes:
    """A listing with other numbers in it."""
    return re.sub(rb"\n(\d+) (\d+)", lambda match: b"\n%d %d" % change(int(match[1]), int(match[2])), listing)


def _executes_rest(talk: Conversation, rest: bytes) -> bytes:
    return talk.honest(rest) if rest else b""


def _quits_at_end(talk: Conversation, rest: bytes) -> bytes:
    return talk.honest(b"QUIT") if talk.inside else b""


def _no_number(data: bytearray) -> bytes | None:
    """Everything that came in one segment is one command."""
    if not data:
        return None
    line = bytes(data).partition(b"\r\n")[0]
    data.clear()
    return line


def _lf_ends(data: bytearray) -> bytes | None:
    line, end, rest = data.partition(b"\n")
    if not end:
        return None
    data[:] = rest
    return bytes(line.removesuffix(b"\r"))


def _cut(talk: Conversation, line: bytes) -> bytes:
    return b"".join(talk.honest(line[begin : begin + 510]) for begin in range(0, min(len(line), 1020), 510))


def _closes_after(count: int, pattern: bytes) -> Fault:
    def what(talk: Conversation, line: bytes) -> bytes:
        talk.memory["bad"] = bad = talk.memory.get("bad", 0) + 1
        talk.closing = bad >= count
        return talk.honest(line)

    return does(pattern, what, inside=True)


def _ends(talk: Conversation, line: bytes) -> bytes:
    talk.closing = True
    return b""


def _goes_on_behind_quit(talk: Conversation, line: bytes | None) -> bytes:
    return talk.honest(line) + (OK if line == b"QUIT" else b"")


def _nonce(challenge: bytes) -> bytes:
    return b"+ " + base64.b64encode(challenge) + b"\r\n"


def _proof_is_good(talk: Conversation, line: bytes) -> bytes:
    return OK if talk.exchanging and b"r=x" in base64.b64decode(line) else talk.honest(line)


def _wrong_signature(talk: Conversation, line: bytes) -> bytes:
    said = talk.honest(line)
    signed = said.startswith(b"+ ") and base64.b64decode(said[2:]).startswith(b"v=")
    return _nonce(b"v=" + base64.b64encode(b"wrong")) if signed else said


def _few_iterations(talk: Conversation, line: bytes) -> bytes:
    said = talk.honest(line)
    return _nonce(base64.b64decode(said[2:]).replace(b"i=4096", b"i=100"))


def _capa(old: bytes, new: bytes, **options: Any) -> Fault:
    return rewrites(b"CAPA", old, new, **options)


def _without_codes(talk: Conversation, line: bytes | None) -> bytes:
    """A server that has no response codes, and announces none."""
    said = re.sub(rb"^(\+OK|-ERR) \[[^]]*\]", rb"\1", talk.honest(line))
    return said.replace(b"RESP-CODES\r\n", b"").replace(b"AUTH-RESP-CODE\r\n", b"").replace(b"AUTH-\r\n", b"")


def _expires(before: bytes, after: bytes) -> Fault:
    def what(talk: Conversation, line: bytes) -> bytes:
        value = after if talk.inside else before
        return talk.honest(line).replace(b"PIPELINING\r\n", b"PIPELINING\r\nEXPIRE %s\r\n" % value)

    return does(b"CAPA", what)


def _plain(text: bytes) -> bytes:
    return b"AUTH PLAIN " + base64.b64encode(text)


with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    _OLD: Final = (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1)
    _OLD_TOO: Final = (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_2)

# A server on which the check passes, where the usual one is not it.
HONEST: Final[dict[str, Fault]] = {
    "219": Fault(timestamp=False),
    "227": Fault(rules={"login_delay": 1}, gate=RememberingGate),
    "611": Fault(reply=_without_codes),
    "618": Fault(rules={"login_delay": 1}),
    "619": _expires(b"30 USER", b"60"),
}

FAULTS: Final[dict[str, Fault]] = {
    # --- the greeting
    "101": with_(greets(rb"\+OK.*", b"-ERR busy"), many=True),
    "102": with_(greets(rb"$", b"+OK ready\r\n"), many=True),
    "103": greets(rb"ready", b"ready " * 100),
    "104": with_(greets(rb"\+OK.*", b"+OK"), timestamp=False),
    "105": with_(greets(rb"<.*>", b"<no message id>"), many=True),
    "106": with_(greets(rb"<.*>", b"<1@localhost>"), many=True),
    # --- before the login
    "201": says(b"QUIT", ERR, inside=False),
    "202": says(b"STAT", b"+OK 0 0\r\n", inside=False),
    "203": does(b"STAT", lambda talk, line: OK if talk.last.startswith(b"USER") else talk.honest(line)),
    "204": does(b"PASS .*", lambda talk, line: talk.honest(line) if talk.lines else OK),
    "205": does(b"PASS .*", lambda talk, line: OK if talk.last == b"NOOP" else talk.honest(line)),
    "206": does(b"USER .*", lambda talk, line: OK if talk.last == line else talk.honest(line)),
    "207": says(b"USER", OK),
    "208": does(b"PASS ", lambda talk, line: OK if talk.last.endswith(_NO_ONE) else talk.honest(line)),
    "209": Fault(reply=_refuses_after_failure),
    "210": says(b"USER " + _NO_ONE, ERR),
    "211": does(b"PASS .*", _names_unknown),
    "212": rewrites(b"PASS .*", rb"\[AUTH\] ", b""),
    "213": _capa(b"AUTH-RESP-CODE\r\n", b""),
    "214": says(b"uSeR .*", ERR),
    "215": says(b"USER .*", OK, inside=True),
    "216": reads(b"PASS .* ", bytes.strip),
    "217": says(b"APOP .*", OK),
    "218": with_(says(b"APOP .*", OK, inside=False), many=True),
    "219": with_(says(b"APOP .*", OK, inside=False), timestamp=False),
    "220": says(b"APOP [^ ]* 00", OK),
    "221": does(b"PASS .*", _unlocked),
    "222": does(b"PASS .*", _gives_lock_away),
    "223": Fault(reply=_lingering_lock),
    "224": does(b"PASS .*", _in_use_for_strangers),
    "225": does(b"USER " + OTHER.encode(), _other_waits),
    "226": does(b"PASS " + OTHER_PASSWORD.encode(), _anybodys_password),
    "227": Fault(rules={"login_delay": 1}),
    # --- SASL
    "301": says(b"AUTH X-.*", OK, inside=False),
    "302": _capa(b"SASL ", b"SASL bad!name "),
    "303": says(b"AUTH PLAIN [A-Za-z0-9+/]+=*", ERR),
    "304": says(b"auTH .*", ERR),
    "305": does(b"AUTH PLAIN", lambda talk, line: talk.honest(line).replace(b"+ ", b"+"), inside=False),
    "306": rewrites(rb"\*", b"-ERR", b"+OK"),
    "307": says(_plain(b"\0%s\0trio-pop3-check-wrong" % USER.encode()), OK),
    "308": reads(b"[A-Za-z0-9+/]*![A-Za-z0-9+/=]*", lambda line: line.replace(b"!", b"")),
    "309": rewrites(b"=AAA", b"-ERR", b"+OK"),
    "310": reads(b"AUTH PLAIN =", lambda line: b"AUTH PLAIN"),
    "311": does(b"", lambda talk, line: b"+ \r\n" if talk.exchanging else talk.honest(line)),
    "312": does(b"QUIT", lambda talk, line: OK if talk.exchanging else talk.honest(line)),
    "313": says(_plain(b"\0%s\0" % USER.encode()), OK),
    "314": does(
        b".{512,}", lambda talk, line: talk.honest(line) + (ERR if talk.lines[-1:] == [b"AUTH PLAIN"] else b"")
    ),
    "315": says(b"AUTH PLAIN.*", OK, inside=True),
    "316": rewrites(b"AUTH LOGIN", rb"\+ .*\r", b"+ Username:\r"),
    "317": says(b"AUTH CRAM-MD5 .*", b"+ PDFAbG9jYWxob3N0Pg==\r\n"),
    "318": rewrites(b"AUTH CRAM-MD5", rb"\+ .*\r", b"+ PDFAbG9jYWxob3N0Pg==\r"),
    "319": does(b"[A-Za-z0-9+/=]{30,}", _wrong_signature),
    "320": does(b"AUTH SCRAM-SHA-256 .*", _few_iterations),
    "321": says(b"AUTH SCRAM-SHA-256 .*", _nonce(b"r=abcdef,s=QUFBQQ==,i=4096")),
    "322": does(b"[A-Za-z0-9+/=]{30,}", _proof_is_good),
    "323": says(b"AUTH SCRAM-SHA-256 biwsbT.*", _nonce(b"r=abcdefghi,s=QUFBQQ==,i=4096")),
    "324": says(b"AUTH", b"+OK\r\nPLAIN\r\n.\r\n"),
    "325": does(b"AUTH", _ends),
    # --- mail
    "401": with_(rewrites(b"STAT", rb"(\d+) \d+", rb"\1"), many=True),
    "402": rewrites(b"STAT", rb"\r\n", b" octets\r\n"),
    "403": rewrites(b"LIST", rb"\r\n(\d+) (\d+)", rb"\r\n\1 \2k"),
    "404": rewrites(b"LIST", rb"\r\n(\d+) (\d+)", rb"\r\n\1 \2 octets"),
    "405": with_(
        does(b"LIST", lambda talk, line: _numbers(talk.honest(line), lambda number, size: (number - 1, size))),
        many=True,
    ),
    "406": rewrites(b"STAT", rb"(\d+) (\d+)", rb"\1 1\2"),
    "407": reads(b"LIST [1-9]", lambda line: b"LIST"),
    "408": rewrites(b"LIST", rb"(\+OK[^\r]*)\r\n\.\r\n", rb"\1\r\n1 0\r\n.\r\n"),
    "409": rewrites(b"UIDL", rb"(\+OK[^\r]*)\r\n\.\r\n", rb"\1\r\n1 x\r\n.\r\n"),
    "410": rewrites(b"RETR .*", rb"\r\n\.\r\n", b"\r\n\r\n.\r\n"),
    "411": rewrites(b"RETR .*", rb"line 3\r\n", b"line 3\n"),
    "412": rewrites(b"RETR .*", rb"\n\.\.", b"\n."),
    "413": rewrites(b"TOP .*", rb"\n\.\.", b"\n."),
    "414": does(b"RETR .*", _new_every_time),
    "415": reads(b"RETR", lambda line: b"RETR 1"),
    "416": says(b"LIST 0", b"+OK 0 0\r\n"),
    "417": reads(b"RETR 1x", lambda line: b"RETR 1"),
    "418": reads(b"LIST [0-9]{5,}", lambda line: b"LIST %d" % (int(line[5:]) % 2**32)),
    "419": reads(b"LIST 0001", lambda line: b"LIST 2"),
    "420": rewrites(b"NOOP", rb"\+OK", b"+OK\r\n+OK", inside=True),
    "421": rewrites(b"RSET", rb"\+OK", b"+OK\r\n+OK"),
    "422": reads(b"TOP [0-9]* 0", lambda line: line[:-1] + b"1"),
    "423": reads(b"TOP [0-9]* [1-9]", lambda line: line[:-1] + b"0"),
    "424": reads(b"TOP [0-9]* [0-9]{5,}", lambda line: b"TOP %s 10" % line.split()[1]),
    "425": reads(b"TOP 1 -1", lambda line: b"TOP 1 0"),
    "426": rewrites(b"UIDL", rb"\r\n(\d+) ([^\r]+)", rb"\r\n\1 \2 x"),
    "427": rewrites(b"UIDL", rb"\r\n(\d+) ", rb"\r\n\1 " + b"u" * 70),
    "428": rewrites(b"UIDL.*", rb"0000000.", b"00000000"),
    "429": reads(b"UIDL [0-9]+", lambda line: b"UIDL 2"),
    "430": does(b"UIDL", lambda talk, line: talk.honest(line).replace(b"0000000", b"%07d" % talk.number)),
    "431": does(
        b"LIST",
        lambda talk, line: _numbers(talk.honest(line), lambda number, size: (number, size - 2 * (number == 1))),
    ),
    # --- deleting
    "501": rewrites(b"QUIT", rb"\+OK", b"+OK\r\n+OK", inside=True),
    "502": does(b"QUIT", _removes, inside=True),
    "503": does(b"DELE .*", _deletes_at_once),
    "504": does(b"LIST", _remembers("LIST", of_server=True)),
    "505": does(b"STAT", _remembers("STAT", of_server=False)),
    "506": says(b"LIST 1", b"+OK 1 1\r\n"),
    "507": says(b"DELE .*", OK),
    "508": says(b"DELE 0", OK),
    "509": says(b"RSET", OK),
    "510": rewrites(b"LIST", rb"(\+OK[^\r]*)\r\n\.\r\n", rb"\1\r\n1 0\r\n.\r\n"),
    "511": Fault(at_end=_quits_at_end),
    "512": Fault(at_end=_executes_rest),
    "513": reads(b"QUIT .*", lambda line: b"QUIT"),
    "514": says(b"RSET", OK),
    "515": does(b"RETR .*", lambda talk, line: (talk.honest(line), talk.honest(b"DELE" + line[4:]))[0]),
    "516": does(b"QUIT", lambda talk, line: (talk.honest(b"RSET"), talk.honest(line))[1], inside=True),
    "517": does(
        b"UIDL",
        lambda talk, line: talk.honest(line).replace(b"\r\n1 ", b"\r\n1 %d" % len(talk.server.backend.messages(USER))),
    ),
    "518": with_(does(b"QUIT", _deletes_for_bob, inside=True), others_mail=(b"Subject: bob\r\n\r\n",)),
    "519": does(b"PASS .*", _unlocked),
    # --- capabilities
    "601": says(b"CAPA", ERR, inside=True),
    "602": _capa(b"SASL ", b"SASL  "),
    "603": reads(b"CAPA .*", lambda line: b"CAPA"),
    "604": _capa(rb"SASL [^\r]*\r\n", b"", inside=True),
    "605": says(b"TOP .*", ERR),
    "606": says(b"UIDL.*", ERR),
    "607": with_(
        does(b"USER .*", lambda talk, line: ERR if talk.number > BEFORE else talk.honest(line)),
        many=True,
    ),
    "608": _capa(b"TOP\r\n", b""),
    "609": says(b"TOP .*", ERR),
    "610": _capa(b"TOP\r\n", b"TOP\r\nAPOP\r\n"),
    "611": _capa(b"\r\nRESP-CODES\r\n", b"\r\n"),
    "612": says(b"XNON.*|X-TRIO.*", b"-ERR [what\r\n"),
    "613": says(b"NOOP", b"+OK [SYS/TEMP] x\r\n", inside=True),
    "614": says(b"RETR 0", b"-ERR [AUTH] x\r\n"),
    "615": Fault(flushes="LIST"),
    "616": Fault(flushes="PASS"),
    "617": does(
        b"STAT", lambda talk, line: OK if talk.last.startswith(b"PASS") and not talk.inside else talk.honest(line)
    ),
    "618": _capa(b"PIPELINING\r\n", b"PIPELINING\r\nLOGIN-DELAY soon\r\n"),
    "619": _expires(b"30", b"never"),
    "620": _expires(b"30 USER", b"60 USER"),
    "621": does(b"USER n{240,}", lambda talk, line: talk.honest(line[:200]) + ERR),
    "622": _capa(rb"UTF8[^\r]*\r\n", b"", inside=True),
    "623": rewrites(b"UTF8", rb"\+OK", b"+OK\r\n+OK"),
    "624": says(b"UTF8 .*", OK),
    "625": says(b"UTF8", OK, inside=True),
    "626": rewrites(b"LANG", rb"\r\nen", b"\r\n en"),
    "627": says(b"LANG en", OK),
    "628": says(b"LANG x-.*", b"+OK en English\r\n"),
    # --- TLS
    "701": does(b"NOOP", lambda talk, line: OK if talk.encrypted and not talk.inside else talk.honest(line)),
    "702": does(b"CAPA", lambda talk, line: ERR if talk.encrypted else talk.honest(line)),
    "703": reads(b"STLS .*", lambda line: b"STLS"),
    "704": says(b"STLS", OK, inside=True),
    "705": does(
        b"CAPA",
        lambda talk, line: talk.honest(line).replace(b"TOP\r\n", b"TOP\r\nSTLS\r\n" if talk.encrypted else b"TOP\r\n"),
    ),
    "706": does(b"STLS", lambda talk, line: OK if talk.encrypted else talk.honest(line)),
    "707": Fault(keeps_input=True),
    "708": Fault(keeps_input=True),
    "709": does(b"PASS .*", lambda talk, line: OK if talk.last == b"STLS" else talk.honest(line)),
    "710": Fault(speaks_for_handshake=True),
    "711": Fault(tls_versions=_OLD, many=True),
    "712": Fault(tls_versions=_OLD_TOO),
    "713": says(b"STAT", b"+OK 0 0\r\n", inside=False),
    "714": Fault(closes_rudely=True),
    # --- lines
    "801": says(b"XNON", OK, inside=False),
    "802": rewrites(b"RETR", rb"-ERR", b"-err"),
    "803": says(b"", OK),
    "804": says(b"sTaT", ERR),
    "805": reads(b"STAT x", lambda line: b"STAT"),
    "806": reads(b"LIST 1 1", lambda line: b"LIST 1"),
    "807": reads(b"LIST  1", lambda line: b"LIST 1"),
    "808": reads(b" NOOP", bytes.strip),
    "809": rewrites(b"NOOP ", rb"(\+OK|-ERR)", rb"\1\r\n\1"),
    "810": reads(b"NOOP ", bytes.strip),
    "811": reads(b"NOOP\nNOOP", lambda line: b"NOOP"),
    "812": Fault(split=_lf_ends),
    "813": reads(b"NO\rOP", lambda line: b"NOOP"),
    "814": reads(b".*\0.*", lambda line: line.partition(b"\0")[0]),
    "815": says(b"\xff\xfe", OK),
    "816": does(b"XNON.{512,}", _cut),
    "817": does(b"X{240}", lambda talk, line: b"-ERR unknown: " + line * 3 + b"\r\n"),
    "818": does(b"X\x1b.*", lambda talk, line: b"-ERR unknown: " + line + b"\r\n"),
    "819": Fault(split=_no_number, many=True),
    "820": Fault(reply=_goes_on_behind_quit),
    "821": Fault(at_end=_executes_rest),
    "822": Fault(waits_for_end=True),
    "823": Fault(at_end=_executes_rest),
    "824": says(b"LAST", OK),
    "825": _closes_after(10, b"XNON"),
    "826": _closes_after(3, b"RETR 999999999"),
}
