"""Mails to test with: plain ones by hand, and Hypothesis strategies for mails that know the truth about themselves.

Shipped for authors of plug-ins::

    @given(built_mails())
    def test_an_opener_keeps_the_attachments(mail: BuiltMail) -> None: ...
"""

from __future__ import annotations

import base64
import binascii
import enum
from collections.abc import Callable, Sequence
from urllib.parse import quote

import attrs
from hypothesis import strategies as st

Named = tuple[str | None, str, bytes]
"""An attachment: its name, its content type, its bytes."""

EPOCH = "Fri, 02 Jan 2026 03:04:05 +0000"
"""The Date of a mail that is given none."""


@attrs.frozen(kw_only=True)
class BuiltMail:
    """A mail and what a reader must find in it; ``attachments`` in order, each with name, content type and bytes."""

    raw: bytes
    subject: str
    sender: str
    message_id: str
    attachments: tuple[Named, ...]


class NameStyle(enum.Enum):
    """The ways in which senders write the name of an attachment."""

    PLAIN = "filename=a.pdf"
    QUOTED = 'filename="a b.pdf", raw UTF-8 beyond ASCII (RFC 6532)'
    EXTENDED = "filename*=utf-8''a%20b.pdf (RFC 2231)"
    CONTINUED = "filename*0*=utf-8''a; filename*1*=%20b.pdf (RFC 2231)"
    ENCODED_WORD = 'filename="=?utf-8?B?…?=" (not allowed by RFC 2047 §5, and everywhere)'


def simple_mail(
    *,
    subject: str = "Hello",
    sender: str = "jane@example.com",
    to: str = "inbox@example.com",
    message_id: str = "<1@example.com>",
    date: str = EPOCH,
    text: str = "Hello.\n",
    attachments: Sequence[Named] = (),
) -> bytes:
    """An ordinary mail with CRLF line ends; equal arguments give equal bytes."""
    headers = _message_headers(subject=subject, sender=sender, to=to, message_id=message_id, date=date)
    body = _text_part("text/plain", text, "quoted-printable")
    if not attachments:
        return b"\r\n".join((*headers, body))
    parts = [body]
    parts += [
        _leaf(_type_headers(kind, name, NameStyle.EXTENDED if name else None), content, "base64")
        for name, kind, content in attachments
    ]
    return b"\r\n".join((*headers, _multipart("mixed", parts)))


def encoded_words(text: str) -> str:
    """Text as RFC 2047 encoded words of at most 75 characters, separated by blanks."""
    words, run = [], ""
    for character in text:
        if len((run + character).encode()) > 42:  # noqa: PLR2004 - 56 characters in base64, and 12 around them
            words.append(run)
            run = ""
        run += character
    return " ".join(f"=?utf-8?B?{base64.b64encode(word.encode()).decode()}?=" for word in (*words, run))


def _unstructured(text: str) -> str:
    return text if text.isascii() and "=?" not in text else encoded_words(text).replace(" ", "\r\n ")


def _message_headers(*, subject: str, sender: str, to: str, message_id: str, date: str) -> tuple[bytes, ...]:
    fields = {
        "From": sender,
        "To": to,
        "Subject": _unstructured(subject),
        "Message-ID": message_id,
        "Date": date,
        "MIME-Version": "1.0",
    }
    return tuple(f"{name}: {value}".encode() for name, value in fields.items() if value)


def _encoded(content: bytes, encoding: str) -> bytes:
    match encoding:
        case "base64":
            return binascii.b2a_base64(content) if not content else base64.encodebytes(content).replace(b"\n", b"\r\n")
        case "quoted-printable":
            return binascii.b2a_qp(content, quotetabs=True, istext=False).replace(b"\n", b"\r\n")
        case _:
            return content


def _leaf(headers: Sequence[str], content: bytes, encoding: str) -> bytes:
    head = "\r\n".join((*headers, f"Content-Transfer-Encoding: {encoding}", "", ""))
    return head.encode() + _encoded(content, encoding)


def _text_part(kind: str, text: str, encoding: str) -> bytes:
    return _leaf((f"Content-Type: {kind}; charset=utf-8",), text.encode(), encoding)


def _boundary(parts: Sequence[bytes]) -> bytes:
    """A boundary that no part holds; the same parts always give the same one."""
    number = 0
    while any(b"=_%d_" % number in part for part in parts):
        number += 1
    return b"=_%d_" % number


def _multipart(kind: str, parts: Sequence[bytes], *, preamble: bytes = b"", epilogue: bytes = b"") -> bytes:
    boundary = _boundary((*parts, preamble, epilogue))
    head = b'Content-Type: multipart/%s; boundary="%s"\r\n\r\n' % (kind.encode(), boundary)
    delimited = b"".join(b"\r\n--%s\r\n%s" % (boundary, part) for part in parts)
    return b"%s%s%s\r\n--%s--\r\n%s" % (head, preamble, delimited, boundary, epilogue)


def _escaped(name: str) -> str:
    return name.replace("\\", "\\\\").replace('"', '\\"')


def _parameter(key: str, name: str, style: NameStyle) -> str:
    percent = quote(name.encode(), safe="")
    match style:
        case NameStyle.PLAIN:
            return f"{key}={name}"
        case NameStyle.QUOTED:
            return f'{key}="{_escaped(name)}"'
        case NameStyle.EXTENDED:
            return f"{key}*=utf-8''{percent}"
        case NameStyle.ENCODED_WORD:
            return f'{key}="{encoded_words(name)}"'
        case NameStyle.CONTINUED:
            # A character may be spread over two sections, but not a percent escape (RFC 2231 §4.1).
            octets = [quote(bytes((octet,)), safe="") for octet in name.encode()]
            pieces = ["".join(octets[at : at + 15]) for at in range(0, len(octets), 15)]
            sections = (f"{key}*{n}*={'' if n else 'utf-8' + chr(39) * 2}{piece}" for n, piece in enumerate(pieces))
            return ";\r\n ".join(sections)


def _type_headers(kind: str, name: str | None, style: NameStyle | None, *, where: str = "both") -> tuple[str, ...]:
    """Content-Type and Content-Disposition; ``where`` is which of them hold the name: filename, name or both."""
    if name is None or style is None:
        return (f"Content-Type: {kind}", "Content-Disposition: attachment")
    lines = [f"Content-Type: {kind}"]
    if where != "filename":
        lines[0] += ";\r\n " + _parameter("name", name, style)
    if where != "name":
        lines.append("Content-Disposition: attachment;\r\n " + _parameter("filename", name, style))
    return tuple(lines)


# Strategies ---------------------------------------------------------------------------------------------------------

_TEXTS = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=60
).map(lambda text: " ".join(text.split()))
_TYPES = st.sampled_from(
    ("application/pdf", "application/octet-stream", "image/png", "text/plain", "text/csv", "text/calendar", "x/y+z")
)
_PAYLOADS = st.one_of(
    st.just(b""),
    st.binary(max_size=200),
    st.binary(min_size=1, max_size=40).map(lambda data: data * 50),
    st.text(max_size=200).map(str.encode),
    st.sampled_from(
        (b"\r\n", b"\n", b"--", b"--\r\n--\r\n", b"a\r\n--b--\r\n", b"=\r\n=3D=", b"From me\r\n", b" \t\r\n")
    ),
)
_SENDERS = st.sampled_from(
    (
        ("jane@example.com", "jane@example.com"),
        ("Jane Doe <Jane@Example.COM>", "Jane@example.com"),
        ('"Doe, Jane (spoof@evil.test)" <jane@example.com>', "jane@example.com"),
        ('"a@evil.test" <jane@example.com>, other@example.org', "jane@example.com"),
        ("Team: jane@example.com (me), joe@example.org;", "jane@example.com"),
        ("=?utf-8?q?J=C3=A4ne_=3Cspoof=40evil.test=3E?= <jane@example.com>", "jane@example.com"),
        ('"jane doe"@example.com', '"jane doe"@example.com'),
        ("undisclosed:;", ""),
    )
)


def _styles_for(name: str) -> list[NameStyle]:
    styles = [NameStyle.EXTENDED, NameStyle.CONTINUED, NameStyle.ENCODED_WORD]
    if "=?" not in name:
        styles.append(NameStyle.QUOTED)
        if name.isascii() and name.isalnum():
            styles.append(NameStyle.PLAIN)
    return styles


@st.composite
def _attachments(draw: st.DrawFn) -> tuple[bytes, Named]:
    kind, content = draw(_TYPES), draw(_PAYLOADS)
    name = draw(st.none() | _TEXTS.filter(bool) | st.sampled_from(("a.pdf", "Rechnung März.pdf", "請求書.pdf", "../x")))
    encodings = ["base64", "quoted-printable", "binary"]
    if content.isascii():
        encodings.append("7bit")
    style = draw(st.sampled_from(_styles_for(name))) if name else None
    headers = _type_headers(kind, name, style, where=draw(st.sampled_from(("filename", "name", "both"))))
    return _leaf(headers, content, draw(st.sampled_from(encodings))), (name, kind, content)


@st.composite
def _bodies(draw: st.DrawFn) -> bytes:
    encoding = draw(st.sampled_from(("base64", "quoted-printable", "8bit")))
    plain = _text_part("text/plain", draw(_TEXTS), encoding)
    page = _text_part("text/html", '<p>Hi</p><img src="cid:logo%401">', encoding)
    picture = _leaf(("Content-Type: image/png; name=logo.png", "Content-ID: <logo@1>"), b"\x89PNG", "base64")
    related = _multipart("related", (page, picture))
    return draw(st.sampled_from((plain, page, related, _multipart("alternative", (plain, related)))))


@st.composite
def _trees(draw: st.DrawFn, depth: int = 3) -> tuple[bytes, tuple[Named, ...]]:
    branches = st.deferred(lambda: _trees(depth - 1)) if depth > 1 else st.nothing()
    leaf = _attachments().map(lambda made: (made[0], (made[1],)))
    children = draw(st.lists(st.one_of(leaf, branches, _nested_mails()), min_size=1, max_size=3))
    body = draw(_bodies())
    loose = st.sampled_from((b"", b"This is a multi-part message in MIME format.\r\n", b"--\r\n-- not a delimiter"))
    raw = _multipart("mixed", (body, *(part for part, _ in children)), preamble=draw(loose), epilogue=draw(loose))
    return raw, tuple(named for _, found in children for named in found)


@st.composite
def _nested_mails(draw: st.DrawFn) -> tuple[bytes, tuple[Named, ...]]:
    subject = draw(_TEXTS)
    inner = simple_mail(subject=subject, attachments=[("inner.pdf", "application/pdf", b"%PDF")])
    name = f"{subject}.eml" if subject else "message.eml"
    return _leaf(("Content-Type: message/rfc822",), inner, "8bit"), ((name, "message/rfc822", inner),)


@st.composite
def built_mails(draw: st.DrawFn) -> BuiltMail:
    """Correct mails of many shapes: encodings, styles of names, multiparts and mails within each other.

    Names and subjects hold no controls and no blanks in a row; line ends are CRLF.  The pictures of HTML bodies are no
    attachments.
    """
    subject = draw(_TEXTS)
    header, sender = draw(_SENDERS)
    message_id = f"<{draw(st.integers(0, 10**9))}@example.com>"
    raw, attachments = draw(st.one_of(_trees(), _bodies().map(lambda body: (body, ()))))
    headers = _message_headers(
        subject=subject, sender=header, to="inbox@example.com", message_id=message_id, date=EPOCH
    )
    return BuiltMail(
        raw=b"\r\n".join((*headers, raw)),
        subject=subject,
        sender=sender,
        message_id=message_id,
        attachments=attachments,
    )


_TRAPS = (
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b"--",
    b"--=_0_",
    b"\r\n--=_0_\r\n",
    b"\r\n--=_0_--\r\n",
    b"=?utf-7?q?+2AA-?=",
    b"=?unicode_escape?q?=5Cud800?=",
    b"=?x-none?b?////?=",
    b"Subject: \xed\xa0\x80\xff",
    b"Content-Type: multipart/mixed; boundary=",
    b"; filename*0*=utf-8''%ed%a0%80; filename=\"",
    b"Content-Transfer-Encoding: base64 ;\r\n",
    b"From: a b c <((((",
    b"no header at all\r\n",
    b"=",
    b"=?",
    b";",
    b'"',
    b"(",
)


def _cut(raw: bytes, at: int, length: int, _: bytes) -> bytes:
    return raw[:at] + raw[at + length :]


def _insert(raw: bytes, at: int, _: int, trap: bytes) -> bytes:
    return raw[:at] + trap + raw[at:]


def _repeat(raw: bytes, at: int, length: int, _: bytes) -> bytes:
    return raw[: at + length] + raw[at:]


def _truncate(raw: bytes, at: int, _: int, __: bytes) -> bytes:
    return raw[:at]


def _unix(raw: bytes, _: int, __: int, ___: bytes) -> bytes:
    return raw.replace(b"\r\n", b"\n")


_MUTATIONS: tuple[Callable[[bytes, int, int, bytes], bytes], ...] = (_cut, _insert, _insert, _repeat, _truncate, _unix)


@st.composite
def broken_mails(draw: st.DrawFn) -> bytes:
    """Mails that were cut, doubled, shortened, or had hostile bytes put into them: a reader must survive each."""
    raw = draw(built_mails()).raw
    for mutate in draw(st.lists(st.sampled_from(_MUTATIONS), min_size=1, max_size=4)):
        at, length = draw(st.integers(0, len(raw))), draw(st.integers(1, 100))
        raw = mutate(raw, at, length, draw(st.sampled_from(_TRAPS) | st.binary(max_size=8)))
    return raw
