"""Secrets come from the environment and from files, within limits; what they are never shows when they do not."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maildaemon_adapters.secrets import LARGEST, SecretForbidden, SecretUnreadable, allowed, reading
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
    (tmp_path / "large").write_bytes(b"hunter2 " + "é".encode() * LARGEST)  # cut off within a character
    with pytest.raises(SecretUnreadable, match=reason) as caught:
        reading(tmp_path, {"EMPTY": ""})(Secret(reference))
    assert reference in caught.value.message
    assert caught.value.remedy
    assert not caught.value.transient
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


# -------------------------------------------------------------------------------------------------------------- limits


def test_only_variables_that_are_allowed_are_taken_on_and_read(tmp_path: Path) -> None:
    environment = {"MAIL": "one", "MAILDAEMON_MASTER_KEY": "hunter2"}
    names = {"MAIL"}
    read = reading(tmp_path, environment, environment_names=names)
    assert read(Secret("env:MAIL")) == Secret("one")
    assert allowed(Secret("env:MAIL"), folder=tmp_path, environment_names=names) is None
    for reference in ("env:MAILDAEMON_MASTER_KEY", "env:mail", "env:MAIL "):
        assert "does not allow" in (allowed(Secret(reference), folder=tmp_path, environment_names=names) or "")
        with pytest.raises(SecretForbidden, match="does not allow") as caught:
            read(Secret(reference))
        assert "hunter2" not in "".join(traceback.format_exception(caught.value))
    with pytest.raises(SecretForbidden):
        reading(tmp_path, environment, environment_names=())(Secret("env:MAIL"))
    assert read(Secret("plain:env:HOME")) == Secret("env:HOME")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for secrets, and things outside of it that no reference may reach."""
    folder = tmp_path / "secrets"
    (folder / "below").mkdir(parents=True)
    (folder / "password").write_text("inside")
    (folder / "below" / "password").write_text("below")
    (folder / "link").symlink_to("below/password")
    (folder / "current").symlink_to("below")
    (tmp_path / "outside").write_text("hunter2")
    (tmp_path / "secrets-too").mkdir()
    (tmp_path / "secrets-too" / "password").write_text("hunter2")
    (folder / "out").symlink_to("../outside")
    (folder / "up").symlink_to("..")
    (folder / "round").symlink_to("round")
    return folder


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("password", "inside"),
        ("below/../password", "inside"),
        ("link", "below"),
        ("current/password", "below"),
        ("{folder}/password", "inside"),
    ],
)
def test_files_below_the_folder_for_secrets_are_read(folder: Path, name: str, value: str) -> None:
    secret = Secret("file:" + name.format(folder=folder))
    assert allowed(secret, folder=folder, folder_only=folder) is None
    assert reading(folder, {}, folder_only=folder)(secret) == Secret(value)


@pytest.mark.parametrize(
    "name",
    ["../outside", "{folder}/../outside", "/etc/passwd", "out", "up/outside", "below/../../outside", ".", "",
     "../secrets-too/password", "{folder}-too/password", "nul\0", "/proc/self/environ"],
)  # fmt: skip
def test_nothing_outside_of_it_is_taken_on_or_read_by_whatever_way(folder: Path, name: str) -> None:
    secret = Secret("file:" + name.format(folder=folder))
    assert allowed(secret, folder=folder, folder_only=folder)
    with pytest.raises(SecretUnreadable) as caught:
        reading(folder, {}, folder_only=folder)(secret)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_a_link_that_is_swapped_later_leads_nowhere(folder: Path) -> None:
    secret = Secret("file:password")
    read = reading(folder, {}, folder_only=folder)
    assert allowed(secret, folder=folder, folder_only=folder) is None
    (folder / "password").unlink()
    (folder / "password").symlink_to("../outside")
    with pytest.raises(SecretForbidden, match="only below its folder"):
        read(secret)


def test_a_link_that_is_swapped_between_looking_and_opening_is_not_followed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = os.path.realpath

    def swap(path: Path) -> str:
        found = really(path)
        if path.name == "password" and not path.is_symlink():
            path.unlink()
            path.symlink_to("../outside")
        return found

    monkeypatch.setattr("os.path.realpath", swap)
    with pytest.raises(SecretUnreadable) as caught:
        reading(folder, {}, folder_only=folder)(Secret("file:password"))
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))
    assert (folder / "password").is_symlink()


def test_what_is_no_file_keeps_nobody_waiting(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    for name in ("pipe", "below"):
        with pytest.raises(SecretUnreadable, match="no file"):
            reading(folder, {}, folder_only=folder)(Secret(f"file:{name}"))


def test_what_is_not_there_yet_may_be_named(folder: Path) -> None:
    secret = Secret("file:later")
    assert allowed(secret, folder=folder, folder_only=folder) is None
    with pytest.raises(SecretUnreadable, match="No such file"):
        reading(folder, {}, folder_only=folder)(secret)


def test_without_limits_everything_may_be_named(tmp_path: Path) -> None:
    for written in ("env:ANY", "file:/etc/passwd", "plain:env:", "hunter2"):
        assert allowed(Secret(written), folder=tmp_path) is None
    for written in ("env:", "file: "):
        assert "names no" in (allowed(Secret(written), folder=tmp_path) or "")
