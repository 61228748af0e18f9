"""What the words of strangers become as one part of a path: never hidden, reserved, misleading or too long."""

from __future__ import annotations

import re
import unicodedata

MAX_PART = 255
"""Bytes of UTF-8 in one part of a path: NAME_MAX of ext4, XFS, APFS and SMB alike."""

MAX_EXTENSION = 20
"""Characters after the dot that still count as an extension and survive when a name is cut."""

LEADING, TRAILING = ".- ", ". "
"""What no part of a path begins with, and what none ends with."""

_MAX_RAW = 1000
_RAW_TAIL = 100
_MAX_MARKS = 16

_FORBIDDEN = frozenset('/\\:*?"<>|')
# What SMB clients of macOS and Linux write to a Windows server instead of the characters that Windows forbids, and turn
# back when they read: services for Macintosh put them at U+F001 to U+F029, mount.cifs with mapchars beyond.
_STAND_INS = range(0xF001, 0xF080)
_LAST_TWO = 0xFFFE
_NONCHARACTERS = range(0xFDD0, 0xFDF0)  # besides the last two of each plane (Unicode §23.7)
# Invisible though their category is a letter or a mark: grapheme joiner, Hangul fillers, variation selectors.
_INVISIBLE = frozenset(
    map(chr, (0x034F, 0x115F, 0x1160, 0x3164, 0xFFA0, *range(0x180B, 0x1810), *range(0xFE00, 0xFE10)))
) | frozenset(map(chr, range(0xE0100, 0xE01F0)))
# https://learn.microsoft.com/windows/win32/fileio/naming-a-file: with any extension, and blanks before it do not help.
_RESERVED = re.compile(r"(?:CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(?:COM|LPT)[0-9¹²³])(?= *(?:\.|\Z))", re.IGNORECASE)
_EXTENSION = re.compile(
    rf"(?<=.)(?:\.(?:tar|eml|mbox|json|csv|xml|txt)\.(?:gz|bz2|xz|zst)|\.\w{{1,{MAX_EXTENSION}}})\Z", re.IGNORECASE
)

# Most of what is sanitised are keys, dates and plain names: these are as they must be, and that is seen at one glance.
_ORDINARY = re.compile(rf"[A-Za-z0-9_](?:[A-Za-z0-9_.@+=-]{{0,{MAX_PART - 2}}}[A-Za-z0-9_@+=-])?")

_EXTENSION_OF_TYPE = {
    "application/gzip": "gz",
    "application/json": "json",
    "application/msword": "doc",
    "application/octet-stream": "bin",
    "application/pdf": "pdf",
    "application/pkcs7-mime": "p7m",
    "application/pkcs7-signature": "p7s",
    "application/pgp-signature": "asc",
    "application/rtf": "rtf",
    "application/vnd.ms-excel": "xls",
    "application/vnd.ms-powerpoint": "ppt",
    "application/vnd.oasis.opendocument.spreadsheet": "ods",
    "application/vnd.oasis.opendocument.text": "odt",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": "pptx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/xml": "xml",
    "application/zip": "zip",
    "audio/mpeg": "mp3",
    "image/bmp": "bmp",
    "image/gif": "gif",
    "image/heic": "heic",
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/svg+xml": "svg",
    "image/tiff": "tif",
    "image/webp": "webp",
    "message/rfc822": "eml",
    "text/calendar": "ics",
    "text/csv": "csv",
    "text/html": "html",
    "text/plain": "txt",
    "text/rtf": "rtf",
    "text/vcard": "vcf",
    "text/xml": "xml",
    "video/mp4": "mp4",
}


def sanitise(text: str) -> str:
    """``text`` as one part of a path that every common file system takes: never empty, hidden, reserved or too long.

    Total and idempotent.  Separators, what Windows forbids, what stands for that on SMB, noncharacters and
    lone surrogates become ``_``; control, bidirectional and
    zero-width characters go; white space is folded; the result is NFC and at most ``MAX_PART`` bytes of UTF-8, cut
    before the extension.
    """
    if _ORDINARY.fullmatch(text) and not _RESERVED.match(text):
        return text
    if len(text) > _MAX_RAW:
        # Nobody needs more, and normalising a long row of combining marks takes quadratic time.
        text = text[: _MAX_RAW - _RAW_TAIL] + text[-_RAW_TAIL:]
    # Replaced first, normalised after: "<" and a combining stroke would otherwise hide in one composed character.
    clean = unicodedata.normalize("NFC", "".join(map(plain, text)))
    clean = " ".join(clean.split()).lstrip(LEADING).rstrip(TRAILING)
    if reserved := _RESERVED.match(clean):
        clean = f"{reserved[0]}_{clean[reserved.end() :]}"
    return fit(clean, MAX_PART) or "_"


def split_extension(name: str) -> tuple[str, str]:
    """Stem and extension of ``name``, the extension with its dot or empty; that of ``a.eml.gz`` is ``.eml.gz``."""
    found = _EXTENSION.search(name)
    return (name[: found.start()], found[0]) if found else (name, "")


def extension_of_type(content_type: str | None) -> str:
    """The usual extension, without dot, of a media type; empty if there is none that everybody agrees upon."""
    return _EXTENSION_OF_TYPE.get((content_type or "").partition(";")[0].strip().lower(), "")


def attachment_name(filename: str | None, index: int, content_type: str | None) -> str:
    """The safe name of an attachment: ``filename`` sanitised, or ``attachment-INDEX`` where nothing of it is left."""
    name = sanitise(filename or "")
    if name != "_":
        return name
    extension = extension_of_type(content_type)
    return f"attachment-{index}.{extension}" if extension else f"attachment-{index}"


def plain(char: str) -> str:
    """What becomes of one character: itself, ``_``, a blank, or nothing."""
    if char in _FORBIDDEN:
        return "_"
    match unicodedata.category(char):
        case "Cs":
            return "_"
        case "Cc" | "Zl" | "Zp":
            return " " if char.isspace() else ""
        case "Cf":
            return ""
        case "Co" if ord(char) in _STAND_INS:
            return "_"
        case "Cn" if ord(char) & _LAST_TWO == _LAST_TWO or ord(char) in _NONCHARACTERS:
            return "_"  # noncharacters: XML, and so WebDAV, has no way to write some of them
    return "" if char in _INVISIBLE else char


def fit(name: str, limit: int) -> str:
    """``name`` (sanitised) within ``limit`` bytes of UTF-8, cut before its extension."""
    if len(name.encode()) <= limit:
        return name
    stem, extension = split_extension(name)
    if len(extension.encode()) > limit // 2:
        stem, extension = name, ""
    return cut(stem, limit - len(extension.encode())).rstrip(TRAILING) + extension


def cut(text: str, limit: int) -> str:
    """The beginning of ``text`` within ``limit`` bytes, a letter never parted from its accents."""
    if len(text.encode()) <= limit:
        return text
    end = len(text.encode()[:limit].decode("utf-8", "ignore"))
    whole = end
    while whole > 0 and end - whole < _MAX_MARKS and unicodedata.combining(text[whole]):
        whole -= 1
    return text[: whole if whole and not unicodedata.combining(text[whole]) else end]
