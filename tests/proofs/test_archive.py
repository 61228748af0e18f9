"""A mailbox on a real server becomes files: byte for byte, once, in little memory; only then is the server tidied."""

from __future__ import annotations

import imaplib
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from maildaemon_core.progress import Outcome, Role
from tests.proofs.box import COMMAND_LINE, Box
from tests.proofs.runner import STORE
from tests.proofs.samples import Size, samples
from tests.proofs.watchers import Watcher
from tests.servers.dovecot import Dovecot
from tests.servers.proxy import ChaosProxy, Fault

pytestmark = [pytest.mark.server, pytest.mark.heavy, pytest.mark.timeout(3600)]

MEMORY = 150 << 20
"""Bytes that a run may need beyond what it needs to be loaded, whatever the size of the mails."""


@contextmanager
def another_client(box: Box) -> Iterator[imaplib.IMAP4_SSL]:
    """A session that has nothing in common with the code under test."""
    trust = ssl.create_default_context(cafile=str(box.server.ca))
    client = imaplib.IMAP4_SSL("localhost", box.server.imaps, ssl_context=trust)
    try:
        client.login(box.user, box.server.password)
        client.select("INBOX")
        yield client
    finally:
        client.logout()


def served(client: imaplib.IMAP4_SSL, uid: str) -> bytes:
    _, data = client.uid("FETCH", uid, "(BODY.PEEK[])")
    assert isinstance(data[0], tuple)
    return bytes(data[0][1])


def test_every_mail_is_stored_byte_for_byte_and_a_second_run_stores_nothing(
    dovecot: Dovecot, mail_user: str, tmp_path: Path, size: Size, seed: int
) -> None:
    box = Box(dovecot, mail_user, tmp_path, delete=False)
    box.deliver(samples(size, seed))
    with Watcher(box) as watcher:
        first = box.run()
        assert first.exit_code == 0, first
        assert watcher.seen() == box.expected
        assert not watcher.faults
    seen = {"seen": size.mails + 1, "stored": box.wanted, "skipped": box.refused, "failed": 0, "pending": 0}
    assert first.answer["counts"] == seen
    print(
        f"{size.mails + 1} mails in {first.answer['seconds']:.1f} s, {first.answer['memory'] / 2**20:.0f} MiB of memory"
    )
    assert first.answer["memory"] < MEMORY

    stored = box.entries(Outcome.STORED)
    assert len(stored) == box.wanted
    with another_client(box) as client:
        for entry in stored:
            (mail,) = (artifact for artifact in entry.artifacts if artifact.role is Role.MAIL)
            assert (box.target / mail.path).read_bytes() == served(client, entry.ref.uid)
    recorded = [(artifact.size, artifact.sha256) for entry in stored for artifact in entry.artifacts]
    assert box.stored() == Counter(recorded) == box.expected
    assert max(Counter(recorded).values()) > 2, "some attachments are the same, and each has a file of its own"

    before = {path: path.stat() for path in box.visible()}
    second = box.run()
    assert second.exit_code == 0, second
    assert second.answer["counts"]["seen"] == 0
    assert {path: path.stat() for path in box.visible()} == before
    assert len(box.left_on_server()) == size.mails + 1
    assert box.staged() == []


def test_the_server_is_empty_of_exactly_what_was_stored_and_the_command_line_says_so(
    dovecot: Dovecot, mail_user: str, tmp_path: Path, size: Size, seed: int
) -> None:
    box = Box(dovecot, mail_user, tmp_path, delete=True)
    box.deliver(samples(size, seed))
    done = box.run(command=COMMAND_LINE)
    assert done.exit_code == 0, done
    assert box.left_on_server() == [()] * box.refused
    assert box.stored() == box.expected
    assert len(box.entries(Outcome.SKIPPED)) == box.refused


def test_mails_that_another_client_removes_meanwhile_are_no_failure(
    dovecot: Dovecot, mail_user: str, tmp_path: Path, size: Size, seed: int
) -> None:
    everything = list(samples(size, seed))
    large = next(mail for mail in everything if len(mail.raw) > size.large_bytes // 2)
    with ChaosProxy(dovecot.imaps) as slow:
        box = Box(dovecot, mail_user, tmp_path, delete=True, port=slow.port)
        box.deliver([large, *everything[:120]])
        slow.fault = Fault(rate=len(large.raw) / 2)  # two seconds for the first mail alone
        database = tmp_path / STORE
        removed: list[str] = []

        def remove_the_last_ones() -> None:
            deadline = time.monotonic() + 60
            while not (database.exists() and box.entries(Outcome.PENDING)):  # until they have been found
                assert time.monotonic() < deadline
                time.sleep(0.02)
            with another_client(box) as client:
                removed.extend(word.decode() for word in client.uid("SEARCH", "ALL")[1][0].split()[-15:])
                client.uid("STORE", ",".join(removed), "+FLAGS.SILENT", "(\\Deleted)")
                client.expunge()

        remover = threading.Thread(target=remove_the_last_ones)
        remover.start()
        run = box.run()
        remover.join()
    assert run.exit_code == 0, run
    assert len(removed) == 15
    skipped = {entry.ref.uid: entry.reason for entry in box.entries(Outcome.SKIPPED)}
    gone = {uid for uid, reason in skipped.items() if "vanished" in reason}
    refused = skipped.keys() - gone
    assert gone
    assert gone == set(removed) - refused
    assert run.answer["counts"]["failed"] == 0
    assert box.stored() == Counter(file for mail in [large, *everything[: 120 - 15]] for file in mail.files)
