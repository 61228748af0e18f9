"""What the header fields of a mail say, as text that is always valid Unicode; one decoder for core and adapters."""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from encodings.aliases import aliases

from maildaemon_core.addresses import first_mailbox
from maildaemon_core.message import Headers
from maildaemon_core.transfer import decode_base64

Note = Callable[[str], None]
"""Takes a sentence about something that could not be understood."""

FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:")
"""The beginning of a header field; the space before the colon is obsolete syntax (RFC 5322 §4.5)."""

_WHOLE_FIELD = re.compile(rb"^([!-9;-~]++)[ \t]*+:([^\n]*+(?:\n[ \t][^\n]*+)*+)", re.MULTILINE)
_LINE_END = re.compile(rb"(?<!\r)\r++\n")

# A closed table instead of codecs.lookup: that one remembers every unknown name for ever, and among what it knows are
# codecs that take quadratic time (punycode) or make lone surrogates (unicode_escape).
_REFUSED = {"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "mbcs", "oem"}
_BINARY = {"base64_codec", "bz2_codec", "hex_codec", "quopri_codec", "rot_13", "uu_codec", "zlib_codec"}
_UNALIASED = (
    "koi8_u",
    "koi8_t",
    "cp720",
    "cp737",
    "cp874",
    "cp1006",
    "mac_arabic",
    "mac_croatian",
    "mac_farsi",
    "mac_romanian",
)
_CHARSETS: dict[str, str] = {
    **{codec: codec for codec in (*aliases.values(), *_UNALIASED)},
    **aliases,
    # What senders mean by these names is the larger set (WHATWG Encoding Standard §4.2).
    **dict.fromkeys(("ascii", "us_ascii", "latin_1", "latin1", "iso8859_1", "iso_8859_1"), "cp1252"),
    **dict.fromkeys(("gb2312", "gbk", "x_gbk", "gb_2312_80", "euc_cn"), "gb18030"),
    **dict.fromkeys(("ks_c_5601_1987", "ks_c_5601", "euc_kr"), "cp949"),
    **dict.fromkeys(("shift_jis", "x_sjis", "sjis"), "cp932"),
    "iso_8859_8_i": "iso8859_8",
    "windows_874": "cp874",
    "unicode_1_1_utf_7": "utf_7",
    "utf8mb4": "utf_8",
}
_UNSAFE = re.compile(r"[\r\n]")
_NAME = re.compile(r"[^a-z0-9]+")


def _nothing(_: str) -> None:
    """Forgets the note."""


def split_fields(block: bytes) -> Iterator[tuple[str, bytes]]:
    """The fields of a header block in order: the name in lower case, the value unfolded and trimmed.

    A line that is neither a field nor a continuation is passed over with its own continuations, and what follows it is
    still read; the first empty line ends the block.  A fold becomes one space (RFC 5322 §2.2.3).
    """
    text = block.replace(b"\r\n", b"\n")
    if b"\r\n" in text:
        text = _LINE_END.sub(b"\n", text)
    end = 0 if text.startswith(b"\n") else text.find(b"\n\n")
    for found in _WHOLE_FIELD.finditer(text, 0, len(text) if end < 0 else end):
        name, value = found.groups()
        if b"\n" in value:
            value = b" ".join(line.strip(b" \t") for line in value.split(b"\n") if line.strip(b" \t"))
        yield name.decode("ascii").lower(), value.strip()


def date_time(raw: bytes) -> datetime | None:
    """A date-time as mails have it (RFC 5322 §3.3), in UTC; None for anything else."""
    try:
        found = parsedate_to_datetime(raw.decode("latin-1"))
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def raw_text(raw: bytes) -> str:
    """Bytes without a declared charset as text: UTF-8 where it is (RFC 6532), else Windows-1252, else Latin-1."""
    for charset in ("utf-8", "cp1252"):
        try:
            return raw.decode(charset)
        except UnicodeDecodeError:
            continue
    return raw.decode("latin-1")


def charset_text(raw: bytes, charset: str, note: Note = _nothing) -> str:
    """Bytes in a declared charset as text; what is undecodable becomes U+FFFD, an unknown charset a note."""
    name = _NAME.sub("_", charset.strip().lower())
    codec = _CHARSETS.get(name)
    if codec is None or codec in _REFUSED or codec in _BINARY:
        if name:
            note(f"unknown charset {charset[:40]!r} in a header")
        return raw_text(raw)
    if codec == "cp1252":
        return raw_text(raw) if name in {"ascii", "us_ascii"} else _windows(raw)
    try:
        return _paired(raw.decode(codec, "replace"))
    except (LookupError, ValueError):
        return raw_text(raw)


def _windows(raw: bytes) -> str:
    try:
        return raw.decode("cp1252")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _paired(text: str) -> str:
    """The same text without lone surrogates, which some codecs (UTF-7) let through."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def decode_text(raw: bytes, note: Note = _nothing) -> str:
    """An unstructured header value as text: encoded words decoded once (RFC 2047), line breaks turned into spaces.

    Encoded words are also taken where they must not stand (inside quotes, inside words), with blanks or question marks
    in them, with padding missing, and with a character spread over neighbours.
    """
    text = raw_text(raw)
    if "=?" in text:
        text = "".join(_decoded_words(text, note))
    return _UNSAFE.sub(" ", text).strip()


def _decoded_words(text: str, note: Note) -> Iterator[str]:
    at = 0
    charset, held = "", bytearray()  # neighbours in one charset: a character may be spread over them
    for start, stop, word_charset, word in _encoded_words(text):
        between = text[at:start]
        apart = bool(between.strip()) or at == 0  # blanks between two encoded words are no text (RFC 2047 §6.2)
        if apart or word_charset.lower() != charset.lower():
            yield charset_text(bytes(held), charset, note) if held else ""
            held.clear()
        if apart:
            yield between
        charset, at = word_charset, stop
        held += word
    yield charset_text(bytes(held), charset, note) if held else ""
    yield text[at:]


def _encoded_words(text: str) -> Iterator[tuple[int, int, str, bytes]]:
    """Where encoded words lie: start, stop, charset, bytes.  No character is searched for more than a few times."""
    start, end = text.find("=?"), -1
    while start >= 0:
        mark = text.find("?", start + 2, start + 64)
        encoding = text[mark + 1 : mark + 3].lower()
        if mark < 0 or encoding not in {"q?", "b?"}:
            start = text.find("=?", start + 2)
            continue
        begin = mark + 3
        if end < begin:
            end = text.find("?=", begin)
            if end < 0:
                return
        following = text.find("=?", begin, end)
        if following >= 0 and _opens_word(text, following):
            start = following
            continue
        charset = text[start + 2 : mark].partition("*")[0]  # a language may follow (RFC 2231 §5)
        body = text[begin:end]
        if not body.isascii():
            charset = "utf-8"
        yield start, end + 2, charset, _word_bytes(encoding[0], body.encode("utf-8"))
        start = text.find("=?", end + 2)


def _opens_word(text: str, at: int) -> bool:
    mark = text.find("?", at + 2, at + 64)
    return mark >= 0 and text[mark + 1 : mark + 3].lower() in {"q?", "b?"}


def _word_bytes(encoding: str, body: bytes) -> bytes:
    return decode_base64(body) if encoding == "b" else binascii.a2b_qp(body, header=True)


def read_headers(block: bytes, note: Note = _nothing) -> Headers:
    """The few headers that everybody needs, from a header block (a whole one, or what HEADER.FIELDS brought).

    Never raises; see ``headers_of``.
    """
    return headers_of(split_fields(block), note)


def headers_of(fields: Iterable[tuple[str, bytes]], note: Note = _nothing) -> Headers:
    """The few headers that everybody needs, from the fields that ``split_fields`` gives.

    Never raises.  Of a field that comes several times the first that is not empty counts, except ``To``, whose values
    are joined.  Of several ``From`` the first in which an address can be read is taken, for ``from_`` and ``sender``.
    """
    wanted: dict[str, list[bytes]] = {name: [] for name in ("message-id", "date", "from", "to", "subject")}
    for name, value in fields:
        if name in wanted and value:
            wanted[name].append(value)

    def first(name: str) -> str:
        return decode_text(wanted[name][0], note) if wanted[name] else ""

    from_, sender = first("from"), ""
    for raw in wanted["from"]:
        decoded = decode_text(raw)
        sender = first_mailbox(raw_text(raw)) or first_mailbox(decoded)
        if sender:
            from_ = decoded
            break
    return Headers(
        message_id=first("message-id"),
        date=first("date"),
        from_=from_,
        to=", ".join(decode_text(raw, note) for raw in wanted["to"]),
        subject=first("subject"),
        sender=sender,
    )
