"""The source ``pop3`` against a server that does what servers in the field do wrong."""

from __future__ import annotations

import base64
import logging
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from maildaemon_adapters.pop3 import KIND, Pop3Settings, Pop3Source, open_pop3
from maildaemon_core.errors import (
    FolderMissing,
    FolderRefused,
    LoginRefused,
    MaildaemonError,
    SourceUnavailable,
    SpoolFull,
    Trouble,
)
from maildaemon_core.message import Cursor, Envelope, FolderRef, MessageRef
from maildaemon_core.options import Action, Aftercare, MailboxOptions, Secret, Tls
from maildaemon_core.ports import Fetched, Known, Level, Settled, Unfetched, Vanished
from tests.contracts.spools import FileSpool
from tests.servers.certificates import make_ca
from tests.servers.scripted import behave, cut, drip
from tests.servers.scripted_pop3 import CAPA, ScriptedPop3, Step, Talk, stuffed
from tests.servers.tokens import CLIENT, SECRET, TokenServer

INBOX = FolderRef("INBOX")
PASSWORD = "h unt'er2 secret"
DELETE = Aftercare(Action.DELETE)
HALF = b"+OK\r\nSubject: half\r\n\r\n" + b"x" * 100_000


def mail(number: int, size: int = 0) -> bytes:
    return f"Message-ID: <{number}@x>\r\nSubject: {number}\r\n\r\n".encode() + b"x" * size + b"\r\n"


@pytest.fixture
def server() -> Iterator[ScriptedPop3]:
    with ScriptedPop3([mail(1), mail(2), mail(3)]) as scripted:
        yield scripted


def opened(
    server: ScriptedPop3,
    *,
    tls: Tls = "none",
    spool: FileSpool | None = None,
    user: str = "jane",
    password: str = PASSWORD,
    **settings: int,
) -> Pop3Source:
    options = MailboxOptions(
        type="pop3", host="127.0.0.1", port=server.port, tls=tls, username=user, password=Secret(password)
    )
    chosen = {"connect_seconds": 5, "stall_seconds": 5, "command_seconds": 5, "lock_seconds": 2, **settings}
    return open_pop3(options, Pop3Settings(**chosen), spool or FileSpool())  # type: ignore[arg-type]


def listed(source: Pop3Source, cursor: Cursor | None = None) -> list[Envelope]:
    return list(source.list_since(INBOX, cursor, limit=1000).envelopes)


def cursor_of(server: ScriptedPop3) -> Cursor:
    """As far as everything that is there."""
    with opened(server) as source:
        return source.list_since(INBOX, None, limit=10_000).cursor


def subjects(envelopes: list[Envelope]) -> list[str]:
    return [each.headers.subject for each in envelopes]


def known(source: Pop3Source) -> list[Known]:
    return [Known(ref=each.ref, identity=each.identity) for each in listed(source)]


def kinds(source: Pop3Source) -> dict[str, type]:
    """What fetching everything comes to."""
    return {each.ref.uid: type(each) for each in source.fetch([each.ref for each in listed(source)])}


def bodies(source: Pop3Source) -> dict[str, bytes]:
    return {
        each.ref.uid: b"".join(each.content.chunks())
        for each in source.fetch([each.ref for each in listed(source)])
        if isinstance(each, Fetched)
    }


ALL = {"id-1": Fetched, "id-2": Fetched, "id-3": Fetched}


# ---- options ----


def test_pop3_has_one_folder_and_can_delete_only() -> None:
    options = MailboxOptions(folders=("INBOX", "inbox", "*", "Sent", "\\Sent"))
    assert [problem.path for problem in KIND.problems(options, Pop3Settings())] == ["$.folders[3]", "$.folders[4]"]
    assert KIND.facts.actions == {Action.KEEP, Action.DELETE}


# ---- logging in ----


def test_a_password_may_hold_blanks(server: ScriptedPop3) -> None:
    with opened(server) as source:
        assert "has UIDL, TOP, PIPELINING" in source.server()
    assert server.sent("USER", "PASS") == ["USER jane", f"PASS {PASSWORD}"]
    assert server.lines[-1] == "QUIT"


@pytest.mark.parametrize(("user", "password"), [("jane", "pässwört"), ("jane doe", "secret")])
def test_what_user_and_pass_cannot_carry_goes_through_auth_plain(
    server: ScriptedPop3, user: str, password: str
) -> None:
    server.abilities = (*CAPA, "SASL LOGIN PLAIN")
    with opened(server, user=user, password=password):
        pass
    assert not server.sent("USER", "PASS")
    reply = server.lines[server.lines.index("AUTH PLAIN") + 1]
    assert base64.b64decode(reply).decode() == f"\0{user}\0{password}"


def test_what_cannot_be_sent_is_not(server: ScriptedPop3) -> None:
    with pytest.raises(LoginRefused, match="AUTH PLAIN"):
        opened(server, password="pässwört")
    with pytest.raises(LoginRefused, match="end of line"):
        opened(server, password="x\r\nDELE 1")
    server.abilities = ("TOP", "UIDL", "SASL GSSAPI")
    with pytest.raises(LoginRefused, match="GSSAPI") as raised:
        opened(server)
    assert "starttls" in raised.value.remedy
    assert not server.sent("USER", "PASS", "AUTH")


@pytest.mark.parametrize(
    ("answer", "error", "after"),
    [
        (b"[AUTH] wrong password", LoginRefused, None),
        (b"wrong password", LoginRefused, None),
        (b"this account is locked", LoginRefused, None),
        (b"[SYS/PERM] no such mailbox", SourceUnavailable, None),
        (b"[SYS/TEMP] disk is away", SourceUnavailable, None),
        (b"[IN-USE] maildrop is locked", SourceUnavailable, 60.0),
        (b"maildrop already locked", SourceUnavailable, 60.0),
        (b"mailbox is in use by another session", SourceUnavailable, 60.0),
        (b"[LOGIN-DELAY] not so often", SourceUnavailable, 300.0),
        (b"too many connections, try again later", SourceUnavailable, None),
    ],
)
def test_a_refused_login_is_final_unless_it_is_about_something_else(
    server: ScriptedPop3, answer: bytes, error: type[MaildaemonError], after: float | None
) -> None:
    server.abilities = (*CAPA, "LOGIN-DELAY 300 USER")
    server.instead("PASS", b"-ERR " + answer + b"\r\n")
    with pytest.raises(error) as raised:
        opened(server)
    assert raised.value.retry_after == after
    assert raised.value.remedy
    assert len(server.sent("PASS")) == 1, "it is not repeated"


def test_no_password_is_in_an_error_or_a_log_even_if_the_server_repeats_it(
    server: ScriptedPop3, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.instead("PASS", f"-ERR what is PASS {PASSWORD}\r\n".encode())
    with pytest.raises(LoginRefused) as raised:
        opened(server)
    with opened(server) as source:
        told = [repr(source), source.server(), repr(raised.value), repr(raised.value.__context__), caplog.text]
    assert not [text for text in told if "er2 secret" in text]


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenServer]:
    with TokenServer(tmp_path_factory.mktemp("tokens")) as gives:
        yield gives


def by_token(server: ScriptedPop3, tokens: TokenServer) -> Pop3Source:
    options = MailboxOptions(
        host="127.0.0.1", port=server.port, tls="none", mailbox="j@x", client_id=CLIENT, client_secret=Secret(SECRET)
    )
    settings = Pop3Settings(connect_seconds=5, stall_seconds=5, command_seconds=5, oauth_token_url=tokens.token_url)
    return open_pop3(options, settings, FileSpool())


def test_a_token_is_sent_only_when_it_is_asked_for(server: ScriptedPop3, tokens: TokenServer) -> None:
    def step(talk: Talk) -> None:
        talk.send(b"+ \r\n")
        talk.heard()
        talk.mails = list(zip(server.ids, server.mails, strict=True))
        talk.send(b"+OK\r\n")

    server.abilities = (*CAPA, "SASL PLAIN XOAUTH2")
    server.instead("AUTH", step)
    with by_token(server, tokens) as source:
        assert subjects(listed(source)) == ["1", "2", "3"]
    said = server.lines[server.lines.index("AUTH XOAUTH2") + 1]
    (token,) = tokens.tokens
    assert base64.b64decode(said).decode() == f"user=j@x\x01auth=Bearer {token}\x01\x01"


@pytest.mark.parametrize("more", [0, 3])
def test_a_refused_token_is_answered_as_it_must_be_and_asked_for_anew_the_next_time(
    server: ScriptedPop3, tokens: TokenServer, more: int
) -> None:
    def step(talk: Talk) -> None:
        talk.send(b"+ \r\n")
        talk.heard()
        for _ in range(1 + more):
            talk.send(b"+ " + base64.b64encode(b'{"status":"401"}') + b"\r\n")
            talk.heard()
        talk.send(b"-ERR [AUTH] no\r\n")

    before = set(tokens.tokens)
    server.instead("AUTH", step, always=True)
    for _ in range(2):
        with pytest.raises(SourceUnavailable if more else LoginRefused) as raised:
            by_token(server, tokens)
        assert "eyJ" not in f"{raised.value!r} {raised.value.__context__!r}"
        assert more or "status 401" in raised.value.message
    at = server.lines.index("AUTH XOAUTH2")
    assert server.lines[at + 2] == ""
    if more:
        assert server.lines[at + 3] == "*"
    else:
        assert len(set(tokens.tokens) - before) >= 1


def test_a_server_without_tokens_is_not_given_one(server: ScriptedPop3, tokens: TokenServer) -> None:
    server.abilities = (*CAPA, "SASL PLAIN")
    with pytest.raises(LoginRefused, match="takes no tokens"):
        by_token(server, tokens)
    assert not server.sent("AUTH")


@pytest.mark.parametrize("abilities", [CAPA, ()])
def test_without_stls_nothing_is_sent(server: ScriptedPop3, abilities: tuple[str, ...]) -> None:
    server.abilities = abilities
    with pytest.raises(SourceUnavailable, match="STLS") as raised:
        opened(server, tls="starttls")
    assert "useSsl" in raised.value.remedy
    assert {line.split()[0] for line in server.lines} <= {"CAPA", "STLS", "QUIT"}


def serving(folder: Path) -> tuple[ssl.SSLContext, str]:
    made = make_ca(folder)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(made.certificate, made.key)
    return context, str(made.ca)


def test_what_is_slipped_in_before_tls_begins_is_not_taken_for_secured(tmp_path: Path) -> None:
    context, ca = serving(tmp_path)
    with ScriptedPop3([mail(1)], context=context, stls=True, abilities=(*CAPA, "STLS")) as server:
        options = MailboxOptions(host="localhost", port=server.port, tls="starttls", username="j", password=Secret("x"))
        settings = Pop3Settings(ca_file=ca, connect_seconds=5)
        server.instead("STLS", b"+OK begin\r\n+OK slipped in\r\n", lambda talk: talk.secure(context))
        with pytest.raises(SourceUnavailable, match="between STLS and TLS"):
            open_pop3(options, settings, FileSpool())
        assert not server.sent("USER", "PASS", "AUTH")
        with open_pop3(options, settings, FileSpool()) as source:
            assert subjects(listed(source)) == ["1"]
            assert "(STLS)" in source.server()
        assert server.lines.count("CAPA") == 4, "what was announced in the open, or before the login, is asked anew"


@pytest.mark.parametrize("tls", ["implicit", "starttls"])
def test_a_certificate_for_another_name_is_not_accepted(tmp_path: Path, tls: Tls) -> None:
    made = make_ca(tmp_path, host="mail.example", address="127.0.0.9")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(made.certificate, made.key)
    with ScriptedPop3(context=context, stls=tls == "starttls", abilities=("STLS",)) as server:
        options = MailboxOptions(host="localhost", port=server.port, tls=tls, username="j", password=Secret("x"))
        with pytest.raises(SourceUnavailable, match="for another name"):
            open_pop3(options, Pop3Settings(ca_file=str(made.ca), connect_seconds=5), FileSpool())
    assert not server.sent("USER", "PASS", "AUTH")


@pytest.mark.parametrize(
    "greeting", [b"220 smtp.example ESMTP\r\n", b"* OK IMAP4rev1\r\n", b"-ERR too many connections\r\n", b"x" * 70_000]
)
def test_what_does_not_greet_as_a_pop3_server_is_said_so(greeting: bytes) -> None:
    with ScriptedPop3(greeting=greeting) as server, pytest.raises(SourceUnavailable) as raised:
        opened(server, connect_seconds=1)
    assert str(server.port) in raised.value.message
    assert raised.value.remedy
    assert ("imap" in raised.value.remedy) is greeting.startswith(b"*")


def test_a_port_that_says_nothing_or_speaks_no_tls_is_said_so(server: ScriptedPop3) -> None:
    with ScriptedPop3(greeting=b"") as silent, pytest.raises(SourceUnavailable, match="did not answer"):
        opened(silent, connect_seconds=1)
    with pytest.raises(SourceUnavailable, match="no TLS with") as raised:
        opened(server, tls="implicit")
    assert "starttls" in raised.value.remedy


# ---- identity ----


def test_a_server_without_uidl_is_refused_with_a_reason(server: ScriptedPop3) -> None:
    server.instead("UIDL", b"-ERR unknown\r\n", always=True)
    with opened(server) as source:
        with pytest.raises(SourceUnavailable, match="no lasting ids") as raised:
            listed(source)
        (finding,) = [each for each in source.check([INBOX], DELETE) if each.level is Level.FAULT]
    assert "imap" in raised.value.remedy
    assert "UIDL" in finding.message


def test_mails_to_which_the_server_gives_no_id_are_not_passed_over_silently(server: ScriptedPop3) -> None:
    server.instead("UIDL", b"+OK\r\n1 id-1\r\n3 id-3\r\n.\r\n")
    with opened(server) as source, pytest.raises(SourceUnavailable, match="3 mails and gives only 2"):
        listed(source)


def test_an_empty_maildrop_is_listed_without_asking_for_ids(server: ScriptedPop3) -> None:
    server.mails, server.ids = [], []
    with opened(server) as source:
        assert listed(source) == []
    assert not server.sent("UIDL")


def test_two_mails_with_one_id_are_both_fetched_and_neither_is_deleted(server: ScriptedPop3) -> None:
    server.ids = ["same", "id-2", "same"]
    with opened(server) as source:
        assert bodies(source) == {"same": mail(1), "id-2": mail(2), "same 2": mail(3)}
        answers = {ref.uid: answer for ref, answer in source.settle(known(source), DELETE).items()}
        (finding,) = [each for each in source.check([INBOX], DELETE) if each.level is Level.WARNING]
    assert answers["id-2"] == Settled()
    for uid in ("same", "same 2"):
        answer = answers[uid]
        assert isinstance(answer, Trouble)
        assert "several mails have the id same" in answer.message
        assert not answer.transient
    assert server.mails == [mail(1), mail(3)]
    assert "2 mails have an id" in finding.message


def test_when_one_of_two_mails_with_one_id_goes_the_other_is_neither_hidden_nor_called_gone(
    server: ScriptedPop3,
) -> None:
    server.ids = ["same", "same", "id-3"]
    with opened(server) as source:
        page = source.list_since(INBOX, None, limit=10)
        del server.mails[0], server.ids[0]
        server.plant(mail(4), "same", at=1)
    with opened(server) as source:
        again = source.list_since(INBOX, page.cursor, limit=10)
        assert again.renumbered
        assert subjects(list(again.envelopes)) == ["2", "4", "3"]
    server.remove("same")
    with opened(server) as source:
        answers = {each.ref.uid: each for each in source.fetch([each.ref for each in page.envelopes])}
    assert {uid: type(each) for uid, each in answers.items()} == {"same": Fetched, "same 2": Unfetched, "id-3": Fetched}


def test_ids_that_mean_nothing_at_all_are_refused(server: ScriptedPop3) -> None:
    server.mails = [mail(number) for number in range(300)]
    server.ids = ["x"] * 300
    cursor = cursor_of(server)
    with opened(server) as source, pytest.raises(FolderRefused, match="ids"):
        listed(source, cursor)


@pytest.mark.parametrize("uidl", ["a" * 199, "b" * 5000, "", "with blanks in it", "j\xf6rg", "~odd!#"])
def test_odd_ids_are_ids_as_well(server: ScriptedPop3, uidl: str) -> None:
    line = b"2 " + uidl.encode("latin-1")
    server.instead("UIDL", b"+OK\r\n1 id-1\r\n" + line + b"\r\n3 id-3\r\n.\r\n", always=True)
    with opened(server) as source:
        envelopes = listed(source)
        assert len({each.ref for each in envelopes}) == 3
        assert all(len(each.ref.uid) <= 200 and each.ref.uid.isprintable() for each in envelopes)
        assert set(kinds(source).values()) == {Fetched}
        cursor = source.list_since(INBOX, None, limit=10).cursor
        assert listed(source, cursor) == []


# ---- listing ----


def test_a_poll_of_what_is_known_takes_the_same_few_commands_however_much_lies_there(server: ScriptedPop3) -> None:
    server.mails = [mail(number) for number in range(2000)]
    server.ids = [f"id-{number}" for number in range(2000)]
    cursor = cursor_of(server)
    server.lines.clear()
    with opened(server) as source:
        page = source.list_since(INBOX, cursor, limit=500)
    assert (page.envelopes, page.more, page.renumbered, page.cursor) == ((), False, False, cursor)
    assert server.lines[4:] == ["STAT", "UIDL", "TOP 2000 0", "NOOP", "QUIT"]


def test_a_cursor_tells_what_is_new_wherever_the_server_puts_it(server: ScriptedPop3) -> None:
    cursor = cursor_of(server)
    server.plant(mail(4), "id-4", at=0)
    server.plant(mail(5), "id-5", at=2)
    server.remove("id-2")
    server.plant(mail(6), "id-6")
    with opened(server) as source:
        page = source.list_since(INBOX, cursor, limit=2)
        rest = source.list_since(INBOX, page.cursor, limit=2)
        assert not page.renumbered
        assert subjects([*page.envelopes, *rest.envelopes]) == ["4", "5", "6"]
        assert listed(source, rest.cursor) == []
        server.remove("id-4")
        server.plant(mail(7), "id-7", at=1)
        assert subjects(listed(source, rest.cursor)) == ["7"]
        assert subjects(listed(source, cursor)) == ["7", "5", "6"], "the same cursor gives what is there of the same"


def test_ids_that_are_all_given_anew_are_told_by_the_headers(server: ScriptedPop3) -> None:
    cursor = cursor_of(server)
    server.ids = ["new-1", "new-2", "new-3"]
    with opened(server) as source:
        page = source.list_since(INBOX, cursor, limit=10)
        assert page.renumbered
        assert {each.ref.uidvalidity for each in page.envelopes} == {"uidl:2"}
        old = MessageRef(INBOX, "uidl:1", "new-1")
        assert [type(each) for each in source.fetch([old, page.envelopes[0].ref])] == [Unfetched, Fetched]
        assert not source.list_since(INBOX, page.cursor, limit=10).renumbered


def test_other_mails_than_before_are_no_renumbering(server: ScriptedPop3) -> None:
    cursor = cursor_of(server)
    server.mails, server.ids = [mail(4), mail(5)], ["id-4", "id-5"]
    with opened(server) as source:
        page = source.list_since(INBOX, cursor, limit=10)
    assert (page.renumbered, subjects(list(page.envelopes))) == (False, ["4", "5"])


def test_an_id_that_was_another_mails_before_hides_nothing(server: ScriptedPop3) -> None:
    first = cursor_of(server)
    server.remove("id-1")
    with opened(server) as source:
        second = source.list_since(INBOX, first, limit=10).cursor
    server.plant(mail(4), "id-1")
    with opened(server) as source:
        page = source.list_since(INBOX, second, limit=10)
        assert page.renumbered
        assert {each.ref.uidvalidity for each in page.envelopes} == {"uidl:2"}
        assert "4" in subjects(list(page.envelopes))


def test_a_mail_that_comes_back_is_compared_with_what_is_known_of_it(server: ScriptedPop3) -> None:
    first = cursor_of(server)
    server.remove("id-1")
    with opened(server) as source:
        second = source.list_since(INBOX, first, limit=10).cursor
    server.plant(mail(1), "id-1")
    with opened(server) as source:
        page = source.list_since(INBOX, second, limit=10)
    assert page.renumbered
    assert MessageRef(INBOX, "uidl:1", "id-1") in [each.ref for each in page.envelopes]


def test_ids_that_are_mere_numbers_are_noticed_when_they_move(server: ScriptedPop3) -> None:
    server.ids = ["1", "2", "3"]
    cursor = cursor_of(server)
    del server.mails[0], server.ids[2]
    with opened(server) as source:
        assert source.list_since(INBOX, cursor, limit=10).renumbered


def test_ids_that_move_in_the_middle_of_a_sweep_end_it(server: ScriptedPop3) -> None:
    server.ids = ["1", "2", "3"]

    def count_anew(talk: object) -> None:
        behave(talk)  # type: ignore[arg-type]
        server.ids = [str(number) for number in range(1, len(server.mails) + 1)]

    server.instead("QUIT", count_anew)
    with opened(server) as source:
        mails = known(source)
        assert source.settle(mails[:1], DELETE) == {mails[0].ref: Settled()}
        with pytest.raises(SourceUnavailable, match="gave the id 1 of a mail that it has just deleted"):
            list(source.fetch([mails[1].ref]))


def test_without_top_the_headers_are_read_from_the_whole_mail(server: ScriptedPop3) -> None:
    server.abilities = ("UIDL", "USER")
    server.instead("TOP", b"-ERR unknown\r\n", always=True)
    with opened(server) as source:
        assert subjects(listed(source)) == ["1", "2", "3"]
        assert kinds(source) == ALL
        assert [each.subject for each in source.check([INBOX], DELETE) if each.level is Level.WARNING] == ["headers"]
        assert set(source.settle(known(source), DELETE).values()) == {Settled()}
    assert not server.sent("TOP")


def test_a_server_that_does_not_say_what_it_can_is_tried(server: ScriptedPop3) -> None:
    server.abilities = ()
    server.instead("TOP", b"-ERR unknown\r\n", always=True)
    with opened(server) as source:
        assert subjects(listed(source)) == ["1", "2", "3"]
        assert "does not say" in source.server()


def test_a_mail_whose_headers_the_server_does_not_give_is_listed_all_the_same(server: ScriptedPop3) -> None:
    server.instead("(TOP|RETR) 2", b"-ERR damaged\r\n", always=True)
    with opened(server) as source:
        assert subjects(listed(source)) == ["1", "", "3"]


def test_wrong_sizes_and_a_listing_that_is_refused_are_no_harm(server: ScriptedPop3) -> None:
    server.instead("LIST", b"+OK\r\n1 7\r\n2 99999999999\r\nthree\r\n.\r\n")
    server.instead("LIST", b"-ERR no\r\n")
    with opened(server) as source:
        assert [each.size for each in listed(source)] == [7, None, None]
        assert kinds(source) == ALL


def test_a_header_block_of_many_megabytes_is_cut(server: ScriptedPop3) -> None:
    server.mails[0] = b"Subject: huge\r\nTo: " + b"a@b, " * 1_000_000 + b"\r\n\r\n"
    with opened(server) as source:
        assert subjects(listed(source)) == ["huge", "2", "3"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (b"Received: by a; Thu, 1 Jan 2026 12:00:00 +0200\r\nReceived: by b; x\r\nDate: x\r\n", 10),
        (b"Received: nothing\r\nDate: Thu, 1 Jan 2026 11:00:00 -0000\r\n", 11),
        (b"Received: by a;\r\n Thu, 1 Jan 2026 09:00:00 GMT (a comment)\r\n", 9),
    ],
)
def test_when_a_mail_was_received_is_what_the_last_server_wrote(
    server: ScriptedPop3, fields: bytes, expected: int
) -> None:
    server.mails[0] = fields + b"Subject: dated\r\n\r\nx\r\n"
    with opened(server) as source:
        assert listed(source)[0].received == datetime(2026, 1, 1, expected, tzinfo=UTC)


@pytest.mark.parametrize(
    "date", [b"", b"Thu, 1 Jan 9999 00:00:00 +0000", b"Fri, 1 Jan 1904 00:00:00 +0000", b"yesterday"]
)
def test_a_mail_that_does_not_say_when_it_was_received_came_when_it_was_seen(server: ScriptedPop3, date: bytes) -> None:
    server.mails[0] = b"Date: " + date + b"\r\nSubject: dateless\r\n\r\nx\r\n"
    before = datetime.now(UTC)
    with opened(server) as source:
        assert before <= listed(source)[0].received <= datetime.now(UTC)


# ---- fetching ----


def test_commands_are_sent_together_only_where_that_is_allowed(server: ScriptedPop3) -> None:
    ahead: dict[str, set[bool]] = {}

    def look(talk: Talk) -> None:
        time.sleep(0.1)
        ahead.setdefault(talk.line, set()).add(talk.ahead())
        talk.behave()

    server.instead("(TOP|RETR|DELE) 1", look, always=True)
    for abilities in (CAPA, [each for each in CAPA if each != "PIPELINING"]):
        server.abilities = abilities
        with opened(server) as source:
            assert kinds(source) == ALL
            source.settle(known(source), DELETE)
        assert ahead == {line: {"PIPELINING" in abilities} for line in ("TOP 1 0", "RETR 1", "DELE 1")}
        server.mails, server.ids = [mail(1), mail(2), mail(3)], ["id-1", "id-2", "id-3"]
        ahead.clear()


@pytest.mark.parametrize("said", [b"-ERR damaged\r\n", b"-ERR [SYS/PERM] damaged\r\n"])
def test_a_mail_that_the_server_does_not_give_costs_only_itself(server: ScriptedPop3, said: bytes) -> None:
    with opened(server) as source:
        refs = [each.ref for each in listed(source)]
        server.instead("RETR 2", said, always=True)
        answers = {each.ref.uid: each for each in source.fetch(refs)}
    assert {uid: type(each) for uid, each in answers.items()} == {**ALL, "id-2": Unfetched}
    trouble = answers["id-2"]
    assert isinstance(trouble, Unfetched)
    assert "damaged" in trouble.trouble.message


def test_a_mail_that_is_refused_once_is_asked_for_again(server: ScriptedPop3) -> None:
    server.instead("RETR 2", b"-ERR not now\r\n")
    with opened(server) as source:
        assert kinds(source) == ALL
    assert server.connections == 2


def test_a_mail_that_another_program_deleted_has_vanished(server: ScriptedPop3) -> None:
    with opened(server) as source:
        refs = [each.ref for each in listed(source)]
        server.remove("id-2")
        server.instead("RETR 2", b"-ERR no such message\r\n")
        assert {each.ref.uid: type(each) for each in source.fetch(refs)} == {**ALL, "id-2": Vanished}


@pytest.mark.parametrize(
    "steps",
    [(HALF, cut), (cut,), (b"+OK\r\nSubject: 2\r\n\r\nwithout a dot at the end\r\n", cut), (b"+OK\r\nx\r\n.\r", cut)],
)
def test_a_connection_that_breaks_once_costs_nothing(server: ScriptedPop3, steps: tuple[Step, ...]) -> None:
    server.instead("RETR 2", *steps)
    with opened(server) as source:
        assert bodies(source) == {"id-1": mail(1), "id-2": mail(2), "id-3": mail(3)}
    assert server.connections == 2


def test_a_connection_that_breaks_twice_is_said_and_nothing_stays_in_the_spool(server: ScriptedPop3) -> None:
    server.instead("RETR 2", HALF, cut)
    server.instead("RETR 2", HALF, cut)
    spool = FileSpool()
    with opened(server, spool=spool) as source:
        refs = [each.ref for each in listed(source)]
        answers: list[Fetched | Vanished | Unfetched] = []
        with pytest.raises(SourceUnavailable, match="broke twice"):
            answers.extend(source.fetch(refs))
        assert [each.ref.uid for each in answers] == ["id-1"]
        assert [content.closed for content in spool.kept] == [False]
        assert kinds(source) == ALL, "the session makes a new connection"


def test_what_is_not_taken_out_of_a_fetch_does_not_stay_in_the_spool(server: ScriptedPop3) -> None:
    spool = FileSpool()
    with opened(server, spool=spool) as source:
        answers = source.fetch([each.ref for each in listed(source)])
        first = next(answers)
        answers.close()  # type: ignore[attr-defined]
        assert isinstance(first, Fetched)
        assert [content.closed for content in spool.kept] == [False]
        assert kinds(source) == ALL


def test_a_full_spool_passes_through_and_the_session_goes_on(server: ScriptedPop3) -> None:
    server.mails[1] = mail(2, 300_000)
    with opened(server, spool=FileSpool(room=200_000)) as source:
        refs = [each.ref for each in listed(source)]
        with pytest.raises(SpoolFull):
            list(source.fetch(refs))
        assert [type(each) for each in source.fetch([refs[0]])] == [Fetched]


def test_a_server_that_drips_is_not_waited_for_without_end(server: ScriptedPop3) -> None:
    for _ in range(2):
        server.instead("RETR", b"+OK\r\n", drip(b"x" * 90, every=0.2))
    with opened(server, command_seconds=1) as source:
        refs = [each.ref for each in listed(source)]
        start = time.monotonic()
        with pytest.raises(SourceUnavailable):
            list(source.fetch(refs))
        assert 2 <= time.monotonic() - start < 5


def test_a_server_that_falls_silent_is_given_up(server: ScriptedPop3) -> None:
    server.instead("UIDL", b"+OK\r\n1 id-1\r\n", lambda _: time.sleep(1.5))
    with opened(server, stall_seconds=1, command_seconds=60) as source:
        start = time.monotonic()
        with pytest.raises(SourceUnavailable):
            listed(source)
        assert time.monotonic() - start < 2.5


def test_mails_with_bare_lf_are_read_to_their_end(server: ScriptedPop3) -> None:
    server.instead("RETR 1", b"+OK\r\nSubject: 1\n\n..dotted\n.\r\n")
    server.instead("RETR 2", b"+OK\r\nSubject: 2\r\n\r\na\n.\n.b\r\n.\r\n")
    server.instead("RETR 3", b"+OK\nSubject: 3\n\nx\n.\n")
    with opened(server) as source:
        assert bodies(source) == {
            "id-1": b"Subject: 1\n\n.dotted\n",
            "id-2": b"Subject: 2\r\n\r\na\n.\n.b\r\n",
            "id-3": b"Subject: 3\n\nx\n",
        }


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_mail_whose_dots_are_not_doubled_is_never_taken_for_whole(server: ScriptedPop3, number: int) -> None:
    torn = b"+OK\r\nSubject: torn\r\n\r\nabove\r\n.\r\nbelow\r\n.\r\n"
    server.instead(f"RETR {number}", torn, always=True)
    spool = FileSpool()
    with opened(server, spool=spool) as source:
        assert kinds(source) == {**ALL, f"id-{number}": Unfetched}
    assert sum(not content.closed for content in spool.kept) == 2


def test_a_line_is_as_long_as_it_likes(server: ScriptedPop3) -> None:
    server.mails[1] = b"Subject: long\r\n\r\n" + b"x" * 3_000_000 + b"\r\n"
    with opened(server) as source:
        assert bodies(source)["id-2"] == server.mails[1]


# ---- settling ----


def test_nothing_counts_as_deleted_before_quit_says_so(server: ScriptedPop3) -> None:
    with opened(server) as source:
        mails = known(source)
        server.instead("QUIT", cut)
        with pytest.raises(SourceUnavailable):
            source.settle(mails[:2], DELETE)
        assert len(server.mails) == 3
        assert set(source.settle(mails[:2], DELETE).values()) == {Settled()}
        assert server.ids == ["id-3"]
        assert source.settle(mails[:2], DELETE) == {each.ref: Settled(gone=True) for each in mails[:2]}
        assert [type(each) for each in source.fetch([mails[2].ref])] == [Fetched]


def test_a_connection_that_breaks_before_quit_deletes_nothing(server: ScriptedPop3) -> None:
    with opened(server) as source:
        mails = known(source)
        server.instead("DELE 2", cut)
        with pytest.raises(SourceUnavailable):
            source.settle(mails, DELETE)
    assert len(server.mails) == 3


def test_a_session_that_the_server_ended_while_mails_were_stored_is_begun_anew(server: ScriptedPop3) -> None:
    with opened(server) as source:
        mails = known(source)
        server.instead("TOP 2", cut)
        assert set(source.settle(mails, DELETE).values()) == {Settled()}
    assert server.mails == []


def test_a_mail_that_may_not_be_deleted_does_not_keep_the_others(server: ScriptedPop3) -> None:
    server.instead("DELE 2", b"-ERR not this one\r\n")
    with opened(server) as source:
        mails = known(source)
        answers = source.settle(mails, DELETE)
    assert isinstance(answers[mails[1].ref], Trouble)
    assert server.ids == ["id-2"]


def test_after_a_refused_quit_a_fresh_look_tells_what_was_deleted(server: ScriptedPop3) -> None:
    def half(talk: object) -> None:
        server.remove("id-1")
        talk.send(b"-ERR some deleted messages not removed\r\n")  # type: ignore[attr-defined]

    with opened(server) as source:
        mails = known(source)
        server.instead("QUIT", half)
        answers = source.settle(mails[:2], DELETE)
    assert answers[mails[0].ref] == Settled()
    assert isinstance(answers[mails[1].ref], Trouble)
    assert server.ids == ["id-2", "id-3"]


def test_another_mail_under_the_same_id_is_kept(server: ScriptedPop3) -> None:
    with opened(server) as source:
        mails = known(source)
    server.mails[0] = mail(9)
    with opened(server) as source:
        answers = source.settle(mails, DELETE)
    assert isinstance(answers[mails[0].ref], Trouble)
    assert server.mails == [mail(9)]


def test_a_mail_that_went_meanwhile_is_fine_and_no_other_is_deleted_for_it(server: ScriptedPop3) -> None:
    with opened(server) as source:
        mails = known(source)
        server.remove("id-1")
        for _ in range(2):
            server.instead("(TOP|RETR) 1", b"-ERR gone\r\n")
        answers = source.settle(mails[:2], DELETE)
    assert answers == {mails[0].ref: Settled(gone=True), mails[1].ref: Settled()}
    assert server.ids == ["id-3"]


def test_what_pop3_cannot_do_is_not_done(server: ScriptedPop3) -> None:
    with opened(server) as source:
        mails = known(source)
        for care in (Aftercare(Action.SEEN), Aftercare(Action.MOVE, "Done")):
            assert all(isinstance(each, Trouble) for each in source.settle(mails, care).values())
            assert [each.subject for each in source.check([INBOX], care) if each.level is Level.FAULT] == ["aftercare"]
        with pytest.raises(FolderMissing, match="POP3 knows only INBOX"):
            source.list_since(FolderRef("Sent"), None, limit=1)
    assert len(server.mails) == 3


def test_a_lock_that_lingers_after_a_session_of_ours_is_waited_for(server: ScriptedPop3) -> None:
    with opened(server, lock_seconds=1) as source:
        mails = known(source)
        source.settle(mails[:1], DELETE)
        server.instead("PASS", b"-ERR [IN-USE] still locked\r\n")  # and once more in other words
        server.instead("PASS", b"-ERR maildrop already locked\r\n")
        assert [type(each) for each in source.fetch([mails[1].ref])] == [Fetched]
        source.settle(mails[1:2], DELETE)
        server.instead("PASS", b"-ERR [IN-USE] locked by somebody else\r\n", always=True)
        with pytest.raises(SourceUnavailable, match="another session") as raised:
            list(source.fetch([mails[2].ref]))
        assert raised.value.retry_after == 60


def test_a_server_that_deletes_by_itself_is_found_by_the_check(server: ScriptedPop3) -> None:
    server.abilities = (*CAPA, "EXPIRE 7 USER")
    with opened(server) as source:
        (finding,) = [each for each in source.check([INBOX], DELETE) if each.level is Level.WARNING]
    assert "7 days" in finding.message


def test_the_helper_stuffs_dots_as_servers_do() -> None:
    assert stuffed(b".a\r\nb.\r\n..\r\n\n.c") == b"..a\r\nb.\r\n...\r\n\n..c\r\n.\r\n"
