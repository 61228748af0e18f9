"""The program in the documents does what it says there, on a real server."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from maildaemon_core.testing.mails import simple_mail
from tests.servers.dovecot import Dovecot

PAGE = Path(__file__).parents[2] / "docs/how-to/embed.md"

pytestmark = pytest.mark.server


def test_the_documented_program_stores_mail_and_tells_what_became_of_it(
    dovecot: Dovecot, mail_user: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dovecot.deliver(
        mail_user, simple_mail(subject="March", attachments=[("march.pdf", "application/pdf", b"%PDF-1.7")])
    )
    (program,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    given = {
        "HOST": "127.0.0.1",
        "PORT": dovecot.imap,
        "TLS": "none",
        "PASSWORD": dovecot.password,
        "FOLDER": str(tmp_path / "out"),
        "STORE": f"sqlite:///{tmp_path / 'store.db'}",
    }
    exec(compile(program.replace("invoices@example.com", mail_user), str(PAGE), "exec"), given)
    said = capsys.readouterr().out
    assert "done Counts(stored=1, skipped=0, failed=0, pending=0)" in said
    assert "March" in said
    assert sorted(path.suffix for path in (tmp_path / "out").rglob("*.*") if path.is_file()) == [".eml", ".pdf"]
