"""Thousands of generated and mutated mails: each is read, nothing raises, and nothing that comes out is no text.

Small on every change; ``nox -s heavy`` tries 20,000 of them.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maildaemon_core.mime import read_message
from maildaemon_core.reading import NESTING_CAP, Reading
from maildaemon_core.safe_names import attachment_name
from maildaemon_core.testing.hostile_mails import damaged_mails, hostile_mails
from maildaemon_core.testing.mails import broken_mails, built_mails
from tests.core.test_mime import CountingContent, assert_sound
from tests.core.test_naming import assert_safe

KINDS = {
    "built": built_mails().map(lambda mail: mail.raw),
    "broken": broken_mails(),
    "hostile": hostile_mails(),
    "damaged": damaged_mails().map(lambda mail: mail.raw),
}
MANY = 20_000 // len(KINDS)
EVERYTHING = Reading(attached_mails="both", inline_pictures=True)

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(3600)]


@pytest.mark.parametrize("kind", KINDS)
def test_each_of_many_mails_is_read(kind: str) -> None:
    @settings(
        max_examples=MANY if os.environ.get("MAILDAEMON_HEAVY") == "1" else settings.default.max_examples,  # type: ignore[union-attr]
        suppress_health_check=list(HealthCheck),
    )
    @given(KINDS[kind])
    def is_read(raw: bytes) -> None:
        for reading, times in ((Reading(), 4), (EVERYTHING, 4 * (1 + NESTING_CAP))):
            content = CountingContent(raw)
            message = read_message(content, reading)
            assert content.looked_at <= times * content.size
            assert_sound(message)
            for found in message.attachments:
                assert_safe(attachment_name(found.name, found.index, found.content_type))

    is_read()


@pytest.mark.parametrize("size", [1, 30, 3000])
def test_bytes_without_any_sense_are_read(size: int) -> None:
    @settings(suppress_health_check=list(HealthCheck))
    @given(st.binary(min_size=size, max_size=2 * size))
    def is_read(raw: bytes) -> None:
        assert_sound(read_message(CountingContent(raw), EVERYTHING))

    is_read()
