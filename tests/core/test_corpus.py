"""Mails that other projects collected: each is read, whatever it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from maildaemon_core.message import BytesContent
from maildaemon_core.mime import read_message
from tests.core.test_mime import assert_sound
from tests.servers.availability import NOT_RUN

CORPUS = Path(os.environ.get("MAILDAEMON_CORPUS") or Path(__file__).parents[3] / "shared" / "corpus")


def test_every_mail_of_the_corpus_is_read() -> None:
    mails = sorted(CORPUS.rglob("*.eml"))
    if not mails:
        pytest.skip(f"{NOT_RUN}no *.eml below {CORPUS}; to run them: set MAILDAEMON_CORPUS to a folder of mails")
    for path in mails:
        message = read_message(BytesContent(path.read_bytes()))
        assert_sound(message)
