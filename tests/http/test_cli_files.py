"""From mail in files to files, through the command: a Maildir, an mbox, a folder of .eml and an archive of them."""

from __future__ import annotations

import os
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.http.running import call

CONFIGURATION = """
[[mailboxes]]
name = "import"
type = "{kind}"
path = "{path}"
folders = ["*"]
deleteMailsOnServer = {deletes}
mailArchiving = {{ active = true, pathTemplate = "{{folder}}/{{subject}}.eml" }}
destinations = [{{ url = "stored" }}]
{options}
"""

AN_HOUR_AGO = time.time() - 3600


def mail(number: int) -> bytes:
    return f"Message-ID: <{number}@x>\nFrom: a@example.com\nSubject: mail {number}\n\nhello {number}\n".encode()


def maildir(top: Path) -> None:
    for folder, number in ((top, 1), (top / ".Sent", 2)):
        for name in ("tmp", "new", "cur"):
            (folder / name).mkdir(parents=True)
        (folder / "new" / f"170000000{number}.M1P1.host").write_bytes(mail(number))


def mbox(top: Path) -> None:
    top.mkdir()
    for folder, number in (("INBOX", 1), ("Sent", 2)):
        (top / folder).write_bytes(b"From joe Tue Nov 14 22:13:20 2023\n" + mail(number) + b"\n")
        os.utime(top / folder, (AN_HOUR_AGO, AN_HOUR_AGO))


def eml(top: Path) -> None:
    (top / "Sent").mkdir(parents=True)
    (top / "1.eml").write_bytes(mail(1))
    (top / "Sent" / "2.eml").write_bytes(mail(2))


@pytest.mark.parametrize(("kind", "make"), [("maildir", maildir), ("mbox", mbox), ("eml", eml)])
def test_mail_in_files_is_stored_once_and_deleted(tmp_path: Path, kind: str, make: Callable[[Path], None]) -> None:
    make(tmp_path / "mail")
    options = "options = { quietSeconds = 0 }" if kind == "eml" else ""
    (tmp_path / "m.toml").write_text(CONFIGURATION.format(kind=kind, path="mail", deletes="true", options=options))
    call("validate", "m.toml", cwd=tmp_path)
    call("run", "m.toml", "--once", cwd=tmp_path)
    stored = {path.relative_to(tmp_path / "stored").as_posix(): path for path in (tmp_path / "stored").rglob("*.eml")}
    assert {name: path.read_bytes() for name, path in stored.items()} == {
        "INBOX/mail 1.eml": mail(1),
        "Sent/mail 2.eml": mail(2),
    }
    left = [path for path in (tmp_path / "mail").rglob("*") if path.is_file() and path.stat().st_size]
    assert left == []
    report = call("run", "m.toml", "--once", "--json", cwd=tmp_path)
    assert '"stored": 0' in report.out
    assert len(list((tmp_path / "stored").rglob("*.eml"))) == 2


def test_an_archive_is_only_read_and_what_was_stored_of_it_is_not_stored_again(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        for number in (1, 2):
            archive.writestr(f"{number}.eml", mail(number))
    config = CONFIGURATION.format(kind="eml", path=f"zip://{tmp_path}/export.zip", deletes="true", options="")
    (tmp_path / "m.toml").write_text(config)
    refused = call("run", "m.toml", "--once", cwd=tmp_path, code=2)
    assert "deleteMailsOnServer" in refused.err
    assert "a URL is only read" in " ".join(refused.err.split())
    (tmp_path / "m.toml").write_text(config.replace("deleteMailsOnServer = true", "options = { quietSeconds = 0 }"))
    for _ in range(2):
        call("run", "m.toml", "--once", cwd=tmp_path)
        assert sorted(path.name for path in (tmp_path / "stored").rglob("*.eml")) == ["mail 1.eml", "mail 2.eml"]


def test_a_folder_that_is_not_there_is_told_with_what_to_do(tmp_path: Path) -> None:
    config = CONFIGURATION.format(kind="maildir", path="mail", deletes="false", options="")
    (tmp_path / "m.toml").write_text(config.replace('folders = ["*"]\n', ""))
    called = call("run", "m.toml", "--once", cwd=tmp_path, code=1)
    assert "there is nothing at" in " ".join((called.out + called.err).split())
    (tmp_path / "mail").mkdir()
    called = call("validate", "m.toml", cwd=tmp_path, code=1)
    assert "with cur, new and tmp in it" in " ".join((called.out + called.err).split())


def test_a_path_with_no_maildir_in_it_is_said_so_and_no_empty_list_is_given(tmp_path: Path) -> None:
    (tmp_path / "mail").mkdir()
    (tmp_path / "m.toml").write_text(CONFIGURATION.format(kind="maildir", path="mail", deletes="false", options=""))
    said = call("validate", "m.toml", cwd=tmp_path, code=1).out
    assert "there is no folder at all" in " ".join(said.split())
