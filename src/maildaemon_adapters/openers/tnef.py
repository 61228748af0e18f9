"""What is in a ``winmail.dat``: the attachments of TNEF ([MS-OXTNEF]), as views of it.

The container is read once from its beginning to its end, checksums included.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Iterator

import attrs

from maildaemon_adapters.openers.cursor import Cursor, Ended
from maildaemon_adapters.openers.mapi import LONGEST, Tag, Text, Unreadable, read_properties
from maildaemon_adapters.openers.remarks import Remarks
from maildaemon_core.containers import Budget, Container, InnerFile, Opened, SliceContent

SIGNATURE = 0x223E9F78
"""The first four bytes, the lowest first ([MS-OXTNEF] §2.1.3.1)."""

_TNEF = "application/ms-tnef"
_TYPES = {_TNEF, "application/vnd.ms-tnef"}
_NAMES = {"winmail.dat", "win.dat"}
_UNKNOWN = "application/octet-stream"
_MIME_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,127}/[a-z0-9!#$&^_.+-]{1,127}")

_BEGINNING = 6  # bytes: the signature, and a key that says nothing
_HEAD, _CHECKSUM = 9, 2  # bytes before and after the data of an attribute
_LEVELS = {1, 2}
_CONTENTS_CAP = 8  # an attachment has one, or two where readers of different ages are thought of
_CUT = "it ends early"
_BLANK = b"\0\r\n\t "

_ELSEWHERE = {2, 3, 4, 7}  # methods that say where the file lies (PidTagAttachMethod, [MS-OXCMSG] §2.2.2.9)
_BODIES = {Tag.BODY: "plain", Tag.HTML: "HTML", Tag.RTF: "RTF"}


class Attribute(enum.IntEnum):
    """The attributes that are looked at, by the lower half of their numbers; the upper half, a type, adds nothing."""

    BODY = 0x800C
    CODE_PAGE = 0x9007
    MESSAGE_PROPERTIES = 0x9003
    RENDERING = 0x9002
    TITLE = 0x8010
    TRANSPORT_NAME = 0x9001
    DATA = 0x800F
    PROPERTIES = 0x9005


@attrs.define(kw_only=True)
class _Attachment:
    number: int
    title: Text | None = None
    transport_name: Text | None = None
    texts: dict[Tag, Text] = attrs.field(factory=dict)
    method: int | None = None
    data: tuple[int, int] | None = None  # where attAttachData lies
    contents: list[tuple[int, int]] = attrs.field(factory=list)
    is_message: bool = False


@attrs.define(kw_only=True)
class _Message:
    code_page: int | None = None
    bodies: set[str] = attrs.field(factory=set)
    attachments: list[_Attachment] = attrs.field(factory=list)


class _Walk:
    """One container while it is read; raises ``BudgetSpent``."""

    def __init__(self, container: Container, budget: Budget) -> None:
        self._content = container.content
        self._budget = budget
        self._cursor = Cursor(container.content)
        self.losses = Remarks()
        self.notes = Remarks()

    def opened(self) -> Opened:
        message = _Message()
        try:
            self._read(message)
        except Ended:  # its size was not what it said
            self.losses.add(_CUT)
        if message.bodies:
            kinds = ", ".join(sorted(message.bodies))
            self.notes.add(f"the text of the message ({kinds}) stays in it")
        files = [file for found in message.attachments for file in self._files(found, message.code_page)]
        return Opened(files=tuple(files), losses=self.losses.texts(), notes=self.notes.texts())

    def _read(self, message: _Message) -> None:
        cursor, stop = self._cursor, self._content.size
        if stop < _BEGINNING or cursor.number(4) != SIGNATURE:
            self.losses.add("no TNEF, or its beginning is missing")
            return
        cursor.take(2)
        while stop - cursor.position >= _HEAD:
            level = cursor.number(1)
            if level not in _LEVELS:
                if not self._is_blank(bytes((level,)), stop):
                    self.losses.add("it goes on with something else")
                return
            name, _, length = (cursor.number(size) for size in (2, 2, 4))
            before, start = cursor.tally(), cursor.position
            self._attribute(message, name, start, min(start + length, stop))
            cursor.go_to(min(start + length, stop))
            total = cursor.tally() - before
            if start + length + _CHECKSUM > stop:
                self.losses.add(_CUT)
                return
            if cursor.number(_CHECKSUM) != total & 0xFFFF:
                self.notes.add("a checksum is wrong")
        if not self._is_blank(b"", stop):
            self.losses.add(_CUT)

    def _is_blank(self, data: bytes, stop: int) -> bool:
        """Whether ``data`` and the rest are mere filling."""
        while not data.strip(_BLANK) and self._cursor.position < stop:
            data = self._cursor.some(stop)
        return not data.strip(_BLANK)

    def _attribute(self, message: _Message, name: int, start: int, stop: int) -> None:
        match name:
            case Attribute.CODE_PAGE:
                if stop - start >= 4:  # noqa: PLR2004 - the second half is the secondary code page
                    message.code_page = self._cursor.number(4)
            case Attribute.BODY:
                message.bodies.update({"plain"} if stop > start else ())
            case Attribute.MESSAGE_PROPERTIES:
                self._message_properties(message, stop)
            case Attribute.RENDERING:
                self._begin(message)
            case Attribute.TITLE:
                self._current(message).title = self._text(start, stop)
            case Attribute.TRANSPORT_NAME:
                self._current(message).transport_name = self._text(start, stop)
            case Attribute.DATA:
                attachment = self._current(message)
                if attachment.data is not None:  # the attribute that begins another is missing
                    attachment = self._begin(message)
                attachment.data = (start, stop)
                self._add(attachment, start, stop)
            case Attribute.PROPERTIES:
                self._properties(self._current(message), stop)

    def _text(self, start: int, stop: int) -> Text:
        return Text(raw=self._cursor.take(min(stop - start, LONGEST)), unicode=False)

    def _begin(self, message: _Message) -> _Attachment:
        self._budget.file()
        message.attachments.append(_Attachment(number=len(message.attachments) + 1))
        return message.attachments[-1]

    def _current(self, message: _Message) -> _Attachment:
        return message.attachments[-1] if message.attachments else self._begin(message)

    def _add(self, attachment: _Attachment, start: int, stop: int) -> None:
        if len(attachment.contents) < _CONTENTS_CAP:
            attachment.contents.append((start, stop))
        else:
            self.losses.add(f"attachment {attachment.number} has more than {_CONTENTS_CAP} contents")

    def _message_properties(self, message: _Message, stop: int) -> None:
        try:
            for found in read_properties(self._cursor, stop):
                if found.tag in _BODIES and found.stop > found.start:
                    message.bodies.add(_BODIES[found.tag])
                elif found.tag is Tag.MESSAGE_CODE_PAGE:
                    message.code_page = message.code_page or found.number
        except Unreadable as error:  # none of these is an attachment
            self.notes.add(f"the message has {error}")

    def _properties(self, attachment: _Attachment, stop: int) -> None:
        try:
            for found in read_properties(self._cursor, stop):
                if found.tag is Tag.DATA and found.text is None:
                    self._add(attachment, found.start, found.stop)
                    attachment.is_message = attachment.is_message or found.message
                elif found.tag is Tag.METHOD:
                    attachment.method = found.number
                elif found.text is not None and not _has_unicode(attachment, found.tag):
                    attachment.texts[found.tag] = found.text
        except Unreadable as error:
            self.losses.add(f"attachment {attachment.number} has {error}")

    def _files(self, attachment: _Attachment, code_page: int | None) -> Iterator[InnerFile]:
        """The attachment; several if it has several contents, which are unlike each other."""
        # What a message has in attAttachData besides is a sentence for readers that do not know such messages.
        places = [place for place in attachment.contents if not (attachment.is_message and place == attachment.data)]
        contents = [SliceContent(self._content, start, stop) for start, stop in places]
        filled = [content for content in contents if content.size]
        if not filled and attachment.method in _ELSEWHERE:
            self.losses.add(f"attachment {attachment.number} is not in it: it only says where it was")
            return
        if not contents:
            self.losses.add(f"attachment {attachment.number} comes without its contents")
        if len(filled) > 1 and len({(content.size, content.sha256) for content in filled}) == 1:
            del filled[1:]
        name, kind = _name(attachment, code_page), _type(attachment, code_page)
        for number, content in enumerate(filled or [SliceContent(self._content, 0, 0)]):
            if number:  # the first was counted when the attachment began
                self._budget.file()
            self._budget.make(content.size)
            yield InnerFile(name=name, content_type=kind, content=content)


def _has_unicode(attachment: _Attachment, tag: Tag) -> bool:
    there = attachment.texts.get(tag)
    return there is not None and there.unicode


def _name(attachment: _Attachment, code_page: int | None) -> str | None:
    """The long name before the short one, and a title of people before none."""
    texts = attachment.texts
    long, shown = texts.get(Tag.LONG_FILE_NAME), texts.get(Tag.DISPLAY_NAME)
    if attachment.is_message:
        return f"{_first((long, shown, attachment.title), code_page) or 'message'}.tnef"
    transport = attachment.transport_name or texts.get(Tag.TRANSPORT_NAME)
    name = _first((long, transport, attachment.title, texts.get(Tag.FILE_NAME), shown), code_page)
    extension = _first((texts.get(Tag.EXTENSION),), code_page)
    return name or (f"attachment{extension}" if extension else None)


def _first(texts: Iterable[Text | None], code_page: int | None) -> str | None:
    """The first that says something."""
    return next((said for text in texts if text is not None and (said := text.decoded(code_page))), None)


def _type(attachment: _Attachment, code_page: int | None) -> str:
    if attachment.is_message:
        return _TNEF
    kind = (_first((attachment.texts.get(Tag.MIME_TAG),), code_page) or "").partition(";")[0].strip().lower()
    return kind if _MIME_TYPE.fullmatch(kind) else _UNKNOWN


class TnefOpener:
    """Opens TNEF.  Its attachments are files; so is a message that is attached (``NAME.tnef``), which is TNEF again.

    The text of the message, which is RTF, HTML or plain, is no attachment and stays in the container; a note says so.
    """

    name = "TNEF"

    def recognises(self, container: Container) -> bool:
        """By the types of TNEF, and by the names that Outlook and gateways give it."""
        return container.content_type in _TYPES or (container.name or "").strip().lower() in _NAMES

    def open(self, container: Container, budget: Budget) -> Opened:
        """What is in it; raises ``BudgetSpent``."""
        return _Walk(container, budget).opened()


OPENER = TnefOpener()
