"""The source ``imap`` against a real Cyrus: another server's idea of ids, names, rights, and of what a mail is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar

import pytest
from imapclient import IMAPClient

from maildaemon_adapters.imap import KIND, ImapSettings, ImapSource
from maildaemon_core.errors import Trouble
from maildaemon_core.message import FolderRef
from maildaemon_core.options import Action, Aftercare, MailboxOptions, Secret, Tls
from maildaemon_core.ports import Fetched, Known, Level, Settled, Vanished
from maildaemon_core.testing.source_conformance import (
    ODD_MAILS,
    OpenSource,
    Post,
    SourceConformance,
    a_mail,
)
from maildaemon_core.testing.wakeable_conformance import WakeableConformance
from tests.contracts.spools import FileSpool
from tests.servers.cyrus import Cyrus

pytestmark = pytest.mark.server

INBOX, BOX = FolderRef("INBOX"), FolderRef("Büro/Eingang & Ausgang")
DELETE = Aftercare(Action.DELETE)


class CyrusPost:
    """A mailbox as another mail program sees it, which stays logged in; ``BOX`` is there."""

    def __init__(self, client: IMAPClient) -> None:
        self.client = client
        client.create_folder(BOX)

    def plant(self, folder: str, raw: bytes) -> None:
        self.client.append(folder, raw)

    def peek(self, folder: str) -> list[tuple[bytes, frozenset[str]]]:
        if not self.client.folder_exists(folder):
            return []
        self.client.select_folder(folder, readonly=True)
        answers = self.client.fetch(self.client.search("ALL"), ["FLAGS", "BODY.PEEK[]"])
        return [
            (answer[b"BODY[]"], frozenset(flag.decode() for flag in answer[b"FLAGS"] if flag != b"\\Recent"))
            for _, answer in sorted(answers.items())
        ]

    def remove(self, folder: str, raw: bytes) -> None:
        self.client.select_folder(folder)
        answers = self.client.fetch(self.client.search("ALL"), ["BODY.PEEK[]"])
        uid = next(uid for uid, answer in sorted(answers.items()) if answer[b"BODY[]"] == raw)
        self.client.delete_messages([uid])
        self.client.uid_expunge([uid])

    def renumber(self, folder: str) -> None:
        """Renames the folder away and makes another of its name, with the same mails in it."""
        self.client.rename_folder(folder, "Elsewhere")
        self.client.create_folder(folder)
        self.client.select_folder("Elsewhere")
        if uids := self.client.search("ALL"):
            self.client.move(uids, folder)
        self.client.select_folder(INBOX)
        self.client.delete_folder("Elsewhere")


def opened(server: Cyrus, user: str, tls: Tls = "implicit") -> ImapSource:
    options = MailboxOptions(
        host="localhost",
        port=server.imaps if tls == "implicit" else server.imap,
        tls=tls,
        username=user,
        password=Secret(server.password),
    )
    settings = ImapSettings(ca_file=str(server.ca), connect_seconds=5, stall_seconds=10, command_seconds=20)
    return KIND.open(options, settings, FileSpool())


@pytest.fixture
def user(cyrus: Cyrus, mail_user: str) -> str:
    name = mail_user.partition("@")[0]
    cyrus.add_user(name)
    return name


@pytest.fixture
def post(cyrus: Cyrus, user: str) -> Iterator[CyrusPost]:
    client = cyrus.client(user)
    yield CyrusPost(client)
    client.shutdown()


class TestThroughTls(SourceConformance):
    folder: ClassVar[FolderRef] = BOX
    kept: ClassVar[Mapping[str, bytes]] = {"a bare CR": ODD_MAILS["a bare CR"].replace(b"a\rb", b"a\r\nb")}

    @pytest.fixture
    def post(self, post: CyrusPost) -> Post:
        return post

    @pytest.fixture
    def open_source(self, cyrus: Cyrus, user: str) -> OpenSource:
        return lambda: opened(cyrus, user)


class TestWaitingThroughStartTls(WakeableConformance):
    @pytest.fixture
    def post(self, post: CyrusPost) -> Post:
        return post

    @pytest.fixture
    def open_source(self, cyrus: Cyrus, user: str) -> OpenSource:
        return lambda: opened(cyrus, user, "starttls")

    @pytest.fixture
    def hang_up(self, cyrus: Cyrus) -> Callable[[], None]:
        return cyrus.hang_up


def known(source: ImapSource, folder: FolderRef) -> list[Known]:
    return [Known(ref=each.ref, identity=each.identity) for each in source.list_since(folder, None, limit=99).envelopes]


def test_a_mail_keeps_its_strong_id_when_its_folder_is_renumbered(cyrus: Cyrus, user: str, post: CyrusPost) -> None:
    for number in (1, 2):
        post.plant(BOX, a_mail(number))
    with opened(cyrus, user) as source:
        before = known(source, BOX)
        post.renumber(BOX)
        after = known(source, BOX)
    assert [each.identity for each in before] == [each.identity for each in after]
    assert all(each.identity.strong is not None and each.identity.strong.startswith("emailid:M") for each in before)
    assert not {each.ref for each in before} & {each.ref for each in after}


def test_another_mail_with_the_same_headers_is_told_by_its_strong_id(cyrus: Cyrus, user: str, post: CyrusPost) -> None:
    post.plant(BOX, a_mail(1))
    post.plant(BOX, a_mail(1, body=b"something else\r\n"))
    with opened(cyrus, user) as source:
        first, second = known(source, BOX)
        assert first.identity.fingerprint == second.identity.fingerprint
        stranger = Known(ref=second.ref, identity=first.identity)
        (answer,) = source.settle([stranger], DELETE).values()
    assert isinstance(answer, Trouble)
    assert len(post.peek(BOX)) == 2


def test_folders_have_their_names_and_uses_as_people_read_them(cyrus: Cyrus, user: str, post: CyrusPost) -> None:
    for name in ("日本語/R&D", "a.b", "what's up"):
        post.client.create_folder(name)
        post.plant(name, a_mail(1))
    with opened(cyrus, user) as source:
        found = {info.name: info for info in source.folders()}
        for name in ("日本語/R&D", "a.b", "what's up", BOX):
            assert len(known(source, FolderRef(name))) == (name != BOX)
            assert found[FolderRef(name)].selectable
    assert found[FolderRef("Sent")].special_use == {"\\Sent"}
    assert found[FolderRef("Trash")].special_use == {"\\Trash"}


def test_without_the_right_to_delete_the_check_says_so_and_nothing_is_lost(
    cyrus: Cyrus, user: str, post: CyrusPost
) -> None:
    post.plant(BOX, a_mail(1))
    post.client.setacl(BOX, user, "-tdex")
    with opened(cyrus, user) as source:
        rights = {finding.subject: finding for finding in source.check([BOX], DELETE)}[f"rights in {BOX}"]
        assert (rights.level, bool(rights.remedy)) == (Level.FAULT, True)
        (answer,) = source.settle(known(source, BOX), DELETE).values()
        assert isinstance(answer, Trouble)
        assert not answer.transient
        assert answer.remedy
        (answer,) = source.settle(known(source, BOX), Aftercare(Action.SEEN)).values()
        assert answer == Settled()
    assert [raw for raw, _ in post.peek(BOX)] == [a_mail(1)]


def test_a_target_that_is_missing_is_made_and_its_name_is_free_to_have_dots(
    cyrus: Cyrus, user: str, post: CyrusPost
) -> None:
    post.plant(INBOX, a_mail(1))
    with opened(cyrus, user, "starttls") as source:
        care = Aftercare(Action.MOVE, "Archiv & Ablage/2026.1")
        levels = {finding.subject: finding.level for finding in source.check([INBOX], care)}
        assert levels[f"target {care.folder}"] is Level.FINE
        (answer,) = source.settle(known(source, INBOX), care).values()
        assert isinstance(answer, Settled)
    assert [raw for raw, _ in post.peek(care.folder or "")] == [a_mail(1)]
    assert post.peek(INBOX) == []


def test_a_mail_that_another_session_removes_meanwhile_has_vanished(cyrus: Cyrus, user: str, post: CyrusPost) -> None:
    post.plant(BOX, a_mail(1))
    post.plant(BOX, a_mail(2))
    with opened(cyrus, user) as source:
        mails = known(source, BOX)
        post.remove(BOX, a_mail(1))
        answers = {each.ref: type(each) for each in source.fetch([each.ref for each in mails])}
    assert answers == {mails[0].ref: Vanished, mails[1].ref: Fetched}
