"""How mails are taken out of an mbox so that nothing is lost, wherever it is interrupted.

The file stays the same one (a program that waits for its lock would append to a removed file, were another put in its
place; rights and owner stay as well).  What follows the first mail to go is first written to a journal beside the file,
durably; then into its new place; then the file is cut, and the journal goes.  Whoever opens the mailbox next finishes
what a journal tells, and keeps what was appended in between.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

import attrs

from maildaemon_adapters.local.disk import sync
from maildaemon_adapters.local.locking import Locks
from maildaemon_adapters.local.mbox_format import BLOCK

Range = tuple[int, int]

Reached = Callable[[str], None]
"""Told of each step before it is done, for proofs that it may be the last."""

_BEFORE: Final = 1 << 16
"""So many bytes in front of the change are looked at to know the file again."""

_LONGEST_HEAD: Final = 4096

_JOURNAL: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""Opening a pipe would wait for its other end, were it not for O_NONBLOCK (fifo(7))."""


class Foreign(Exception):
    """Beside the file lies what is called as its journal, and somebody else has made it."""


class Torn(Exception):
    """A rewriting was interrupted, and the file was changed since by somebody else: only a person can tell."""


def _nothing(_: str) -> None:
    """Nobody wants to know."""


def journal_of(name: str) -> str:
    return f".{name}.maildaemon"


def has_journal(folder: int, name: str) -> bool:
    """Raises OSError."""
    try:
        os.lstat(journal_of(name), dir_fd=folder)
    except FileNotFoundError:
        return False
    return True


def remove(locks: Locks, name: str, ranges: Sequence[Range], reached: Reached = _nothing) -> None:
    """Takes these ranges of bytes, in ascending order, out of the file.  Raises OSError with nothing changed, or with a
    journal that tells the rest, and ``Torn``.
    """
    size = os.fstat(locks.file.descriptor).st_size
    sources = [(locks.file.descriptor, kept) for kept in _between(ranges, size)]
    _write_journal(locks, name, reached, size=size, start=ranges[0][0], sources=sources)
    finish(locks, name, reached)


def _between(ranges: Sequence[Range], size: int) -> Sequence[Range]:
    """What is left behind the beginning of the first range."""
    ends = [end for _, end in ranges]
    starts = [*(start for start, _ in ranges[1:]), size]
    return [(end, start) for end, start in zip(ends, starts, strict=True) if end < start]


_a_place = attrs.validators.and_(attrs.validators.instance_of(int), attrs.validators.ge(0))


@attrs.frozen(kw_only=True)
class _Plan:
    """``size``: of the file before.  ``start``: from where it changes.  ``length``: of it afterwards.

    ``before``, ``gone``, ``tail``: digests of what is in front of ``start``, of what lay behind ``length``, and of what
    the file is to hold from ``start``.
    """

    size: int = attrs.field(validator=_a_place)
    start: int = attrs.field(validator=_a_place)
    length: int = attrs.field(validator=_a_place)
    before: str
    gone: str
    tail: str


def _write_journal(
    locks: Locks, name: str, reached: Reached, *, size: int, start: int, sources: Sequence[tuple[int, Range]]
) -> None:
    """``sources``: what is to follow from ``start`` on, in which open files it lies."""
    file = locks.file.descriptor
    length = start + sum(end - begin for _, (begin, end) in sources)
    plan = _Plan(
        size=size,
        start=start,
        length=length,
        before=_before(file, start),
        gone=_digest(file, length, size, locks),
        tail=_digest_of(_pieces(sources, locks)),
    )
    made = f"{journal_of(name)}.new"
    with suppress(FileNotFoundError):
        os.unlink(made, dir_fd=locks.folder)
    reached("journal")
    out = os.open(made, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=locks.folder)
    try:
        _write(out, json.dumps(attrs.asdict(plan)).encode() + b"\n")
        for piece in _pieces(sources, locks):
            reached("journal piece")
            _write(out, piece)
        os.fsync(out)
    except OSError:
        os.unlink(made, dir_fd=locks.folder)
        raise
    finally:
        os.close(out)
    reached("journal name")
    os.rename(made, journal_of(name), src_dir_fd=locks.folder, dst_dir_fd=locks.folder)
    sync(locks.folder)


def finish(locks: Locks, name: str, reached: Reached = _nothing) -> None:
    """Does what the journal tells, as far as it is not done.  Raises OSError, ``Foreign`` and ``Torn``."""
    file = locks.file.descriptor
    while True:
        journal = os.open(journal_of(name), _JOURNAL, dir_fd=locks.folder)
        try:
            _require_own(journal, file)
            plan, head = _read(journal, name)
            size = os.fstat(file).st_size
            if size < plan.length or _before(file, plan.start) != plan.before:
                raise Torn
            tail = plan.length - plan.start
            if _digest_of(_pieces([(journal, (head, head + tail))], locks)) != plan.tail:
                raise Torn
            if size < plan.size or _digest(file, plan.length, plan.size, locks) != plan.gone:
                if _digest(file, plan.start, plan.length, locks) != plan.tail:
                    raise Torn
                break  # it was cut already; what is behind was appended since
            if size > plan.size:  # somebody appended before it was cut: that is kept, too
                sources = [(journal, (head, head + tail)), (file, (plan.size, size))]
                _write_journal(locks, name, reached, size=size, start=plan.start, sources=sources)
                continue
            _put(locks, journal, head, plan, reached)
            reached("cut")
            if os.fstat(file).st_size == plan.size:
                os.ftruncate(file, plan.length)
                os.fsync(file)
                break
        finally:
            os.close(journal)
    reached("journal gone")
    os.unlink(journal_of(name), dir_fd=locks.folder)
    sync(locks.folder)


def _require_own(journal: int, file: int) -> None:
    """Raises ``Foreign`` for what neither we have made nor one who may write the file anyway.

    Where everybody may make files (``/var/mail`` with the sticky bit), anybody could tell us what to write.
    """
    found = os.fstat(journal)
    if not stat.S_ISREG(found.st_mode) or found.st_uid not in {os.geteuid(), os.fstat(file).st_uid}:
        raise Foreign


def _put(locks: Locks, journal: int, head: int, plan: _Plan, reached: Reached) -> None:
    """Writes what is to follow into its place."""
    at = plan.start
    for piece in _pieces([(journal, (head, head + plan.length - plan.start))], locks):
        reached("piece")
        left = memoryview(piece)
        while left:
            number = os.pwrite(locks.file.descriptor, left, at)
            left, at = left[number:], at + number
    os.fsync(locks.file.descriptor)


def _read(journal: int, name: str) -> tuple[_Plan, int]:
    line, end, _ = os.pread(journal, _LONGEST_HEAD, 0).partition(b"\n")
    try:
        found: dict[str, Any] = json.loads(line)
        return _Plan(**found), len(line) + len(end)
    except (ValueError, TypeError, RecursionError):
        raise Torn from None


def _before(file: int, start: int) -> str:
    number = min(start, _BEFORE)
    return hashlib.sha256(os.pread(file, number, start - number)).hexdigest()


def _digest(file: int, start: int, stop: int, locks: Locks) -> str:
    return _digest_of(_pieces([(file, (start, stop))], locks))


def _digest_of(pieces: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def _pieces(sources: Sequence[tuple[int, Range]], locks: Locks) -> Iterator[bytes]:
    for descriptor, (start, stop) in sources:
        at = start
        while at < stop:
            piece = os.pread(descriptor, min(BLOCK, stop - at), at)
            if not piece:
                raise OSError(f"the file ended at {at} instead of {stop}")
            yield piece
            at += len(piece)
            locks.touch()


def _write(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def begins_well(file: int) -> bool:
    """Whether mails may be appended to the open file: it is an mbox, or empty."""
    return os.pread(file, 5, 0) in {b"", b"From "}


def append(locks: Locks, sources: Sequence[tuple[int, Range, bytes]]) -> None:
    """Appends ranges of open files, each with what is to follow it, durably, all or none of them.

    What was appended in just this way the last time is not appended again: we died before it was taken out elsewhere.
    """
    file = locks.file.descriptor
    size = os.fstat(file).st_size
    number = sum(stop - start + len(end) for _, (start, stop), end in sources)
    if size >= number and _digest(file, size - number, size, locks) == _digest_of(_appended(sources, locks)):
        os.fsync(file)
        return
    at = size
    ending = os.pread(file, 2, max(0, size - 2))
    gap = b"" if not size or ending == b"\n\n" else b"\n" if ending.endswith(b"\n") else b"\n\n"
    try:
        for piece in (gap, *_appended(sources, locks)) if gap else _appended(sources, locks):
            left = memoryview(piece)
            while left:
                written = os.pwrite(file, left, at)
                left, at = left[written:], at + written
        os.fsync(file)
    except OSError:
        os.ftruncate(file, size)
        raise


def _appended(sources: Sequence[tuple[int, Range, bytes]], locks: Locks) -> Iterator[bytes]:
    for descriptor, bounds, end in sources:
        yield from _pieces([(descriptor, bounds)], locks)
        if end:
            yield end
