"""Reading is linear in the mail, whatever is in it: bytes asked for and steps taken are counted, C code is timed.

What is counted are the bytes that the mail's content hands out, and the lines of our own code that run (by
``sys.settrace``): both are the same each time.  A line may have C code go over many bytes (``find``, a pattern,
``translate``), and whether it does so over the same ones again and again cannot be counted from here; so the time of
the processor is looked at too, and only to tell eight times from sixty-four.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import pytest

import maildaemon_core
from maildaemon_core.message import BytesContent, Content
from maildaemon_core.mime import read_message
from maildaemon_core.reading import NESTING_CAP, Reading
from tests.core.test_mime import CountingContent, whole

EVERYTHING = Reading(attached_mails="both", inline_pictures=False)
OURS = maildaemon_core.__path__[0]


def nasty(size: int) -> dict[str, bytes]:
    """Mails of about ``size`` bytes at which careless readers take quadratic time."""
    mixed = b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n'
    nest = [b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(size // 60)]
    picture = b"--b\r\nContent-Type: text/html\r\n\r\n" + b"cid:" * (size // 4)
    picture += b"\r\n--b\r\nContent-Type: image/png\r\nContent-ID: <x>\r\n\r\n1\r\n--b--"
    encoded = b"Content-Type: x/y\r\nContent-Transfer-Encoding: "
    return {
        "many lines that look like delimiters": mixed + b"--c\r\n" * (size // 5),
        "many empty dashes": mixed + b"--\n" * (size // 3),
        "one line of dashes": mixed + b"-" * size,
        "many delimiters": mixed + b"--b\r\n" * (size // 5),
        "many closing delimiters": mixed + b"--b\r\n--b--\r\n" * (size // 12),
        "deep nesting": b"".join(nest),
        "one boundary for all": (mixed + b"--b\r\n") * (size // 52),
        "one long header line": b"Subject: " + b"a " * (size // 2),
        "many folds": b"Subject: a" + b"\r\n a" * (size // 4),
        "many headers": b"To: a@b\r\n" * (size // 9),
        "lines that are no headers": b"nothing\r\n" * (size // 9),
        "encoded words that never end": b"Subject: " + b"=?a?q?b" * (size // 7),
        "encoded words that end late": b"Subject: " + b"=?a?q?b" * (size // 7) + b"?=",
        "neighbouring encoded words": b"Subject: " + b"=?utf-8?q?a?= " * (size // 14),
        "open comments": b"From: " + b"(" * size,
        "open quotes": b"From: " + b'"(' * (size // 2),
        "blanks in an address": b"From: a" + b" " * size + b"@b",
        "many addresses": b"From: " + b"a b," * (size // 4),
        "many parameters": b"Content-Type: a/b" + b"; a*0=b" * (size // 7),
        "quotes in parameters": b'Content-Type: a/b; name="' + b'a"b\\"' * (size // 5),
        "references to pictures": mixed + picture,
        "padding": encoded + b"base64\r\n\r\n" + b"=" * size,
        "many short groups": encoded + b"base64\r\n\r\n" + b"QQ==" * (size // 4),
        "escapes that are none": encoded + b"quoted-printable\r\n\r\n" + b"=" * size,
        "blanks at the end of a line": encoded + b"quoted-printable\r\n\r\n" + b" \t" * (size // 2) + b"x",
    }


def hostile(size: int) -> dict[str, bytes]:
    """More mails of about ``size`` bytes at which careless readers take quadratic time."""
    mixed = b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n'
    disposition = b"Content-Type: a/b\r\nContent-Disposition: attachment; "
    body = b"Content-Type: a/b\r\nContent-Transfer-Encoding: "
    picture = b"\r\n--b\r\nContent-Type: image/png\r\nContent-ID: <x>\r\n\r\n1\r\n--b--"
    page = mixed + b"--b\r\nContent-Type: text/html\r\n\r\n"
    unseen = (
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (number, number)
        + b"\r\n".join(b"--c%d" % each for each in range(20))
        for number in range(size // 200)
    )
    small = b"--b\r\nContent-Type: a/b; name=a\r\n\r\n\r\n"
    percent = b"".join(b"filename*%d*=%%c3; " % number for number in range(size // 17))
    return {
        "many small parts": mixed + small * (size // len(small)),
        "many parts of one line": mixed + b"--b\r\n\r\n" * (size // 7),
        "boundaries that never come": b"".join(unseen),
        "nested mails": b"Content-Type: message/rfc822\r\n\r\n" * (size // 32),
        "nested mails in multiparts": (mixed + b"--b\r\nContent-Type: message/rfc822\r\n\r\n") * (size // 85),
        "one giant header": b"X: " + b"x" * size + b"\r\n\r\nbody",
        "a header without colons": b"x" * size,
        "a header of blanks": b"Subject: a" + b"\r\n " * (size // 3) + b"x",
        "a header of tabs": b"Subject:" + b"\t" * size + b"x",
        "a name of a header that never ends": (b"x" * 997 + b"\r\n") * (size // 1000),
        "many different headers": b"".join(b"x%d: y\r\n" % number for number in range(size // 10)),
        "header lines between lines that are none": b"a: b\r\nnothing\r\n" * (size // 15),
        "many continuations": disposition + b"".join(b"filename*%d=a; " % n for n in range(size // 16)),
        "many extended continuations": disposition + percent,
        "continuations that come again": disposition + b"filename*0*=utf-8''a; " * (size // 22),
        "extended names that come again": disposition + b"filename*=utf-8''%41; " * (size // 22),
        "apostrophes": disposition + b"filename*=" + b"'" * size,
        "percent signs": disposition + b"filename*=utf-8''" + b"%" * size,
        "semicolons": disposition + b";" * size,
        "equals signs": disposition + b"=" * size,
        "backslashes": disposition + b'filename="' + b"\\" * size,
        "quotes": disposition + b"filename=" + b'"' * size,
        "openings of words": b"Subject: " + b"=?" * (size // 2),
        "question marks": b"Subject: =?utf-8?q?" + b"?" * size,
        "words in words": b"Subject: " + b"=?utf-8?q?" * (size // 10) + b"?=" * (size // 10),
        "words of many charsets": b"Subject: " + b"".join(b"=?x%d?q?a?= " % n for n in range(size // 14)),
        "words of an unknown charset": b"Subject: =?x-none?q?" + b"=c3" * (size // 3) + b"?=",
        "comments in comments": b"From: " + b"(" * (size // 2) + b")" * (size // 2),
        "comments side by side": b"From: " + b"(a)" * (size // 3) + b"a@b",
        "brackets": b"From: " + b"<" * size,
        "groups": b"From: " + b"a:" * (size // 2),
        "at signs": b"From: " + b"a@" * (size // 2),
        "escaped quotes in an address": b'From: "' + b'\\"' * (size // 2),
        "fields From that cannot be read": b"From: a b\r\n" * (size // 11),
        "carriage returns in a header": b"Subject: " + b"\r" * size,
        "lines of carriage returns": (b"\r" * 99 + b"\n") * (size // 100),
        "carriage returns in a body": mixed + b"--b\r\n\r\n" + b"\r" * size,
        "line feeds": mixed + b"\n" * size,
        "dashes at each line": mixed + b"--b-\r\n" * (size // 6),
        "long lines with dashes": mixed + (b"--" + b"b" * 996 + b"\r\n") * (size // 1000),
        "half a reference": page + b"cid" * (size // 3) + picture,
        "references with escapes": page + b"cid:" + b"&amp;%41" * (size // 8) + picture,
        "references side by side": page + b"'cid:x'" * (size // 7) + picture,
        "texts with uuencoded files": b"\r\n" + b"begin 644 a\r\n#86)C\r\nend\r\n" * (size // 26),
        "texts in which none begins": b"\r\n" + b"begin 644 a\r\n" * (size // 13),
        "text that looks uuencoded": body + b"x-uuencode\r\n\r\n" + b"begin 644 a\r\n" * (size // 13),
        "uuencoded text": body + b"x-uuencode\r\n\r\nbegin 644 a\r\n" + (b"M" + b"A" * 60 + b"\r\n") * (size // 63),
        "uuencoded text in one line": body + b"x-uuencode\r\n\r\nbegin 644 a\n" + b"M" * size,
        "foreign characters in base64": body + b"base64\r\n\r\n" + b"Q!U?J#D " * (size // 8),
        "base64 in one line": body + b"base64\r\n\r\n" + b"QUJD" * (size // 4),
        "one letter and much padding": body + b"base64\r\n\r\n" + b"Q=" * (size // 2),
        "quoted-printable in one line": body + b"quoted-printable\r\n\r\n" + b"=41" * (size // 3),
        "quoted-printable with soft breaks": body + b"quoted-printable\r\n\r\n" + b"a=\n" * (size // 3),
        "letters in one line of quoted-printable": body + b"quoted-printable\r\n\r\n" + b"a" * size,
    }


def every_trap(size: int) -> dict[str, bytes]:
    return {**nasty(size), **hostile(size)}


def work(content: Content) -> None:
    """All that is done with a mail: it is read, and each attachment once more."""
    for found in read_message(content, EVERYTHING).attachments:
        whole(found.content)


def steps(work: Callable[[], object]) -> int:
    """How many lines of our own code run."""
    counted = 0

    def line(_: FrameType, event: str, __: Any) -> Any:
        nonlocal counted
        counted += event == "line"
        return line

    def frame(called: FrameType, _: str, __: Any) -> Any:
        return line if called.f_code.co_filename.startswith(OURS) else None

    before = sys.gettrace()
    sys.settrace(frame)
    try:
        work()
    finally:
        sys.settrace(before)
    return counted


@pytest.mark.parametrize("trap", every_trap(100))
def test_the_bytes_looked_at_are_a_few_times_those_of_the_mail(trap: str) -> None:
    content = CountingContent(every_trap(50_000)[trap])
    work(content)
    assert content.looked_at <= 4 * (1 + NESTING_CAP) * content.size  # a mail within is one more mail
    content = CountingContent(every_trap(50_000)[trap])
    read_message(content)
    assert content.looked_at <= 4 * content.size


@pytest.mark.parametrize("trap", every_trap(100))
def test_the_steps_taken_grow_with_the_mail_and_no_faster(trap: str) -> None:
    small, large = (steps(partial(work, BytesContent(every_trap(size)[trap]))) for size in (3000, 12_000))
    assert large <= 5 * small + 1000  # quadratic would be 16 times


def test_steps_tell_what_is_quadratic_from_what_is_not() -> None:
    def first_of_many(size: int) -> None:
        for at in range(size):
            read_message(BytesContent(b"a: b\r\n" * at))

    assert steps(lambda: first_of_many(80)) > 5 * steps(lambda: first_of_many(20)) + 1000


@pytest.mark.heavy
@pytest.mark.parametrize("trap", every_trap(100))
def test_eight_times_the_mail_takes_about_eight_times_as_long(trap: str, heavy: bool) -> None:
    size = 125_000 if heavy else 20_000

    def seconds(size: int) -> float:
        raw = every_trap(size)[trap]
        began = time.process_time()
        work(BytesContent(raw))
        return time.process_time() - began

    small, large = min(seconds(size) for _ in range(3)), min(seconds(8 * size) for _ in range(2))
    assert large < 30 * small + 0.05  # quadratic would be 64 times
