"""The source ``imap`` against servers that say what is not so, or leave out what is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from maildaemon_adapters.imap.stand_ins import stand_in
from maildaemon_core.errors import Trouble
from maildaemon_core.headers import read_headers
from maildaemon_core.message import Identity
from maildaemon_core.options import Action, Aftercare
from maildaemon_core.ports import Fetched, Known, Unfetched, Vanished
from tests.contracts.spools import FileSpool
from tests.contracts.test_imap_scripted import DELETE, INBOX, known, listed, mail, opened, sent
from tests.servers.scripted import behave
from tests.servers.scripted_imap import OK, Conversation, ScriptedImap

COURIER = (
    b"From: System Administrator <root@localhost>\r\nSubject: message unavailable\r\n\r\n"
    b"This message is no longer available on the server.\r\n"
)
EXCHANGE = (
    b'MIME-Version: 1.0\r\nContent-Type: text/plain; charset="us-ascii"\r\n'
    b"From: Microsoft Exchange Server 2010\r\nTo: Jane <jane@example.com>\r\n"
    b"Subject: Retrieval using the IMAP4 protocol failed for the following\r\n message: 20004\r\n\r\n"
    b"The server couldn't retrieve the following message:\r\n"
)


@pytest.fixture
def server() -> Iterator[ScriptedImap]:
    with ScriptedImap(mails={number: mail(number) for number in (1, 2, 3)}) as scripted:
        yield scripted


def bodies(server: ScriptedImap, spool: FileSpool | None = None) -> dict[str, bytes | str]:
    """What fetching everything comes to: the bytes, or in words."""
    with opened(server, spool=spool) as source:
        found: dict[str, bytes | str] = {}
        for each in source.fetch([each.ref for each in listed(source)]):
            match each:
                case Fetched():
                    found[each.ref.uid] = b"".join(each.content.chunks())
                case Vanished():
                    found[each.ref.uid] = "vanished"
                case Unfetched():
                    found[each.ref.uid] = each.trouble.message
        return found


def fetch_answer(number: int, uid: int, raw: bytes) -> bytes:
    return b"* %d FETCH (UID %d BODY[] {%d}\r\n" % (number, uid, len(raw)) + raw + b")\r\n"


@pytest.mark.parametrize("size", [b"0", b"1", b"4000000000", b"99999999999999999999", b"-7", b"NIL"])
def test_a_wrong_size_changes_nothing_of_the_mail(server: ScriptedImap, size: bytes) -> None:
    head = b"Subject: %d\r\n\r\n"
    server.instead(
        "UID FETCH .*RFC822.SIZE",
        *(
            b"* %d FETCH (UID %d RFC822.SIZE " % (uid, uid)
            + size
            + b' INTERNALDATE "01-Jan-2026 12:00:00 +0200" BODY[HEADER.FIELDS (SUBJECT)] {14}\r\n'
            + head % uid
            + b")\r\n"
            for uid in (1, 2, 3)
        ),
        OK,
        always=True,
    )
    with opened(server) as source:
        envelopes = listed(source)
        assert all(each.size is None or each.size >= 0 for each in envelopes)
        assert [each.headers.subject for each in envelopes] == ["1", "2", "3"]
    assert bodies(server) == {str(number): mail(number) for number in (1, 2, 3)}


def test_answers_in_another_order_belong_to_the_mails_that_they_name(server: ScriptedImap) -> None:
    answers = [fetch_answer(number, number, mail(number)) for number in (3, 1, 2)]
    server.instead(r"UID FETCH .*BODY\.PEEK\[\]", *answers, OK)
    assert bodies(server) == {str(number): mail(number) for number in (1, 2, 3)}


def test_an_answer_without_its_uid_is_not_taken_for_the_mail_of_that_number(server: ScriptedImap) -> None:
    """Exchange has left the UID out; the number of a mail in its folder is another thing."""
    server.mails = {2: mail(2), 3: mail(3)}
    without = b"* 2 FETCH (BODY[] {%d}\r\n" % len(mail(3)) + mail(3) + b")\r\n* 1 FETCH (FLAGS (\\Seen))\r\n"
    server.instead(r"UID FETCH 2:3 .*BODY\.PEEK\[\]", without, OK)
    assert bodies(server) == {"2": mail(2), "3": mail(3)}
    server.instead(r"UID FETCH .*BODY\.PEEK\[\]", without, OK, always=True)
    assert {uid: "gives nothing" in str(got) for uid, got in bodies(server).items()} == {"2": True, "3": True}


def test_an_expunge_between_two_answers_mixes_up_nothing(server: ScriptedImap) -> None:
    noise = b"* 2 EXPUNGE\r\n* 2 FETCH (FLAGS (\\Seen))\r\n* 2 EXISTS\r\n"
    answers = (fetch_answer(1, 1, mail(1)), fetch_answer(2, 2, mail(2)), noise, fetch_answer(2, 3, mail(3)))
    server.instead(r"UID FETCH .*BODY\.PEEK\[\]", *answers, OK)
    assert bodies(server) == {str(number): mail(number) for number in (1, 2, 3)}


def test_nothing_said_later_takes_a_body_away(server: ScriptedImap) -> None:
    answers = (fetch_answer(1, 1, mail(1)), b"* 1 FETCH (UID 1 BODY[] NIL FLAGS ())\r\n", fetch_answer(2, 2, mail(2)))
    server.instead(r"UID FETCH 1:3 .*BODY\.PEEK\[\]", *answers, OK)
    assert bodies(server) == {str(number): mail(number) for number in (1, 2, 3)}


def test_a_body_twice_leaves_nothing_in_the_spool(server: ScriptedImap) -> None:
    server.mails = {1: mail(1, 100_000)}
    twice = fetch_answer(1, 1, mail(1, 100_000)) * 2
    server.instead(r"UID FETCH .*BODY\.PEEK\[\]", twice, OK)
    spool = FileSpool()
    assert bodies(server, spool) == {"1": mail(1, 100_000)}
    assert [content.closed for content in spool.kept].count(False) == 1


# ---- mails that are made up ----


@pytest.mark.parametrize("ends", [b"\r\n", b"\n"])
def test_a_notice_for_a_mail_that_has_gone_is_not_the_mail(server: ScriptedImap, ends: bytes) -> None:
    """Courier answers so for what another session has removed."""

    def gone(talk: Conversation) -> None:
        del server.mails[2]
        behave(talk)

    server.instead(r"UID FETCH .*BODY\.PEEK\[\]", fetch_answer(2, 2, COURIER.replace(b"\r\n", ends)), gone)
    assert bodies(server) == {"1": mail(1), "2": "vanished", "3": mail(3)}


def test_such_a_notice_for_a_mail_that_is_there_is_a_failure_of_its_own(server: ScriptedImap) -> None:
    server.mails[2] = COURIER
    spool = FileSpool()
    found = bodies(server, spool)
    assert "no longer available" in str(found.pop("2"))
    assert found == {"1": mail(1), "3": mail(3)}


def test_what_exchange_cannot_write_as_a_mail_is_a_failure_in_clear_words(server: ScriptedImap) -> None:
    server.mails[2] = EXCHANGE
    found = bodies(server)
    assert "Exchange" in str(found.pop("2"))
    assert found == {"1": mail(1), "3": mail(3)}


@pytest.mark.parametrize("made_up", [COURIER, EXCHANGE], ids=["Courier", "Exchange"])
@pytest.mark.parametrize("care", [DELETE, Aftercare(Action.SEEN), Aftercare(Action.MOVE, "Done")])
def test_a_made_up_mail_is_never_tidied(server: ScriptedImap, made_up: bytes, care: Aftercare) -> None:
    server.mails[2] = made_up
    with opened(server) as source:
        mails = known(source)
        assert mails[1].identity == Identity(read_headers(made_up.partition(b"\r\n\r\n")[0]).fingerprint)
        answers = source.settle([mails[1]], care)
    (answer,) = answers.values()
    assert isinstance(answer, Trouble)
    assert answer.remedy
    assert server.mails[2] == made_up
    assert not sent(server, "UID STORE", "UID MOVE", "UID COPY", "UID EXPUNGE")


@pytest.mark.parametrize(
    "header",
    [
        "From: jane@example.com\r\nSubject: message unavailable\r\n",
        "From: System Administrator <root@localhost>\r\nSubject: Re: message unavailable\r\n",
        "Message-ID: <1@x>\r\nFrom: System Administrator <root@localhost>\r\nSubject: message unavailable\r\n",
        "From: jane@example.com\r\nSubject: Retrieval using the IMAP4 protocol failed for the following message: 3\r\n",
        "Date: x\r\nFrom: System Administrator <root@localhost>\r\nSubject: message unavailable\r\n",
        "From: Microsoft Exchange Server\r\nSubject: You are over quota\r\n",
    ],
)
def test_a_mail_that_tells_of_such_a_notice_is_a_mail(header: str) -> None:
    assert stand_in(read_headers(header.encode() + b"\r\n")) is None


def test_nothing_is_settled_of_a_mail_whose_headers_the_server_gives_without_a_uid(server: ScriptedImap) -> None:
    with opened(server) as source:
        mails = known(source)
        head = mail(1).partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        answer = b"* 1 FETCH (FLAGS () BODY[HEADER.FIELDS (SUBJECT)] {%d}\r\n" % len(head) + head + b")\r\n"
        server.instead("UID FETCH .*HEADER", answer, OK)
        answers = source.settle([Known(ref=mails[0].ref, identity=mails[0].identity)], DELETE)
    assert all(isinstance(each, Trouble) for each in answers.values())
    assert sorted(server.mails) == [1, 2, 3]
    assert mails[0].ref.folder == INBOX
