"""Which folders are watched, on servers that name them each in its own way."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import pytest

from maildaemon_core.folders import Choice, choose_folders
from maildaemon_core.message import FolderRef
from maildaemon_core.options import Action, Aftercare, MailboxOptions
from maildaemon_core.ports import Fetched, Known, Level, Settled
from maildaemon_core.testing.source_conformance import a_mail
from tests.contracts.test_imap import opened
from tests.contracts.test_imap_cyrus import opened as opened_cyrus
from tests.servers.cyrus import Cyrus
from tests.servers.dovecot import Dovecot

pytestmark = pytest.mark.server

NAMES = ["Kunden/Müller & Söhne", "Kunden/日本語", "Kunden/Alt", "Other"]


@pytest.fixture(scope="module")
def prefixed() -> Iterator[Dovecot]:
    """It names folders as Courier does."""
    with Dovecot(prefix="INBOX.", separator=".") as server:
        yield server


def watched(*folders: str, without: tuple[str, ...] = ()) -> MailboxOptions:
    return MailboxOptions(folders=folders, exclude_folders=without)


def chosen(choice: Choice) -> set[str]:
    return {str(folder) for folder in choice.folders}


def test_globs_special_uses_and_exclusions_mean_the_same_on_two_servers(
    dovecot: Dovecot, cyrus: Cyrus, mail_user: str
) -> None:
    user = mail_user.partition("@")[0]
    cyrus.add_user(user)
    with cyrus.client(user) as client:
        for name in NAMES:
            client.create_folder(name)
    for name in NAMES:
        dovecot.deliver(user, a_mail(1), name.replace("/", "."))
    with opened(dovecot, user) as one, opened_cyrus(cyrus, user) as other:
        for source, separator in ((one, "."), (other, "/")):
            options = watched("inbox", f"Kunden{separator}*", "\\Sent", "Nothing*", without=(f"Kunden{separator}A*",))
            choice = choose_folders(options, source.folders())
            assert chosen(choice) == {name.replace("/", separator) for name in NAMES[:2]} | {"INBOX", "Sent"}
            assert choice.missing == ("Nothing*",)
            everything = choose_folders(watched("*"), source.folders())
            assert "Trash" not in everything.folders
            assert {"INBOX", "Other"} < set(everything.folders)
            for folder in choice.folders:
                assert source.list_since(folder, None, limit=9).cursor


def test_a_missing_folder_is_a_finding_beside_those_that_work(dovecot: Dovecot, cyrus: Cyrus, mail_user: str) -> None:
    user = mail_user.partition("@")[0]
    cyrus.add_user(user)
    with opened(dovecot, user) as one, opened_cyrus(cyrus, user) as other:
        for source in (one, other):
            folders = [FolderRef("INBOX"), FolderRef("Nowhere & Niemals"), FolderRef("Sent")]
            found = {each.subject: each.level for each in source.check(folders, Aftercare(Action.KEEP))}
            assert found == {
                "new mail": Level.FINE,
                "folder INBOX": Level.FINE,
                "folder Nowhere & Niemals": Level.FAULT,
                "folder Sent": Level.FINE,
            }


def test_where_folders_lie_below_the_inbox_they_are_found_and_moved_to_by_their_whole_names(
    prefixed: Dovecot, mail_user: str
) -> None:
    prefixed.deliver(mail_user, a_mail(1), "INBOX.Größe")
    with opened(prefixed, mail_user) as source:
        choice = choose_folders(watched("INBOX.G*", "\\Sent"), source.folders())
        assert chosen(choice) == {"INBOX.Größe", "INBOX.Sent"}
        (envelope,) = source.list_since(FolderRef("INBOX.Größe"), None, limit=9).envelopes
        assert [type(each) for each in source.fetch([envelope.ref])] == [Fetched]
        for target, level in (("Done", Level.WARNING), ("INBOX/Done", Level.WARNING), ("INBOX.Done", Level.FINE)):
            found = {each.subject: each for each in source.check(choice.folders, Aftercare(Action.MOVE, target))}
            assert found[f"target {target}"].level is level
            assert "INBOX.Done" in found[f"target {target}"].remedy or level is Level.FINE
        mail = Known(ref=envelope.ref, identity=envelope.identity)
        (answer,) = source.settle([mail], Aftercare(Action.MOVE, "INBOX.Done")).values()
        assert isinstance(answer, Settled)
        assert choose_folders(attrs.evolve(watched("INBOX.D*")), source.folders()).folders == ("INBOX.Done",)


@pytest.mark.parametrize("moves", [True, False], ids=["by MOVE", "by COPY"])
def test_where_a_moved_mail_went_is_told(dovecot: Dovecot, cyrus: Cyrus, mail_user: str, moves: bool) -> None:
    user = mail_user.partition("@")[0]
    cyrus.add_user(user)
    with cyrus.client(user) as client:
        for number in (1, 2, 3):
            client.append("INBOX", a_mail(number))
            dovecot.deliver(user, a_mail(number))
    for source in (opened(dovecot, user), opened_cyrus(cyrus, user)):
        with source:
            inbox = FolderRef("INBOX")
            if not moves:
                source._session.abilities -= {"MOVE"}
            envelopes = source.list_since(inbox, None, limit=9).envelopes[:2]
            mails = [Known(ref=each.ref, identity=each.identity) for each in envelopes]
            answers = source.settle(mails, Aftercare(Action.MOVE, "Done & gone"))
            there = source.list_since(FolderRef("Done & gone"), None, limit=9).envelopes
            found = [answers[each.ref] for each in envelopes]
            assert found == [Settled(), Settled()]
            assert [each.moved_to for each in found if isinstance(each, Settled)] == [each.ref for each in there]
            assert [each.headers.subject for each in there] == ["number 1", "number 2"]
