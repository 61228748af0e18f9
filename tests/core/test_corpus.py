"""Mails that other projects collected: each is read, whatever it is, and nothing is missed that others find."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from maildaemon_core.message import Attachment, BytesContent, Message
from maildaemon_core.mime import read_message
from maildaemon_core.reading import Reading
from tests.core.pythons_email import Found, Opinion, opinion_on
from tests.core.test_mime import CountingContent, assert_sound, whole
from tests.servers.availability import NOT_RUN

CORPUS = Path(os.environ.get("MAILDAEMON_CORPUS") or Path(__file__).parents[3] / "shared" / "corpus")

ALL = Reading(attached_mails="both", inline_pictures=True)

BODY = "a text without a name that is not declared an attachment is a body, wherever it stands"
PICTURE = "a picture that the HTML refers to belongs to the body unless it is asked for"
INNER = "it lies in a mail within the mail, which is kept whole unless it is to be opened"
CUT = "they cut a name without quotes at its first blank"
NO_SEMICOLON = "they take what follows a missing semicolon for a part of the type"
GARBLED = "they lose the headers after a bad line and decode in the wrong encoding"
JUNK = "junk follows the closing delimiter: what follows is no epilogue, and we decode it too"

EXPECTED_AND_NOT_FOUND: Mapping[str, Sequence[str]] = {
    "attachment_emails/attachment_message_rfc822.eml": [INNER],
    "attachment_inline1.eml": [PICTURE] * 3,
    "attachment_inline2.eml": [PICTURE],
    "base.eml": [PICTURE],
    "multipart_report_emails/multipart_report_multiple_status.eml": [BODY] * 2,
    "text_with_content_id.eml": [BODY],
}
"""What imap_tools counts as an attachment and we do not, by its path."""

FOUND_BY_PYTHON_ONLY: Mapping[str, Sequence[str]] = {
    "cpython/msg_02.eml": [BODY] * 2,
    "cpython/msg_05.eml": [BODY],
    "cpython/msg_08.eml": [BODY] * 2,
    "cpython/msg_09.eml": [BODY] * 2,
    "cpython/msg_10.eml": [BODY] * 3,
    "cpython/msg_12.eml": [BODY] * 2,
    "cpython/msg_12a.eml": [BODY] * 2,
    "cpython/msg_21.eml": [BODY],
    "cpython/msg_22.eml": [BODY],
    "cpython/msg_33.eml": [BODY],
    "cpython/msg_38.eml": [BODY],
    "enmime/low-quality/bad-final-boundary.eml": [BODY],
    "enmime/low-quality/bad-header-wrap.eml": [GARBLED],
    "enmime/low-quality/html-only-inline.eml": [PICTURE],
    "enmime/mail/epilogue-sample.eml": [JUNK],
    "enmime/mail/html-mime-bad-charset-inline.eml": [PICTURE],
    "enmime/mail/html-mime-bad-unknown-charset-inline.eml": [PICTURE],
    "enmime/mail/html-mime-inline.eml": [PICTURE],
    "enmime/mail/html-only-inline.eml": [PICTURE],
    "enmime/mail/mime-bad-content-type.eml": [NO_SEMICOLON],
    "enmime/mail/mime-blank-media-name.eml": [NO_SEMICOLON],
    "enmime/mail/mime-mixed.eml": [BODY],
    "enmime/parts/multi-malformed.eml": [BODY] * 2,
    "enmime/parts/multimixed.eml": [BODY],
    "enmime/parts/multiother.eml": [BODY],
    "imap_tools/attachment_emails/attachment_with_unquoted_name.eml": [CUT],
    "imap_tools/attachment_inline1.eml": [PICTURE] * 3,
    "imap_tools/attachment_inline2.eml": [PICTURE],
    "imap_tools/base.eml": [PICTURE],
    "imap_tools/mime_emails/raw_email4.eml": [BODY],
    "mail-parser-spamscope/mail_test_2.eml": [PICTURE] * 2,
    "mail-parser-spamscope/mail_test_5.eml": [PICTURE] * 5,
    "mail-parser-spamscope/mail_test_6.eml": [PICTURE] * 4,
    "mail-ruby/attachment_emails/attachment_message_rfc822_inline_image.eml": [PICTURE],
    "mimekit/dkim/related.eml": [PICTURE],
    "mimekit/messages/multipart-related-mhtml.eml": [BODY],
    "nodemailer/nodemailer.eml": [PICTURE] * 2,
}
"""What Python's email package counts as an attachment and we do not, or not with these bytes or this name."""

HEADERS_UNLIKE: Mapping[str, Sequence[str]] = {
    "plain_emails/raw_email_incorrect_header.eml": ["subject", "from"],  # they lose the headers after a bad line
    "rfc2822/example13.eml": ["subject", "from"],  # they know no blanks before the colon (RFC 5322 §4.5)
    "rfc2822/example14.eml": ["subject"],  # they drop the blank between plain text and an encoded word (RFC 2047 §6.2)
}
"""Where the headers that imap_tools expects are not those that we read: never our fault."""


def mails(folder: Path = CORPUS) -> list[Path]:
    found = sorted(folder.rglob("*.eml"))
    if not found:
        pytest.skip(f"{NOT_RUN}no *.eml below {folder}; to run them: set MAILDAEMON_CORPUS to a folder of mails")
    return found


@cache
def opinion(path: Path) -> Opinion:
    return opinion_on(path.read_bytes())


def read(path: Path) -> Message:
    return read_message(BytesContent(path.read_bytes()))


def test_every_mail_of_the_corpus_is_read() -> None:
    for path in mails():
        content = CountingContent(path.read_bytes())
        message = read_message(content)
        assert content.looked_at <= 3 * content.size, path
        assert_sound(message)


def test_the_corpus_is_read_alike_with_either_line_end() -> None:
    for path in mails():
        unix = path.read_bytes().replace(b"\r\n", b"\n")
        one, other = (read_message(BytesContent(raw)) for raw in (unix, unix.replace(b"\n", b"\r\n")))
        assert (one.headers, one.complete) == (other.headers, other.complete), path
        assert [found.name for found in one.attachments] == [found.name for found in other.attachments], path


def same_bytes(one: bytes, other: bytes) -> bool:
    """Line ends aside, and the last of them: they count it to the body, we to the delimiter (RFC 2046 §5.1.1)."""
    return one.replace(b"\r\n", b"\n").rstrip(b"\n") == other.replace(b"\r\n", b"\n").rstrip(b"\n")


def is_expected(ours: Attachment, theirs: Mapping[str, Any]) -> bool:
    data = whole(ours.content)
    unix = data.replace(b"\r\n", b"\n")
    return (
        theirs.get("filename") in {None, ours.name}
        and theirs.get("size") in {None, len(data), len(unix)}
        and theirs.get("sha256") in {None, hashlib.sha256(data).hexdigest(), hashlib.sha256(unix).hexdigest()}
        and theirs["content_type"] == ours.content_type
    )


def is_the_same(ours: Attachment, theirs: Found) -> bool:
    if theirs.content_type != ours.content_type or (theirs.name is not None and theirs.name != ours.name):
        return False
    # They give what is within a message/… only as they would write it anew: other blanks, other folds.
    return theirs.content_type.startswith("message/") or same_bytes(whole(ours.content), theirs.data or b"")


def left_over(wanted: Iterable[Any], ours: Iterable[Any], same: Any) -> list[Any]:
    """What is in ``wanted`` and not among ours; each of ours counts once."""
    free = list(ours)
    missing = []
    for theirs in wanted:
        hit = next((found for found in free if same(found, theirs)), None)
        if hit is None:
            missing.append(theirs)
        else:
            free.remove(hit)
    return missing


def test_what_the_corpus_expects_is_found_or_the_reason_is_known() -> None:
    folder = CORPUS / "imap_tools"
    mails(folder)
    missed = {}
    for path, expectation in json.loads((folder / "expectations.json").read_text()).items():
        if missing := left_over(expectation["attachments"], read(folder / path).attachments, is_expected):
            missed[path] = len(missing)
    assert missed == {path: len(reasons) for path, reasons in EXPECTED_AND_NOT_FOUND.items()}


def test_what_python_finds_in_the_corpus_is_found_or_the_reason_is_known() -> None:
    missed = {}
    for path in mails():
        if missing := left_over(opinion(path).found, read(path).attachments, is_the_same):
            missed[path.relative_to(CORPUS).as_posix()] = len(missing)
    assert missed == {path: len(reasons) for path, reasons in FOUND_BY_PYTHON_ONLY.items()}


def test_with_all_turned_on_nothing_is_missed_but_bodies() -> None:
    folder = CORPUS / "imap_tools"
    mails(folder)
    expected = found = 0
    for path, expectation in json.loads((folder / "expectations.json").read_text()).items():
        content = BytesContent((folder / path).read_bytes())
        missing = left_over(expectation["attachments"], read_message(content, ALL).attachments, is_expected)
        assert len(missing) == EXPECTED_AND_NOT_FOUND.get(path, []).count(BODY), path
        expected += len(expectation["attachments"])
        found += len(expectation["attachments"]) - len(missing)
    assert (found, expected) == (40, 43)
    for path in mails():
        content = BytesContent(path.read_bytes())
        missing = left_over(opinion(path).found, read_message(content, ALL).attachments, is_the_same)
        reasons = FOUND_BY_PYTHON_ONLY.get(path.relative_to(CORPUS).as_posix(), [])
        assert len(missing) == len(reasons) - reasons.count(PICTURE), path


def test_each_reason_is_true_of_what_is_missed() -> None:
    mails()
    for path, reasons in FOUND_BY_PYTHON_ONLY.items():
        missing = left_over(opinion(CORPUS / path).found, read(CORPUS / path).attachments, is_the_same)
        for theirs, reason in zip(missing, reasons, strict=True):
            assert reason != PICTURE or theirs.content_type.startswith("image/"), path
            assert reason != BODY or (theirs.content_type in {"text/plain", "text/html"} and not theirs.name), path


def test_the_headers_of_the_corpus_say_what_is_expected() -> None:
    folder = CORPUS / "imap_tools"
    mails(folder)
    unlike = {}
    for path, expectation in json.loads((folder / "expectations.json").read_text()).items():
        headers = read(folder / path).headers
        ours = {"subject": " ".join(headers.subject.split()), "from": headers.sender}
        theirs = {name: " ".join(expectation[name].split()) for name in ours if name in expectation}
        if different := [name for name, value in theirs.items() if value.lower() != ours[name].lower()]:
            unlike[path] = different
    assert unlike == HEADERS_UNLIKE
