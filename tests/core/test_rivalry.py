"""One account watched twice: which folders two mailboxes have in common, and when one takes mail from the other."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maildaemon_core.folders import choose_folders
from maildaemon_core.message import FolderRef
from maildaemon_core.options import MailboxOptions, Move
from maildaemon_core.ports import FolderInfo
from maildaemon_core.rivalry import overlap, rivalry, same_account, succeeds
from maildaemon_core.soundness import account_key

JANE = MailboxOptions(mailbox="jane@firm.example", host="mail.firm.example")


def watching(*folders: str, without: tuple[str, ...] = (), **others: Any) -> MailboxOptions:
    return attrs.evolve(JANE, folders=folders, exclude_folders=without, **others)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (watching(), watching("inbox")),
        (watching("A", "Bills"), watching("B", "bills")),
        (watching("Bills*"), watching("Bills/2026")),
        (watching("bills*"), watching("Bills")),
        (watching("*"), watching()),
        (watching("*"), watching("B*")),
        (watching("Bills/*"), watching("Bills/2026*")),
        (watching("*"), watching("\\Sent")),
        (watching("Sent"), watching("\\Sent")),
        (watching("\\Sent"), watching("\\SENT")),
        (watching("\\All"), watching("\\Archive")),
        (watching(), watching("\\All")),
        (watching("[Gmail]/Trash"), watching("\\Trash")),
        (watching("[Gmail]/Trash"), watching("[Gmail]/*")),
        (watching("*", without=("\\Sent",)), watching("Sent")),
        (watching("*", without=("Bills/2025*",)), watching("Bills/*")),
        (watching("*", without=("B?lls*",)), watching("Bills*")),
        (watching("Done", after_store=Move(move="Done2")), watching("Done")),
        (watching("A*", "Done", after_store=Move(move="Done")), watching("Done")),
    ],
)
def test_two_mailboxes_may_watch_the_same_folder(one: MailboxOptions, other: MailboxOptions) -> None:
    assert overlap(one, other)
    assert overlap(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (watching(), watching("Bills")),
        (watching("Bills"), watching("Bills/2026")),
        (watching("Bills*"), watching("Invoices")),
        (watching("Bills*"), watching("Invoices*")),
        (watching(), watching("\\Sent")),
        (watching("\\Sent"), watching("\\Trash")),
        (watching("*"), watching("\\Trash")),
        (watching("*", without=("Bills",)), watching("Bills")),
        (watching("*", without=("inbox",)), watching()),
        (watching("*", without=("Bills*",)), watching("Bills/2026", "Bills/a*")),
        (watching("*", without=("B?lls*",)), watching("B?lls*")),
        (watching("*", without=("\\sent",)), watching("\\Sent")),
        (watching("Bills", without=("B*",)), watching("Bills")),
        (watching("*", after_store=Move(move="Done")), watching("Done")),
        (watching("*", on_no_match=Move(move="inbox")), watching("INBOX")),
    ],
)
def test_two_mailboxes_have_no_folder_in_common(one: MailboxOptions, other: MailboxOptions) -> None:
    assert not overlap(one, other)
    assert not overlap(other, one)


_USES = ["", "\\Sent", "\\Trash", "\\Junk", "\\All", "\\Archive"]
_NAMES = ["A", "a", "A/b", "[A]", "[A]/c", "B", "Sent", "b"]
_TEXTS = st.sampled_from([*_NAMES, "INBOX", "inbox", "*", "?", "A*", "a*", "[A]*", "[!A]", "B*", *_USES[1:], "\\sent"])
_MOVES = st.none() | st.sampled_from(["A", "Sent", "Inbox", "Z"]).map(lambda name: Move(move=name))


@st.composite
def watchers(draw: st.DrawFn) -> MailboxOptions:
    folders, without = draw(st.lists(_TEXTS, max_size=3)), draw(st.lists(_TEXTS, max_size=2))
    return watching(*folders, without=tuple(without), after_store=draw(_MOVES), on_no_match=draw(_MOVES) or "keep")


@given(watchers(), watchers(), st.dictionaries(st.sampled_from(_NAMES), st.sampled_from(_USES)))
def test_what_two_mailboxes_choose_alike_on_any_server_was_foreseen(
    one: MailboxOptions, other: MailboxOptions, server: dict[str, str]
) -> None:
    infos = [FolderInfo(name=FolderRef("INBOX"))]
    infos += [
        FolderInfo(name=FolderRef(name), special_use=frozenset({use} if use else ())) for name, use in server.items()
    ]
    shared = {*choose_folders(one, infos).folders} & {*choose_folders(other, infos).folders}
    assert not shared or overlap(one, other)
    assert overlap(one, other) == overlap(other, one)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "harmless"),
        ({"after_store": "seen"}, "harmless"),
        ({"delete_mails_on_server": True}, "harmful"),
        ({"after_store": Move(move="Done")}, "harmful"),
        ({"on_no_match": Move(move="Done")}, "harmful"),
        ({"active": False, "delete_mails_on_server": True}, None),
        ({"folders": ("Bills",), "delete_mails_on_server": True}, None),
        ({"mailbox": "joe@firm.example", "delete_mails_on_server": True}, None),
    ],
)
def test_two_of_one_account_rival_if_either_takes_mail_away(changes: dict[str, Any], expected: str | None) -> None:
    other = attrs.evolve(JANE, **changes)
    assert rivalry(JANE, other) == rivalry(other, JANE) == expected


def test_options_that_name_no_account_are_nobodys_rival() -> None:
    nothing = MailboxOptions(delete_mails_on_server=True)
    assert not same_account(nothing, nothing)
    assert rivalry(nothing, nothing) is None
    assert not succeeds(MailboxOptions(host="mail.firm.example"), MailboxOptions(host="mail.firm.example"))


def test_a_mailbox_succeeds_one_of_the_same_account_and_folders_active_or_not() -> None:
    former = attrs.evolve(JANE, active=False, password=None, name="old")
    assert succeeds(JANE, former)
    assert succeeds(attrs.evolve(JANE, folders=("INBOX", "Bills")), former)
    assert not succeeds(attrs.evolve(JANE, folders=("Bills",)), former)
    assert not succeeds(attrs.evolve(JANE, host="other.example"), former)
    assert succeeds(MailboxOptions(type="maildir", path="/mail"), MailboxOptions(type="maildir", path="/mail"))


@pytest.mark.parametrize("kind", ["exchange", "graph"])
def test_one_login_that_opens_many_mailboxes_is_many_accounts(kind: str) -> None:
    info, sales = (MailboxOptions(type=kind, username="svc", mailbox=f"{name}@firm.example") for name in ("i", "s"))
    assert account_key(info) != account_key(sales)
    assert account_key(info) == account_key(attrs.evolve(info, username="other"))
    imap = (attrs.evolve(each, type="imap") for each in (info, sales))
    assert len(set(map(account_key, imap))) == 1
