"""What a mail holds: its headers, and which of its parts count as attachments.

The mail is walked over once in blocks to find its parts (``structure``), and what is encoded is decoded once to learn
its size, digest and flaws (``transfer``); neither keeps it.  Memory does not grow with the mail.  Mails within it are
walked over again, at most ``NESTING_CAP`` of them within each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import attrs

from maildaemon_core.bodies import shown
from maildaemon_core.containers import Budget, BudgetSpent, Container, InnerFile, Opened, Opener
from maildaemon_core.errors import SpoolFull
from maildaemon_core.headers import headers_of, raw_text, read_headers
from maildaemon_core.message import Attachment, Content, Message
from maildaemon_core.noteworthy import noteworthy
from maildaemon_core.reading import NESTING_CAP, PLAIN, Reading
from maildaemon_core.structure import PARTS_CAP, Defects, Outline, Part, read_outline
from maildaemon_core.transfer import Encoding, PartContent
from maildaemon_core.uuencoded import BLOCKS_CAP, blocks, may_have_some

__all__ = ["read_headers", "read_message"]

_BODIES = {"text/plain", "text/html"}
_OTHER_BODIES = {"text/enriched", "text/richtext", "text/x-amp-html", "text/watch-html"}
_MAILS = {"message/rfc822", "message/global"}
_SMIME = {"application/pkcs7-mime", "application/x-pkcs7-mime"}
_TNEF = {"application/ms-tnef", "application/vnd.ms-tnef"}
_ELSEWHERE = {"message/partial", "message/external-body"}

_NESTED_HEADER: Final = 1 << 16  # bytes in which the subject of a mail within the mail is looked for
_BLANK: Final = 64  # bytes; more than that is never mere line breaks
_SAID: Final = 300  # characters of a sentence of an opener, which may quote the mail


def read_message(content: Content, reading: Reading = PLAIN) -> Message:
    """Reads a mail.  Any bytes at all give a Message; what could not be understood is listed in its ``defects``.

    A part is an attachment by its name, type and role, whatever its Content-Disposition says: everything but texts
    without a name that are not declared attachments, and pictures that the HTML body refers to (RFC 2392).  A mail
    within the mail is one attachment, the raw bytes of that mail, unless ``reading`` has it opened.  A container
    (winmail.dat, opaque S/MIME) is an attachment, and what an opener finds in it follows; a MIME entity in it is read
    as if it stood there.  Attachments read from ``content``, which must stay open as long as they are used.

    ``complete`` is False when something may be missing: delimiters missing, a cap reached (``structure``), an encoding
    that is unknown or broken, an encrypted part, or a container that was not opened, or not wholly.

    Raises ``SpoolFull`` if ``reading.keep`` does, and nothing else of its own.
    """
    return _Reader(reading).message(content)


@attrs.frozen(kw_only=True)
class _Place:
    """Where something stands: ``label`` numbers the part around it, ``within`` is the attachment around it."""

    label: str = ""
    depth: int = 0
    within: int | None = None

    def number(self, number: int) -> str:
        return f"{self.label}.{number}" if self.label else str(number)


@attrs.frozen(kw_only=True)
class _Item:
    """What counts as an attachment or holds some: a part, or a file of a container.

    ``direct``: reading any piece of its content costs no more than that piece.
    """

    label: str
    name: str | None
    content_type: str
    content: Content
    smime_type: str = ""
    flaws: Sequence[str] = ()
    direct: bool = True

    @property
    def container(self) -> Container:
        return Container(
            content_type=self.content_type, name=self.name, smime_type=self.smime_type, content=self.content
        )


@attrs.frozen(kw_only=True)
class _Leaf:
    part: Part
    label: str
    content: PartContent

    @property
    def is_attachment(self) -> bool:
        kind = self.part.content_type
        if self.part.name is not None or self.part.declared_attachment:
            return True
        if kind.startswith("multipart/"):  # one that could not be divided
            return not _is_blank(self.content)
        return kind not in _BODIES and not (kind in _OTHER_BODIES and self.part.within == "multipart/alternative")

    @property
    def is_picture(self) -> bool:
        return self.part.content_type.startswith("image/") and bool(self.part.content_id)

    def item(self) -> _Item:
        direct = self.part.encoding in {None, Encoding.IDENTITY}
        return _Item(
            label=self.label,
            name=self.part.name,
            content_type=self.part.content_type,
            content=self.content,
            smime_type=raw_text(self.part.smime_type),
            flaws=() if direct else self.content.flaws,
            direct=direct,
        )


class _Inner(Defects):
    """The defects of a mail within the mail."""

    def __init__(self, outer: Defects, label: str) -> None:
        super().__init__()
        self._outer = outer
        self._label = label

    def note(self, text: str) -> None:
        self._outer.note(f"in part {self._label}: {text}")

    def loss(self, text: str) -> None:
        self._outer.loss(f"in part {self._label}: {text}")

    def sealed(self, text: str) -> None:
        self._outer.sealed(f"in part {self._label}: {text}")


class _Reader:
    """Reads one mail."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._defects = Defects()
        self._attachments: list[Attachment] = []
        self._parts = 0
        self._unpacked = 0
        self._files = 0
        self._budget: Budget | None = None
        self._full: SpoolFull | None = None

    def message(self, content: Content) -> Message:
        outline = read_outline(content, self._defects)
        self._entity(outline, content, _Place())
        return Message(
            headers=headers_of(outline.fields, self._defects.note),
            content=content,
            attachments=tuple(self._attachments),
            defects=self._defects.texts(),
            complete=self._defects.complete,
            encrypted=self._defects.encrypted,
            further=noteworthy(outline.fields),
        )

    def _entity(self, outline: Outline, content: Content, place: _Place) -> None:
        self._parts += len(outline.leaves)
        leaves = [
            _Leaf(
                part=part,
                label=place.number(number),
                content=PartContent(content, part.start, part.stop, part.encoding or Encoding.IDENTITY),
            )
            for number, part in enumerate(outline.leaves, start=1)
        ]
        for leaf in leaves:
            if leaf.part.encoding is None:
                self._defects.loss(f"part {leaf.label}: unknown transfer encoding")
        inline = set() if self._reading.inline_pictures else _inline(leaves)
        for leaf in leaves:
            if leaf.is_attachment and not (leaf.is_picture and leaf.part.content_id in inline):
                self._item(leaf.item(), place)
            elif leaf.part.content_type == "text/plain":
                self._uuencoded(leaf, place)

    def _uuencoded(self, leaf: _Leaf, place: _Place) -> None:
        """Files that stand in a text itself, which stays as it is."""
        # Quoted-printable need not be decoded for a first look: what matters of a line ``begin`` stays as it is.
        if not may_have_some(leaf.content if leaf.part.encoding is Encoding.BASE64 else leaf.content.as_sent):
            return
        text = self._direct(leaf.item())
        for number, block in enumerate(blocks(text), start=1):
            if number > BLOCKS_CAP:
                self._defects.loss(f"part {leaf.label}: more than {BLOCKS_CAP} uuencoded files in a text")
                return
            content = PartContent(text, block.start, block.stop, Encoding.UUENCODE)
            item = _Item(
                label=f"{leaf.label}.{number}",
                name=block.name,
                content_type="application/octet-stream",
                content=content,
                flaws=content.flaws,
                direct=False,
            )
            self._item(item, place)

    def _item(self, item: _Item, place: _Place) -> None:
        for flaw in item.flaws:
            self._loss(item, flaw)
        if item.content_type in _MAILS:
            self._mail(item, place)
            return
        index = self._attach(item, place)
        if item.content_type in _ELSEWHERE:
            self._loss(item, f"{item.content_type}: the content is in another place")
        opener = self._opener(item)
        if opener is not None:
            self._open(opener, item, attrs.evolve(place, label=item.label, depth=place.depth + 1, within=index))
        elif reason := _unopened(item):
            self._loss(item, reason)
        elif _is_enveloped(item):
            self._defects.sealed(f"part {item.label}: encrypted (S/MIME)")

    def _attach(self, item: _Item, place: _Place) -> int:
        index = len(self._attachments) + 1
        self._attachments.append(
            Attachment(
                index=index,
                name=item.name,
                content_type=item.content_type,
                content=item.content,
                within=place.within,
            )
        )
        return index

    def _loss(self, item: _Item, text: str) -> None:
        self._defects.loss(f"part {item.label}: {text}")

    def _may_open(self, item: _Item, place: _Place, what: str) -> bool:
        """Whether a mail or container at this place may still be opened; that it may not is a loss."""
        if place.depth > NESTING_CAP:
            self._loss(item, f"{what} not opened, for more than {NESTING_CAP} are within each other")
        elif self._parts > PARTS_CAP:
            self._loss(item, f"{what} not opened, for there are more than {PARTS_CAP} parts")
        else:
            return True
        return False

    def _direct(self, item: _Item) -> Content:
        """Its content so that it can be read at any place: what must be decoded is held."""
        return item.content if item.direct else self._keep(item.content.chunks())

    def _keep(self, pieces: Iterable[bytes]) -> Content:
        try:
            return self._reading.keep(pieces)
        except SpoolFull as error:
            self._full = error  # an opener may catch it
            raise

    # ------------------------------------------------------------------------------------------------------- mails

    def _mail(self, item: _Item, place: _Place) -> None:
        if item.name is None:
            item = attrs.evolve(item, name=_mail_name(item.content))
        inner = attrs.evolve(place, label=item.label, depth=place.depth + 1)
        if self._reading.attached_mails == "keep" or not self._may_open(item, inner, "attached mail"):
            self._attach(item, place)
            return
        content = self._direct(item)
        outline = read_outline(content, _Inner(self._defects, item.label))
        # What is no mail at all, whatever its type says, must not get lost.
        if self._reading.attached_mails == "both" or not outline.fields:
            inner = attrs.evolve(inner, within=self._attach(item, place))
        if outline.fields:
            self._entity(outline, content, inner)

    # -------------------------------------------------------------------------------------------------- containers

    def _opener(self, item: _Item) -> Opener | None:
        for opener in self._reading.openers:
            try:
                if opener.recognises(item.container):
                    return opener
            except Exception as error:  # noqa: BLE001  (a plug-in's fault is not the mail's)
                self._loss(item, f"{_name_of(opener)} failed ({type(error).__name__})")
        return None

    def _open(self, opener: Opener, item: _Item, place: _Place) -> None:
        name = _name_of(opener)
        if not self._may_open(item, place, f"container ({name})"):
            return
        try:
            opened = self._opened(opener, item)
        except BudgetSpent as error:
            self._loss(item, f"container not opened ({name}): {_said(error)}")
            return
        for text in opened.losses:
            self._loss(item, f"{name}: {_said(text)}")
        for text in opened.notes:
            self._defects.note(f"part {item.label}: {name}: {_said(text)}")
        if opened.encrypted:
            self._defects.sealed(f"part {item.label}: encrypted ({name})")
        self._parts += len(opened.files)
        for number, file in enumerate(opened.files, start=1):
            found = _Item(
                label=place.number(number),
                name=None if file.name is None else _valid(file.name),
                content_type=_valid(file.content_type).lower(),
                content=file.content,
            )
            self._item(found, place)
        if opened.entity is not None:
            self._entity(read_outline(opened.entity, _Inner(self._defects, item.label)), opened.entity, place)

    def _opened(self, opener: Opener, item: _Item) -> Opened:
        """What the opener found, as far as that can be used; raises ``BudgetSpent``, ``SpoolFull``."""
        content = self._direct(item)
        if self._budget is None:
            self._budget = Budget(self._reading.limits, keep=self._keep, clock=self._reading.clock)
        metered = self._budget.metered(content)
        opened: Opened | None = None
        failure = "no answer"
        try:
            opened = self._checked(opener.open(attrs.evolve(item.container, content=metered), self._budget))
        except BudgetSpent:
            raise
        except Exception as error:  # noqa: BLE001  (a plug-in's fault is not the mail's)
            failure = type(error).__name__
        finally:
            metered.free()
        if self._full is not None:
            raise self._full
        if opened is None:
            return Opened(losses=(f"failed ({failure})",))
        if self._budget.spent is not None:
            return attrs.evolve(opened, losses=(*opened.losses, self._budget.spent))
        return opened

    def _checked(self, opened: Opened) -> Opened:
        """The same, with everything in it looked at that a careless opener may have wrong."""
        files: tuple[InnerFile, ...] = tuple(opened.files)
        self._files += len(files)
        self._unpacked += sum(file.content.size for file in files)  # slices of one another, perhaps
        if opened.entity is not None:
            self._unpacked += opened.entity.size
        if self._files > self._reading.limits.files:
            raise BudgetSpent(f"more than {self._reading.limits.files} files in containers")
        if self._unpacked > self._reading.limits.made:
            raise BudgetSpent(f"more than {self._reading.limits.made} bytes in containers")
        return attrs.evolve(opened, files=files, losses=tuple(opened.losses), notes=tuple(opened.notes))


def _is_blank(content: PartContent) -> bool:
    return content.size <= _BLANK and not b"".join(content.chunks()).strip()


def _mail_name(content: Content) -> str:
    """What a mail within the mail is called: by its subject."""
    subject = read_headers(b"".join(content.chunks(0, _NESTED_HEADER))).subject
    return f"{subject or 'message'}.eml"


def _is_smime(item: _Item) -> bool:
    return item.content_type in _SMIME or (item.name or "").lower().endswith(".p7m")


def _is_enveloped(item: _Item) -> bool:
    return _is_smime(item) and item.smime_type in {"enveloped-data", "authenveloped-data"}


def _unopened(item: _Item) -> str | None:
    """Why the inside of what no opener recognises remains unread; None if there is none, or it is encrypted."""
    if item.content_type in _TNEF or (item.name or "").lower() == "winmail.dat":
        return "container not opened (TNEF, winmail.dat)"
    if _is_smime(item) and not _is_enveloped(item) and item.smime_type != "certs-only":
        return "container not opened (S/MIME)"
    return None


def _inline(leaves: Sequence[_Leaf]) -> set[str]:
    """The Content-IDs of pictures that the HTML bodies beside them show; bodies are only read if there are pictures."""
    pictures = {leaf.part.content_id for leaf in leaves if leaf.is_picture}
    found: set[str] = set()
    if pictures:
        for leaf in leaves:
            if leaf.part.content_type == "text/html" and not leaf.is_attachment:
                found |= shown(leaf.content, pictures)
    return found


def _name_of(opener: Opener) -> str:
    return _said(getattr(opener, "name", type(opener).__name__))


def _said(text: object) -> str:
    return _valid(" ".join(str(text).split())[:_SAID])


def _valid(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
