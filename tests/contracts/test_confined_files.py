"""Mailboxes of a service that read files reach the folders that its operator allows, and nothing else there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from maildaemon_adapters.files import FILE
from maildaemon_adapters.local import EML, MAILDIR, MBOX
from maildaemon_core.confinement import Confinement, OutOfBounds
from maildaemon_core.engine.connecting import Connector
from maildaemon_core.engine.plugins import DESTINATIONS, SOURCES, Registry
from maildaemon_core.engine.spool import FolderSpool
from maildaemon_core.errors import FolderMissing, MaildaemonError, SourceUnavailable
from maildaemon_core.message import FolderRef
from maildaemon_core.options import DestinationOptions, MailArchiving, MailboxOptions
from maildaemon_core.testing.source_conformance import a_mail

INBOX = FolderRef("INBOX")
KINDS = pytest.mark.parametrize("kind", ["maildir", "mbox", "eml"])


@pytest.fixture
def ground(tmp_path: Path) -> Path:
    """The folder of the service; what mailboxes may use is in ``data``."""
    for place in ("data/mail", "secret"):
        folder = tmp_path / place
        for name in ("cur", "new", "tmp"):
            (folder / name).mkdir(parents=True)
        (folder / "new" / "1.M.host").write_bytes(a_mail(1))
        (folder / "INBOX").write_bytes(b"From joe Tue Nov 14 22:13:20 2023\n" + a_mail(1) + b"\n")
        (folder / "1.eml").write_bytes(a_mail(1))
    return tmp_path


def connector(ground: Path) -> Connector:
    return Connector(
        sources=Registry(SOURCES, (), maildir=MAILDIR, mbox=MBOX, eml=EML),
        destinations=Registry(DESTINATIONS, (), file=FILE),
        spool=FolderSpool(ground / "spool"),
        read_secret=lambda secret: secret,
        confinement=Confinement(roots=(str(ground / "data"),)),
    )


def mailbox(kind: str, path: str) -> MailboxOptions:
    return MailboxOptions(
        type=kind,
        path=path,
        mail_archiving=MailArchiving(active=True),
        destinations=(DestinationOptions(url="stored"),),
        options={} if kind == "maildir" else {"quietSeconds": 0},
    )


@KINDS
def test_a_folder_below_the_root_is_read(ground: Path, kind: str) -> None:
    options = mailbox(kind, "mail")
    assert connector(ground).problems(options) == []
    with connector(ground).source(options) as source:
        assert [each.headers.subject for each in source.list_since(INBOX, None, limit=9).envelopes] == ["number 1"]


@KINDS
@pytest.mark.parametrize("path", ["{ground}/secret", "../secret", "away", "away/secret", "file://{ground}/secret", "~"])
def test_nothing_else_is(ground: Path, kind: str, path: str) -> None:
    (ground / "data" / "away").symlink_to(ground)
    options = mailbox(kind, path.format(ground=ground))
    assert [problem.path for problem in connector(ground).problems(options)] == ["$.path"]
    with pytest.raises(OutOfBounds):
        connector(ground).source(options)


@KINDS
@pytest.mark.parametrize(
    "path", ["zip://{ground}/x.zip", "zip:///{ground}/x.zip", "local://{ground}/secret", "zip://x/y"]
)
def test_no_url_leads_to_other_files_of_the_machine(ground: Path, kind: str, path: str) -> None:
    with pytest.raises((OutOfBounds, SourceUnavailable, MaildaemonError)):
        connector(ground).source(mailbox(kind, path.format(ground=ground)))


def test_a_link_within_the_folder_leads_nowhere(ground: Path) -> None:
    top = ground / "data" / "mail"
    (top / ".Secret").symlink_to(ground / "secret")
    (top / "Secret").symlink_to(ground / "secret")
    (top / "2.eml").symlink_to(ground / "secret" / "1.eml")
    (top / "other").symlink_to(ground / "secret" / "INBOX")
    for kind, folder in (("maildir", "Secret"), ("eml", "Secret"), ("mbox", "other"), ("mbox", "Secret/INBOX")):
        with connector(ground).source(mailbox(kind, "mail")) as source:
            assert folder not in [info.name for info in source.folders()]
            with pytest.raises(MaildaemonError) as error:
                source.list_since(FolderRef(folder), None, limit=9)
            assert isinstance(error.value, FolderMissing) or "cannot be read" in str(error.value)
            assert len(source.list_since(INBOX, None, limit=9).envelopes) == 1
