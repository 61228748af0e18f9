"""Opaque S/MIME messages to test with, written by hand (RFC 5652); nothing in them is really signed or encrypted."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence

import attrs
from hypothesis import strategies as st

from maildaemon_core.testing.built_containers import BuiltContainer
from maildaemon_core.testing.mails import simple_mail

DATA = "1.2.840.113549.1.7.1"
SIGNED = "1.2.840.113549.1.7.2"
ENVELOPED = "1.2.840.113549.1.7.3"
DIGESTED = "1.2.840.113549.1.7.5"
COMPRESSED = "1.2.840.113549.1.9.16.1.9"
AUTH_ENVELOPED = "1.2.840.113549.1.9.16.1.23"
_ZLIB = "1.2.840.113549.1.9.16.3.8"
_SHA256 = "2.16.840.1.101.3.4.2.1"

PKCS7_MIME = "application/pkcs7-mime"
_UNKNOWN = "application/octet-stream"


@attrs.frozen(kw_only=True)
class Style:
    """How BER is written.

    ``indefinite``: elements end themselves instead of saying how long they are.  ``pieces``: the lengths, over and
    over, of the pieces in which the content comes; in one piece if there are none.
    """

    indefinite: bool = False
    pieces: Sequence[int] = ()

    def element(self, tag: int, *parts: bytes) -> bytes:
        """An element that holds others."""
        content = b"".join(parts)
        return bytes((tag, 0x80)) + content + bytes(2) if self.indefinite else der(tag, content)

    def octets(self, content: bytes) -> bytes:
        """An octet string."""
        if not self.pieces:
            return der(0x04, content)
        cut: list[bytes] = []
        at = 0
        while at < len(content):
            length = self.pieces[len(cut) % len(self.pieces)]
            cut.append(der(0x04, content[at : at + length]))
            at += length
        return self.element(0x24, *cut)


DER = Style()


def der(tag: int, content: bytes) -> bytes:
    """An element that says how long it is, in as few octets as possible (X.690 §10.1)."""
    size = len(content)
    if size < 0x80:  # noqa: PLR2004 - what one octet can say
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def identifier(dotted: str) -> bytes:
    """An object identifier."""
    first, second, *rest = (int(number) for number in dotted.split("."))
    octets = bytearray()
    for number in (first * 40 + second, *rest):
        septets = [number & 0x7F]
        while number := number >> 7:
            septets.append(0x80 | number & 0x7F)
        octets += bytes(reversed(septets))
    return der(0x06, bytes(octets))


def _version(number: int) -> bytes:
    return der(0x02, bytes((number,)))


def _said(kind: str, content: bytes | None, style: Style) -> bytes:
    """The EncapsulatedContentInfo; ``content`` is None where it is elsewhere."""
    explicit = [] if content is None else [style.element(0xA0, style.octets(content))]
    return style.element(0x30, identifier(kind), *explicit)


def info(kind: str, content: bytes, style: Style = DER) -> bytes:
    """A ContentInfo, the outermost of a message."""
    return style.element(0x30, identifier(kind), style.element(0xA0, content))


def signed_data(content: bytes | None, style: Style = DER, *, kind: str = DATA, signers: int = 1) -> bytes:
    """A SignedData without its ContentInfo."""
    algorithm = der(0x30, identifier(_SHA256))
    certificates = style.element(0xA0, der(0x30, bytes(40)))
    signatures = der(0x31, b"".join(der(0x30, _version(1) + der(0x04, bytes(64))) for _ in range(signers)))
    return style.element(0x30, _version(1), der(0x31, algorithm), _said(kind, content, style), certificates, signatures)


def compressed_data(content: bytes, style: Style = DER, *, kind: str = DATA, algorithm: str = _ZLIB) -> bytes:
    """A CompressedData (RFC 3274) without its ContentInfo; ``content`` is not compressed yet."""
    how = style.element(0x30, identifier(algorithm))
    return style.element(0x30, _version(0), how, _said(kind, zlib.compress(content), style))


def digested_data(content: bytes, style: Style = DER, *, kind: str = DATA) -> bytes:
    """A DigestedData without its ContentInfo."""
    return style.element(
        0x30, _version(0), der(0x30, identifier(_SHA256)), _said(kind, content, style), der(0x04, bytes(32))
    )


def secret_data(style: Style = DER) -> bytes:
    """What an EnvelopedData looks like to somebody without a key."""
    return style.element(0x30, _version(0), der(0x31, der(0x30, bytes(60))), der(0x30, bytes(100)))


def smime(
    content: bytes, style: Style = DER, *, layers: Sequence[str] = (SIGNED,), name: str = "smime.p7m", text: str = ""
) -> BuiltContainer:
    """A message with this MIME entity in it.

    ``layers`` are from the outermost to the innermost, directly within each other.  ``text`` is how it is written as
    text: ``pem``, ``base64``, or ``""`` for not at all.
    """
    raw, kind = content, DATA
    for layer in reversed(layers):
        if layer == SIGNED:
            raw = signed_data(raw, style, kind=kind)
        elif layer == COMPRESSED:
            raw = compressed_data(raw, style, kind=kind)
        else:
            raw = digested_data(raw, style, kind=kind)
        kind = layer
    raw = info(kind, raw, style)
    if text:
        lines = base64.encodebytes(raw)
        raw = b"-----BEGIN PKCS7-----\n" + lines + b"-----END PKCS7-----\n" if text == "pem" else lines
    return BuiltContainer(raw=raw, content_type=PKCS7_MIME, name=name, entity=content)


def signed_file(name: str, content: bytes, style: Style = DER) -> BuiltContainer:
    """A file that somebody signed, such as an invoice: no MIME entity; it is called ``NAME.p7m``."""
    raw = info(SIGNED, signed_data(content, style), style)
    return BuiltContainer(raw=raw, content_type=_UNKNOWN, name=f"{name}.p7m", files=((name, _UNKNOWN, content),))


def detached(style: Style = DER) -> BuiltContainer:
    """A signature of something that is elsewhere."""
    raw = info(SIGNED, signed_data(None, style), style)
    return BuiltContainer(raw=raw, content_type=PKCS7_MIME, name="smime.p7m", whole=False)


def certificates_only(style: Style = DER) -> BuiltContainer:
    """A message that only carries certificates (RFC 8551 §3.7)."""
    raw = info(SIGNED, signed_data(None, style, signers=0), style)
    return BuiltContainer(raw=raw, content_type=PKCS7_MIME, name="smime.p7c", smime_type="certs-only")


def secret(kind: str = ENVELOPED, style: Style = DER) -> BuiltContainer:
    """An encrypted message."""
    raw = info(kind, secret_data(style), style)
    return BuiltContainer(raw=raw, content_type=PKCS7_MIME, name="smime.p7m", encrypted=True, whole=False)


_STYLES = st.builds(Style, indefinite=st.booleans(), pieces=st.lists(st.integers(1, 300), max_size=3).map(tuple))


@st.composite
def built_smime(draw: st.DrawFn) -> BuiltContainer:
    """Correct S/MIME of many shapes: kinds, layers, ways to write BER, text and binary."""
    style = draw(_STYLES)
    payload = draw(st.binary(max_size=300))
    match draw(st.sampled_from(("mail", "mail", "mail", "file", "other"))):
        case "mail":
            entity = simple_mail(attachments=[("a.bin", _UNKNOWN, payload)])
            layers = draw(st.lists(st.sampled_from((SIGNED, COMPRESSED, DIGESTED)), min_size=1, max_size=3))
            return smime(entity, style, layers=layers, text=draw(st.sampled_from(("", "", "pem", "base64"))))
        case "file":
            return signed_file(draw(st.sampled_from(("a.pdf", "Fattura é.xml", "x.tar.gz"))), b"%PDF" + payload, style)
        case _:
            kind = draw(st.sampled_from((ENVELOPED, AUTH_ENVELOPED)))
            return draw(st.sampled_from((detached(style), certificates_only(style), secret(kind, style))))
