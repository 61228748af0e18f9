"""Containers in mails that other projects collected: each is opened without a failure, and nothing in it is silent."""

from __future__ import annotations

import os
from pathlib import Path

import attrs
import pytest

from maildaemon_adapters.openers import SMIME, TNEF
from maildaemon_core.containers import Budget, Container
from maildaemon_core.message import BytesContent
from maildaemon_core.mime import read_message
from maildaemon_core.reading import Reading
from maildaemon_core.testing.built_containers import told, whole
from tests.core.test_mime import assert_sound
from tests.servers.availability import NOT_RUN

CORPUS = Path(os.environ.get("MAILDAEMON_CORPUS") or Path(__file__).parents[3] / "shared" / "corpus")
OPENERS = (TNEF, SMIME)


def files(*patterns: str) -> list[Path]:
    found = sorted(path for pattern in patterns for path in CORPUS.rglob(pattern))
    if not found:
        wanted = ", ".join(patterns)
        pytest.skip(f"{NOT_RUN}no {wanted} below {CORPUS}; to run them: set MAILDAEMON_CORPUS to a folder of mails")
    return found


def test_openers_only_add_to_what_is_found_in_the_mails_of_the_corpus() -> None:
    for path in files("*.eml"):
        content = BytesContent(path.read_bytes())
        plain = read_message(content)
        message = read_message(content, Reading(openers=OPENERS))
        assert_sound(message)
        found = [(each.name, each.content_type, each.content.sha256) for each in message.attachments]
        for each in plain.attachments:
            assert (each.name, each.content_type, each.content.sha256) in found, path


def test_every_attachment_of_the_corpus_is_opened_as_if_it_were_a_container() -> None:
    for path in files("*.eml"):
        for each in read_message(BytesContent(path.read_bytes())).attachments:
            container = Container(
                content_type=each.content_type, name=each.name, smime_type="", content=BytesContent(whole(each.content))
            )
            for opener in OPENERS:
                opened = opener.open(container, Budget())
                assert opened.losses or opened.files or opened.entity is not None or opened.notes, path
                assert told(opener.open(attrs.evolve(container), Budget())) == told(opened)
