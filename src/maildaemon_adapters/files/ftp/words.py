"""What an FTP server's answers mean: the codes of RFC 959 say little, so its words are listened to as well."""

from __future__ import annotations

import ftplib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import attrs

from maildaemon_adapters.files.tree import Fault, Named, Stat, TreeError
from maildaemon_adapters.tcp.words import said

_MISSING: Final = re.compile(
    r"no such|not found|(?:does|do)(?: no|n')t exist|not exist|cannot find|can't find|non-?existent|unknown file",
    re.IGNORECASE,
)
_DENIED: Final = re.compile(
    r"permission|denied|not allowed|not permitted|forbidden|privilege|read-?only|access|unauthori[sz]ed|prohibited"
    r"|not enough rights",
    re.IGNORECASE,
)
_EXISTS: Final = re.compile(r"exists|already|overwrite|duplicate", re.IGNORECASE)
_FULL: Final = re.compile(
    r"no space|disk full|disk is full|quota|insufficient (?:disk )?(?:space|storage)", re.IGNORECASE
)
_INFECTED: Final = re.compile(r"virus|infected|malware|blocked by|file type", re.IGNORECASE)
_TOO_LARGE: Final = re.compile(r"too (?:large|big)|maxim(?:um|al) (?:file )?size", re.IGNORECASE)
_NAME: Final = re.compile(
    r"(?:invalid|illegal|bad|not a valid) (?:file|folder|directory|path|character|name)"
    r"|(?:name|path) (?:is )?(?:too long|invalid|not valid|illegal)",
    re.IGNORECASE,
)
_NO_FOLDER: Final = re.compile(r"not a directory|not a folder", re.IGNORECASE)

_UNKNOWN: Final = frozenset({"500", "501", "502", "504"})
_TELLING: Final = 4
"""Names with fewer characters are as likely to be words of the server."""

_CROWDED: Final = "421"
_UNMISTAKABLE: Final = frozenset({"331", "332", "530"})
"""Codes whose words are not looked at: nobody is logged in."""

_RIGHTS: Final = "give the account the rights to write, rename, read, list and delete there"
_TLS_WANTED: Final = frozenset({"522", "533", "534", "536", "550"})


def is_unknown(error: ftplib.Error) -> bool:
    """Whether the server does not know the command, or does not do it."""
    return code_of(error) in _UNKNOWN


def code_of(error: BaseException) -> str:
    return str(error)[:3]


def words_of(error: BaseException, secrets: Iterable[str] = ()) -> str:
    """What the server said, as a clause for people, with its code."""
    return said(str(error), secrets) or "the server hung up"


def nameless(error: ftplib.Error, path: str) -> ftplib.Error:
    """The same without the path, whose names are no words of the server."""
    text = str(error).replace(path, "…")
    name = path.rpartition("/")[2]
    if len(name) >= _TELLING:
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "…", text)
    return type(error)(text)


def says_denied(error: BaseException) -> bool:
    text = str(error)
    return bool(_DENIED.search(text)) and not _MISSING.search(text)


_SAYINGS: Final = (
    (_TOO_LARGE, Fault.REFUSED_FILE, "have the server's limit raised, or store less"),
    (_FULL, Fault.FULL, ""),
    (_INFECTED, Fault.REFUSED_FILE, "look into the server's log about this file"),
    (_NO_FOLDER, Fault.BLOCKED, ""),
    (_MISSING, Fault.MISSING, ""),
    (_NAME, Fault.NAME, ""),
    (_DENIED, Fault.DENIED, _RIGHTS),
    (_EXISTS, Fault.EXISTS, ""),
)
"""What a server says means this, the first that fits, and what to do if that is not the usual."""

_CODES: Final = {
    "425": (
        Fault.GONE,
        "have the ports for passive FTP opened in the firewalls on the way, and in the server's settings",
    ),
    "426": (
        Fault.GONE,
        "if that goes on, look into the server's log: its disk may be full, or something on the way is slow",
    ),
    "451": (Fault.OTHER, "look into the server's log; its disk may be full"),  # all that ProFTPD says of that
    "452": (Fault.FULL, ""),
    "552": (Fault.FULL, ""),
    **dict.fromkeys(("530", "331", "332"), (Fault.LOGIN, "")),
}
"""What a code means where the words say nothing."""


def fault_of(error: ftplib.Error, secrets: Iterable[str] = ()) -> TreeError:
    """What a refusal of something that concerns one path means.  The server's codes are used for much that is alike."""
    what, code, text = words_of(error, secrets), code_of(error), str(error)
    if code == _CROWDED:
        return crowded(what)
    if code not in _UNMISTAKABLE:
        for saying, fault, remedy in _SAYINGS:
            if saying.search(text):
                return TreeError(fault, what, remedy=remedy)
    fault, remedy = _CODES.get(code, (Fault.OTHER, ""))
    return TreeError(fault, what, remedy=remedy)


def crowded(what: str) -> TreeError:
    return TreeError(
        Fault.BUSY,
        what,
        remedy="allow the account more connections on the server; it will be tried again",
        retry_after=60,
    )


def login_fault(error: ftplib.Error, where: str, user: str, secrets: Iterable[str], *, private: bool) -> TreeError:
    """Why nobody is let in."""
    what, code = words_of(error, secrets), code_of(error)
    if code == _CROWDED:
        return crowded(f"{where} lets nobody in at present: {what}")
    if not private and (code in _TLS_WANTED or re.search(r"\b(?:TLS|SSL)\b|encrypt|secure", what, re.IGNORECASE)):
        return TreeError(
            Fault.LOGIN,
            f"{where} wants TLS before a login: {what}",
            remedy="leave tls out of the options, or write explicit",
        )
    if isinstance(error, ftplib.error_temp):
        return TreeError(
            Fault.BUSY, f"{where} lets nobody in at present: {what}", remedy="it will be tried again later"
        )
    return TreeError(
        Fault.LOGIN,
        f"{where} does not accept this user name and password for {user!r}: {what}",
        remedy="check username and password, and that the account may use FTP",
    )


# ------------------------------------------------------------------------------------------------------- what is there


@attrs.frozen(kw_only=True)
class Powers:
    """What a server says that it can do (RFC 2389): ``facts``: MLST and MLSD (RFC 3659 §7); ``utf8``: RFC 2640."""

    facts: bool = False
    utf8: bool = False


def powers_of(features: str) -> Powers:
    """Reads the answer to FEAT."""
    names = {line.split()[0].upper() for line in features.splitlines()[1:] if line.startswith(" ") and line.split()}
    return Powers(facts="MLST" in names, utf8="UTF8" in names)


def fact_line(answer: str) -> str:
    """The line of an answer to MLST that holds the facts; "" if none does."""
    lines = answer.splitlines()[1:-1]
    return lines[0].removeprefix(" ") if lines else ""


def facts_of(line: str) -> tuple[Mapping[str, str], str]:
    """Facts, by name in lower case, and the name of what they are about."""
    facts, _, name = line.partition(" ")
    return {key.lower(): value for key, _, value in (fact.partition("=") for fact in facts.split(";") if fact)}, name


def stat_of(facts: Mapping[str, str]) -> Stat | None:
    """None if they do not say enough: what it is, and for a file, its size."""
    kind = facts.get("type", "").lower()
    if kind in {"dir", "cdir", "pdir"}:
        return Stat(size=0, is_folder=True)
    size = facts.get("size", "")
    return Stat(size=int(size)) if kind and size.isdecimal() else None


def named(lines: Iterable[str]) -> Iterator[Named]:
    """What an answer to MLSD lists, but for the folder itself and the one above it."""
    for line in lines:
        facts, path = facts_of(line)
        kind = facts.get("type", "").lower()
        name = path.rpartition("/")[2]
        if name not in {"", ".", ".."} and kind not in {"cdir", "pdir"}:
            yield Named(name=name, is_folder=kind == "dir")
