"""What follows from options, and which of them are refused."""

from __future__ import annotations

import copy
import pickle
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, get_args

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maildaemon_core.options import (
    KEEP,
    Action,
    Aftercare,
    DestinationOptions,
    KindFacts,
    MailArchiving,
    MailboxOptions,
    Move,
    Secret,
    kind_of,
    milder,
)
from maildaemon_core.soundness import account_key, problems, warnings
from maildaemon_core.testing.strategies import mailbox_options

SOUND = MailboxOptions(
    mailbox="jane@example.com",
    host="mail.example.com",
    password=Secret("pw"),
    export_attachments=True,
    destinations=(DestinationOptions(url="/srv/mail"),),
)
APP: dict[str, Any] = {"client_id": "c", "tenant_id": "t", "client_secret": Secret("s")}
ANYTHING = KindFacts(needs_host=False, needs_login=False)


def paths(options: MailboxOptions, facts: KindFacts | None = None) -> set[str]:
    found = problems(options, facts)
    assert all(problem.message for problem in found)
    return {problem.path for problem in found}


def but(**changes: Any) -> MailboxOptions:
    return attrs.evolve(SOUND, **changes)


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        (cls, field.name)
        for cls in (MailboxOptions, DestinationOptions)
        for field in attrs.fields(attrs.resolve_types(cls))
        if Secret in get_args(field.type)
    ],
)
def test_a_text_that_is_given_for_a_secret_is_one_and_never_shown(cls: Any, name: str) -> None:
    options = cls(**{name: "hunter2"})
    assert getattr(options, name) == Secret("hunter2")
    assert "hunter2" not in f"{options!r} {options}"
    assert getattr(attrs.evolve(options, **{name: "other"}), name) == Secret("other")
    assert getattr(cls(**{name: None}), name) is None
    with pytest.raises(TypeError, match="not bytes") as caught:
        cls(**{name: b"hunter2"})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "host",
    [
        "imap://mail.example.com",
        "mail.example.com/",
        "mail example.com",
        " mail.example.com",
        "a\\b",
        "//mail",
        "mail.example.com:993",
        "imap://jane:hunter2@mail.example.com:993/",
    ],
)
def test_a_host_is_a_bare_name(host: str) -> None:
    [problem] = problems(but(host=host))
    assert problem.path == "$.host"
    assert "hunter2" not in problem.message
    assert "mail.example.com" in problem.message if "mail.example.com" in host else "bare name" in problem.message


@pytest.mark.parametrize("host", ["mail.example.com", "mail.example.com.", "127.0.0.1", "::1", "[::1]", "büro.example"])
def test_names_and_addresses_are_hosts(host: str) -> None:
    assert not problems(but(host=host))


def test_the_smallest_complete_options_are_sound() -> None:
    assert problems(SOUND) == ()
    assert warnings(SOUND) == ()


def test_an_active_mailbox_without_anything_has_every_gap_named() -> None:
    assert paths(MailboxOptions()) == {"$.host", "$.mailbox", "$.password", "$.destinations", "$.mailArchiving"}


def test_an_inactive_mailbox_may_lack_everything() -> None:
    assert problems(MailboxOptions(active=False)) == ()


@given(mailbox_options(complete=True))
def test_complete_options_are_sound_and_stay_so_when_switched_off(options: MailboxOptions) -> None:
    assert problems(options) == ()
    assert problems(attrs.evolve(options, active=False)) == ()


@given(mailbox_options())
def test_switching_off_only_ever_takes_faults_away(options: MailboxOptions) -> None:
    assert paths(attrs.evolve(options, active=False)) <= paths(attrs.evolve(options, active=True))


@given(mailbox_options())
def test_nothing_is_deleted_unless_something_is_stored_somewhere_first(options: MailboxOptions) -> None:
    bare = attrs.evolve(options, export_attachments=False, mail_archiving=None, delete_mails_on_server=True)
    assert "$.deleteMailsOnServer" in paths(bare)
    assert "$.deleteMailsOnServer" in paths(attrs.evolve(bare, export_attachments=True, destinations=()))


@pytest.mark.parametrize(
    ("missing", "path"),
    [
        ({"host": None}, "$.host"),
        ({"host": ""}, "$.host"),
        ({"mailbox": None}, "$.mailbox"),
        ({"password": None}, "$.password"),
        ({"password": Secret("")}, "$.password"),
        ({"destinations": ()}, "$.destinations"),
        ({"export_attachments": False}, "$.mailArchiving"),
        ({"export_attachments": False, "mail_archiving": MailArchiving()}, "$.mailArchiving"),
        ({"destinations": (DestinationOptions(),)}, "$.destinations[0].url"),
        ({"password": None, "client_id": "c", "tenant_id": "t"}, "$.clientSecret"),
        ({"password": None, "client_secret": Secret("s"), "tenant_id": "t"}, "$.clientId"),
        ({"password": None, "client_secret": Secret("s"), "client_id": "c"}, "$.tenantId"),
    ],
)
def test_each_gap_is_named_while_active_and_allowed_while_not(missing: dict[str, Any], path: str) -> None:
    assert paths(but(**missing)) == {path}
    assert problems(but(**missing, active=False)) == ()


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"delete_mails_on_server": True, "after_store": "seen"}, "$.afterStore"),
        ({"use_ssl": True, "tls": "starttls"}, "$.useSsl"),
        ({"use_ssl": True, "tls": "none"}, "$.useSsl"),
        ({"use_ssl": False, "tls": "implicit"}, "$.useSsl"),
        ({"after_store": Move(move="Done"), "folders": ("In", "Done")}, "$.afterStore.move"),
        ({"after_store": Move(move="inbox")}, "$.afterStore.move"),
        ({"on_no_match": Move(move="INBOX")}, "$.onNoMatch.move"),
        ({"mail_archiving": MailArchiving(destinations=("file", "nas"))}, "$.mailArchiving.destinations[1]"),
        ({"mail_archiving": MailArchiving(active=True, destinations=())}, "$.mailArchiving.destinations"),
        ({"destinations": (DestinationOptions(url="/a"), DestinationOptions(url="/b"))}, "$.destinations[1].name"),
        ({"allowed_email_extensions": (".de", "")}, "$.allowedEmailExtensions[1]"),
        ({"allowed_email_extensions": (".eml",)}, "$.allowedEmailExtensions[0]"),
        ({"allowed_attachments": ("pdf", "a/b/c")}, "$.allowedAttachments[1]"),
        ({"mail_archiving": MailArchiving(path_template="{filename}")}, "$.mailArchiving.pathTemplate"),
        (
            {"destinations": (DestinationOptions(url="/a", path_template="{sender.__class__}"),)},
            "$.destinations[0].pathTemplate",
        ),
        ({**APP, "password": None, "client_certificate": Secret("pem")}, "$.clientCertificate"),
    ],
)
def test_what_contradicts_itself_is_refused_active_or_not(changes: dict[str, Any], path: str) -> None:
    assert paths(but(**changes)) == {path}
    assert paths(but(**changes, active=False)) == {path}


def test_deleting_without_a_place_to_store_is_refused_active_or_not() -> None:
    assert "$.deleteMailsOnServer" in paths(but(delete_mails_on_server=True, destinations=()))
    assert paths(but(delete_mails_on_server=True, destinations=(), active=False)) == {"$.deleteMailsOnServer"}


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"delete_mails_on_server": True}, "$.deleteMailsOnServer"),
        ({"after_store": "seen"}, "$.afterStore"),
        ({"after_store": Move(move="Done")}, "$.afterStore"),
        ({"on_no_match": Move(move="Done")}, "$.onNoMatch"),
    ],
)
def test_what_a_kind_cannot_do_is_refused(changes: dict[str, Any], path: str) -> None:
    assert paths(but(**changes)) == set()
    assert paths(but(**changes), KindFacts(actions=frozenset({Action.KEEP}))) == {path}


def test_a_kind_that_reads_files_needs_a_path_and_neither_host_nor_login() -> None:
    local = but(host=None, mailbox=None, password=None)
    assert paths(local, KindFacts(needs_host=False, needs_login=False, needs_path=True)) == {"$.path"}
    assert (
        paths(attrs.evolve(local, path="/m"), KindFacts(needs_host=False, needs_login=False, needs_path=True)) == set()
    )


def test_an_app_logs_in_with_a_secret_or_a_certificate_instead_of_a_password() -> None:
    assert problems(but(password=None, **APP)) == ()
    assert problems(but(password=None, client_id="c", tenant_id="t", client_certificate=Secret("pem"))) == ()


def test_a_move_target_that_only_a_glob_would_find_is_allowed() -> None:
    assert problems(but(folders=("*",), after_store=Move(move="Done"))) == ()


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"delete_mails_on_server": True}, "$.deleteMailsOnServer"),
        ({"tls": "none", "use_ssl": False}, "$.tls"),
        ({"mail_archiving": MailArchiving(compression="gzip")}, "$.mailArchiving.active"),
        ({"mail_archiving": MailArchiving(active=True, path_template="{subject}")}, "$.mailArchiving.pathTemplate"),
        (
            {"destinations": (DestinationOptions(url="/a", path_template="{filename}"),)},
            "$.destinations[0].pathTemplate",
        ),
        (APP, "$.password"),
        (
            {
                "export_attachments": False,
                "mail_archiving": MailArchiving(active=True, destinations=("file",)),
                "destinations": (DestinationOptions(url="/a"), DestinationOptions(url="/b", name="nas")),
            },
            "$.destinations[1]",
        ),
    ],
)
def test_what_deserves_a_second_look_is_warned_of_and_yet_sound(changes: dict[str, Any], path: str) -> None:
    assert problems(but(**changes)) == ()
    assert {warning.path for warning in warnings(but(**changes))} == {path}


@pytest.mark.parametrize(
    ("spelling", "kind"),
    [
        ("IMAP4", "imap"), ("imaps", "imap"), (" Imap ", "imap"), ("POP", "pop3"), ("POP3S", "pop3"),
        ("EWS", "exchange"), ("Office365", "graph"), ("Office 365", "graph"), ("O365", "graph"), ("M365", "graph"),
        ("Microsoft-365", "graph"),
        ("maildir", "maildir"), ("My-Plugin", "my-plugin"), ("local", "file"), ("Amazon S3", "s3"),
    ],
)  # fmt: skip
def test_common_spellings_of_a_kind_are_understood(spelling: str, kind: str) -> None:
    assert kind_of(spelling) == kind
    assert kind_of(kind) == kind


def test_without_a_type_a_mailbox_is_imap_and_a_destination_is_file() -> None:
    assert MailboxOptions().kind == MailboxOptions(type="").kind == "imap"
    assert DestinationOptions().kind == DestinationOptions().name == "file"
    assert DestinationOptions(type="Amazon S3").name == "s3"


@pytest.mark.parametrize(
    ("options", "mode"),
    [
        (MailboxOptions(), "implicit"),
        (MailboxOptions(use_ssl=True), "implicit"),
        (MailboxOptions(use_ssl=False), "starttls"),
        (MailboxOptions(tls="starttls"), "starttls"),
        (MailboxOptions(tls="none"), "none"),
    ],
)
def test_only_a_written_none_means_plain_text(options: MailboxOptions, mode: str) -> None:
    assert options.tls_mode == mode
    assert not any(problem.path == "$.useSsl" for problem in problems(options))


def test_login_and_address_stand_in_for_each_other() -> None:
    assert (MailboxOptions(mailbox="a@b").login, MailboxOptions(username="u").address) == ("a@b", "u")
    both = MailboxOptions(mailbox="a@b", username="u")
    assert (both.login, both.address) == ("u", "a@b")


@pytest.mark.parametrize(
    ("options", "label"),
    [
        (MailboxOptions(name="n", mailbox="a@b"), "n"),
        (MailboxOptions(mailbox="a@b", username="u", host="h"), "a@b"),
        (MailboxOptions(username="u", host="h"), "u@h"),
        (MailboxOptions(type="maildir", path="/m"), "/m"),
        (MailboxOptions(), "imap"),
    ],
)
def test_a_mailbox_is_known_by_its_name_else_by_what_it_is(options: MailboxOptions, label: str) -> None:
    assert options.label == label


def test_what_happens_to_a_stored_mail_follows_from_two_properties() -> None:
    assert MailboxOptions().aftercare == KEEP
    assert MailboxOptions(delete_mails_on_server=True).aftercare == Aftercare(Action.DELETE)
    assert MailboxOptions(after_store="seen").aftercare == Aftercare(Action.SEEN)
    assert MailboxOptions(after_store=Move(move="Done")).aftercare == Aftercare(Action.MOVE, "Done")


@given(mailbox_options())
def test_mail_of_which_nothing_is_stored_is_never_deleted(options: MailboxOptions) -> None:
    assert options.no_match_care.action in {Action.KEEP, Action.MOVE}


@given(
    st.builds(Aftercare, st.sampled_from(Action), st.text()), st.builds(Aftercare, st.sampled_from(Action), st.text())
)
def test_the_milder_aftercare_never_does_more_than_either(then: Aftercare, now: Aftercare) -> None:
    chosen = milder(then, now)
    assert chosen in {then, now}
    assert chosen.action == min(then.action, now.action)
    assert then.action != now.action or chosen is now


@given(mailbox_options())
def test_mail_and_attachments_go_to_destinations_only_when_they_are_stored_at_all(options: MailboxOptions) -> None:
    assert bool(options.destinations_for_attachments()) == (options.exports and bool(options.destinations))
    assert not options.destinations_for_mail() or options.archiving is not None
    assert set(map(id, options.destinations_for_mail())) <= set(map(id, options.destinations))


def test_archiving_may_be_kept_to_named_destinations() -> None:
    two = (DestinationOptions(name="a"), DestinationOptions(name="b"))
    every = MailboxOptions(destinations=two, mail_archiving=MailArchiving(active=True))
    assert every.destinations_for_mail() == two
    one = attrs.evolve(every, mail_archiving=MailArchiving(active=True, destinations=("b",)))
    assert one.destinations_for_mail() == two[1:]
    assert one.destinations_for_attachments() == ()


def test_one_account_has_one_key_however_it_is_written() -> None:
    plain = MailboxOptions(mailbox="Jane@Example.com", host="Mail.Example.com.", port=993)
    again = MailboxOptions(username="jane@example.com", host="mail.example.com", type="IMAP4", tls="starttls", port=143)
    assert account_key(plain) == account_key(again)
    assert account_key(plain) != account_key(attrs.evolve(plain, port=1993))
    assert account_key(plain) != account_key(attrs.evolve(plain, mailbox="john@example.com"))
    assert account_key(MailboxOptions(type="mbox", path="/a")) != account_key(MailboxOptions(type="mbox", path="/b"))


@given(st.text(min_size=4))
def test_a_secret_shows_in_no_text_of_it(value: str) -> None:
    secret = Secret(f"s3cr3t{value}")
    shown = f"{secret} {secret!r} {secret!s} {[secret]} {SOUND} {attrs.evolve(SOUND, password=secret)}"
    assert "s3cr3t" not in shown


@pytest.mark.parametrize(
    "url",
    [
        "sftp://u:p@h/x", "sftp://u:@h/x", "sftp://u:p/w@h", "https://h/x?sig=abc", "https://h/x?sv=1&SAS_TOKEN=abc",
        "zip::/srv/a.zip", "zip://x.zip::sftp://u:p@h/y", "/srv/a\nb", "sftp://u:p@[::1]/x",
    ],
)  # fmt: skip
def test_a_destination_is_no_url_with_a_secret_or_a_chain_in_it(url: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as caught:
        DestinationOptions(url=url)
    assert url not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "/srv/mail",
        "mail",
        "C:\\mail",
        "sftp://u@h:22/x",
        "sftp://u@[::1]:22/x",
        "s3://bucket/a@b:c",
        "https://h/dav/?a=b",
    ],
)
def test_ordinary_places_are_taken(url: str) -> None:
    assert DestinationOptions(url=url).url == url


@pytest.mark.parametrize(
    "changes",
    [
        {"port": -1}, {"port": 65536}, {"poll_interval_seconds": 4}, {"max_message_bytes": 0}, {"host": "a\r\nb"},
        {"folders": ("a\0",)}, {"folders": ("",)}, {"username": "a\u2028b"},
    ],
)  # fmt: skip
def test_values_out_of_range_cannot_be_made(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must|not allowed"):
        but(**changes)


def test_since_is_kept_in_utc_and_needs_an_offset() -> None:
    local = datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))
    since = MailboxOptions(since=local).since
    assert isinstance(since, datetime)
    assert (since, since.tzinfo) == (local, UTC)
    with pytest.raises(ValueError, match="offset"):
        MailboxOptions(since=datetime(2026, 1, 1))  # noqa: DTZ001


def test_a_secret_shows_in_no_copy_of_what_holds_it() -> None:
    options = MailboxOptions(password=Secret("hunter2"))
    for shown in (repr(options), str(attrs.asdict(options)), str(attrs.astuple(options)), f"{options.password!s:>20}"):
        assert "hunter2" not in shown
    assert copy.deepcopy(options) == options
    assert hash(Secret("a")) == hash(Secret("a"))
    assert Secret("a") != "a"
    with pytest.raises(TypeError, match="not written down"):
        pickle.dumps(options)
