"""Opaque S/MIME: what real libraries make, every way to write BER, and what is wrong or cannot be opened."""

from __future__ import annotations

import datetime as dt
import random
import tracemalloc
import zlib
from collections.abc import Iterable, Iterator

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs7
from hypothesis import given, settings
from hypothesis import strategies as st

from maildaemon_adapters.openers.smime import OPENER
from maildaemon_core.containers import Budget, BudgetSpent, Container, Opened, OpeningLimits
from maildaemon_core.message import CHUNK, BytesContent, Content
from maildaemon_core.testing import built_cms as cms
from maildaemon_core.testing.built_cms import Style, der, identifier
from maildaemon_core.testing.built_containers import BuiltContainer, Crumbled, taken, told, whole
from maildaemon_core.testing.mails import simple_mail

ENTITY = simple_mail(attachments=[("a.pdf", "application/pdf", b"%PDF" * 100)])
OCTETS = "application/octet-stream"
NO_OCTETS = der(0x30, der(0x02, b"\1") + der(0x31, b"") + der(0x30, identifier(cms.DATA) + der(0xA0, der(0x30, b"x"))))


def opened(raw: bytes, name: str | None = "smime.p7m", *, smime_type: str = "", **limits: int) -> Opened:
    container = Container(
        content_type="application/pkcs7-mime", name=name, smime_type=smime_type, content=BytesContent(raw)
    )
    return OPENER.open(container, Budget(OpeningLimits(**limits)))


def entity_of(found: Opened) -> bytes | None:
    return None if found.entity is None else whole(found.entity)


@given(built=cms.built_smime())
def test_what_is_in_a_message_is_found_as_it_was_written(built: BuiltContainer) -> None:
    found = OPENER.open(built.container(), Budget())
    assert entity_of(found) == built.entity
    assert [taken(file) for file in found.files] == list(built.files)
    assert found.encrypted == built.encrypted
    assert (not found.losses) == built.whole


@pytest.fixture(scope="module")
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def certificate_for(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "jane@example.com")])
    begin = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begin)
        .not_valid_after(begin + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )


@pytest.mark.parametrize("encoding", [serialization.Encoding.DER, serialization.Encoding.PEM])
def test_what_a_library_signed_is_found(key: ec.EllipticCurvePrivateKey, encoding: serialization.Encoding) -> None:
    builder = pkcs7.PKCS7SignatureBuilder().set_data(ENTITY).add_signer(certificate_for(key), key, hashes.SHA256())
    found = opened(builder.sign(encoding, [pkcs7.PKCS7Options.Binary]))
    assert entity_of(found) == ENTITY
    assert (list(found.losses), list(found.notes)) == ([], ["signed, signature not checked"])


def test_what_a_library_signed_apart_is_said_to_be_elsewhere(key: ec.EllipticCurvePrivateKey) -> None:
    builder = pkcs7.PKCS7SignatureBuilder().set_data(ENTITY).add_signer(certificate_for(key), key, hashes.SHA256())
    options = [pkcs7.PKCS7Options.Binary, pkcs7.PKCS7Options.DetachedSignature]
    found = opened(builder.sign(serialization.Encoding.DER, options))
    assert (entity_of(found), list(found.losses)) == (None, ["its content is not in it"])


def test_what_a_library_encrypted_is_told_as_such() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    builder = pkcs7.PKCS7EnvelopeBuilder().set_data(ENTITY).add_recipient(certificate_for(key))
    found = opened(builder.encrypt(serialization.Encoding.DER, [pkcs7.PKCS7Options.Binary]))
    assert (found.encrypted, list(found.losses), found.entity) == (True, ["encrypted"], None)


def test_certificates_from_a_library_are_nothing_to_be_missed(key: ec.EllipticCurvePrivateKey) -> None:
    found = opened(pkcs7.serialize_certificates([certificate_for(key)], serialization.Encoding.DER))
    assert (found.entity, list(found.files), list(found.losses)) == (None, [], [])


@pytest.mark.parametrize("smime_type", ["enveloped-data", "authenveloped-data"])
def test_what_is_said_to_be_encrypted_and_cannot_be_read_counts_as_encrypted(smime_type: str) -> None:
    found = opened(b"\0\1\2", smime_type=smime_type)
    assert found.encrypted
    assert "encrypted" in found.losses


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("fattura.xml.p7m", b"<?xml?>", "fattura.xml"),
        ("a.pdf.P7M", b"%PDF", "a.pdf"),
        ("empty.txt.p7m", b"", "empty.txt"),
        ("smime.p7m", b"%PDF", None),
        (None, b"\x89PNG\n", None),
    ],
)
def test_a_file_that_was_signed_is_a_file(name: str | None, content: bytes, expected: str | None) -> None:
    found = opened(cms.info(cms.SIGNED, cms.signed_data(content)), name)
    assert [taken(file) for file in found.files] == [(expected, OCTETS, content)]
    assert found.entity is None


@pytest.mark.parametrize("entity", [b"\r\nno header", b"Content-Type: text/plain\r\n\r\nHi", b"X-A: b\n\nHi", b""])
def test_what_looks_like_a_mail_is_one(entity: bytes) -> None:
    assert entity_of(opened(cms.info(cms.SIGNED, cms.signed_data(entity)))) == entity


def test_a_mail_is_one_whatever_its_container_is_called() -> None:
    assert entity_of(opened(cms.info(cms.SIGNED, cms.signed_data(ENTITY)), "letter.eml.p7m")) == ENTITY


def test_a_file_that_was_signed_twice_is_a_container_again() -> None:
    once = cms.signed_file("a.pdf", b"%PDF")
    [file] = opened(cms.info(cms.SIGNED, cms.signed_data(once.raw)), "a.pdf.p7m.p7m").files
    again = Container(content_type=file.content_type, name=file.name, smime_type="", content=file.content)
    assert OPENER.recognises(again)
    assert [taken(found) for found in OPENER.open(again, Budget()).files] == list(once.files)


def test_a_message_in_a_message_that_does_not_say_so_is_a_container_again() -> None:
    inner = cms.smime(ENTITY)
    [file] = opened(cms.info(cms.SIGNED, cms.signed_data(inner.raw))).files
    again = Container(content_type=file.content_type, name=file.name, smime_type="", content=file.content)
    assert OPENER.recognises(again)
    assert entity_of(OPENER.open(again, Budget())) == ENTITY


def test_mime_in_the_place_of_a_message_is_read_as_it_is() -> None:
    entity = b"MIME-Version: 1.0\r\nContent-Type: multipart/signed; boundary=b\r\n\r\n--b--"
    assert entity_of(opened(entity)) == entity


def test_a_cut_message_keeps_what_is_there() -> None:
    raw = cms.info(cms.SIGNED, cms.signed_data(ENTITY))
    cut = raw[: raw.index(ENTITY) + 100]
    found = opened(cut)
    assert (entity_of(found), list(found.losses)) == (ENTITY[:100], ["it ends early"])
    behind = opened(raw[:-3])
    assert (entity_of(behind), list(behind.losses)) == (ENTITY, [])
    assert "it ends early, behind its content" in behind.notes


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"0",
        b"\x30\x80",
        b"\x30\x89" + bytes(20),
        b"\x3f\xff\xff\xff\xff\xff\xff",
        b"\x30\x80" * 5000,
        b"MII?",
        b"-----BEGIN ",
        b"no container at all",
        cms.info("1.2.3.4", b""),
        cms.signed_data(ENTITY),
        cms.info(cms.SIGNED, NO_OCTETS),
        cms.info(cms.COMPRESSED, cms.compressed_data(ENTITY, algorithm="1.2.3")),
    ],
)  # fmt: skip
def test_what_is_no_message_is_a_loss_and_nothing_else(raw: bytes) -> None:
    found = opened(raw)
    assert found.entity is None
    assert len(found.losses) == 1


def test_octet_strings_without_end_within_each_other_are_given_up() -> None:
    head = cms.info(cms.SIGNED, cms.signed_data(b"", Style(indefinite=True, pieces=(1,))), Style(indefinite=True))
    raw = head.replace(b"\x24\x80", b"\x24\x80" * 3000)
    assert "something else in it" in opened(raw).losses[0]


def test_a_message_in_messages_is_given_up_after_a_few() -> None:
    raw, kind = cms.signed_data(ENTITY), cms.SIGNED
    for _ in range(20):
        raw = cms.signed_data(raw, kind=kind)
    assert list(opened(cms.info(cms.SIGNED, raw)).losses) == ["more than 8 messages within each other"]


def test_a_bomb_spends_the_budget_and_not_the_memory() -> None:
    deflate = zlib.compressobj(9)
    zeros = bytes(1 << 20)
    packed = b"".join(deflate.compress(zeros) for _ in range(200)) + deflate.flush()
    how = der(0x30, identifier("1.2.840.113549.1.9.16.3.8"))
    said = der(0x30, identifier(cms.DATA) + der(0xA0, der(0x04, packed)))
    raw = cms.info(cms.COMPRESSED, der(0x30, der(0x02, b"\0") + how + said))

    def forget(pieces: Iterable[bytes]) -> Content:
        for _ in pieces:
            pass
        return BytesContent(b"")

    container = Container(content_type="application/pkcs7-mime", name=None, smime_type="", content=BytesContent(raw))
    tracemalloc.start()
    try:
        with pytest.raises(BudgetSpent, match="bytes in containers"):
            OPENER.open(container, Budget(OpeningLimits(made=100 << 20), keep=forget))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000


PACKED = zlib.compress(ENTITY)


@pytest.mark.parametrize(
    ("packed", "loss"), [(PACKED[:-20], "ends early"), (PACKED[:9] + b"\xff" * 9 + PACKED[18:], "damaged")]
)
def test_compressed_data_that_is_spoilt_is_a_loss(packed: bytes, loss: str) -> None:
    how = der(0x30, identifier("1.2.840.113549.1.9.16.3.8"))
    said = der(0x30, identifier(cms.DATA) + der(0xA0, der(0x04, packed)))
    found = opened(cms.info(cms.COMPRESSED, der(0x30, der(0x02, b"\0") + how + said)))
    assert loss in found.losses[0]


@given(at=st.integers(1000, 150_000), lengths=st.sampled_from([(1 << 16,), (5000, 1), (99_999,)]))
@settings(max_examples=10, deadline=None)
def test_what_comes_of_damaged_data_does_not_depend_on_its_pieces(at: int, lengths: tuple[int, ...]) -> None:
    packed = bytearray(zlib.compress(random.Random(1).randbytes(200_000)))
    packed[at : at + 4] = b"\xff\xff\xff\xff"
    how = der(0x30, identifier("1.2.840.113549.1.9.16.3.8"))
    said = der(0x30, identifier(cms.DATA) + der(0xA0, der(0x04, bytes(packed))))
    raw = cms.info(cms.COMPRESSED, der(0x30, der(0x02, b"\0") + how + said))
    built = BuiltContainer(raw=raw, content_type="application/pkcs7-mime")
    crumbled = OPENER.open(built.container(Crumbled(raw, lengths)), Budget())
    assert told(crumbled) == told(OPENER.open(built.container(), Budget()))
    assert crumbled.losses


class Large:
    """A signed message whose content is made while it is read."""

    sha256 = ""

    def __init__(self, size: int, *, pieces: bool) -> None:
        mark = b"Subject: x\n\n"
        raw = cms.signed_data(mark, Style(indefinite=True, pieces=(len(mark),) if pieces else ()))
        raw = cms.info(cms.SIGNED, raw, Style(indefinite=True))
        at = raw.index(der(0x04, mark))
        length = (size + len(mark)).to_bytes(4, "big")
        self._head = raw[:at] + b"\x04\x84" + length + mark
        self._tail = raw[at + 2 + len(mark) :]
        self._filling = size
        self.size = len(self._head) + size + len(self._tail)

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        last = self.size if stop is None else min(stop, self.size)
        at, end = start, self.size - len(self._tail)
        while at < last:
            if at < len(self._head):
                piece = self._head[at:last]
            elif at < end:
                piece = b"x" * min(CHUNK, end - at, last - at)
            else:
                piece = self._tail[at - end : last - end]
            yield piece
            at += len(piece)

    def close(self) -> None:
        pass


@pytest.mark.parametrize("pieces", [False, True])
def test_memory_does_not_grow_with_the_message(*, pieces: bool) -> None:
    sizes: list[int] = []

    def forget(given: Iterable[bytes]) -> Content:
        sizes.append(sum(len(piece) for piece in given))
        return BytesContent(b"Subject: x\n\n")

    content = Large(40_000_000, pieces=pieces)
    container = Container(content_type="application/pkcs7-mime", name=None, smime_type="", content=content)
    tracemalloc.start()
    try:
        found = OPENER.open(container, Budget(keep=forget))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.entity is not None
    assert not found.losses
    assert (sizes or [found.entity.size]) == [40_000_012]
    assert peak < 2_000_000


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [
        ("application/pkcs7-mime", None, True),
        ("application/x-pkcs7-mime", "smime.p7m", True),
        (OCTETS, "invoice.xml.P7M", True),
        ("application/pkcs7-signature", "smime.p7s", False),
        (OCTETS, "p7m", False),
    ],
)
def test_it_is_known_by_type_or_name(kind: str, name: str | None, *, expected: bool) -> None:
    part = Container(content_type=kind, name=name, smime_type="", content=BytesContent(b""))
    assert OPENER.recognises(part) is expected
