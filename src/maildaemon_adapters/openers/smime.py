"""What was signed or compressed in an opaque S/MIME message (RFC 8551, RFC 5652), as it was before that.

No signature is checked, and nothing is decrypted.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from enum import Enum

import attrs

from maildaemon_adapters.openers import ber
from maildaemon_adapters.openers.cursor import Cursor, Ended
from maildaemon_core.containers import Budget, Container, InnerFile, Opened, SliceContent
from maildaemon_core.headers import FIELD
from maildaemon_core.message import Content
from maildaemon_core.transfer import Encoding, PartContent

DEPTH = 8
"""So many messages directly within each other, without MIME between them, are opened."""

_TYPE = "application/pkcs7-mime"
_TYPES = {_TYPE, "application/x-pkcs7-mime"}
_AGAIN = "smime.p7m"
_ENDINGS = (".p7m", ".p7z")
_SECRET_TYPES = {"enveloped-data", "authenveloped-data"}
_UNKNOWN = "application/octet-stream"

_HEAD = 1 << 14  # bytes in which a MIME header is looked for
_BLOCK = 1 << 16
_MIME_FIELD = re.compile(rb"(?:^|\n)(?:content-[a-z-]+|mime-version)[ \t]*:", re.IGNORECASE)
_BLANK_LINE = re.compile(rb"\n\r?\n")
_WITH_EXTENSION = re.compile(r".\.[A-Za-z0-9]{1,8}$")
_BEGINNING = re.compile(
    rb"\x30[^\x06]{1,9}\x06[\x09\x0b]\x2a\x86\x48\x86\xf7\x0d\x01[\x07\x09]", re.DOTALL
)  # a ContentInfo
_ARMOUR = b"-----BEGIN "


class Kind(Enum):
    """What a CMS message can be, by the content octets of its object identifier."""

    DATA = bytes.fromhex("2a864886f70d010701")
    SIGNED = bytes.fromhex("2a864886f70d010702")
    ENVELOPED = bytes.fromhex("2a864886f70d010703")
    SIGNED_AND_ENVELOPED = bytes.fromhex("2a864886f70d010704")
    DIGESTED = bytes.fromhex("2a864886f70d010705")
    ENCRYPTED = bytes.fromhex("2a864886f70d010706")
    RECEIPT = bytes.fromhex("2a864886f70d0109100101")
    COMPRESSED = bytes.fromhex("2a864886f70d0109100109")
    AUTH_ENVELOPED = bytes.fromhex("2a864886f70d0109100117")


_KINDS = {kind.value: kind for kind in Kind}
_SECRET = {Kind.ENVELOPED, Kind.SIGNED_AND_ENVELOPED, Kind.ENCRYPTED, Kind.AUTH_ENVELOPED}
_OPENED = {Kind.SIGNED, Kind.DIGESTED, Kind.COMPRESSED}
_ZLIB = bytes.fromhex("2a864886f70d0109100308")  # RFC 3274 §2

_NO_CMS = "it is no CMS that can be read"
_SEALED = "encrypted"
_CUT = "it ends early"


class _Lost(Exception):
    """Nothing can be taken out; the text says why."""


class _Encrypted(Exception):
    """Only somebody who has a key can go on."""


@attrs.frozen(kw_only=True)
class _Found:
    """What a message holds: octets, or nothing that could be missing; ``kind`` is what the octets are said to be."""

    kind: Kind | None
    content: Content | None
    losses: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def _opened(container: Container, budget: Budget) -> Opened:
    encrypted = container.smime_type in _SECRET_TYPES
    try:
        content, losses = _binary(container.content, budget)
        if content is None:  # Outlook puts what was signed in the clear, MIME header and all, into smime.p7m
            budget.make(container.content.size)
            return Opened(entity=SliceContent(container.content, 0, container.content.size))
        found = _unwrapped(content, budget)
    except _Encrypted:
        return Opened(losses=(_SEALED,), encrypted=True)
    except _Lost as lost:
        return Opened(losses=(_SEALED, str(lost)) if encrypted else (str(lost),), encrypted=encrypted)
    opened = Opened() if found.content is None else _result(container, found.content, budget)
    return attrs.evolve(opened, losses=(*losses, *found.losses), notes=found.notes)


def _unwrapped(content: Content, budget: Budget) -> _Found:
    """What is in a message, and in the messages that it directly holds; raises ``_Lost`` and ``_Encrypted``."""
    losses: list[str] = []
    notes: list[str] = []
    kind: Kind | None = None
    for _ in range(DEPTH):
        try:
            found = _message(content, kind, budget)
        except Ended:
            raise _Lost(_CUT) from None
        except ber.Malformed as error:
            raise _Lost(f"{_NO_CMS}: {error}") from None
        losses += found.losses
        notes += found.notes
        if found.content is None or found.kind not in _OPENED | _SECRET:
            break
        kind, content = found.kind, found.content
    else:
        raise _Lost(f"more than {DEPTH} messages within each other")
    return attrs.evolve(found, losses=tuple(dict.fromkeys(losses)), notes=tuple(dict.fromkeys(notes)))


def _message(content: Content, kind: Kind | None, budget: Budget) -> _Found:
    """What is directly in a message; ``kind`` is what it is said to be if it comes without a ContentInfo."""
    cursor = Cursor(content)
    outer = whole = ber.expect(cursor, ber.SEQUENCE)
    first = ber.expect(cursor, ber.OID, ber.INTEGER)
    if first.tag == ber.OID:  # RFC 5652 §3
        kind = _KINDS.get(ber.small(cursor, first))
        ber.expect(cursor, ber.EXPLICIT_0)
        if kind in _SECRET:
            raise _Encrypted
        if kind is Kind.DATA:
            return _octets(content, cursor, ber.read_element(cursor), Kind.DATA, budget)
        if kind not in _OPENED:
            raise _Lost("it is of a kind that is not opened")
        outer = ber.expect(cursor, ber.SEQUENCE)
        first = ber.expect(cursor, ber.INTEGER)
    if kind in _SECRET:
        raise _Encrypted
    if kind is None:
        raise _Lost(_NO_CMS)
    ber.leave(cursor, first)
    algorithm = _algorithm(cursor, kind)
    inside = ber.expect(cursor, ber.SEQUENCE)  # EncapsulatedContentInfo, RFC 5652 §5.2
    said = _KINDS.get(ber.small(cursor, ber.expect(cursor, ber.OID)))
    notes = ("signed, signature not checked",) if kind is Kind.SIGNED else ()
    holder = ber.has_more(cursor, inside)
    if holder is None:
        if kind is Kind.SIGNED and _without_signers(cursor, outer):
            return _Found(kind=said, content=None, notes=("certificates only",))
        raise _Lost("its content is not in it")
    if holder.tag != ber.EXPLICIT_0:
        raise ber.Malformed(f"an element {holder.tag:#04x} in the place of the content")
    if said is Kind.RECEIPT and kind is Kind.SIGNED:
        return _Found(kind=said, content=None, notes=("a signed receipt",))
    found = _octets(content, cursor, ber.read_element(cursor), said, budget, algorithm=algorithm)
    if whole.stop is not None and whole.stop > content.size and not found.losses:
        notes = (*notes, "it ends early, behind its content")
    return attrs.evolve(found, notes=(*found.notes, *notes))


def _algorithm(cursor: Cursor, kind: Kind) -> bytes | None:
    """How it is compressed, None if it is not."""
    element = ber.expect(cursor, ber.SET if kind is Kind.SIGNED else ber.SEQUENCE)
    algorithm = None
    if kind is Kind.COMPRESSED:
        algorithm = ber.small(cursor, ber.expect(cursor, ber.OID))
        if algorithm != _ZLIB:
            raise _Lost("it is compressed in an unknown way")
        if element.stop is None:
            while (parameter := ber.has_more(cursor, element)) is not None:
                ber.leave(cursor, parameter)
            return algorithm
    ber.leave(cursor, element)
    return algorithm


def _without_signers(cursor: Cursor, signed: ber.Element) -> bool:
    """Whether a message without content has no signature either: it only carries certificates (RFC 8551 §3.7)."""
    try:
        while (element := ber.has_more(cursor, signed)) is not None:
            if element.tag == ber.SET:
                return ber.has_more(cursor, element) is None
            ber.leave(cursor, element)
    except (Ended, ber.Malformed):
        pass
    return False


def _octets(
    content: Content,
    cursor: Cursor,
    element: ber.Element,
    said: Kind | None,
    budget: Budget,
    *,
    algorithm: bytes | None = None,
) -> _Found:
    octets = ber.OctetString(cursor, element)
    losses = []
    if algorithm is not None:
        inflating = _Inflating(octets.pieces())
        held: Content = budget.keep(inflating.pieces())
        losses += [inflating.flaw] if inflating.flaw else []
    elif (span := octets.span()) is not None:
        held = SliceContent(content, *span)
        budget.make(held.size)
    else:
        held = budget.keep(octets.pieces())
    if octets.flaw:
        losses.insert(0, octets.flaw)
    return _Found(kind=said, content=held, losses=tuple(losses))


class _Inflating:
    """Decompresses zlib (RFC 1950) block by block; ``flaw`` says afterwards why it may not be whole."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self.flaw: str | None = None

    def pieces(self) -> Iterator[bytes]:
        """What comes out; can be read once, and raises nothing of its own."""
        inflate = zlib.decompressobj()
        try:
            for piece in self._pieces:
                waiting = piece
                while waiting and not inflate.eof:
                    if out := inflate.decompress(waiting, _BLOCK):
                        yield out
                    waiting = inflate.unconsumed_tail
            while not inflate.eof and (out := inflate.decompress(b"", _BLOCK)):
                yield out
        except zlib.error:
            self.flaw = "what is compressed is damaged"
            return
        if not inflate.eof:
            self.flaw = "what is compressed ends early"


def _binary(content: Content, budget: Budget) -> tuple[Content | None, tuple[str, ...]]:
    """The message without base64 around it, and what is wrong with that; None if it is MIME instead.  ``_Lost``."""
    head = _head(content)
    if head[:1] == b"\x30":
        return content, ()
    trimmed = head.lstrip()
    start, stop = len(head) - len(trimmed), content.size
    if trimmed.startswith(_ARMOUR):  # RFC 7468
        start += trimmed.find(b"\n") + 1
        tail = b"".join(content.chunks(max(start, stop - 256), stop))
        end = tail.rfind(b"-----END ")
        stop = stop - len(tail) + end if end >= 0 else stop
    elif _is_mime(head):
        return None, ()
    elif not trimmed.startswith(b"MI"):  # how base64 of a sequence begins
        raise _Lost(_NO_CMS)
    view = PartContent(content, start, stop, Encoding.BASE64)
    decoded = budget.keep(view.chunks())
    return decoded, tuple(f"it is in {flaw}" for flaw in sorted(view.flaws))


def _head(content: Content) -> bytes:
    return b"".join(content.chunks(0, _HEAD))


def _is_mime(head: bytes) -> bool:
    """Whether it begins with a header that says how the rest is to be read (RFC 2045 §3)."""
    end = _BLANK_LINE.search(head)
    header = head[: end.start() + 1] if end else head
    return FIELD.match(header) is not None and _MIME_FIELD.search(header) is not None


def _result(container: Container, content: Content, budget: Budget) -> Opened:
    """A mail, or a file: people sign these too (``invoice.xml.p7m``), and then no MIME header is before it."""
    name = (container.name or "").strip()
    inner = name[: -len(_ENDINGS[0])] if name.lower().endswith(_ENDINGS) else ""
    named = _WITH_EXTENSION.search(inner) is not None
    head = _head(content)
    if _is_mime(head) or (not named and (FIELD.match(head) is not None or head[:1] in {b"\r", b"\n", b""})):
        return Opened(entity=content)
    budget.file()
    if not named and _BEGINNING.match(head):  # signed again without MIME between: for the reader to have opened
        return Opened(files=(InnerFile(name=_AGAIN, content_type=_TYPE, content=content),))
    return Opened(files=(InnerFile(name=inner if named else None, content_type=_UNKNOWN, content=content),))


class SmimeOpener:
    """Opens opaque S/MIME.  What was signed, in its place, is a mail, or else a file: ``a.pdf`` of ``a.pdf.p7m``.

    Encrypted messages are told as such.  A message that only carries certificates holds nothing.
    """

    name = "S/MIME"

    def recognises(self, container: Container) -> bool:
        """By the type of RFC 8551 §3.2, or by the ending of its name."""
        return container.content_type in _TYPES or (container.name or "").strip().lower().endswith(_ENDINGS)

    def open(self, container: Container, budget: Budget) -> Opened:
        """What is in it; raises ``BudgetSpent``."""
        return _opened(container, budget)


OPENER = SmimeOpener()
