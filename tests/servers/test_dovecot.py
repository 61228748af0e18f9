"""The test server is what the other tests take it for."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from imapclient import IMAPClient
from imapclient.exceptions import LoginError

from tests.servers.dovecot import Dovecot, as_served
from tests.servers.process import LOOPBACK

pytestmark = pytest.mark.server

MAIL = b"From: jane@example.com\r\nSubject: hello\r\n\r\nhello\r\n"


@contextmanager
def session(server: Dovecot, user: str, *, password: str | None = None) -> Iterator[IMAPClient]:
    trust = ssl.create_default_context(cafile=str(server.ca))
    with IMAPClient("localhost", port=server.imaps, ssl=True, ssl_context=trust, timeout=10) as client:
        client.login(user, server.password if password is None else password)
        yield client


def fetched(client: IMAPClient) -> list[bytes]:
    client.select_folder("INBOX", readonly=True)
    answers = client.fetch(client.search("ALL"), ["BODY.PEEK[]"])
    return [answer[b"BODY[]"] for _, answer in sorted(answers.items())]


def test_a_delivered_mail_is_fetched_over_tls_byte_for_byte(dovecot: Dovecot, mail_user: str) -> None:
    exact = b"From: j\xc3\xb6rg@example.com\r\nSubject: \xff\xfe\r\n\r\na lone \r, no end of line at the end"
    dovecot.deliver(mail_user, exact)
    with session(dovecot, mail_user) as client:
        assert fetched(client) == [exact]
    assert dovecot.messages(mail_user) == [exact]


@given(
    bodies=st.lists(st.lists(st.sampled_from([b"a", b"\r", b"\n", b"\r\n", b"\0", b"\xe4"])).map(b"".join), max_size=4)
)
def test_what_is_served_is_foreseen_whatever_is_stored(dovecot: Dovecot, bodies: list[bytes]) -> None:
    user = f"law-{datetime.now(UTC).timestamp()}@example.com"
    stored = [MAIL + body for body in bodies]
    for raw in stored:
        dovecot.deliver(user, raw)
    with session(dovecot, user) as client:
        assert fetched(client) == list(map(as_served, stored))


def test_mails_are_numbered_in_the_order_of_their_delivery(dovecot: Dovecot, mail_user: str) -> None:
    mails = [b"Subject: %d\r\n\r\n" % number for number in range(300)]
    for mail in mails:
        dovecot.deliver(mail_user, mail)
    assert dovecot.uids(mail_user) == list(range(1, 301))
    with session(dovecot, mail_user) as client:
        assert fetched(client) == mails


def test_a_mail_has_the_internal_date_that_was_asked_for(dovecot: Dovecot, mail_user: str) -> None:
    received = datetime(2024, 2, 29, 12, 30, tzinfo=UTC)
    dovecot.deliver(mail_user, MAIL, received=received)
    with session(dovecot, mail_user) as client:
        client.normalise_times = False
        client.select_folder("INBOX")
        assert client.fetch([1], ["INTERNALDATE"])[1][b"INTERNALDATE"] == received


@pytest.mark.parametrize("folder", ["Rechnungen", "Überweisung", "Archiv.2024.Müll & mehr"])
def test_mail_can_be_delivered_into_a_folder_of_any_name(dovecot: Dovecot, mail_user: str, folder: str) -> None:
    dovecot.deliver(mail_user, MAIL, folder)
    dovecot.deliver(mail_user, MAIL, folder)
    with session(dovecot, mail_user) as client:
        assert client.select_folder(folder)[b"EXISTS"] == 2


def test_a_client_in_the_folder_sees_a_new_mail_at_once(dovecot: Dovecot, mail_user: str) -> None:
    with session(dovecot, mail_user) as client:
        client.select_folder("INBOX")
        client.idle()
        dovecot.deliver(mail_user, MAIL)
        seen = client.idle_check(timeout=10)
        client.idle_done()
    assert (1, b"EXISTS") in seen


def test_renumbering_changes_the_uidvalidity(dovecot: Dovecot, mail_user: str) -> None:
    dovecot.deliver(mail_user, MAIL)
    dovecot.set_uidvalidity(mail_user, "INBOX", 4242)
    with session(dovecot, mail_user) as client:
        assert client.select_folder("INBOX")[b"UIDVALIDITY"] == 4242


def test_a_kicked_client_is_cut_off(dovecot: Dovecot, mail_user: str) -> None:
    dovecot.kick(mail_user)  # nobody there yet: fine
    with session(dovecot, mail_user) as client:
        dovecot.kick(mail_user)
        with pytest.raises((IMAPClient.AbortError, OSError)):
            client.noop()


def test_a_wrong_password_is_refused_and_costs_the_next_login_no_time(dovecot: Dovecot, mail_user: str) -> None:
    for _ in range(2):
        with pytest.raises(LoginError), session(dovecot, mail_user, password="wrong"):
            pass
    began = datetime.now(UTC)
    with session(dovecot, mail_user) as client:
        client.noop()
    assert (datetime.now(UTC) - began).total_seconds() < 2


def test_a_server_can_have_its_own_users_capabilities_and_no_tls() -> None:
    with (
        Dovecot(users={"jane": "a word"}, imap_capability="IMAP4rev1", separator="/", tls=False) as server,
        IMAPClient(LOOPBACK, port=server.imap, ssl=False, timeout=10) as client,
    ):
        assert b"STARTTLS" not in client.capabilities()
        with pytest.raises(LoginError):
            client.login("jane", "secret")
        client.login("jane", "a word")
        assert client.capabilities() == (b"IMAP4REV1",)
        server.deliver("jane", MAIL, "Archiv/2024")
        assert client.select_folder("Archiv/2024")[b"EXISTS"] == 1
        root, process = server.root, server.process
        assert root.exists()
    assert not root.exists()
    assert process.exit_code == 0
