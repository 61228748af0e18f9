"""A configuration file is read with all of its faults at once, each at its place; paths start from its folder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maildaemon_core.message import mailbox_id
from maildaemon_http.compose import read_configuration
from maildaemon_http.configfile import ConfigurationFault, Setup
from maildaemon_http.smallest import TEXT

GOOD = """
[[mailboxes]]
mailbox = "jane@example.com"
host = "imap.example.com"
password = "hunter2"
exportAttachments = true
destinations = [{ url = "mail" }]
"""


def read(folder: Path, text: str) -> Setup:
    path = folder / "maildaemon.toml"
    path.write_text(text, encoding="utf-8")
    return read_configuration(path, to_sweep=True)


def faults(folder: Path, text: str) -> dict[str, str]:
    """Messages by their paths."""
    with pytest.raises(ConfigurationFault) as caught:
        read(folder, text)
    assert "hunter2" not in f"{caught.value} {caught.value.problems}"
    return {problem.path: problem.message for problem in caught.value.problems}


@pytest.mark.parametrize("written", ["env:", "env: ", "file:", "file: "])
def test_a_reference_to_a_secret_with_nothing_behind_it_is_told_at_once(tmp_path: Path, written: str) -> None:
    found = faults(tmp_path, GOOD.replace("hunter2", written))
    assert list(found) == ["$.mailboxes[0].password"]
    assert "write env:NAME" in found["$.mailboxes[0].password"] or "write file:PATH" in found["$.mailboxes[0].password"]
    assert len(read(tmp_path, GOOD.replace("hunter2", f"plain:{written}")).mailboxes) == 1


def test_a_url_for_a_host_is_told_with_the_name_in_it(tmp_path: Path) -> None:
    found = faults(tmp_path, GOOD.replace('"imap.example.com"', '"imaps://imap.example.com:993/"'))
    assert found.keys() == {"$.mailboxes[0].host"}
    assert "write imap.example.com" in found["$.mailboxes[0].host"]


def test_what_follows_only_from_a_property_that_could_not_be_read_is_left_out(tmp_path: Path) -> None:
    text = GOOD.replace("exportAttachments = true", 'mailArchiving = { active = "yes" }')
    assert faults(tmp_path, text).keys() == {"$.mailboxes[0].mailArchiving.active"}


def test_the_smallest_configuration_needs_nothing_but_its_values(tmp_path: Path) -> None:
    setup = read(tmp_path, TEXT)
    (mailbox,) = setup.mailboxes
    assert mailbox.name == "user@example.com"
    assert mailbox.options.exports
    assert mailbox.options.archiving is not None
    assert not mailbox.options.delete_mails_on_server


def test_the_readme_shows_the_smallest_configuration() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    assert f"```toml\n{TEXT}```" in readme


def test_the_store_and_relative_paths_are_beside_the_file_wherever_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "m.toml").write_text(GOOD)
    monkeypatch.chdir(tmp_path)
    setup = read_configuration(Path("etc/m.toml"))
    assert setup.store == f"sqlite:///{tmp_path}/etc/maildaemon.db"
    assert setup.spool == tmp_path / "etc" / "maildaemon-spool"
    assert setup.mailboxes[0].options.destinations[0].url == f"{tmp_path}/etc/mail"


def test_store_and_spool_may_be_named(tmp_path: Path) -> None:
    setup = read(tmp_path, '[store]\nurl = "sqlite:///var/a.db"\n[spool]\npath = "big"\n' + GOOD)
    assert setup.store_file == tmp_path / "var" / "a.db"
    assert setup.spool == tmp_path / "big"
    assert read(tmp_path, '[store]\nurl = "sqlite:////var/a.db"\n' + GOOD).store_name == "/var/a.db"


@pytest.mark.parametrize("url", ["/srv/mail", "file:///srv/mail"])
def test_absolute_destinations_stay_as_they_are(tmp_path: Path, url: str) -> None:
    setup = read(tmp_path, GOOD.replace('"mail"', f'"{url}"'))
    assert setup.mailboxes[0].options.destinations[0].url == url


def test_a_mailbox_is_known_by_its_name_whatever_else_changes(tmp_path: Path) -> None:
    named = GOOD.replace("mailbox =", 'name = "invoices"\nmailbox =')
    moved = named.replace("imap.example.com", "other.example.org").replace("jane@", "joe@")
    assert read(tmp_path, named).mailboxes[0].id == read(tmp_path, moved).mailboxes[0].id == mailbox_id("invoices")


def test_without_a_name_it_is_the_address_or_the_login_at_the_host(tmp_path: Path) -> None:
    assert read(tmp_path, GOOD).mailboxes[0].name == "jane@example.com"
    login = GOOD.replace('mailbox = "jane@example.com"', 'username = "jane"')
    assert read(tmp_path, login).mailboxes[0].name == "jane@imap.example.com"


def test_every_fault_of_every_mailbox_and_table_is_told_at_once(tmp_path: Path) -> None:
    found = faults(
        tmp_path,
        '[store]\nurI = "x"\n[spol]\npath = "y"\n'
        + GOOD.replace("host =", "hostt =")
        + GOOD.replace("jane@", "joe@").replace("exportAttachments = true", "exportAttachments = 1")
        + GOOD.replace("jane@", "jim@").replace('host = "imap.example.com"\n', 'type = "pigeon"\n')
        + GOOD.replace("jane@", "jon@").replace('"mail" }', '"mail", pathTemplate = "{sender.__class__}" }')
        + GOOD.replace("jane@", "jay@").replace('"mail" }', '"mail", pathTemplate = "{subject:>999999999}" }')
        + GOOD.replace("jane@", "jil@").replace('host = "imap.example.com"\n', ""),
    )
    assert set(found) == {
        "$.store.urI",
        "$.spol",
        "$.mailboxes[0].hostt",
        "$.mailboxes[1].exportAttachments",
        "$.mailboxes[2].type",
        "$.mailboxes[2].host",
        "$.mailboxes[3].destinations[0].pathTemplate",
        "$.mailboxes[4].destinations[0].pathTemplate",
        "$.mailboxes[5].host",
    }
    assert "did you mean host?" in found["$.mailboxes[0].hostt"]
    assert "did you mean spool?" in found["$.spol"]
    assert re.search(r"installed: .*\bimap\b", found["$.mailboxes[2].type"])


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", "$.mailboxes"),
        ("mailboxes = []", "$.mailboxes"),
        ('[mailboxes]\nhost = "x"', "$.mailboxes"),
        ('mailboxes = ["x"]', "$.mailboxes[0]"),
        ('[[mailbox]]\nhost = "x"', "$.mailbox"),
    ],
)
def test_a_file_without_a_mailbox_says_how_to_write_one(tmp_path: Path, text: str, path: str) -> None:
    assert path in faults(tmp_path, text)


def test_two_mailboxes_of_one_name_are_refused(tmp_path: Path) -> None:
    found = faults(tmp_path, GOOD + GOOD.replace("imap.example.com", "imap.example.org"))
    assert list(found) == ["$.mailboxes[1].name"]


def test_one_account_twice_is_refused_only_if_one_of_the_two_takes_mail_away(tmp_path: Path) -> None:
    twice = GOOD.replace("mailbox =", 'name = "a"\nmailbox =') + GOOD.replace("mailbox =", 'name = "b"\nmailbox =')
    assert len(read(tmp_path, twice).mailboxes) == 2
    deleting = twice + "deleteMailsOnServer = true\n"
    assert list(faults(tmp_path, deleting)) == ["$.mailboxes[1]"]
    assert len(read(tmp_path, deleting + 'folders = ["Invoices"]\n').mailboxes) == 2
    assert list(faults(tmp_path, deleting + 'folders = ["In*"]\n')) == ["$.mailboxes[1]"]
    assert len(read(tmp_path, deleting + "active = false\n").mailboxes) == 2


def test_an_inactive_mailbox_may_be_incomplete(tmp_path: Path) -> None:
    setup = read(tmp_path, '[[mailboxes]]\nname = "later"\nactive = false\n')
    assert not setup.mailboxes[0].options.active


def test_broken_toml_is_told_with_line_and_column_and_without_its_values(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationFault, match=r"maildaemon\.toml: line 5, column 12") as caught:
        read(tmp_path, GOOD.replace('"hunter2"', "hunter2"))
    assert "hunter2" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_a_text_that_is_never_closed_is_told_at_the_end_of_the_document(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationFault, match="line 2, column 9"):
        read(tmp_path, '# x\na = """b\n')


def test_another_encoding_is_told_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_bytes("# ok\n# Größe".encode("latin-1"))
    with pytest.raises(ConfigurationFault, match="line 2, column 5: not UTF-8"):
        read_configuration(path, to_sweep=True)


@pytest.mark.parametrize("name", ["not-there.toml", "."])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationFault, match=r"no such file|cannot be read"):
        read_configuration(tmp_path / name)


def test_a_date_of_toml_is_taken_for_since(tmp_path: Path) -> None:
    setup = read(tmp_path, GOOD + "since = 2026-01-31T08:00:00Z\n")
    assert str(setup.mailboxes[0].options.since) == "2026-01-31 08:00:00+00:00"
    assert list(faults(tmp_path, GOOD + "since = 2026-01-31\n")) == ["$.mailboxes[0].since"]


@given(st.binary(max_size=200))
def test_any_bytes_are_either_a_configuration_or_a_fault(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "m.toml"
    path.write_bytes(data)
    with pytest.raises(ConfigurationFault):
        read_configuration(path, to_sweep=True)
