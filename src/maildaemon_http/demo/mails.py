"""The mails of the demo, one of each kind that people get and that programs stumble over; the same each time."""

from __future__ import annotations

import base64
import struct
import zlib
from datetime import UTC, datetime, timedelta
from email.header import Header
from email.utils import format_datetime

from maildaemon_http.demo.server import SampleMail

USER = "buero@firm.de"
ALLOWED = ("firm.de", "example.com", "example.org")
"""Whose mail the demo takes; ``evil-firm.de`` is none of them."""

_FIRST = datetime(2026, 4, 1, 8, 0, tzinfo=UTC)


def sample_mails() -> tuple[SampleMail, ...]:
    """All of them, in the order of their arrival."""
    raws = (
        _plain(),
        _umlauts_by_rfc_2231(),
        _umlauts_by_rfc_2047(),
        _inline_as_apple_mail_sends_it(),
        _scan("Scan from the third floor", "scan-1"),
        _scan("Scan from the third floor, once more", "scan-2"),
        _refused_sender(),
        _hostile_name(),
        _broken(),
        _picture_of_the_text(),
        _nothing_in_it(),
        _forwarded(),
        _escape_sequences(),
    )
    return tuple(
        SampleMail(raw=raw.replace(b"\n", b"\r\n"), received=_FIRST + timedelta(hours=9 * at))
        for at, raw in enumerate(raws)
    )


def _plain() -> bytes:
    return _mail(
        "hello", "Jane Doe <jane@example.com>", "Lunch on Thursday?", "text/plain; charset=utf-8", "At twelve?\n"
    )


def _umlauts_by_rfc_2231() -> bytes:
    part = _part(
        "application/pdf",
        _pdf("Rechnung Maerz 2026"),
        "attachment;\n filename*0*=UTF-8''Rechnung%20M%C3%A4rz%20;\n filename*1*=2026%20f%C3%BCr%20B%C3%BCro.pdf",
    )
    sender = f"{_encoded('Jürgen Größe')} <juergen@firm.de>"
    return _mixed("umlauts-1", sender, _encoded("Rechnung für März"), _text("Anbei die Rechnung.\n"), part)


def _umlauts_by_rfc_2047() -> bytes:
    """As Outlook and many others write it, though RFC 2047 §5 forbids it in a parameter."""
    name = "=?iso-8859-1?Q?Gesch=E4ftsbericht.pdf?="
    part = _part(f'application/pdf; name="{name}"', _pdf("Geschaeftsbericht"), f'attachment; filename="{name}"')
    return _mixed(
        "umlauts-2", "Office <office@firm.de>", _encoded("Geschäftsbericht"), _text("Please find it.\n"), part
    )


def _inline_as_apple_mail_sends_it() -> bytes:
    part = _part("application/pdf; x-unix-mode=0644; name=Offer.pdf", _pdf("Offer"), "inline; filename=Offer.pdf")
    return _mixed("apple", "Tim <tim@example.org>", "Our offer", _text("Hello,\n"), part, _text("Best, Tim\n"))


def _scan(subject: str, key: str) -> bytes:
    """Sent twice with the same bytes under the same name: two mails, two files."""
    part = _part("application/pdf", _pdf("Scan"), "attachment; filename=scan.pdf")
    return _mixed(key, "Scanner <scanner@firm.de>", subject, _text("Sent by the scanner.\n"), part)


def _refused_sender() -> bytes:
    part = _part("application/pdf", _pdf("Pay at once"), "attachment; filename=invoice.pdf")
    return _mixed("refused", "Billing at firm.de <billing@evil-firm.de>", "Unpaid invoice", _text("Pay now!\n"), part)


def _hostile_name() -> bytes:
    part = _part("text/plain", b"root::0:0::/:/bin/sh\n", 'attachment; filename="../../etc/passwd"')
    return _mixed("hostile", "Mallory <mallory@example.com>", "The file you asked for", _text("See there.\n"), part)


def _broken() -> bytes:
    """Cut off in the middle of a part, in a charset that nobody has."""
    whole = _mixed(
        "broken",
        "Old Machine <machine@example.org>",
        "=?x-nowhere?Q?Report_=FF?=",
        _text("See the report.\n"),
        _part("application/pdf", _pdf("Report"), "attachment; filename=report.pdf"),
    )
    return whole[: len(whole) * 3 // 4]


def _picture_of_the_text() -> bytes:
    """A picture that the HTML shows belongs to the text; it is no attachment."""
    picture = b"Content-ID: <logo@firm.de>\n" + _part("image/png", _png(), "inline; filename=logo.png")
    html = _part("text/html; charset=utf-8", b'<p>Spring sale!</p><img src="cid:logo@firm.de">', "inline")
    head = _head("picture", "Shop <shop@example.com>", "Spring sale", 'multipart/related; boundary="=-picture"')
    return head + _joined("picture", html, picture)


def _nothing_in_it() -> bytes:
    part = _part("text/csv", b"", "attachment; filename=orders.csv")
    return _mixed("empty", "Orders <orders@example.org>", "Orders of today: none", _text("The file is empty.\n"), part)


def _forwarded() -> bytes:
    inner = _mixed(
        "inner",
        "Supplier <sales@example.com>",
        "Delivery note 4711",
        _text("Your delivery note.\n"),
        _part("application/pdf", _pdf("Delivery note 4711"), "attachment; filename=delivery-note-4711.pdf"),
    )
    part = b"Content-Type: message/rfc822\nContent-Disposition: attachment; filename=Forwarded.eml\n\n" + inner
    return _mixed("forwarded", "Anna <anna@firm.de>", "Fwd: Delivery note 4711", _text("For you.\n"), part)


def _escape_sequences() -> bytes:
    """Text that would colour a terminal and turn the rest of its line around."""
    subject = _encoded("\x1b[31mURGENT\x1b[0m \u202efdp.exe")
    part = _part("application/pdf", _pdf("Nothing"), "attachment; filename*=UTF-8''invoice%E2%80%AEfdp.exe")
    return _mixed("escape", "Trick <trick@example.org>", subject, _text("Look at the name.\n"), part)


# ------------------------------------------------------------------------------------------------------------- building


def _mixed(key: str, sender: str, subject: str, *parts: bytes) -> bytes:
    return _head(key, sender, subject, f'multipart/mixed; boundary="=-{key}"') + _joined(key, *parts)


def _mail(key: str, sender: str, subject: str, content_type: str, body: str) -> bytes:
    return _head(key, sender, subject, content_type) + b"\n" + body.encode()


def _head(key: str, sender: str, subject: str, content_type: str) -> bytes:
    lines = (
        f"From: {sender}",
        f"To: {USER}",
        f"Subject: {subject}",
        f"Date: {format_datetime(_FIRST)}",
        f"Message-ID: <{key}@demo.example>",
        "MIME-Version: 1.0",
        f"Content-Type: {content_type}",
    )
    return "".join(f"{line}\n" for line in lines).encode("ascii")


def _joined(key: str, *parts: bytes) -> bytes:
    return b"".join(b"\n--=-%s\n%s" % (key.encode(), part) for part in parts) + b"\n--=-%s--\n" % key.encode()


def _text(words: str) -> bytes:
    return b"Content-Type: text/plain; charset=utf-8\n\n" + words.encode()


def _part(content_type: str, data: bytes, disposition: str) -> bytes:
    lines = (
        f"Content-Type: {content_type}",
        f"Content-Disposition: {disposition}",
        "Content-Transfer-Encoding: base64",
    )
    return "".join(f"{line}\n" for line in lines).encode("ascii") + b"\n" + base64.encodebytes(data)


def _encoded(words: str) -> str:
    return Header(words, "utf-8", maxlinelen=1000).encode()


def _pdf(words: str) -> bytes:
    """The smallest page with these words on it that readers open without complaint (ISO 32000-1 §7.5)."""
    drawing = f"BT /F1 24 Tf 72 720 Td ({words}) Tj ET".encode("ascii")
    objects = (
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        (
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R "
            b"/Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>"
        ),
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(drawing), drawing),
    )
    made, places = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, start=1):
        places.append(len(made))
        made += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    size = len(objects) + 1
    start = len(made)
    made += b"xref\n0 %d\n0000000000 65535 f \n%s" % (size, table)
    return made + b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (size, start)


def _png() -> bytes:
    """A square of one colour, 16 by 16 (RFC 2083)."""
    rows = b"".join(b"\0" + b"\x2e\x8b\x57" * 16 for _ in range(16))
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", 16, 16, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    written = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)
