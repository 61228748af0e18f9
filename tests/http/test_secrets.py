"""Secrets come from the environment and from files; what they are never shows when they do not."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maildaemon_adapters.secrets import LARGEST, SecretUnreadable, reading
from maildaemon_core.options import Secret


def test_a_variable_is_read_each_time(tmp_path: Path) -> None:
    environment = {"MAIL": "one"}
    read = reading(tmp_path, environment)
    assert read(Secret("env:MAIL")) == Secret("one")
    environment["MAIL"] = "two"
    assert read(Secret("env:MAIL")) == Secret("two")


@pytest.mark.parametrize("written", ["s3cret", "s3cret\n", "s3cret\r\n"])
def test_a_file_is_read_without_the_end_of_its_line(tmp_path: Path, written: str) -> None:
    (tmp_path / "password.txt").write_bytes(written.encode())
    assert reading(tmp_path, {})(Secret("file:password.txt")) == Secret("s3cret")
    assert reading(Path("/nowhere"), {})(Secret(f"file:{tmp_path}/password.txt")) == Secret("s3cret")


def test_only_one_end_of_line_goes_and_blanks_belong_to_the_secret(tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(b" a b \n\n")
    assert reading(tmp_path, {})(Secret("file:p")) == Secret(" a b \n")


@given(st.text())
def test_plain_takes_everything_literally(text: str) -> None:
    assert reading(Path(), {})(Secret(f"plain:{text}")) == Secret(text)


@given(st.text().filter(lambda text: not text.startswith(("env:", "file:", "plain:"))))
def test_what_is_no_reference_is_the_secret(text: str) -> None:
    assert reading(Path(), {})(Secret(text)) == Secret(text)


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("env:NOT_THERE", "is not set"),
        ("env:EMPTY", "is empty"),
        ("file:not-there", "No such file"),
        ("file:empty", "is empty"),
        ("file:folder", "directory"),
        ("file:latin-1", "UTF-8"),
        ("file:large", "more than"),
        ("file:with\0nul", "null byte|UTF-8"),
    ],
)
def test_a_reference_that_leads_nowhere_is_named_and_nothing_that_it_holds(
    tmp_path: Path, reference: str, reason: str
) -> None:
    (tmp_path / "empty").write_bytes(b"\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "latin-1").write_bytes(b"hunter2\xe4")
    (tmp_path / "large").write_bytes(b"hunter2" * LARGEST)
    with pytest.raises(SecretUnreadable, match=reason) as caught:
        reading(tmp_path, {"EMPTY": ""})(Secret(reference))
    assert reference in caught.value.message
    assert caught.value.remedy
    assert not caught.value.transient
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))
