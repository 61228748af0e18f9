"""The JSON beside a mail: it says what the mail was and what is stored of it, in the same bytes each time."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st

from maildaemon_core.message import BytesContent
from maildaemon_core.mime import read_message
from maildaemon_core.options import DestinationOptions, MailArchiving, MailboxOptions
from maildaemon_core.reading import Reading
from maildaemon_core.sidecar import sidecar
from maildaemon_core.testing.mails import broken_mails, built_mails
from tests.core.boxes import BOX, BoxOpener, boxed, mail_of, part
from tests.core.entries import entry

OPTIONS = MailboxOptions(
    mailbox="in@our.example",
    mail_archiving=MailArchiving(active=True, metadata=True),
    export_attachments=True,
    allowed_attachments=("pdf", "box"),
    destinations=(DestinationOptions(name="one", url="/srv/one"),),
)
RAW = b"Cc: c@d.example\r\nList-Id: =?utf-8?q?f=C3=BCr?= <x>\r\nDelivered-To: one\r\nDelivered-To: two\r\n" + mail_of(
    part(BOX, boxed(("a.pdf", "application/pdf", b"%PDF"), ("../\x01b.csv", "text/csv", b"")), name="x.box")
)


def document(raw: bytes = RAW, options: MailboxOptions = OPTIONS) -> dict[str, Any]:
    message = read_message(BytesContent(raw), Reading(openers=[BoxOpener()]))
    found: dict[str, Any] = json.loads(sidecar(entry(), message, options))
    return found


def test_it_says_what_the_mail_was() -> None:
    told = document()
    assert (told["format"], told["size"], told["sha256"]) == (1, len(RAW), BytesContent(RAW).sha256)
    assert (told["complete"], told["encrypted"], told["defects"]) == (True, False, [])
    assert told["headers"] == {"cc": ["c@d.example"], "list-id": ["für <x>"], "delivered-to": ["one", "two"]}
    assert told["sender"] == "a@b.example"


def test_it_says_of_each_attachment_what_it_was_within_and_whether_it_is_stored() -> None:
    box, pdf, csv = document()["attachments"]
    assert [(each["index"], each["name"], each["within"], each["stored"]) for each in (box, pdf, csv)] == [
        (1, "x.box", None, True),
        (2, "a.pdf", 1, True),
        (3, "../\x01b.csv", 1, False),
    ]
    assert (pdf["size"], pdf["sha256"]) == (4, BytesContent(b"%PDF").sha256)
    assert (csv["size"], csv["contentType"]) == (0, "text/csv")
    assert pdf["whyNot"] is None
    assert "allowedAttachments" in csv["whyNot"]
    alone = document(options=attrs.evolve(OPTIONS, export_attachments=False))["attachments"]
    assert {each["whyNot"] for each in alone} == {"exportAttachments is not on"}


@given(built_mails().map(lambda mail: mail.raw) | broken_mails() | st.binary(max_size=200))
def test_the_same_mail_gives_the_same_bytes_and_they_are_json(raw: bytes) -> None:
    def made() -> bytes:
        return sidecar(entry(), read_message(BytesContent(raw)), OPTIONS)

    assert made() == made()
    assert json.loads(made())["size"] == len(raw)


def test_every_property_is_documented() -> None:
    told = document()
    page = (Path(__file__).parents[2] / "docs" / "reference" / "sidecar.md").read_text(encoding="utf-8")
    described = set(re.findall(r"`([A-Za-z0-9]+)`", page))
    assert {*told, *told["attachments"][0]} <= described
