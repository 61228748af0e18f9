"""Our openers keep the laws of all openers, and are found where anybody's are."""

from __future__ import annotations

import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from maildaemon_adapters.openers import SMIME, TNEF
from maildaemon_core.containers import Opener
from maildaemon_core.message import BytesContent
from maildaemon_core.mime import read_message
from maildaemon_core.reading import Reading
from maildaemon_core.testing import built_cms as cms
from maildaemon_core.testing.built_cms import Style
from maildaemon_core.testing.built_tnef import TnefAttachment, tnef
from maildaemon_core.testing.mails import simple_mail
from maildaemon_core.testing.opener_conformance import OpenerConformance

ENTITY = simple_mail(attachments=[("a.pdf", "application/pdf", b"%PDF" * 300)])
INNER = tnef([TnefAttachment(name="inner.txt", content=b"inner")])


class TestTnef(OpenerConformance):
    opener = TNEF
    samples = (
        tnef([]),
        tnef([TnefAttachment(name="a.pdf", content=b"%PDF" * 500, content_type="application/pdf")], body="<p>Hi</p>"),
        tnef([TnefAttachment(name="empty.txt", content=b""), TnefAttachment(name=None, content=b"x", noise=True)]),
        tnef(
            [
                TnefAttachment(name="Привет.txt", content=b"1", long="8-bit", place="binary"),
                TnefAttachment(name="Привет.txt", content=b"2", long="", noise=True),
                TnefAttachment(name="Picture", content=b"\xd0\xcf\x11\xe0" * 40, place="storage"),
                TnefAttachment(name="A mail", content=INNER.raw, place="message"),
            ],
            code_page=1251,
        ),
    )


class TestSmime(OpenerConformance):
    opener = SMIME
    samples = (
        cms.smime(ENTITY),
        cms.smime(ENTITY, Style(indefinite=True, pieces=(100, 7))),
        cms.smime(ENTITY, Style(pieces=(300,)), layers=(cms.SIGNED, cms.COMPRESSED)),
        cms.smime(ENTITY, text="pem"),
        cms.smime(ENTITY, text="base64"),
        cms.signed_file("Fattura.xml", b"<?xml?>"),
        cms.detached(),
        cms.certificates_only(Style(indefinite=True)),
        cms.secret(),
        cms.secret(cms.AUTH_ENVELOPED, Style(indefinite=True)),
    )


@pytest.mark.parametrize(("name", "opener"), [("tnef", TNEF), ("smime", SMIME)])
def test_it_is_registered_as_everybody_would(name: str, opener: Opener) -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    value = project["entry-points"]["maildaemon.openers"][name]
    found = EntryPoint(name=name, value=value, group="maildaemon.openers").load()
    assert found is opener
    assert isinstance(found, Opener)


def test_the_reader_finds_what_is_in_containers_within_each_other() -> None:
    letter = tnef([TnefAttachment(name="inner.txt", content=b"inner")])
    outer = tnef(
        [
            TnefAttachment(name="a.pdf", content=b"%PDF", content_type="application/pdf"),
            TnefAttachment(name="Fwd", content=letter.raw, place="message"),
            TnefAttachment(name="bill.xml.p7m", content=cms.signed_file("bill.xml", b"<bill/>").raw),
        ]
    )
    signed = cms.smime(simple_mail(attachments=[("winmail.dat", "application/ms-tnef", outer.raw)]))
    mail = simple_mail(attachments=[("smime.p7m", "application/pkcs7-mime", signed.raw)])
    plain = read_message(BytesContent(mail))
    assert ([found.name for found in plain.attachments], plain.complete) == (["smime.p7m"], False)
    message = read_message(BytesContent(mail), Reading(openers=(TNEF, SMIME)))
    expected = "smime.p7m winmail.dat a.pdf Fwd.tnef inner.txt bill.xml.p7m bill.xml".split()
    assert [found.name for found in message.attachments] == expected
    assert message.complete
    assert "part 2: S/MIME: signed, signature not checked" in message.defects
