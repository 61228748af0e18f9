"""What sources of files answer alike, however mails lie in them: whether a folder is in order, what tidying came to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import attrs

from maildaemon_adapters.local.shelf import not_tidied
from maildaemon_core.errors import FolderMissing, MaildaemonError, Trouble
from maildaemon_core.message import FolderRef, MessageRef
from maildaemon_core.ports import Finding, FolderInfo, Known, Level, Settled


def settle_each(
    mails: Sequence[Known],
    act: Callable[[Known], Settled | Trouble],
    *,
    named: Callable[[str], str],
    sync: Callable[[], None],
) -> Mapping[MessageRef, Settled | Trouble]:
    """One mail after the other by ``act``, each with its own fault; ``named`` gives the name of its file by its uid.

    Then what was done reaches the disk by ``sync``, or a power cut would bring back what the ledger says is gone.  What
    has not is to be done again.
    """
    answers: dict[MessageRef, Settled | Trouble] = {}
    for mail in mails:
        try:
            answers[mail.ref] = act(mail)
        except OSError as error:
            answers[mail.ref] = not_tidied(named(mail.ref.uid), error)
        except FolderMissing as error:
            answers[mail.ref] = error.trouble()
    try:
        if any(answer == Settled() for answer in answers.values()):
            sync()
    except OSError as error:
        return {ref: not_tidied(ref.uid, error) if each == Settled() else each for ref, each in answers.items()}
    return answers


def check_folder(
    folder: FolderRef,
    number: Callable[[], int],
    names: Callable[[], Sequence[FolderInfo]],
    *,
    how: str = "",
    may_tidy: Callable[[], bool],
    lacking: tuple[str, str],
) -> Finding:
    """Whether a folder can be read, and tidied as far as that is wanted.

    ``number`` counts its mails; ``names``, and ``how`` to make one where there are none, are told if it is missing;
    where it cannot be tidied, ``lacking`` says why, and what to do about that.
    """
    subject = f"folder {folder}"
    try:
        count = number()
    except FolderMissing as error:
        there = ", ".join(sorted(info.name for info in names())[:20])
        remedy = f"{error.remedy}; there are: {there}" if there else how or error.remedy
        return attrs.evolve(Finding.of(subject, error), remedy=remedy)
    except MaildaemonError as error:
        return Finding.of(subject, error)
    mails = "1 mail" if count == 1 else f"{count} mails"
    if not may_tidy():
        why, remedy = lacking
        message = f"{mails}, and they may not be tidied: {why}"
        return Finding(level=Level.FAULT, subject=subject, message=message, remedy=remedy)
    return Finding(level=Level.FINE, subject=subject, message=f"can be read; {mails}")
