"""Mails of the kinds that matter to an archive, the same for the same seed, with the files that must come of each."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator

import attrs

from maildaemon_core.testing.mails import simple_mail
from tests.servers.dovecot import as_served

REFUSED = "spam@refused.example"
"""A sender whose mails nobody wants."""

WANTED = "firm.example"

BASE64 = 1.37
"""How much longer an attachment is in the mail than on the disk."""

Print = tuple[int, str]
"""What a file is known by: its size in bytes and its SHA-256."""


def print_of(data: bytes) -> Print:
    return len(data), hashlib.sha256(data).hexdigest()


@attrs.frozen(kw_only=True)
class Sample:
    """A mail as it is put on the server, and the prints of the files that come of it: itself first."""

    raw: bytes
    files: tuple[Print, ...]


@attrs.frozen(kw_only=True)
class Size:
    """How large a proof is: so many mails, ``large`` of them of ``large_bytes``; ``blows`` are kills or faults."""

    mails: int
    large: int
    large_bytes: int
    blows: int


SMALL = Size(mails=120, large=2, large_bytes=3 << 20, blows=4)
FULL = Size(mails=2000, large=6, large_bytes=20 << 20, blows=30)


def samples(size: Size, seed: int) -> Iterator[Sample]:
    """So many mails and one more, for two are the same to the last byte.

    Each eleventh is of a refused sender, each seventh has an attachment that others have too, some are hardly mails.
    """
    chance = random.Random(seed)
    large = set(chance.sample(range(10, size.mails), size.large))
    shared = chance.randbytes(2000)
    for number in range(size.mails):
        sender = f"jane{number % 9}@{WANTED}"
        attachments = []
        if number in large:
            attachments = [("large.bin", "application/octet-stream", chance.randbytes(int(size.large_bytes / BASE64)))]
        elif number % 7 == 3:
            attachments = [("report.pdf", "application/pdf", shared)]
        elif number % 11 == 5:
            sender = REFUSED
        text = "".join(chance.choices("abcdefghij äöü€\n", k=chance.randrange(4000)))
        raw = simple_mail(
            subject=f"message {number}",
            sender=sender,
            message_id=f"<{seed}.{number}@{WANTED}>",
            text=text,
            attachments=attachments,
        )
        if number % 13 == 6 and not attachments:
            raw += b"a lone \r, 8 bits \xe4\xff, bare\nline ends, and none at the end"
        served = as_served(raw)
        wanted = () if sender == REFUSED else (print_of(served), *(print_of(data) for _, _, data in attachments))
        yield Sample(raw=raw, files=wanted)
        if number == size.mails // 2:
            yield Sample(raw=raw, files=wanted)
