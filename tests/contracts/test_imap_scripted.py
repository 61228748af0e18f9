"""The source ``imap`` against a server that does what servers in the field do wrong."""

from __future__ import annotations

import logging
import re
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from maildaemon_adapters.imap import ImapSettings, ImapSource, open_imap
from maildaemon_core.errors import (
    FolderMissing,
    FolderRefused,
    LoginRefused,
    MaildaemonError,
    SourceUnavailable,
    SpoolFull,
    Trouble,
)
from maildaemon_core.message import Cursor, Envelope, FolderRef, Identity
from maildaemon_core.options import Action, Aftercare, MailboxOptions, Secret, Tls
from maildaemon_core.ports import Fetched, Known, Level, Page, Settled, Unfetched, Vanished
from tests.contracts.spools import FileSpool
from tests.servers.certificates import make_ca
from tests.servers.scripted import behave, cut, drip
from tests.servers.scripted_imap import OK, ScriptedImap

INBOX = FolderRef("INBOX")
PASSWORD = 'h\\unt"er2 secret'
DELETE = Aftercare(Action.DELETE)


def mail(number: int, size: int = 0) -> bytes:
    return f"Message-ID: <{number}@x>\r\nSubject: {number}\r\n\r\n".encode() + b"x" * size


@pytest.fixture
def server() -> Iterator[ScriptedImap]:
    with ScriptedImap(mails={number: mail(number) for number in (1, 2, 3)}) as scripted:
        yield scripted


def opened(
    server: ScriptedImap, *, tls: Tls = "none", spool: FileSpool | None = None, password: str = PASSWORD, **seconds: int
) -> ImapSource:
    options = MailboxOptions(host="127.0.0.1", port=server.port, tls=tls, username='ja"ne', password=Secret(password))
    settings = ImapSettings(**{"connect_seconds": 5, "stall_seconds": 5, "command_seconds": 5, **seconds})  # type: ignore[arg-type]
    return open_imap(options, settings, spool or FileSpool())


def listed(source: ImapSource) -> list[Envelope]:
    return list(source.list_since(INBOX, None, limit=1000).envelopes)


def known(source: ImapSource) -> list[Known]:
    return [Known(ref=each.ref, identity=each.identity) for each in listed(source)]


def kinds(source: ImapSource) -> list[type]:
    """What fetching everything comes to, in the order of UIDs."""
    answers = source.fetch([each.ref for each in listed(source)])
    return [type(each) for each in sorted(answers, key=lambda each: int(each.ref.uid))]


def sent(server: ScriptedImap, *commands: str) -> list[str]:
    return [line for line in server.lines if line.startswith(commands)]


# ---- logging in ----


def test_the_login_is_quoted_and_the_abilities_are_read_again_behind_it(server: ScriptedImap) -> None:
    server.instead("CAPABILITY", b"* CAPABILITY IMAP4rev1\r\n", OK)
    with opened(server) as source:
        assert "UIDPLUS" in source.server()
    assert sent(server, "LOGIN") == ['LOGIN "ja\\"ne" "h\\\\unt\\"er2 secret"']


def test_a_password_beyond_ascii_goes_through_authenticate_plain(server: ScriptedImap) -> None:
    server.capabilities += " AUTH=PLAIN"
    with opened(server, password="pässwört"):
        pass
    assert not sent(server, "LOGIN")
    assert server.lines[server.lines.index("AUTHENTICATE PLAIN") + 1] == "AGphIm5lAHDDpHNzd8O2cnQ="


def test_a_password_beyond_ascii_is_not_sent_where_it_cannot_be(server: ScriptedImap) -> None:
    with pytest.raises(LoginRefused, match="AUTH=PLAIN"):
        opened(server, password="pässwört")
    assert not sent(server, "LOGIN", "AUTHENTICATE")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"NO [AUTHENTICATIONFAILED] wrong", LoginRefused),
        (b"NO wrong", LoginRefused),
        (b"BAD unknown", LoginRefused),
        (b"NO [PRIVACYREQUIRED] not in the open", LoginRefused),
        (b"NO [UNAVAILABLE] backend is down", SourceUnavailable),
        (b"NO [INUSE] locked", SourceUnavailable),
        (b"NO [LIMIT] Maximum number of connections from user+IP exceeded", SourceUnavailable),
    ],
)
def test_a_refused_login_is_final_unless_the_server_says_that_it_is_not(
    server: ScriptedImap, answer: bytes, error: type[MaildaemonError]
) -> None:
    server.instead("LOGIN", b"{tag} " + answer + b"\r\n")
    with pytest.raises(MaildaemonError) as raised:
        opened(server)
    assert type(raised.value) is error
    assert raised.value.remedy


def test_no_password_is_in_an_error_or_a_log_even_if_the_server_repeats_it(
    server: ScriptedImap, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    escaped = PASSWORD.replace("\\", "\\\\").replace('"', '\\"')
    server.instead("LOGIN", f'{{tag}} BAD what is LOGIN jane "{escaped}" or {PASSWORD}\r\n'.encode())
    with pytest.raises(LoginRefused) as raised:
        opened(server)
    with opened(server) as source:
        told = [repr(source), source.server(), str(raised.value), repr(raised.value), repr(raised.value.__context__)]
        told += [raised.value.trouble().message, caplog.text]
    assert not [text for text in told if "er2 secret" in text]


def test_nothing_is_sent_where_logins_are_disabled(server: ScriptedImap) -> None:
    server.capabilities = "IMAP4rev1 LOGINDISABLED"
    with pytest.raises(LoginRefused, match="LOGINDISABLED") as raised:
        opened(server)
    assert "starttls" in raised.value.remedy
    assert not sent(server, "LOGIN", "AUTHENTICATE")


def test_without_starttls_nothing_is_sent(server: ScriptedImap) -> None:
    with pytest.raises(SourceUnavailable, match="offers no STARTTLS") as raised:
        opened(server, tls="starttls")
    assert "useSsl" in raised.value.remedy
    assert {line.split()[0] for line in server.lines} <= {"CAPABILITY", "LOGOUT"}


@pytest.mark.parametrize(
    "answer",
    [b"{tag} NO not today\r\n", b"{tag} BAD what\r\n", b"{tag} OK go\r\n* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n", b""],
)
def test_a_starttls_that_fails_or_is_tampered_with_is_the_end(server: ScriptedImap, answer: bytes) -> None:
    server.capabilities += " STARTTLS"
    server.instead("STARTTLS", answer or cut)
    with pytest.raises(SourceUnavailable) as raised:
        opened(server, tls="starttls")
    assert raised.value.remedy
    assert not sent(server, "LOGIN", "AUTHENTICATE")


def test_a_preauth_before_starttls_is_not_believed() -> None:
    with ScriptedImap(greeting=b"* PREAUTH come in\r\n", capabilities="IMAP4rev1 STARTTLS") as server:
        with pytest.raises(SourceUnavailable, match="PREAUTH"):
            opened(server, tls="starttls")
        assert {line.split()[0] for line in server.lines} <= {"CAPABILITY", "LOGOUT"}


@pytest.mark.parametrize("greeting", [b"* BYE too many connections\r\n", b"220 smtp.example ESMTP\r\n", b""])
def test_what_does_not_greet_as_an_imap_server_is_said_so(greeting: bytes) -> None:
    with ScriptedImap(greeting=greeting) as server, pytest.raises(SourceUnavailable) as raised:
        opened(server, connect_seconds=1)
    assert str(server.port) in raised.value.message
    assert "implicit" in raised.value.remedy


def test_a_port_without_tls_is_told_from_one_with_it(server: ScriptedImap) -> None:
    with pytest.raises(SourceUnavailable, match="no TLS with") as raised:
        opened(server, tls="implicit")
    assert "starttls" in raised.value.remedy


def test_a_ca_file_that_holds_none_is_said_so(server: ScriptedImap, tmp_path: Path) -> None:
    settings = ImapSettings(ca_file=str(tmp_path / "none.pem"))
    options = MailboxOptions(host="127.0.0.1", port=server.port, username="jane", password=Secret("x"))
    with pytest.raises(SourceUnavailable, match=r"none\.pem"):
        open_imap(options, settings, FileSpool())
    made = make_ca(tmp_path)
    made.ca.write_text("nothing")
    with pytest.raises(SourceUnavailable, match=r"ca\.pem"):
        open_imap(options, ImapSettings(ca_file=str(made.ca)), FileSpool())


def test_what_is_slipped_in_before_tls_begins_is_not_taken_for_secured(tmp_path: Path) -> None:
    made = make_ca(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(made.certificate, made.key)
    with ScriptedImap(context=context, starttls=True, capabilities="IMAP4rev1 STARTTLS") as server:
        server.instead("STARTTLS", OK + b"* OK slipped in\r\n", lambda talk: talk.secure(context))
        options = MailboxOptions(host="localhost", port=server.port, tls="starttls", username="j", password=Secret("x"))
        settings = ImapSettings(ca_file=str(made.ca), connect_seconds=5)
        with pytest.raises(SourceUnavailable, match="between STARTTLS and TLS"):
            open_imap(options, settings, FileSpool())
        with open_imap(options, settings, FileSpool()) as source:
            assert "STARTTLS" in source.server()


@pytest.mark.parametrize("tls", ["implicit", "starttls"])
def test_a_certificate_for_another_name_is_not_accepted(tmp_path: Path, tls: Tls) -> None:
    made = make_ca(tmp_path, host="mail.example", address="127.0.0.9")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(made.certificate, made.key)
    with ScriptedImap(context=context, starttls=tls == "starttls", capabilities="IMAP4rev1 STARTTLS") as server:
        options = MailboxOptions(
            host="localhost", port=server.port, tls=tls, username="jane", password=Secret(PASSWORD)
        )
        with pytest.raises(SourceUnavailable, match="for another name") as raised:
            open_imap(options, ImapSettings(ca_file=str(made.ca), connect_seconds=5), FileSpool())
    assert "host" in raised.value.remedy
    assert not sent(server, "LOGIN", "AUTHENTICATE")


# ---- listing ----


def test_only_settling_selects_and_no_command_names_a_range_of_unknown_mails(server: ScriptedImap) -> None:
    with opened(server) as source:
        assert kinds(source) == [Fetched, Fetched, Fetched]
        assert not sent(server, "SELECT")
        source.settle(known(source), Aftercare(Action.SEEN))
    assert sent(server, "SELECT")
    assert sent(server, "UID FETCH")
    assert not [line for line in sent(server, "UID FETCH", "UID STORE") if "*" in line or "BODY[" in line]


def test_a_mail_for_which_the_server_gives_no_headers_is_listed_all_the_same(server: ScriptedImap) -> None:
    one = b"* 1 FETCH (UID 1 BODY[HEADER.FIELDS (SUBJECT)] {14}\r\nSubject: one\r\n)\r\n"
    server.instead("UID FETCH .*HEADER", one, OK)
    server.instead("UID FETCH .*HEADER", OK)
    with opened(server) as source:
        page = source.list_since(INBOX, None, limit=10)
    assert [(each.ref.uid, each.headers.subject) for each in page.envelopes] == [("1", "one"), ("2", ""), ("3", "")]
    assert page.cursor == "7:3"


def test_an_unreadable_header_answer_costs_only_itself(server: ScriptedImap) -> None:
    server.instead("UID FETCH (1:3|1:2|1|2:3|2) .*HEADER", b'* 2 FETCH (UID 2 "BODY)\r\n', OK, always=True)
    with opened(server) as source:
        assert [each.headers.subject for each in listed(source)] == ["", "", "3"]


def test_a_search_may_come_in_several_lines_and_without_words_behind_its_ok(server: ScriptedImap) -> None:
    server.instead("UID SEARCH", b"* SEARCH 1 2\r\n* SEARCH 3 (MODSEQ 99)\r\n{tag} OK\r\n")
    with opened(server) as source:
        assert len(listed(source)) == 3


def test_the_last_mail_is_not_listed_again_though_a_search_always_finds_it(server: ScriptedImap) -> None:
    with opened(server) as source:
        cursor = source.list_since(INBOX, None, limit=10).cursor
        assert source.list_since(INBOX, cursor, limit=10).envelopes == ()


def test_a_header_block_of_many_megabytes_is_cut(server: ScriptedImap) -> None:
    server.mails = {1: b"Subject: huge\r\nTo: " + b"a@b, " * 1_000_000 + b"\r\n\r\n", 2: mail(2)}
    with opened(server) as source:
        assert [each.headers.subject for each in listed(source)] == ["huge", "2"]


def test_a_folder_without_uidvalidity_is_not_read(server: ScriptedImap) -> None:
    server.instead("EXAMINE", b"* 3 EXISTS\r\n", OK, always=True)
    with opened(server) as source, pytest.raises(SourceUnavailable, match="UIDVALIDITY"):
        listed(source)


# ---- fetching ----


def test_nil_for_a_mail_that_is_there_is_asked_for_again(server: ScriptedImap) -> None:
    server.instead("UID FETCH 1:3 .*BODY", b"* 1 FETCH (UID 1 BODY[] NIL)\r\n", OK)
    with opened(server) as source:
        refs = [each.ref for each in listed(source)]
        answers = {each.ref.uid: each for each in source.fetch(refs)}
    assert {uid: type(each) for uid, each in answers.items()} == {"1": Fetched, "2": Fetched, "3": Fetched}


def test_a_mail_that_the_server_never_gives_is_not_gone(server: ScriptedImap) -> None:
    server.instead(r"UID FETCH 2 .*BODY\.PEEK\[\]", b"* 2 FETCH (UID 2 BODY[] NIL)\r\n", OK, always=True)
    one = b"* 1 FETCH (UID 1 BODY[] {1}\r\nx)\r\n* 3 FETCH (UID 3 BODY[] {0}\r\n)\r\n"
    server.instead(r"UID FETCH 1:3 .*BODY\.PEEK\[\]", one, OK)
    with opened(server) as source:
        assert kinds(source) == [Fetched, Unfetched, Fetched]


def test_without_an_answer_to_the_search_nothing_is_called_gone(server: ScriptedImap) -> None:
    with opened(server) as source:
        refs = [each.ref for each in listed(source)]
        server.instead(r"UID FETCH .*BODY\.PEEK\[\]", OK)
        server.instead("UID SEARCH", OK)
        assert {type(each) for each in source.fetch(refs)} == {Unfetched}


def test_a_mail_that_the_search_does_not_find_has_vanished(server: ScriptedImap) -> None:
    with opened(server) as source:
        refs = [each.ref for each in listed(source)]
        del server.mails[2]
        assert {each.ref.uid: type(each) for each in source.fetch(refs)} == {"1": Fetched, "2": Vanished, "3": Fetched}


def test_an_unreadable_answer_harms_only_its_own_mail(server: ScriptedImap) -> None:
    server.instead(r"UID FETCH (1:3|2) .*BODY\.PEEK\[\]", b"* 2 FETCH (UID 2 BODY[] (((\r\n", OK, always=True)
    with opened(server) as source:
        assert kinds(source) == [Fetched, Unfetched, Fetched]
    assert server.connections == 2


def test_a_no_to_many_is_a_no_to_one(server: ScriptedImap) -> None:
    server.instead(r"UID FETCH (1:3|2) .*BODY\.PEEK\[\]", b"{tag} NO [SERVERBUG] not this\r\n", always=True)
    with opened(server) as source:
        assert kinds(source) == [Fetched, Unfetched, Fetched]
    assert server.connections == 1


HALF = b"* 1 FETCH (UID 1 BODY[] {200000}\r\n" + b"x" * 100_000


def test_a_connection_that_breaks_once_in_a_mail_costs_nothing(server: ScriptedImap) -> None:
    server.instead(r"UID FETCH .*BODY\.PEEK\[\]", HALF, cut)
    with opened(server) as source:
        assert kinds(source) == [Fetched, Fetched, Fetched]
    assert server.connections == 2


def test_a_connection_that_breaks_twice_is_said_and_nothing_stays_in_the_spool(server: ScriptedImap) -> None:
    whole = b"* 2 FETCH (UID 2 BODY[] {200000}\r\n" + b"y" * 200_000 + b")\r\n"
    server.instead(r"UID FETCH .*BODY\.PEEK\[\]", whole, HALF, cut)
    server.instead(r"UID FETCH .*BODY\.PEEK\[\]", whole, HALF, cut)
    spool = FileSpool()
    with opened(server, spool=spool) as source:
        refs = [each.ref for each in listed(source)]
        with pytest.raises(SourceUnavailable, match="broke twice"):
            list(source.fetch(refs))
        assert len(spool.kept) == 2
        assert all(content.closed for content in spool.kept)
        assert kinds(source) == [Fetched, Fetched, Fetched], "the session makes a new connection"


def test_what_is_not_taken_out_of_a_fetch_does_not_stay_in_the_spool(server: ScriptedImap) -> None:
    server.mails = {number: mail(number, 100_000) for number in (1, 2, 3)}
    spool = FileSpool()
    with opened(server, spool=spool) as source:
        answers = source.fetch([each.ref for each in listed(source)])
        first = next(answers)
        answers.close()  # type: ignore[attr-defined]
        assert isinstance(first, Fetched)
        assert sorted(content.closed for content in spool.kept) == [False, True, True]


def test_a_full_spool_passes_through_and_the_session_goes_on(server: ScriptedImap) -> None:
    server.mails[2] = mail(2, 300_000)
    with opened(server, spool=FileSpool(room=200_000)) as source:
        refs = [each.ref for each in listed(source)]
        with pytest.raises(SpoolFull):
            list(source.fetch(refs))
        assert [type(each) for each in source.fetch([refs[0]])] == [Fetched]


def test_a_server_that_drips_is_not_waited_for_without_end(server: ScriptedImap) -> None:
    server.instead(r"UID FETCH .*BODY\.PEEK\[\]", b"* 1 FETCH (UID 1 BODY[] {90000}\r\n", drip(b"x" * 90, every=0.2))
    server.instead(r"UID FETCH .*BODY\.PEEK\[\]", drip(b"* 1 FETCH " + b"x" * 90, every=0.2))
    with opened(server, command_seconds=1) as source:
        refs = [each.ref for each in listed(source)]
        start = time.monotonic()
        with pytest.raises(SourceUnavailable):
            list(source.fetch(refs))
        assert 2 <= time.monotonic() - start < 5


def test_a_server_that_falls_silent_is_given_up_though_the_command_might_take_long(server: ScriptedImap) -> None:
    server.instead("EXAMINE", lambda _: time.sleep(1.5))
    with opened(server, stall_seconds=1, command_seconds=60) as source:
        start = time.monotonic()
        with pytest.raises(SourceUnavailable):
            listed(source)
        assert time.monotonic() - start < 2.5


def test_a_large_mail_may_take_longer_than_a_command(server: ScriptedImap) -> None:
    piece = b"x" * 30_000

    def slowly(talk: object) -> None:
        for _ in range(8):
            time.sleep(0.2)
            talk.send(piece)  # type: ignore[attr-defined]

    server.instead(r"UID FETCH .*BODY\.PEEK\[\]", b"* 1 FETCH (UID 1 BODY[] {240000}\r\n", slowly, b")\r\n", OK)
    with opened(server, command_seconds=1) as source:
        ref = listed(source)[0].ref
        (answer,) = source.fetch([ref])
    assert isinstance(answer, Fetched)
    assert answer.content.size == 240_000


def test_unasked_answers_are_not_taken_for_those_that_were_asked_for(server: ScriptedImap) -> None:
    noise = b"* 2 FETCH (FLAGS (\\Seen))\r\n* 9 EXISTS\r\n* 9 FETCH (UID 99 BODY[] {3}\r\nxxx)\r\n"
    server.instead(r"UID FETCH 1:3 .*BODY\.PEEK\[\]", noise, behave)
    with opened(server) as source:
        answers = list(source.fetch([each.ref for each in listed(source)]))
    assert [each.ref.uid for each in answers] == ["1", "2", "3"]


def test_many_mails_are_asked_for_in_batches_and_runs_as_ranges() -> None:
    mails = {uid: mail(uid) for uid in range(1, 251)}
    with ScriptedImap(mails=mails) as server, opened(server) as source:
        assert kinds(source) == [Fetched] * 250
        asked = [line.split()[2] for line in sent(server, "UID FETCH") if "BODY.PEEK[]" in line]
        assert len(sent(server, "EXAMINE")) == 1, "what is open is not opened again"
    assert asked == ["1:100", "101:200", "201:250"]


@pytest.mark.parametrize("handled", [0, 3, 2000])
def test_a_poll_costs_the_same_however_many_mails_are_handled(handled: int) -> None:
    with ScriptedImap(mails={uid: mail(uid) for uid in range(1, handled + 1)}) as server, opened(server) as source:
        cursor, more = None, True
        while more:
            page = source.list_since(INBOX, cursor, limit=500)
            cursor, more = page.cursor, page.more
        server.lines.clear()
        assert source.list_since(INBOX, cursor, limit=500) == Page(envelopes=(), cursor=cursor or Cursor(""))
        polled = server.lines[:]
    # The search finds the last mail in any case; where there is none it is not made.
    assert polled == ['EXAMINE "INBOX"', *([f"UID SEARCH UID {handled + 1}:*"] if handled else [])]


# ---- settling ----


def test_without_uidplus_nothing_is_even_marked(server: ScriptedImap) -> None:
    server.capabilities = "IMAP4rev1"
    with opened(server) as source:
        for care in (DELETE, Aftercare(Action.MOVE, "Done")):
            for answer in source.settle(known(source), care).values():
                assert isinstance(answer, Trouble)
                assert "UIDPLUS" in answer.message
                assert not answer.transient
    assert not sent(server, "UID STORE", "EXPUNGE", "UID EXPUNGE", "UID COPY", "CREATE")
    assert sorted(server.mails) == [1, 2, 3]


def test_deleting_expunges_exactly_these_in_few_round_trips(server: ScriptedImap) -> None:
    server.flags[3].add("\\Deleted")  # by another client, which may still change its mind
    with opened(server) as source:
        mails = known(source)
        server.lines.clear()
        assert set(source.settle(mails[:2], DELETE).values()) == {Settled()}
        commands = [" ".join(line.split()[:3]) for line in server.lines]
    assert commands == ['SELECT "INBOX"', "UID FETCH 1:2", "UID STORE 1:2", "UID EXPUNGE 1:2", "UID SEARCH UID"]
    assert sorted(server.mails) == [3]


def test_what_is_open_to_be_tidied_is_not_opened_again_to_read_on(server: ScriptedImap) -> None:
    with opened(server) as source:
        mails = known(source)
        for each in mails:
            list(source.fetch([each.ref]))
            source.settle([each], DELETE)
    opening = [line.split()[0] for line in server.lines if line.startswith(("EXAMINE", "SELECT"))]
    assert opening == ["EXAMINE", "SELECT"]
    assert not server.mails


def test_without_move_mails_are_copied_and_then_removed(server: ScriptedImap) -> None:
    server.capabilities = "IMAP4rev1 UIDPLUS"
    with opened(server) as source:
        assert set(source.settle(known(source)[:2], Aftercare(Action.MOVE, "Done")).values()) == {Settled()}
    assert server.moved == {"Done": [mail(1), mail(2)]}
    assert sorted(server.mails) == [3]


def test_a_missing_target_is_made(server: ScriptedImap) -> None:
    server.instead("UID MOVE", b"{tag} NO [TRYCREATE] no such folder\r\n")
    with opened(server) as source:
        assert set(source.settle(known(source), Aftercare(Action.MOVE, "Döne")).values()) == {Settled()}
    assert sent(server, "CREATE") == ['CREATE "D&APY-ne"']
    assert not server.mails


def test_a_target_that_cannot_be_made_is_said_for_each_mail(server: ScriptedImap) -> None:
    server.instead("UID MOVE", b"{tag} NO [TRYCREATE] no such folder\r\n")
    server.instead("CREATE", b"{tag} NO [NOPERM] not you\r\n")
    with opened(server) as source:
        answers = source.settle(known(source), Aftercare(Action.MOVE, "Done"))
    assert {(type(each), getattr(each, "error", "")) for each in answers.values()} == {(Trouble, "NotAllowed")}


def test_what_the_server_only_claims_to_have_deleted_is_trouble(server: ScriptedImap) -> None:
    server.instead("UID EXPUNGE", OK)
    with opened(server) as source:
        answers = source.settle(known(source)[:1], DELETE)
    assert [getattr(each, "error", "") for each in answers.values()] == ["StillThere"]


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("SELECT", b"* 3 EXISTS\r\n* OK [UIDVALIDITY 7] n\r\n{tag} OK [READ-ONLY] look only\r\n"),
        ("UID STORE", b"{tag} NO [NOPERM] not you\r\n"),
        ("UID EXPUNGE", b"{tag} NO [NOPERM] not you\r\n"),
    ],
)
def test_without_the_right_to_it_each_mail_is_trouble(server: ScriptedImap, command: str, answer: bytes) -> None:
    server.instead(command, answer)
    with opened(server) as source:
        answers = source.settle(known(source), DELETE)
    assert [(each.error, each.transient) for each in answers.values() if isinstance(each, Trouble)] == [
        ("NotAllowed", False)
    ] * 3
    assert sorted(server.mails) == [1, 2, 3]


def test_a_mail_of_which_the_server_says_nothing_is_left_alone(server: ScriptedImap) -> None:
    with opened(server) as source:
        mails = known(source)
        server.instead("UID FETCH .*HEADER", OK)
        answers = source.settle(mails, DELETE)
    assert all(isinstance(each, Trouble) and each.transient for each in answers.values())
    assert not sent(server, "UID STORE", "UID EXPUNGE")


def test_the_servers_lasting_id_counts_where_both_have_one(server: ScriptedImap) -> None:
    server.capabilities += " OBJECTID"
    with opened(server) as source:
        mails = known(source)
        assert [each.identity.strong for each in mails] == ["emailid:M1", "emailid:M2", "emailid:M3"]
        other = Known(ref=mails[0].ref, identity=Identity(mails[0].identity.fingerprint, "emailid:M99"))
        without = Known(ref=mails[1].ref, identity=Identity(mails[1].identity.fingerprint))
        answers = source.settle([other, without], DELETE)
    assert isinstance(answers[other.ref], Trouble)
    assert answers[without.ref] == Settled()


def test_moving_to_where_it_lies_does_nothing(server: ScriptedImap) -> None:
    with opened(server) as source:
        assert set(source.settle(known(source), Aftercare(Action.MOVE, "inbox")).values()) == {Settled()}
    assert not sent(server, "UID MOVE", "UID COPY")


def test_a_connection_that_breaks_while_settling_is_said(server: ScriptedImap) -> None:
    server.instead("UID STORE", cut)
    with opened(server) as source:
        with pytest.raises(SourceUnavailable, match="tidying"):
            source.settle(known(source), DELETE)
        assert set(source.settle(known(source), DELETE).values()) == {Settled()}


# ---- leaving ----


def test_leaving_a_dead_session_raises_nothing(server: ScriptedImap) -> None:
    with opened(server) as source:
        server.instead("LOGOUT", cut)
        assert listed(source)
    with opened(server) as source:
        server.instead("EXAMINE", cut)
        with pytest.raises(SourceUnavailable):
            listed(source)


# ---- folders that do not open ----


@pytest.mark.parametrize("code", [b"SERVERBUG", b"UNAVAILABLE", b"INUSE"])
def test_a_folder_that_the_server_does_not_open_is_its_own_trouble(server: ScriptedImap, code: bytes) -> None:
    server.instead("EXAMINE", b"{tag} NO [" + code + b"] it is broken\r\n")
    with opened(server) as source:
        with pytest.raises(FolderRefused, match="does not open 'INBOX'") as caught:
            source.list_since(INBOX, None, limit=10)
        assert caught.value.remedy
        assert len(listed(source)) == 3  # the session goes on
        server.instead("EXAMINE", b"{tag} NO [" + code + b"] it is broken\r\n")
        found = {finding.subject: finding for finding in source.check([INBOX], Aftercare(Action.KEEP))}
    assert found["folder INBOX"].level is Level.FAULT
    assert found["folder INBOX"].remedy


# ---- names of folders ----


def test_a_name_that_nobody_can_read_costs_no_other_folder(server: ScriptedImap) -> None:
    names = b'* LIST () "/" a&b\r\n* LIST () "/" "B\xc3\xbcro"\r\n* LIST nonsense\r\n* LIST () "/" {6}\r\nR&-D"s\r\n'
    server.instead("LIST", names, b'* LIST (\\sent) NIL "say \\"hi\\" \\\\o/"\r\n* LIST () "." 01\r\n', OK)
    with opened(server) as source:
        found = {info.name: info for info in source.folders()}
    assert [name for name, info in found.items() if info.selectable] == ['R&D"s', 'say "hi" \\o/', "01"]
    assert found[FolderRef('say "hi" \\o/')].special_use == {"\\Sent"}
    assert {"a&b", "Büro"} < set(found)


def test_half_a_character_is_no_name_of_a_folder(server: ScriptedImap) -> None:
    with opened(server) as source:
        with pytest.raises(FolderMissing):
            source.list_since(FolderRef("half \ud83d"), None, limit=1)
        assert len(listed(source)) == 3
    assert server.connections == 1


def test_a_name_written_for_another_server_is_told_as_this_one_writes_it(server: ScriptedImap) -> None:
    server.capabilities += " NAMESPACE"
    server.instead("NAMESPACE", b'* NAMESPACE (("INBOX." ".")) NIL NIL\r\n', OK, always=True)
    server.instead('LIST "" "INBOX"', b'* LIST (\\HasChildren) "." INBOX\r\n', OK, always=True)
    server.instead("LIST", OK, always=True)
    server.instead("EXAMINE .*Archive", b"{tag} NO Mailbox does not exist\r\n", always=True)
    server.instead("UID MOVE|CREATE", b"{tag} NO Invalid mailbox name\r\n", always=True)
    care = Aftercare(Action.MOVE, "Archive/2026")
    with opened(server) as source:
        with pytest.raises(FolderMissing) as raised:
            source.list_since(FolderRef("Archive/2026"), None, limit=1)
        assert "INBOX.Archive.2026" in raised.value.remedy
        (finding,) = (each for each in source.check([INBOX], care) if each.subject == "target Archive/2026")
        assert (finding.level, finding.remedy) == (Level.WARNING, "write INBOX.Archive.2026")
        answers = source.settle(known(source), care).values()
        assert {getattr(each, "remedy", "") for each in answers} == {
            "this server writes names otherwise: write INBOX.Archive.2026"
        }
        assert sorted(server.mails) == [1, 2, 3]


# ---- servers that want to be left alone ----


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (b"NO Request is throttled. Suggested Backoff Time: 299974 milliseconds", 299.974),
        (b"BAD Request is throttled. Suggested Backoff Time: 30 seconds", 30.0),
        (b"NO [THROTTLED] Account exceeded command or bandwidth limits.", None),
        (b"NO [OVERQUOTA] Account exceeded command or bandwidth limits.", None),
        (b"NO [LIMIT] no more today", None),
    ],
)
@pytest.mark.parametrize("at", ["LOGIN", "EXAMINE", "UID SEARCH", r"UID FETCH .*BODY\.PEEK\[\]"])
def test_a_server_that_wants_to_be_left_alone_is_asked_nothing_more(
    server: ScriptedImap, at: str, said: bytes, seconds: float | None
) -> None:
    server.instead(at, b"{tag} " + said + b"\r\n", always=True)
    with pytest.raises(SourceUnavailable) as raised, opened(server) as source:
        list(source.fetch([each.ref for each in listed(source)]))
    assert raised.value.retry_after == seconds
    assert raised.value.remedy
    assert server.lines[-1] == "LOGOUT"
    assert len([line for line in server.lines if re.match(at, line)]) == 1, "it was not asked again"


def test_a_server_that_says_so_and_hangs_up_is_given_its_time_too(server: ScriptedImap) -> None:
    server.instead("EXAMINE", b"* BYE Request is throttled. Suggested Backoff Time: 5000 milliseconds\r\n", cut)
    with opened(server) as source, pytest.raises(SourceUnavailable) as raised:
        listed(source)
    assert raised.value.retry_after == 5.0


def test_a_mailbox_that_is_being_moved_about_is_not_a_wrong_password(server: ScriptedImap) -> None:
    server.instead("LOGIN", b"{tag} NO User is authenticated but not connected.\r\n")
    with pytest.raises(SourceUnavailable):
        opened(server)


def test_a_full_mailbox_is_said_of_each_mail_and_tried_again(server: ScriptedImap) -> None:
    server.instead("UID MOVE", b"{tag} NO [OVERQUOTA] Not enough room. Suggested Backoff Time: 7000 milliseconds\r\n")
    with opened(server) as source:
        answers = source.settle(known(source), Aftercare(Action.MOVE, "Done")).values()
    for each in answers:
        assert isinstance(each, Trouble)
        assert (each.transient, each.retry_after, "quota" in each.remedy) == (True, 7.0, True)
    assert sorted(server.mails) == [1, 2, 3]


def test_a_session_that_is_not_let_in_again_knocks_once(server: ScriptedImap) -> None:
    with opened(server) as source:
        server.instead("EXAMINE", cut)
        server.instead("LOGIN", b"{tag} NO [AUTHENTICATIONFAILED] the password was changed\r\n", always=True)
        with pytest.raises(SourceUnavailable):
            listed(source)
        for _ in range(3):
            with pytest.raises(LoginRefused):
                listed(source)
    assert len(sent(server, "LOGIN")) == 2
