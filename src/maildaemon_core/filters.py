"""Is this mail wanted, judged by its sender; is this attachment wanted, judged by its name and type.

Every function is total on any text and takes time in proportion to it: what is judged here was written by strangers.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

import attrs

from maildaemon_core.safe_names import attachment_name

MAX_ADDRESS = 1000
"""Characters; longer is not an address (RFC 5321 §4.5.3.1 ends at 64 + 1 + 255 octets)."""

MAX_PATTERN = 320
"""Characters in a pattern."""

_MAX_NAME = 1000
_NAME_TAIL = 100
_DOTS = str.maketrans("\u3002\uff0e\uff61", "...")  # what else parts labels: RFC 3490 §3.1
_FILE_ENDING = re.compile(
    r"[*.]*(7z|bmp|csv|dat|docx?|docm|eml|exe|gif|gz|html?|ics|jpe?g|json|mbox|msg|odp|ods|odt|p7m|p7s|pdf|png|pptx?|"
    r"pst|rar|rtf|svg|tar|tiff?|txt|vcf|webp|xlsx?|xlsm|xml|zip)",
    re.IGNORECASE,
)


@attrs.frozen(kw_only=True)
class Wanted:
    """Nothing speaks against it."""


@attrs.frozen(kw_only=True)
class Unwanted:
    """It is to be left out; ``reason`` says why, for people, in one line without control characters."""

    reason: str


Verdict = Wanted | Unwanted


def sender_verdict(sender: str, allowed: Sequence[str]) -> Verdict:
    """Whether a mail from ``sender`` (``Headers.sender``) is wanted by the patterns of ``allowedEmailExtensions``.

    ``jane@firm.de`` is that address, ``@firm.de`` that domain only, ``firm.de`` that domain and everything below it,
    ``.firm.de`` (or ``.de``) only what is below it.  Case never matters, and an internationalised domain is the same in
    both of its spellings (``bücher.de``, ``xn--bcher-kva.de``; RFC 5890).  No patterns: all are wanted.  With patterns,
    a sender that cannot be read is not.  A pattern that has a fault (``sender_pattern_fault``) lets nobody in.
    """
    if not allowed:
        return Wanted()
    address = _read_address(sender)
    if address is None:
        return Unwanted(reason="the sender cannot be read, and only some senders are allowed")
    rules = map(_sender_rule, allowed)
    if any(isinstance(rule, _SenderRule) and rule.admits(address) for rule in rules):
        return Wanted()
    return Unwanted(reason=f"the sender {_shown(sender)} is not among allowedEmailExtensions")


def sender_pattern_fault(pattern: str) -> str | None:
    """Why ``pattern`` cannot be used in ``allowedEmailExtensions`` and what to write instead; None if it can."""
    rule = _sender_rule(pattern)
    return rule if isinstance(rule, str) else None


def attachment_verdict(name: str | None, content_type: str, allowed: Sequence[str]) -> Verdict:
    """Whether an attachment is wanted by the patterns of ``allowedAttachments``.

    Patterns are an extension (``pdf``, ``.pdf``), a file name in which ``*`` is any text and ``?`` one character
    (``invoice-*.pdf``), or a media type (``application/pdf``, ``image/*``).  Case never matters.  ``name`` is the name
    as sent; it is judged as sent and as it would be stored, so an attachment without a name is judged under the one
    that it gets.  No patterns: all are wanted.  One that has a fault (``attachment_pattern_fault``) matches nothing.
    """
    if not allowed:
        return Wanted()
    kind = _fold(content_type.partition(";")[0].strip())
    names = {_fold(attachment_name(name, 1, content_type))} | ({_fold(name)} if name else set())
    if any(_attachment_matches(pattern, kind, names) for pattern in allowed):
        return Wanted()
    return Unwanted(
        reason=f"the attachment {_shown(name or '')} ({_shown(content_type)}) is not among allowedAttachments"
    )


def attachment_pattern_fault(pattern: str) -> str | None:
    """Why ``pattern`` cannot be used in ``allowedAttachments`` and what to write instead; None if it can."""
    return _text_fault(pattern, "pdf, invoice-*.pdf or application/pdf") or _attachment_fault(pattern)


@attrs.frozen
class _Address:
    local: str
    domain: tuple[str, ...]


@attrs.frozen
class _SenderRule:
    """``local`` None: any; ``below``: domains below ``domain`` too; ``itself``: ``domain`` as such."""

    domain: tuple[str, ...]
    local: str | None = None
    below: bool = False
    itself: bool = True

    def admits(self, address: _Address) -> bool:
        if self.local is not None and self.local != address.local:
            return False
        if address.domain == self.domain:
            return self.itself
        # Label by label: "evil-firm.de" ends like "firm.de" as text only.
        return self.below and address.domain[-len(self.domain) :] == self.domain


@lru_cache(maxsize=1024)
def _sender_rule(pattern: str) -> _SenderRule | str:
    """The rule that ``pattern`` stands for, or why it stands for none."""
    shown = _shown(pattern)
    local, at, host = pattern.rpartition("@")
    domain = _read_domain(host.removeprefix("."))
    fault = _text_fault(pattern, "jane@firm.de, @firm.de, firm.de or .de") or _sender_fault(pattern)
    if fault:
        return fault
    if domain is None:
        return f"{shown} has no readable domain; write jane@firm.de, @firm.de, firm.de or .de"
    if not at:
        return _SenderRule(domain, below=True, itself=not host.startswith("."))
    if host.startswith("."):
        return f"{shown} has a dot after the @; write @firm.de for one domain, .firm.de for those below it"
    return _SenderRule(domain, local=_fold(local) if local else None)


def _sender_fault(pattern: str) -> str | None:
    shown = _shown(pattern)
    local, at, host = pattern.rpartition("@")
    if not at and _FILE_ENDING.fullmatch(host):
        return f"{shown}: these are endings of sender addresses, not of files; for attachments use allowedAttachments"
    if "@" in local:
        return f"{shown} has two @; write one address, such as jane@firm.de"
    if "*" in host or "?" in host or local == "*":
        return f"{shown} has a wildcard; write @firm.de for a domain, firm.de for it and all below it"
    if re.search(r"[,;<>]", pattern):
        return f"{shown} is more than one address; write each as an item of the list, without name and angle brackets"
    if re.search(r"[/\\:]", host):
        return f"{shown} is not the end of an address; write jane@firm.de, @firm.de, firm.de or .de"
    return None


def _attachment_fault(pattern: str) -> str | None:
    shown = _shown(pattern)
    if "[" in pattern or "]" in pattern:
        return f"{shown} has a bracket; only * (any text) and ? (one character) have a meaning, and case never matters"
    if "\\" in pattern or pattern.count("/") > 1:
        return f"{shown} looks like a path; attachments have names only, as in invoice-*.pdf"
    if "/" in pattern and not re.fullmatch(r"(\*/\*|[\w.+-]+/(\*|[\w.+-]+))", pattern):
        return f"{shown} is not a media type; write type/subtype or type/*, as in application/pdf or image/*"
    if pattern.startswith("@"):
        return f"{shown} looks like an address; for senders use allowedEmailExtensions"
    if not pattern.strip("."):
        return f"{shown} has no name; write an extension such as pdf"
    return None


def _text_fault(pattern: str, examples: str) -> str | None:
    if not pattern:
        return f"the pattern is empty; write {examples}, or leave the list empty to allow all"
    if len(pattern) > MAX_PATTERN:
        return f"{_shown(pattern)} has {len(pattern)} characters; use at most {MAX_PATTERN}"
    if pattern != pattern.strip() or not all(char.isprintable() for char in pattern):
        return f"{_shown(pattern)} has blanks around it or characters that cannot be seen; write {examples}"
    return None


def _read_address(sender: str) -> _Address | None:
    if len(sender) > MAX_ADDRESS:
        return None
    local, _, host = sender.strip().rpartition("@")
    domain = _read_domain(host)
    return _Address(_fold(local), domain) if local and domain else None


def _read_domain(host: str) -> tuple[str, ...] | None:
    labels = tuple(map(_ascii_label, host[:MAX_ADDRESS].translate(_DOTS).removesuffix(".").split(".")))
    if not all(labels) or any(char.isspace() for char in host):
        return None
    return labels


def _ascii_label(label: str) -> str:
    """A label of a domain name in the one spelling in which labels are compared; never raises."""
    lower = unicodedata.normalize("NFC", label.lower())
    try:
        # IDNA 2003, which the codec speaks, takes "straße" for "strasse"; registries (IDNA 2008) sell them apart.
        ascii_ = f"xn--{lower.encode('punycode').decode()}" if "ß" in lower else label.encode("idna").decode().lower()
    except UnicodeError:  # too long, or of characters that no domain has
        return _fold(label)
    return ascii_


def _attachment_matches(pattern: str, kind: str, names: set[str]) -> bool:
    if attachment_pattern_fault(pattern):
        return False
    wanted = _fold(pattern)
    if "/" in wanted:
        major, _, minor = wanted.partition("/")
        return wanted in ("*/*", kind) or (minor == "*" and kind.startswith(f"{major}/"))
    if "*" in wanted or "?" in wanted:
        return any(_glob(wanted, name) for name in names)
    return wanted in names or any(name.endswith(f".{wanted.lstrip('.')}") for name in names)


def _glob(pattern: str, name: str) -> bool:
    """Whether ``name`` is ``pattern`` with ``*`` as any text and ``?`` as one character.

    Each piece between stars is looked for once, from left to right: no pattern makes it go back.
    """
    first, *rest = pattern.split("*")
    if not rest:
        return len(name) == len(first) and _piece_at(first, name, 0)
    last = rest.pop()
    if len(name) < len(first) + len(last) or not _piece_at(first, name, 0):
        return False
    end = len(name) - len(last)
    if not _piece_at(last, name, end):
        return False
    at = len(first)
    for piece in rest:
        found = next((here for here in range(at, end - len(piece) + 1) if _piece_at(piece, name, here)), None)
        if found is None:
            return False
        at = found + len(piece)
    return True


def _piece_at(piece: str, name: str, at: int) -> bool:
    return len(name) - at >= len(piece) and all(
        mine in ("?", theirs) for mine, theirs in zip(piece, name[at : at + len(piece)], strict=True)
    )


def _fold(text: str) -> str:
    """As it is compared: without case, NFC (macOS sends names decomposed), without the middle if it is too long."""
    if len(text) > _MAX_NAME:
        text = text[: _MAX_NAME - _NAME_TAIL] + text[-_NAME_TAIL:]
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def _shown(text: str) -> str:
    """As it may be printed: quoted, short, what cannot be seen escaped."""
    return repr(text if len(text) <= _NAME_TAIL else text[:_NAME_TAIL] + "…")
