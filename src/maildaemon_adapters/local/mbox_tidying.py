"""What is done to mails of an mbox afterwards: taken out of their file, or put behind those of another one first."""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Final

from maildaemon_adapters.local import locking, rewriting
from maildaemon_adapters.local.locking import Locks
from maildaemon_adapters.local.mbox_files import NO_MAIL, MboxFiles, reader_of
from maildaemon_adapters.local.mbox_format import Mail, NotMbox, Piece, ReadAt, header_block, mails, of_equal_ones
from maildaemon_adapters.local.shelf import Steps, missing, not_tidied, steps_below, trouble, unread
from maildaemon_core.errors import FolderMissing, MaildaemonError, Trouble
from maildaemon_core.headers import read_headers
from maildaemon_core.message import FolderRef, MessageRef
from maildaemon_core.options import Action, Aftercare
from maildaemon_core.ports import Known, Settled

Outcome = Settled | Trouble

_NO_FLAGS: Final = trouble("NoFlags", "mails of an mbox have no flags", "do without afterStore: seen", transient=False)
ONE_FILE: Final = trouble(
    "OneFile",
    "the mailbox is one file, and there is no other to move mails to",
    "name the folder in which it lies as `path`, and the file in `folders`",
    transient=False,
)
_ANOTHER: Final = trouble(
    "AnotherMail", "there is another mail than the one that was stored; it was kept", "nothing to do", transient=False
)
_EQUAL: Final = trouble(
    "EqualMails",
    "the file holds several mails that are equal to the last byte, and not all of them are stored yet; they were kept",
    "it will be tried again when all of them are",
)


def settle(files: MboxFiles, known: Sequence[Known], care: Aftercare) -> Mapping[MessageRef, Outcome]:
    """As ``MailSource.settle``."""
    if not known or care.action is Action.KEEP:
        return {mail.ref: Settled() for mail in known}
    if care.action is Action.SEEN:
        return {mail.ref: _NO_FLAGS for mail in known}
    if care.action is Action.MOVE and files.only is not None:
        return {mail.ref: ONE_FILE for mail in known}
    folder = known[0].ref.folder
    try:
        steps, name = files.way(folder)
        with files.faults(folder):
            files.finish(steps, name)
        if not _is_there(files, steps, name):
            raise missing(folder, files.disk.where)
        with files.faults(folder), files.writing(steps, name) as locks:
            return _settle(files, locks, name, known, care)
    except MaildaemonError as error:
        if isinstance(error.__cause__, OSError) and not isinstance(error, FolderMissing):
            return {mail.ref: not_tidied(f"the folder {folder}", error.__cause__) for mail in known}
        return {mail.ref: error.trouble() for mail in known}


def _is_there(files: MboxFiles, steps: Steps, name: str) -> bool:
    try:
        with files.disk.folder(steps) as inside:
            os.lstat(name, dir_fd=inside)
    except FileNotFoundError:
        return False
    except OSError:
        pass  # why it cannot be opened is said when it is
    return True


def _settle(
    files: MboxFiles, locks: Locks, name: str, wanted: Sequence[Known], care: Aftercare
) -> Mapping[MessageRef, Outcome]:
    read = reader_of(locks.file.descriptor)
    try:
        there = {mail.uid: mail for mail in mails(read, os.fstat(locks.file.descriptor).st_size)}
    except NotMbox as error:
        return {mail.ref: unread(f"the folder {mail.ref.folder}", error) for mail in wanted}
    answers, doomed = _judged(wanted, there, read)
    if doomed and care.action is Action.MOVE:
        target = FolderRef(care.folder or "")
        if target == wanted[0].ref.folder:
            return answers
        if refused := _append(files, locks, doomed, target):
            return {ref: answer if answer != Settled() else refused for ref, answer in answers.items()}
    if doomed:
        rewriting.remove(locks, name, [(mail.piece.start, mail.piece.stop) for mail in doomed], files.reached)
    return answers


def _judged(
    wanted: Sequence[Known], there: Mapping[str, Mail], read: ReadAt
) -> tuple[dict[MessageRef, Outcome], list[Mail]]:
    """What to answer about each mail, and which are to go.

    Equal mails cannot be told from each other once one of them is gone, so they go together or not at all.
    """
    asked = {mail.ref.uid for mail in wanted}
    alike: dict[str, set[str]] = defaultdict(set)
    for uid in there:
        alike[of_equal_ones(uid)].add(uid)
    answers: dict[MessageRef, Outcome] = {}
    doomed: dict[int, Mail] = {}
    for known in wanted:
        mail = there.get(known.ref.uid)
        if mail is None:
            answers[known.ref] = Settled(gone=True)
        elif read_headers(header_block(read, mail.piece)).fingerprint != known.identity.fingerprint:
            answers[known.ref] = _ANOTHER
        elif not alike[of_equal_ones(mail.uid)] <= asked:
            answers[known.ref] = _EQUAL
        else:
            answers[known.ref] = Settled()
            doomed[mail.piece.start] = mail
    return answers, [doomed[start] for start in sorted(doomed)]


def _append(files: MboxFiles, locks: Locks, doomed: Sequence[Mail], target: FolderRef) -> Trouble | None:
    """Appends the mails to another file, which is made if it is missing."""
    way = steps_below(target)
    if not way or target.endswith(NO_MAIL):
        return trouble(
            "NoSuchName",
            f"no file of a mailbox can be called {target!r}",
            "name one such as Done or Done/2026",
            transient=False,
        )
    above, name = way[:-1], way[-1]
    mode = stat.S_IMODE(os.fstat(locks.file.descriptor).st_mode)
    with ExitStack() as stack:
        at = stack.enter_context(files.disk.made(above))
        try:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, mode, dir_fd=at))
            os.fsync(at)
        except FileExistsError:
            pass
        with files.faults(target):
            files.finish(above, name)
        try:
            into = stack.enter_context(files.writing(above, name))
        except locking.Busy:
            return trouble("MailboxLocked", f"{target!r} is locked by another program", "it will be tried again")
        if not rewriting.begins_well(into.file.descriptor):
            return trouble(
                "NoMbox",
                f"the file of {target!r} is no mbox, and no mail is appended to it",
                "name another folder, or take the file away",
                transient=False,
            )
        files.reached("append")
        rewriting.append(into, [_with_end(locks.file.descriptor, mail.piece) for mail in doomed])
        files.reached("appended")
    return None


def _with_end(descriptor: int, piece: Piece) -> tuple[int, tuple[int, int], bytes]:
    """A mail for another file, with the empty line behind it that it may lack."""
    if piece.ended:
        return descriptor, (piece.start, piece.stop), b""
    last = os.pread(descriptor, 1, piece.stop - 1)
    return descriptor, (piece.start, piece.stop), b"\n" if last == b"\n" else b"\n\n"
