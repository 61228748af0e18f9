"""Whether a destination on a server would work: a small file is stored in the staging folder and removed again."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from maildaemon_adapters.files.staging import TRIAL, Folder, tidy
from maildaemon_adapters.files.tree import Fault, Showing, Tree, TreeError
from maildaemon_adapters.files.tree_faults import of_one_file, root_is_gone, unavailable
from maildaemon_core.errors import MaildaemonError, Trouble
from maildaemon_core.ports import Finding, Level

_SAMPLE: Final = b"maildaemon looks whether it can store files here; this one is removed at once.\r\n" * 25
_OLD: Final = 86_400.0
"""Seconds, after which whoever began a trial cannot be at it any more."""


def probe(tree: Tree, *, met: bool) -> Trouble | None:
    """Whether a small file can be stored just now: None if so.  ``met``: the root was there before, and has to be."""
    try:
        if tree.stat("") is None:
            return root_is_gone(tree.place).trouble() if met else None
        _store_a_sample(tree, again=False)
    except TreeError as error:
        return unavailable(error, tree.place).trouble()
    except MaildaemonError as error:
        return error.trouble()
    return None


def findings(tree: Tree) -> Sequence[Finding]:
    """What works, what does not, what to do about it.  Leaves nothing behind."""
    try:
        return [_of_root(tree), *_of_showing(tree), *tree.findings()]
    except TreeError as error:
        failed = unavailable(error, tree.place)
    except MaildaemonError as error:
        failed = error
    return [Finding(level=Level.FAULT, subject=tree.place, message=failed.message, remedy=failed.remedy)]


def _of_root(tree: Tree) -> Finding:
    found = tree.stat("")
    if found is None:
        return Finding(
            level=Level.WARNING,
            subject=tree.place,
            message="the server answers, but there is no such folder yet; the first mail makes it, and only then it is "
            "known whether that is allowed",
            remedy="make the folder if it is to be looked at now",
        )
    if not found.is_folder:
        return Finding(
            level=Level.FAULT,
            subject=tree.place,
            message="is not a folder",
            remedy="name another folder, or move away what lies there",
        )
    if not _store_a_sample(tree, again=True):
        return Finding(
            level=Level.FAULT,
            subject=tree.place,
            message="the server puts a file over another one of the same name, so that mails could be lost",
            remedy="have the server refuse to overwrite, or use another kind of destination",
        )
    how = "renamed" if tree.showing is Showing.RENAME else "copied to its name"
    return Finding(level=Level.FINE, subject=tree.place, message=f"a file was written, {how}, read back and removed")


def _of_showing(tree: Tree) -> Sequence[Finding]:
    if tree.showing is Showing.RENAME:
        return ()
    return [
        Finding(
            level=Level.FINE,
            subject=tree.place,
            message="files are stored at least once here: if maildaemon or the connection dies at the wrong moment, "
            "and the file was taken already, it comes a second time",
        )
    ]


def _store_a_sample(tree: Tree, *, again: bool) -> bool:
    """Stores and removes a file in the staging folder, where no consumer looks.

    ``again``: also tries to store another one over it; True if that was refused, as it has to be.  Raises
    ``TreeError``.
    """
    folder = Folder(f"{TRIAL}{time.time():.0f}-{secrets.token_hex(8)}")
    try:
        refused = _tried(tree, folder, again=again)
    except TreeError as error:
        if of_one_file(error):  # else asking again would only take long
            _cleared(tree, folder)
        raise
    _cleared(tree, folder)
    return refused


def _tried(tree: Tree, folder: Folder, *, again: bool) -> bool:
    folder.begin(tree)
    sample, shown = folder.part("sample"), folder.part("shown")
    tree.write(sample, [_SAMPLE], size=len(_SAMPLE))
    tree.publish(sample, shown)
    if b"".join(tree.read(shown)) != _SAMPLE:
        raise TreeError(Fault.OTHER, "what was written does not read back the same")
    if not again:
        return True
    tree.write(sample, [_SAMPLE], size=len(_SAMPLE))
    try:
        tree.publish(sample, shown)
    except TreeError as error:
        if error.fault is not Fault.EXISTS:
            raise
        return True
    return False


def _cleared(tree: Tree, folder: Folder) -> None:
    with suppress(TreeError):
        folder.forget(tree)
    tidy(tree, time.time(), _OLD)
