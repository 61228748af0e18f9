"""Which folders are watched: names, globs and special uses, and what they never take."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maildaemon_core.folders import choose_folders, is_pattern, named_folders, needs_listing
from maildaemon_core.message import FolderRef
from maildaemon_core.options import MailboxOptions, Move
from maildaemon_core.ports import FolderInfo


def info(name: str, use: str = "", *, selectable: bool = True) -> FolderInfo:
    return FolderInfo(name=FolderRef(name), special_use=frozenset({use} if use else ()), selectable=selectable)


SERVER = [
    info("INBOX"),
    info("Invoices"),
    info("Invoices/2026"),
    info("[Gmail]", selectable=False),
    info("[Gmail]/Sent Mail", "\\Sent"),
    info("[Gmail]/All Mail", "\\All"),
    info("Papierkorb", "\\Trash"),
    info("Spam", "\\junk"),
    info("Entwürfe", "\\Drafts"),
    info("Archiv", "\\Archive"),
]


def chosen(*folders: str, exclude: tuple[str, ...] = (), **options: Any) -> tuple[str, ...]:
    return choose_folders(MailboxOptions(folders=folders, exclude_folders=exclude, **options), SERVER).folders


def test_without_folders_it_is_the_inbox() -> None:
    assert named_folders(MailboxOptions()).folders == ("INBOX",)
    assert not needs_listing(MailboxOptions())


def test_the_inbox_has_its_name_in_any_case_and_nothing_is_watched_twice() -> None:
    options = MailboxOptions(folders=("inbox", "INBOX", "Invoices", "Invoices"))
    assert named_folders(options).folders == ("INBOX", "Invoices")
    assert chosen("inbox", "*").count("INBOX") == 1


def test_a_glob_takes_what_matches_but_trash_junk_drafts_and_all() -> None:
    assert chosen("*") == ("INBOX", "Invoices", "Invoices/2026", "[Gmail]/Sent Mail", "Archiv")
    assert chosen("Invoices*") == ("Invoices", "Invoices/2026")


def test_named_or_by_its_use_even_those_are_taken() -> None:
    assert chosen("Papierkorb", "*")[0] == "Papierkorb"
    assert chosen("\\Trash") == ("Papierkorb",)
    assert chosen("\\JUNK") == ("Spam",)


def test_a_name_with_brackets_means_that_folder() -> None:
    assert chosen("[Gmail]/Sent Mail") == ("[Gmail]/Sent Mail",)
    assert chosen("[Gmail]/All Mail") == ("[Gmail]/All Mail",)
    assert chosen("*", exclude=("[Gmail]/Sent Mail",)) == ("INBOX", "Invoices", "Invoices/2026", "Archiv")


def test_what_nothing_answers_to_is_told() -> None:
    options = MailboxOptions(folders=("Projects/*", "\\Flagged", "INBOX"))
    assert choose_folders(options, SERVER).missing == ("Projects/*", "\\Flagged")
    assert choose_folders(options, SERVER).folders == ("INBOX",)


def test_a_folder_that_only_holds_others_is_never_chosen_by_a_glob() -> None:
    assert "[Gmail]" not in chosen("*")


def test_excluded_are_names_globs_and_special_uses() -> None:
    assert chosen("*", exclude=("Invoices/*", "\\sent", "inbox")) == ("Invoices", "Archiv")
    assert needs_listing(MailboxOptions(folders=("INBOX", "Sent"), exclude_folders=("\\Sent",)))
    assert named_folders(MailboxOptions(folders=("inbox", "Sent"), exclude_folders=("Inbox",))).folders == ("Sent",)


@pytest.mark.parametrize("pattern", ["*", "A*", "\\Archive"])
@pytest.mark.parametrize("option", ["after_store", "on_no_match"])
def test_the_target_of_a_move_is_not_watched_or_moved_mail_would_come_back(pattern: str, option: str) -> None:
    moving: dict[str, Any] = {option: Move(move="Archiv")}
    options = MailboxOptions(folders=(pattern,), **moving)
    choice = choose_folders(options, SERVER)
    assert "Archiv" not in choice.folders
    assert not choice.missing  # it is there


def test_the_inbox_as_a_target_is_the_inbox_in_any_case() -> None:
    assert "INBOX" not in chosen("*", on_no_match=Move(move="inbox"))


@pytest.mark.parametrize(
    ("text", "pattern"), [("INBOX", False), ("a/b", False), ("a*", True), ("?", True), ("[ab]", True), ("\\Sent", True)]
)
def test_what_needs_a_look_at_the_server(text: str, pattern: bool) -> None:
    assert is_pattern(text) is pattern


names = st.sampled_from(["INBOX", "inbox", "A", "a", "A/b", "[A]", "*", "A*", "[A]*", "\\Sent", "\\Trash"])


@given(st.lists(names, max_size=4), st.lists(names, max_size=2), st.lists(names, max_size=5, unique=True))
def test_each_folder_is_chosen_once_and_never_an_excluded_one(
    folders: list[str], exclude: list[str], existing: list[str]
) -> None:
    options = MailboxOptions(folders=tuple(folders), exclude_folders=tuple(exclude))
    found = choose_folders(options, [info(name) for name in existing if not name.startswith("\\")]).folders
    assert len(set(found)) == len(found)
    assert not set(found) & set(exclude)
    assert "inbox" not in found or "inbox" in existing
