"""A mailbox on Cyrus from end to end: every mail once, through a renumbering, a missing folder and a tidied one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest

from maildaemon_core.engine.daemon import MailDaemon
from maildaemon_core.message import MailboxId
from maildaemon_core.options import DestinationOptions, MailArchiving, MailboxOptions, Move, Secret
from maildaemon_core.testing.source_conformance import a_mail
from tests.contracts.test_imap_cyrus import BOX, CyrusPost
from tests.servers.cyrus import Cyrus

pytestmark = pytest.mark.server

ONE = MailboxId("one")


def options(server: Cyrus, user: str, target: Path, **others: Any) -> MailboxOptions:
    return MailboxOptions(
        **{
            "name": user,
            "host": "localhost",
            "port": server.imap,
            "tls": "starttls",
            "username": user,
            "password": Secret(server.password),
            "folders": ("INBOX", "Büro/*", "Nowhere", "Nothing/*"),
            "mail_archiving": MailArchiving(active=True, path_template="{folder}/{key}.eml"),
            "destinations": (DestinationOptions(type="file", url=str(target)),),
            "options": {"caFile": str(server.ca), "connectSeconds": 5, "commandSeconds": 20, "stallSeconds": 10},
            **others,
        }
    )


def stored(target: Path) -> list[bytes]:
    return sorted(path.read_bytes() for path in target.rglob("*.eml"))


def test_every_mail_is_stored_once_and_tidied_though_its_folder_is_renumbered(
    cyrus: Cyrus, mail_user: str, tmp_path: Path
) -> None:
    user = mail_user.partition("@")[0]
    cyrus.add_user(user)
    target = tmp_path / "target"
    target.mkdir()
    client = cyrus.client(user)
    post = CyrusPost(client)
    mails = [a_mail(number, body=b"x" * 1000 * number + b"\r\n") for number in range(40)]
    for number, raw in enumerate(mails):
        post.plant(BOX if number % 2 else "INBOX", raw)
    # Two that nothing but the server's lasting ids can tell apart once they are renumbered.
    for body in (b"one\r\n", b"other\r\n"):
        post.plant(BOX, a_mail(99, body=body))
        mails.append(a_mail(99, body=body))
    with MailDaemon.open(f"sqlite:///{tmp_path / 'mail.db'}") as daemon:
        daemon.adopt(ONE, wanted := options(cyrus, user, target))
        report = daemon.sweep_once(ONE)
        assert report.counts.stored == len(mails)
        assert {folder.folder for folder in report.folders if folder.trouble} == {"Nowhere", "Nothing/*"}
        assert stored(target) == sorted(mails)

        post.renumber(BOX)
        report = daemon.sweep_once(ONE)
        assert report.counts.stored == 0
        assert any("recognised" in remark for remark in report.remarks)
        assert not any("cannot be told apart" in remark for remark in report.remarks)
        assert stored(target) == sorted(mails)

        late = a_mail(100)
        post.plant(BOX, late)
        daemon.adopt(ONE, attrs.evolve(wanted, after_store=Move(move="Archiv/Büro & mehr")))
        report = daemon.sweep_once(ONE)
        assert (report.counts.stored, report.tidied) == (1, 1)
    assert stored(target) == sorted([*mails, late])
    assert [raw for raw, _ in post.peek("Archiv/Büro & mehr")] == [late]
    assert len(post.peek(BOX)) == 22
    client.shutdown()
