"""How a mail is first remembered: found, or refused already by its headers or its size."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from maildaemon_core.admission import admitted, is_older
from maildaemon_core.options import Action, Aftercare, MailboxOptions, Move
from maildaemon_core.plan import key_of
from maildaemon_core.progress import Stage
from tests.core.entries import BOX, NOW, THEN, envelope

OPEN = MailboxOptions()
STRICT = MailboxOptions(
    allowed_email_extensions=("firm.example",),
    max_message_bytes=1000,
    on_no_match=Move(move="Unwanted"),
    delete_mails_on_server=True,
)


def test_a_wanted_mail_is_found_with_all_that_its_envelope_tells() -> None:
    mail = envelope(strong="S", size=7)
    entry = admitted(mail, BOX, STRICT, NOW)
    assert (entry.stage, entry.due_at, entry.id) == (Stage.FOUND, NOW, None)
    assert (entry.ref, entry.identity, entry.key) == (mail.ref, mail.identity, key_of(BOX, mail.ref))
    assert (entry.received, entry.first_seen, entry.size) == (THEN, NOW, 7)
    assert (entry.sender, entry.subject) == ("jane@firm.example", "invoice")
    assert entry.message_id == "<invoice@firm.example>"


def test_a_refused_sender_is_skipped_and_due_only_to_be_moved_never_deleted() -> None:
    mail = envelope(sender="x@evil-firm.example")
    moved = admitted(mail, BOX, STRICT, NOW)
    assert (moved.stage, moved.due_at, moved.care) == (Stage.SKIPPED, NOW, Aftercare(Action.MOVE, "Unwanted"))
    kept = admitted(mail, BOX, MailboxOptions(allowed_email_extensions=("firm.example",)), NOW)
    assert (kept.stage, kept.due_at) == (Stage.SKIPPED, None)
    assert "evil-firm.example" in kept.reason


def test_too_large_a_mail_is_given_up_and_says_what_to_do() -> None:
    entry = admitted(envelope(size=1001), BOX, STRICT, NOW)
    assert (entry.stage, entry.due_at) == (Stage.GIVEN_UP, None)
    assert entry.trouble is not None
    assert entry.trouble.error == "MessageTooLarge"
    assert admitted(envelope(size=1000), BOX, STRICT, NOW).stage is Stage.FOUND
    assert admitted(envelope(size=None), BOX, STRICT, NOW).stage is Stage.FOUND


def test_who_is_refused_is_not_called_too_large() -> None:
    assert admitted(envelope(size=5000, sender="x@other.example"), BOX, STRICT, NOW).stage is Stage.SKIPPED


@given(st.integers(-3, 3))
def test_older_is_what_was_received_before_since(minutes: int) -> None:
    mail = envelope(received=THEN + timedelta(minutes=minutes))
    assert is_older(mail, MailboxOptions(since=THEN)) == (minutes < 0)
    assert not is_older(mail, OPEN)
