"""Mails that are hard to read: names and headers full of tricks, and damage that must not cost an attachment.

Shipped for authors of plug-ins::

    @given(damaged_mails())
    def test_an_opener_still_gets_what_is_there(mail: DamagedMail) -> None: ...
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from urllib.parse import quote

import attrs
from hypothesis import strategies as st

from maildaemon_core.testing.mails import EPOCH, Named, NameStyle, encoded_words


@attrs.frozen(kw_only=True)
class DamagedMail:
    """A mail with faults, and what a reader must find in it all the same.

    ``faults`` say what is wrong with it; ``loss`` is whether a reader must not call it complete, since nobody can know
    that nothing is missing.
    """

    raw: bytes
    subject: str
    sender: str
    attachments: tuple[Named, ...]
    faults: tuple[str, ...]
    loss: bool


def mail_named(name: str, style: NameStyle = NameStyle.EXTENDED, *, content: bytes = b"%PDF-1.4") -> bytes:
    """A mail with one attachment of this name, whatever is in it; lone surrogates are written as UTF-8 forbids it.

    ``QUOTED`` escapes quotes and backslashes and nothing else, so a name with line breaks is a trick of its own.
    """
    return b"\r\n".join((
        b"From: jane@example.com",
        b"Subject: a name",
        b"MIME-Version: 1.0",
        b"Content-Type: application/pdf",
        b"Content-Disposition: attachment;\r\n " + _filename(name, style),
        b"Content-Transfer-Encoding: base64",
        b"",
        base64.encodebytes(content).replace(b"\n", b"\r\n"),
    ))  # fmt: skip


def _filename(name: str, style: NameStyle) -> bytes:
    octets = name.encode("utf-8", "surrogatepass")
    match style:
        case NameStyle.PLAIN:
            return b"filename=" + octets
        case NameStyle.QUOTED:
            return b'filename="' + octets.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
        case NameStyle.EXTENDED:
            return b"filename*=utf-8''" + quote(octets, safe="").encode()
        case NameStyle.CONTINUED:
            pieces = [octets[at : at + 15] for at in range(0, len(octets), 15)] or [b""]
            return b";\r\n ".join(
                b"filename*%d*=%s%s" % (number, b"" if number else b"utf-8''", quote(piece, safe="").encode())
                for number, piece in enumerate(pieces)
            )
        case NameStyle.ENCODED_WORD:
            words = [octets[at : at + 42] for at in range(0, len(octets), 42)]
            return b'filename="' + b" ".join(b"=?utf-8?B?%s?=" % base64.b64encode(word) for word in words) + b'"'


# Headers ------------------------------------------------------------------------------------------------------------

_ADDRESSES = (
    b"a@",
    b"@",
    b"a b c <",
    b'To: "',
    b"<>",
    b"<<a@b>>",
    b"a@b@c",
    b"a@b <c@d> <e@f>",
    b"undisclosed-recipients:;",
    b"a: b: c@d;",
    b":;,;:",
    b"((((((((",
    b"(a@b",
    b'"a@b" <c@d',
    b"=?utf-8?q?=22?= <a@b>",
    b"=?utf-8?q?a=40b=2C_c=40d?= <e@f>",
    b"=?utf-8?b?PGFAYj4=?=",
    b"a@[",
    b"a@[1.2.3.4",
    b"a@b\x00c",
    b"\xe4@\xf6.de",
    b"a.@b..c",
    b"a@b (c (d) \\) e)",
    b'"a\\" <b@c>',
    b",,,a@b,,",
    b"a@b;c@d",
)
_WORDS = (
    b"=?",
    b"=??",
    b"=?utf-8?q?",
    b"=?utf-8?q??=",
    b"=?utf-8?b?=?=",
    b"=?utf-8?b?Q?=",
    b"=?utf-8?b?Q!U@I#D?=",
    b"=?utf-8?q?=?=",
    b"=?utf-8?q?=4?=",
    b"=?utf-8?q?=ED=A0=80?=",
    b"=?utf-8?x?a?=",
    b"=?x-none?q?=FF?=",
    b"=?utf-7?q?+2AA-?=",
    b"=?unicode_escape?q?=5Cud800?=",
    b"=?punycode?q?a-?=",
    b"=?idna?q?xn--?=",
    b"=?base64?q?a?=",
    b"=?undefined?q?a?=",
    b"=?utf-16?b?2AA=?=",
    b"=?utf-8*?q?a?=",
    b"=?utf-8*en?q?a?=",
    b"=? ?q?a?=",
    b"=?\xff?q?a?=",
    b"=?utf-8?q?\xff?=",
    b"=?utf-8?q?=0D=0ABcc:_x?=",
    b"=?utf-8?q?=00?=",
    b"=?utf-8?q?=3D=3Futf-8=3Fq=3Fa=3F=3D?=",
    b"a=?utf-8?q?b?=c",
    b"=?utf-8?q?a?==?utf-8?q?b?=",
    b"\xed\xa0\x80",
    b"\xff\xfe",
    b"\xe2\x80\xae",
    b"\r",
    b"\x00",
    b"\x0b\x0c\x85",
    b"\r\n ",
    b"\r\n\t",
)
_PARAMETERS = (
    b"; filename=",
    b"; filename=a b.pdf",
    b'; filename="',
    b'; filename="\\',
    b'; filename="a\\"b',
    b'; filename=""',
    b"; filename*=",
    b"; filename*='",
    b"; filename*=''",
    b"; filename*=utf-8''%",
    b"; filename*=utf-8''%4",
    b"; filename*=utf-8''%zz%ff",
    b"; filename*=utf-8''%ed%a0%80",
    b"; filename*=unicode_escape''%5cud800",
    b"; filename*=x-none'x'%ff",
    b"; filename*0=a; filename*0=b",
    b"; filename*1=b; filename*0=a",
    b"; filename*0*=utf-8''%c3; filename*1*=%bc",
    b"; filename*0*=a; filename*1=%20; filename*9999999999=x",
    b"; filename*-1=a",
    b"; filename*a=b",
    b"; filename**=a",
    b"; *=a; **=; =b; ==",
    b"; FILENAME = a",
    b'; filename="=?utf-8?q?a=2E?=\r\n =?utf-8?q?pdf?="',
    b"; filename=../../etc/passwd",
    b";;;;",
    b"(; filename=a)",
    b"\x00; filename=\x00",
    b" filename=a",
)


def hostile_headers() -> st.SearchStrategy[bytes]:
    """Blocks of header fields with tricks in them, without the empty line; some lines are no fields at all."""
    tricks = st.one_of(st.sampled_from(_ADDRESSES), st.sampled_from(_WORDS), st.binary(max_size=30))
    value = st.lists(tricks, max_size=6).map(b" ".join)
    names = st.sampled_from((b"From", b"To", b"Cc", b"Subject", b"Date", b"Message-ID", b"Reply-To", b"X"))
    kinds = st.sampled_from(
        (b"application/pdf", b"text/plain", b"multipart/mixed", b"message/rfc822", b"", b"/", b"pdf")
    )
    typed = st.sampled_from((b"Content-Type", b"Content-Disposition", b"Content-ID", b"Content-Transfer-Encoding"))
    values = st.sampled_from((b"attachment", b"inline", b"base64", b"base64 ;", b"x-none", b"quoted-printable"))
    parameters = st.lists(st.sampled_from(_PARAMETERS) | st.sampled_from(_WORDS), max_size=4).map(b"".join)
    lines = st.one_of(
        st.builds(_field, names, value),
        st.builds(_field, typed, st.builds(bytes.__add__, kinds | values, parameters)),
        st.sampled_from(
            (b"no header\r\n", b" a fold\r\n", b": nothing\r\n", b"Subject\r\n", b"--\r\n", b">From me\r\n")
        ),
    )
    return st.lists(lines, max_size=10).map(b"".join)


def _field(name: bytes, value: bytes) -> bytes:
    return b"%s: %s\r\n" % (name, value)


def hostile_mails() -> st.SearchStrategy[bytes]:
    """Mails with hostile headers, outside and in their parts."""
    body = st.binary(max_size=60) | st.sampled_from(
        (b"JVBERg==\r\n", b"=41=\r\n", b"begin 644 a\r\n#0V%T\r\n`\r\nend\r\n")
    )
    part = st.builds(b"\r\n".join, st.tuples(hostile_headers(), body))
    multipart = st.builds(
        lambda head, parts, end: (
            b"%sContent-Type: multipart/mixed; boundary=b\r\n\r\n%s--b%s\r\n"
            % (head, b"".join(b"--b\r\n%s\r\n" % each for each in parts), end)
        ),
        hostile_headers(),
        st.lists(part, max_size=4),
        st.sampled_from((b"--", b"", b"-", b"--junk")),
    )
    return part | multipart


# Damage -------------------------------------------------------------------------------------------------------------


@attrs.frozen
class _Fault:
    """What is done to a mail that was right: to its header, to the header of its attachment, to that one's base64."""

    text: str
    loss: bool = False
    top: Callable[[list[bytes]], list[bytes]] = lambda lines: lines
    head: Callable[[list[bytes]], list[bytes]] = lambda lines: lines
    body: Callable[[bytes], bytes] = lambda encoded: encoded
    end: Callable[[bytes], bytes] = lambda end: end


def _encoding(value: bytes) -> Callable[[list[bytes]], list[bytes]]:
    name = b"Content-Transfer-Encoding: "
    return lambda lines: [name + value if line.startswith(name) else line for line in lines]


def _before(position: int, *more: bytes) -> Callable[[list[bytes]], list[bytes]]:
    return lambda lines: [*lines[:position], *more, *lines[position:]]


_FAULTS: Sequence[_Fault] = (
    _Fault("a blank after the name of the encoding", head=_encoding(b"base64 ")),
    _Fault("a semicolon after the name of the encoding", head=_encoding(b"base64;")),
    _Fault("a comment after the name of the encoding", head=_encoding(b"BASE64 (of course)")),
    _Fault("quotes around the name of the encoding", head=_encoding(b'"base64"')),
    _Fault("a blank before the colon", head=_before(1, b"X-Part : 1")),
    _Fault("a line that is no header in the mail's header", top=_before(2, b"this is no header")),
    _Fault("a header without its colon", top=_before(1, b"X-Broken")),
    _Fault("an address that cannot be read", top=_before(1, b"Cc: a@", b'Bcc: "', b"Reply-To: a b c <")),
    _Fault("a date that is none", top=_before(0, b"Date: yesterday")),
    _Fault("a line of an mbox file before it", top=_before(0, b"From jane@example.com Fri Jan  2 03:04:05 2026")),
    _Fault("a line that is no header in the part's header", head=_before(1, b"this is no header")),
    _Fault("an unknown charset", top=_before(0, b"X-Title: =?x-none?q?a?=")),
    _Fault("blanks after the delimiters", end=lambda end: end + b"  \t"),
    _Fault("no closing delimiter", loss=True, end=lambda _: b""),
    _Fault("base64 with characters that do not belong there", loss=True, body=lambda text: b"!?" + text + b"\x80"),
    _Fault("base64 without its padding", body=lambda text: text.replace(b"=", b"")),
    _Fault("base64 in one line", body=lambda text: text.replace(b"\r\n", b"") + b"\r\n"),
    _Fault("base64 with blanks and empty lines", body=lambda text: text.replace(b"\r\n", b" \r\n\r\n\t")),
)


@st.composite
def damaged_mails(draw: st.DrawFn) -> DamagedMail:
    """Mails with up to three faults that senders really make, and of which each attachment can still be read."""
    faults = draw(st.lists(st.sampled_from(_FAULTS), min_size=1, max_size=3, unique_by=lambda fault: fault.text))
    name = draw(st.sampled_from(("a.pdf", "Rechnung März.pdf", "請求書.pdf")))
    content = draw(st.binary(max_size=150))
    encoded = base64.encodebytes(content).replace(b"\n", b"\r\n")
    top = [
        b"From: Jane <jane@example.com>",
        b"Date: " + EPOCH.encode(),
        b"Subject: " + encoded_words("März").encode(),
        b"Content-Type: multipart/mixed; boundary=b",
    ]
    head = [
        b"Content-Type: application/pdf",
        b"Content-Disposition: attachment; filename*=utf-8''" + quote(name.encode(), safe="").encode(),
        b"Content-Transfer-Encoding: base64",
    ]
    end = b"--b--"
    for fault in faults:
        # An mbox file's line is the first of all; the others do not mind.
        top, head, encoded, end = fault.top(top), fault.head(head), fault.body(encoded), fault.end(end)
    top.sort(key=lambda line: not line.startswith(b"From jane"))
    dash = b"--b" + end[len(b"--b--") :]
    padding_is_missing = any("padding" in fault.text for fault in faults) and len(content) % 3
    return DamagedMail(
        raw=b"\r\n".join((*top, b"", dash, b"", b"text", dash, *head, b"", encoded, end)),
        subject="März",
        sender="jane@example.com",
        attachments=((name, "application/pdf", content),),
        faults=tuple(fault.text for fault in faults),
        loss=any(fault.loss for fault in faults) or bool(padding_is_missing),
    )
