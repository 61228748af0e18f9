"""What only answers have: taken back unchanged, refused when it was changed, and no part of what one is made of."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maildaemon_core.answered import ANSWERED, without_answered
from maildaemon_core.message import MailboxId
from maildaemon_core.store_port import Configuration
from maildaemon_core.testing.strategies import any_json

KEPT = Configuration(
    id=MailboxId("0b0f64c9-52ff-4b76-9f3c-1b6f2a1c9c11"),
    name="jane",
    document={},
    version=3,
    created=datetime(2026, 1, 31, 8, 0, 0, 123456, tzinfo=UTC),
    changed=datetime(2026, 2, 1, 9, 30, 0, 0, tzinfo=UTC),
    created_by="ops",
    changed_by="ops2",
)
ANSWER: dict[str, Any] = {
    "uuid": KEPT.id,
    "version": 3,
    "created": "2026-01-31T08:00:00.123456Z",
    "changed": "2026-02-01T09:30:00Z",
    "createdBy": "ops",
    "changedBy": "ops2",
    "managedBy": "api",
    "trouble": {"error": "Sealed"},
    "warnings": [{"path": "$", "message": "…"}],
    "adopted": True,
}


def test_an_answer_that_is_sent_back_says_nothing_new() -> None:
    assert set(ANSWER) == ANSWERED
    document = {**ANSWER, "host": "mail.firm.example"}
    assert without_answered(document, KEPT) == ({"host": "mail.firm.example"}, ())
    assert len(document) == 11  # what was given is not touched


@pytest.mark.parametrize(
    "same",
    [
        {"created": "2026-01-31T08:00:00Z"},
        {"created": "2026-01-31T09:00:00.123456+01:00"},
        {"created": KEPT.created},
        {"version": 3.0},
        {"warnings": 7, "adopted": "no", "trouble": []},
        dict.fromkeys(ANSWER),
    ],
)
def test_the_same_said_otherwise_is_the_same(same: dict[str, Any]) -> None:
    assert without_answered(same, KEPT) == ({}, ())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("uuid", "another"),
        ("uuid", 7),
        ("version", 2),
        ("version", True),
        ("version", "3"),
        ("created", "2026-01-31T08:00:01Z"),
        ("created", "2026-01-31T08:00:00.123Z"),
        ("created", "2026-01-31T08:00:00.123456"),
        ("created", "yesterday"),
        ("created", 1),
        ("changed", "2026-02-01T09:30:00.000001Z"),
        ("changed", "9999-12-31T23:59:59-23:00"),
        ("createdBy", "Ops"),
        ("createdBy", ""),
        ("changedBy", ["ops2"]),
        ("managedBy", "file"),
    ],
)
def test_what_was_changed_is_told_at_its_place(name: str, value: object) -> None:
    rest, (problem,) = without_answered({**ANSWER, name: value, "port": 1}, KEPT)
    assert rest == {"port": 1}
    assert problem.path == f"$.{name}"
    assert "cannot be changed" in problem.message


def test_of_one_that_is_to_be_made_nothing_can_be_said() -> None:
    rest, problems = without_answered({**ANSWER, "host": "h"}, None)
    assert rest == {"host": "h"}
    assert {problem.path for problem in problems} == {f"$.{name}" for name in ANSWER}
    assert all("leave it out" in problem.message for problem in problems)
    assert without_answered(dict.fromkeys(ANSWER), None) == ({}, ())


@given(any_json(), st.dictionaries(st.sampled_from(sorted(ANSWERED)), any_json(max_leaves=3)))
def test_of_any_json_at_all_the_rest_is_left(document: object, answered: dict[str, Any]) -> None:
    rest, _ = without_answered(document, KEPT)
    assert rest == document or isinstance(document, dict)
    if isinstance(document, dict):
        assert without_answered({**document, **answered}, KEPT)[0] == rest
