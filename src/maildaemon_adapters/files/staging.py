"""The batch folder of a destination on a server: ``.maildaemon/<batch>/``, and the file that says that it stands."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import attrs

from maildaemon_adapters.files.paths import STAGING, PathRefused, component
from maildaemon_adapters.files.tree import Fault, Tree, TreeError
from maildaemon_core.message import BatchId

MARKER: Final = "standing"
"""A batch stands as long as this file lies in its folder: written before any part, removed before any part."""

TRIAL: Final = "trial-"
"""Begins the name of a folder in which it is tried whether files can be stored; no batch's name looks like that."""

TRIES: Final = 5
"""How often a folder is made again that somebody else removes at the same time."""

_NOTE: Final = b"While this file lies here, parts that are missing beside it were published.\n"


@attrs.frozen
class Folder:
    """The folder of one batch, or of one trial, as paths."""

    name: str

    @property
    def path(self) -> str:
        return f"{STAGING}/{self.name}"

    @property
    def marker(self) -> str:
        return f"{self.path}/{MARKER}"

    def part(self, name: str) -> str:
        """Where a part lies.  Raises ``PathRefused``."""
        if name == MARKER:
            raise PathRefused(f"a part cannot be called {MARKER!r}", remedy="give it another name")
        return f"{self.path}/{component(name, name)}"

    def begin(self, tree: Tree) -> None:
        """Makes the folder and marks it as standing.  Raises ``TreeError``, ``MISSING`` if the root is missing."""
        for left in reversed(range(TRIES)):
            try:
                self._make(tree)
                tree.write(self.marker, [_NOTE], size=len(_NOTE))
                return
            except TreeError as error:  # another worker found a folder empty and removed it
                if error.fault is not Fault.MISSING or not left:
                    raise
                if tree.stat("") is None:
                    raise

    def _make(self, tree: Tree) -> None:
        try:
            tree.make_folder(self.path)
        except TreeError as error:
            if error.fault is not Fault.MISSING:
                raise
            tree.make_folder(STAGING)
            tree.make_folder(self.path)

    def stands(self, tree: Tree) -> bool:
        """Whether it was not forgotten until now."""
        return tree.stat(self.marker) is not None

    def forget(self, tree: Tree) -> None:
        """Removes it.  First it stands no more, so that a half removed one is never taken for a published one."""
        tree.remove(self.marker)
        for named in tree.names(self.path):
            if not named.is_folder and named.name != MARKER:
                tree.remove(f"{self.path}/{named.name}")
        tree.remove_folder(self.path)

    def forget_if_empty(self, tree: Tree) -> None:
        """Removes it if nothing was staged in it."""
        if all(named.name == MARKER for named in tree.names(self.path)):
            self.forget(tree)


def batch_folder(batch: BatchId) -> Folder:
    """The folder of a batch.  Raises ``PathRefused``: mailboxes' ids are UUIDs, so this is nobody's mail."""
    return Folder(component(str(batch), str(batch)))


def batches(tree: Tree) -> list[BatchId]:
    """The batches that stand, and those that somebody died over while forgetting them.  Raises ``TreeError``."""
    parsed = (BatchId.parse(named.name) for named in tree.names(STAGING) if named.is_folder)
    return [batch for batch in parsed if batch is not None]


def tidy(tree: Tree, now: float, lifetime: float) -> None:
    """Removes the trials that somebody died over, and the staging folder if nothing lies in it.

    ``now`` and ``lifetime`` in seconds: a trial's name says when it began.
    """
    with suppress(TreeError):
        for named in tree.names(STAGING):
            begun = named.name.removeprefix(TRIAL).partition("-")[0]
            old = named.name.startswith(TRIAL) and begun.isdecimal() and now - int(begun) > lifetime
            if old and named.is_folder:
                Folder(named.name).forget(tree)
        tree.remove_folder(STAGING)
