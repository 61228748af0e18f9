"""What a mail holds: its headers, and which of its parts count as attachments.

The mail is walked over once in blocks to find its parts (``structure``), and each attachment is decoded once to learn
its size, digest and flaws (``transfer``); neither keeps it.  Memory does not grow with the mail.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from urllib.parse import unquote

import attrs

from maildaemon_core.headers import headers_of, raw_text, read_headers
from maildaemon_core.message import Attachment, Content, Message
from maildaemon_core.structure import Defects, Part, read_outline
from maildaemon_core.transfer import Encoding, PartContent

__all__ = ["read_headers", "read_message"]

_BODIES = {"text/plain", "text/html"}
_OTHER_BODIES = {"text/enriched", "text/richtext", "text/x-amp-html", "text/watch-html"}
_MAILS = {"message/rfc822", "message/global"}
_SMIME = {"application/pkcs7-mime", "application/x-pkcs7-mime"}
_TNEF = {"application/ms-tnef", "application/vnd.ms-tnef"}
_ELSEWHERE = {"message/partial", "message/external-body"}

_NESTED_HEADER = 1 << 16  # bytes in which the subject of a mail within the mail is looked for
_BLANK = 64  # bytes; more than that is never mere line breaks
_CID_LENGTH = 1000
_CID = re.compile(rb"cid:([^\s\"'<>)]{1,%d})" % _CID_LENGTH, re.IGNORECASE)


def read_message(content: Content) -> Message:
    """Reads a mail.  Any bytes at all give a Message; what could not be understood is listed in its ``defects``.

    A part is an attachment by its name, type and role, whatever its Content-Disposition says: everything but texts
    without a name that are not declared attachments, and pictures that the HTML body refers to (RFC 2392).  A mail
    within the mail is one attachment, the raw bytes of that mail.  Attachments read from ``content``, which must stay
    open as long as they are used.

    ``complete`` is False when something may be missing: delimiters missing, a cap reached (``structure``), an encoding
    that is unknown or broken, an encrypted part, or a container (winmail.dat, opaque S/MIME) whose inside was not read.
    """
    defects = Defects()
    outline = read_outline(content, defects)
    headers = headers_of(outline.fields, defects.note)
    leaves = [_Leaf.of(part, number, content, defects) for number, part in enumerate(outline.leaves, start=1)]
    referred = _referred(leaves)
    found = [
        leaf for leaf in leaves if leaf.is_attachment and not (leaf.is_picture and leaf.part.content_id in referred)
    ]
    return Message(
        headers=headers,
        content=content,
        attachments=tuple(leaf.attachment(index, defects) for index, leaf in enumerate(found, start=1)),
        defects=defects.texts(),
        complete=defects.complete,
    )


@attrs.frozen(kw_only=True)
class _Leaf:
    part: Part
    number: int
    content: PartContent

    @classmethod
    def of(cls, part: Part, number: int, content: Content, defects: Defects) -> _Leaf:
        if part.encoding is None:
            defects.loss(f"part {number}: unknown transfer encoding")
        view = PartContent(content, part.start, part.stop, part.encoding or Encoding.IDENTITY)
        return cls(part=part, number=number, content=view)

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

    def attachment(self, index: int, defects: Defects) -> Attachment:
        name, kind = self.part.name, self.part.content_type
        if name is None and kind in _MAILS:
            name = _mail_name(self.content)
        for reason in (*self.content.flaws, *_unread(self.part, name or "")):
            defects.loss(f"part {self.number}: {reason}")
        return Attachment(index=index, name=name, content_type=kind, content=self.content)


def _is_blank(content: PartContent) -> bool:
    return content.size <= _BLANK and not b"".join(content.chunks()).strip()


def _mail_name(content: PartContent) -> str:
    """What a mail within the mail is called: by its subject."""
    subject = read_headers(b"".join(content.chunks(0, _NESTED_HEADER))).subject
    return f"{subject or 'message'}.eml"


def _unread(part: Part, name: str) -> Iterator[str]:
    """Why the inside of a part remains unread."""
    kind, lowered = part.content_type, name.lower()
    if kind in _TNEF or lowered == "winmail.dat":
        yield "container not opened (TNEF, winmail.dat)"
    if kind in _SMIME or lowered.endswith(".p7m"):
        if part.smime_type in {b"enveloped-data", b"authenveloped-data"}:
            yield "encrypted (S/MIME)"
        elif part.smime_type != b"certs-only":
            yield "container not opened (S/MIME)"
    if kind in _ELSEWHERE:
        yield f"{kind}: the content is in another place"


def _referred(leaves: Sequence[_Leaf]) -> set[str]:
    """Which of the mail's own Content-IDs the HTML bodies refer to; they are only read if there are pictures."""
    pictures = {leaf.part.content_id for leaf in leaves if leaf.is_picture}
    if not pictures:
        return set()
    bodies = (leaf for leaf in leaves if leaf.part.content_type == "text/html" and not leaf.is_attachment)
    return {found for body in bodies for found in _references(body.content) if found in pictures}


def _references(content: PartContent) -> Iterator[str]:
    tail = b""
    for piece in content.chunks():
        text = tail + piece
        for found in _CID.finditer(text):
            yield unquote(html.unescape(raw_text(found[1]))).lower()
        tail = text[-_CID_LENGTH:]
