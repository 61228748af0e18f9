"""The demo does the main job, and done again it finds nothing new."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from maildaemon_core.message import BytesContent
from maildaemon_core.mime import read_message
from maildaemon_http.demo.mails import sample_mails
from tests.http.running import call


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted((folder / "files").rglob("*"))
        if path.is_file()
    }


def test_it_stores_what_is_wanted_and_a_second_start_changes_nothing(tmp_path: Path) -> None:
    first = call("demo", cwd=tmp_path)
    folder = tmp_path / "maildaemon-demo"
    stored = files(folder)
    mails = sample_mails()
    archived = [data for path, data in stored.items() if path.endswith(".eml") and path.startswith("files/mails/")]
    refused = [mail.raw for mail in mails if b"evil-firm.de" in mail.raw]
    assert sorted(archived) == sorted(mail.raw for mail in mails if mail.raw not in refused)
    assert len(refused) == 1
    names = [path.rpartition("/")[2].partition("-")[2] for path in stored if path.startswith("files/attachments/")]
    assert sorted(names) == sorted(
        [
            "Rechnung März 2026 für Büro.pdf",
            "Geschäftsbericht.pdf",
            "Offer.pdf",
            "scan.pdf",
            "scan.pdf",
            "_.._etc_passwd",
            "report.pdf",
            "orders.csv",
            "Forwarded.eml",
            "invoicefdp.exe",
        ]
    )
    assert "(new)" in first.err
    assert "skipped: the sender 'billing@evil-firm.de'" in first.out
    assert "\\x1b[31mURGENT" in first.out
    assert "\x1b" not in first.out
    assert "What to try next" in first.out
    assert "Nothing new" not in first.out

    second = call("demo", cwd=tmp_path)
    assert "Nothing new" in second.out
    assert files(folder) == stored


def test_what_it_says_to_try_next_works_without_its_server(tmp_path: Path) -> None:
    call("demo", "--folder", "here", cwd=tmp_path)
    called = call("monitoring", "successful", "here/maildaemon.toml", "--json", cwd=tmp_path)
    assert len(called.document["items"]) == len(sample_mails()) - 1
    item = next(one for one in called.document["items"] if one["subject"] == "Our offer")
    assert item["sender"] == "tim@example.org"
    assert {one["role"] for one in item["artifacts"]} == {"mail", "attachment"}
    for one in item["artifacts"]:
        assert (tmp_path / "here" / "files" / one["path"]).stat().st_size == one["size"]
    infos = call("monitoring", "mailboxes", "here/maildaemon.toml", "--json", cwd=tmp_path).document["items"]
    assert infos[0]["lastSweep"]["counts"] == {"seen": 13, "stored": 12, "skipped": 1, "failed": 0, "pending": 0}


def test_a_configuration_that_is_not_its_own_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "maildaemon.toml").write_text("# mine\n")
    called = call("demo", "--folder", ".", cwd=tmp_path, code=2)
    assert "--folder" in called.err
    assert (tmp_path / "maildaemon.toml").read_text() == "# mine\n"


def test_without_its_extra_it_says_what_to_install(tmp_path: Path) -> None:
    show = "import sys; sys.modules['pymap'] = None; from maildaemon_http.cli import main; sys.exit(main(['demo']))"
    done = subprocess.run([sys.executable, "-c", show], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'maildaemon[demo]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_mails_are_the_same_each_time_and_only_one_is_broken() -> None:
    assert sample_mails() == sample_mails()
    broken = [mail for mail in sample_mails() if read_message(BytesContent(mail.raw)).defects]
    assert len(broken) == 1
