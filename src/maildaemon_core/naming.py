"""Where each artifact goes: what a path template means for a mail, and which other names to try when one is taken.

A template is read once, at the door; what is left is a list of pieces without any expression in it.  Every value is
sanitised before it is put in, so only the template's own ``/`` makes folders, and every finished part of the path is
sanitised once more, because literals and values that are harmless alone can form a reserved name together.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import assert_never

import attrs

from maildaemon_core.safe_names import (
    LEADING,
    MAX_PART,
    TRAILING,
    attachment_name,
    cut,
    fit,
    plain,
    sanitise,
    split_extension,
)

__all__ = [
    "ATTACHMENT_NAMES",
    "DIRECTIVES",
    "MAIL_NAMES",
    "MAX_PART",
    "MAX_PARTS",
    "MAX_TEMPLATE",
    "Field",
    "Literal",
    "Moment",
    "Template",
    "TemplateFault",
    "Values",
    "candidates",
    "render",
    "sanitise",
    "split_extension",
    "with_suffix",
]

MAX_TEMPLATE = 500
"""Characters in a template."""

MAX_PARTS = 12
"""Parts of a path."""

MAX_PATH = 2048
"""Bytes of a rendered path, about: a root fits before it into PATH_MAX (4,096) and an index of PostgreSQL (2,704)."""

ATTACHMENT_NAMES = frozenset(
    {
        "mailbox",
        "folder",
        "received",
        "sender",
        "senderDomain",
        "subject",
        "messageId",
        "key",
        "filename",
        "stem",
        "extension",
        "index",
    }
)
"""What a template for attachments may name: everything."""

MAIL_NAMES = ATTACHMENT_NAMES - {"filename", "stem", "extension", "index"}
"""What a template for mails may name."""

DIRECTIVES = "YmdHMSyjVG"
"""The letters after ``%`` in ``{received:…}``: those of strftime that are numbers in every locale."""

_DEFAULT_FORMAT = "%Y-%m-%dT%H%M%SZ"
_MAX_SUFFIX = 80
_MAX_SHOWN = 100


class TemplateFault(ValueError):
    """A template that cannot be used; the message names the place, what is allowed there and what to write."""


@attrs.frozen
class Literal:
    """Text that is the same for every mail."""

    text: str


@attrs.frozen
class Field:
    """A value of the mail, by its name in ``ATTACHMENT_NAMES``."""

    name: str


@attrs.frozen
class Moment:
    """One number of the time at which the mail was received, by its letter in ``DIRECTIVES``."""

    letter: str


Piece = Literal | Field | Moment


@attrs.frozen(kw_only=True)
class Template:
    """A path template that has been read: ``parts`` are the parts of the path, each a row of pieces.

    ``names`` are the values that it uses.  Make one with ``Template.parse``.
    """

    source: str
    parts: tuple[tuple[Piece, ...], ...]
    names: frozenset[str]

    def __str__(self) -> str:
        return self.source

    @classmethod
    def parse(cls, text: str, allowed: frozenset[str] = ATTACHMENT_NAMES) -> Template:
        """Reads ``text``: literal text, ``/`` between folders, ``{name}``, ``{received:%Y/%m/%d}``, ``{{`` and ``}}``.

        ``allowed`` are the names that have a meaning where the template is used (``MAIL_NAMES`` for mails).
        Raises ``TemplateFault`` for anything else.
        """
        if len(text) > MAX_TEMPLATE:
            raise TemplateFault(f"the template has {len(text)} characters; use at most {MAX_TEMPLATE}")
        pieces = tuple(_pieces(text, allowed))
        names = frozenset("received" if isinstance(p, Moment) else p.name for p in pieces if not isinstance(p, Literal))
        parts = _parts(pieces)
        if len(parts) > MAX_PARTS:
            raise TemplateFault(f"the template is {len(parts)} folders deep; use at most {MAX_PARTS} parts")
        for part in parts:
            _check_part(part)
        return cls(source=text, parts=parts, names=names)


def _aware(_: Values, __: attrs.Attribute[datetime], value: datetime) -> None:
    if value.utcoffset() is None:
        raise ValueError("received has no time zone; give an aware datetime")


@attrs.frozen(kw_only=True)
class Values:
    """What templates are filled with: raw, as the mail has it; rendering makes it safe.

    ``received`` must be aware (ValueError otherwise) and is shown in UTC.  ``filename`` is the attachment's name as
    sent, ``index`` its number from 1 (0: the mail itself); ``content_type`` gives an extension to one without a name.
    """

    mailbox: str
    folder: str
    received: datetime = attrs.field(validator=_aware)
    sender: str
    subject: str
    message_id: str
    key: str
    filename: str | None = None
    index: int = 0
    content_type: str | None = None


def render(template: Template, values: Values, *, spare: int = 0) -> str:
    """The relative path, with ``/`` between its parts, that ``template`` means for ``values``.

    Never raises.  Every part is at most ``MAX_PART`` bytes, less in deep templates lest the whole exceed ``MAX_PATH``,
    and what is long gives way first: subjects and file names are cut, while keys, dates, extensions and the template's
    own text stay.  ``spare`` bytes are left free in the last part, for what the caller appends to it.
    """
    room = min(MAX_PART, MAX_PATH // len(template.parts))
    rooms = [room] * (len(template.parts) - 1) + [room - spare]
    return "/".join(
        fit(sanitise(_fill(part, values, room)), room) for part, room in zip(template.parts, rooms, strict=True)
    )


def with_suffix(path: str, suffix: str, *, spare: int = 0) -> str:
    """``path`` with ``suffix`` before the extension of its last part, which stays within ``MAX_PART`` bytes.

    ``spare`` of these are left free, for what the caller appends to it.

    Raises ValueError if ``suffix`` is not itself fit for a file name or is longer than 80 bytes.
    """
    if sanitise(f"x{suffix}") != f"x{suffix}" or len(suffix.encode()) > _MAX_SUFFIX:
        raise ValueError(f"{suffix!r} cannot be part of a file name; use a short one of letters, digits and dashes")
    folder, slash, name = path.rpartition("/")
    stem, extension = split_extension(sanitise(name))
    room = MAX_PART - spare - len((suffix + extension).encode())
    return folder + slash + sanitise(cut(stem, room) + suffix + extension)


def candidates(path: str, key: str, *, spare: int = 0) -> Iterator[str]:
    """Names to try in turn: ``path``, then with ``-key``, ``-key-2``, ``-key-3``… before the extension; endless.

    ``spare`` bytes are left free in the last part of all but the first, which has them already.

    No two are the same, not even where the file system ignores case.
    """
    yield path  # nearly always free: the others are thought of when they are asked for
    suffix = f"-{cut(sanitise(key), _MAX_SUFFIX // 2).rstrip(TRAILING)}"
    seen = {path.casefold()}
    for more in itertools.chain([suffix], (f"{suffix}-{number}" for number in itertools.count(2))):
        name = with_suffix(path, more, spare=spare)
        # A name that was cut may end in its own key already.
        if name.casefold() not in seen:
            seen.add(name.casefold())
            yield name


def _pieces(text: str, allowed: frozenset[str]) -> Iterator[Piece]:
    at = 0
    while at < len(text):
        char = text[at]
        if char in "{}" and text[at : at + 2] == char * 2:
            yield Literal(char)
            at += 2
        elif char == "{":
            end = text.find("}", at)
            inner = text[at + 1 : end if end > at else len(text)]
            if end < 0 or "{" in inner:
                raise TemplateFault(f"'{{' at character {at + 1} is never closed; close it with '}}', or write '{{{{'")
            yield from _placeholder(inner, allowed)
            at = end + 1
        elif char == "}":
            raise TemplateFault(f"'}}' at character {at + 1} closes nothing; write '}}}}' for a brace in the name")
        else:
            end = min((each for each in (text.find("{", at), text.find("}", at)) if each >= 0), default=len(text))
            yield Literal(unicodedata.normalize("NFC", text[at:end]))
            at = end


def _placeholder(inner: str, allowed: frozenset[str]) -> Iterator[Piece]:
    name, colon, form = inner.partition(":")
    shown = "{" + _shown(inner) + "}"
    listed = ", ".join(sorted(allowed))
    if name not in ATTACHMENT_NAMES:
        raise TemplateFault(f"unknown placeholder {shown}; use one of: {listed}")
    if name not in allowed:
        raise TemplateFault(f"placeholder {shown} has no meaning here; use one of: {listed}")
    if name != "received":
        if colon:
            raise TemplateFault(f"placeholder {shown} takes no format, only received does; write {{{name}}}")
        yield Field(name)
        return
    if colon and not form:
        raise TemplateFault(f"placeholder {shown} has an empty format; write {{received:%Y/%m/%d}} or {{received}}")
    yield from _format(form or _DEFAULT_FORMAT, shown)


def _format(form: str, shown: str) -> Iterator[Piece]:
    for directive, literal in re.findall(r"(?s)%(.?)|([^%]+)", form):
        if literal or directive == "%":
            yield Literal(unicodedata.normalize("NFC", literal) or "%")
        elif directive and directive in DIRECTIVES:
            yield Moment(directive)
        else:
            listed = ", ".join(f"%{each}" for each in DIRECTIVES)
            raise TemplateFault(
                f"placeholder {shown} has an unknown directive %{_shown(directive)}; use {listed} or %%"
            )


def _parts(pieces: Sequence[Piece]) -> tuple[tuple[Piece, ...], ...]:
    parts: list[list[Piece]] = [[]]
    for piece in pieces:
        if not isinstance(piece, Literal):
            parts[-1].append(piece)
            continue
        for number, text in enumerate(piece.text.split("/")):
            if number:
                parts.append([])
            if text:
                parts[-1].append(Literal(text))
    return tuple(map(tuple, parts))


def _check_part(part: tuple[Piece, ...]) -> None:
    if not part:
        raise TemplateFault(
            "the template has a folder or file without a name: it is empty, begins or ends with '/', or has '//'; "
            "write a relative path such as {received:%Y/%m/%d}/{key}"
        )
    for piece in part:
        for char in piece.text if isinstance(piece, Literal) else "":
            if plain(char) != char:
                raise TemplateFault(f"{_shown(char)!r} cannot be part of a file name; leave it out ('/' parts folders)")
    first, last = part[0], part[-1]
    if isinstance(first, Literal) and first.text[0] in LEADING:
        raise TemplateFault(
            f"the part that begins with {_shown(first.text)!r} would be hidden, lead upwards or look like an option; "
            "begin each folder and file with something other than '.', '-' or a blank"
        )
    if isinstance(last, Literal) and last.text[-1] in TRAILING:
        raise TemplateFault(
            f"the part that ends with {_shown(last.text)!r} would lose its end on some file systems; "
            "end each folder and file with something other than '.' or a blank"
        )


def _shown(text: str) -> str:
    """As it may be printed: short, without control characters."""
    short = text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in short)


def _fill(part: Sequence[Piece], values: Values, limit: int) -> str:
    texts = [_fixed(piece, values) for piece in part]
    if all(texts):  # nothing in it gives way
        return "".join(texts)
    free = {
        at: _free(piece.name, values) for at, piece in enumerate(part) if isinstance(piece, Field) and not texts[at]
    }
    room = limit - sum(len(text.encode()) for text in texts)
    # The shortest first, so that what they leave over is shared by the longer ones.
    for waiting, at in zip(range(len(free), 0, -1), sorted(free, key=lambda at: len(free[at].encode())), strict=True):
        texts[at] = fit(free[at], max(room // waiting, 1))
        room -= len(texts[at].encode())
    return "".join(texts)


def _fixed(piece: Piece, values: Values) -> str:
    """What is never shortened; empty for the rest."""
    match piece:
        case Literal(text):
            return text
        case Moment(letter):
            return _moment(letter, values.received)
        case Field("key"):
            return sanitise(values.key)
        case Field("index"):
            return str(values.index)
        case Field("extension"):
            return split_extension(_attachment(values))[1][1:]
        case Field():
            return ""
        case _ as never:
            assert_never(never)


def _free(name: str, values: Values) -> str:
    """What gives way when a part is too long; empty for the rest."""
    if name in ("filename", "stem"):
        whole = _attachment(values)
        return whole if name == "filename" else split_extension(whole)[0]
    raw = {
        "mailbox": values.mailbox,
        "folder": values.folder,
        "sender": values.sender,
        "senderDomain": values.sender.rpartition("@")[2] if "@" in values.sender else "",
        "subject": values.subject,
        "messageId": values.message_id.strip().removeprefix("<").removesuffix(">"),
    }
    return sanitise(raw[name]) if name in raw else ""


def _attachment(values: Values) -> str:
    return attachment_name(values.filename, values.index, values.content_type)


def _moment(letter: str, received: datetime) -> str:
    # Not strftime: it pads the years before 1000 differently on each platform.
    try:
        at = received.astimezone(UTC)
    except OverflowError:  # within hours of the calendar's two ends
        at = received
    match letter:
        case "Y":
            number, width = at.year, 4
        case "y":
            number, width = at.year % 100, 2
        case "m":
            number, width = at.month, 2
        case "d":
            number, width = at.day, 2
        case "H":
            number, width = at.hour, 2
        case "M":
            number, width = at.minute, 2
        case "S":
            number, width = at.second, 2
        case "j":
            number, width = at.timetuple().tm_yday, 3
        case "G":
            number, width = at.isocalendar().year, 4
        case _:  # V, the last of DIRECTIVES
            number, width = at.isocalendar().week, 2
    return str(number).zfill(width)
