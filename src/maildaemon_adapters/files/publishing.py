"""A destination made of a tree: in which order things happen on a server, so that files come whole and exactly once.

A batch is staged under ``.maildaemon/<batch>/`` and stands as long as its marker lies there.  A part leaves that folder
by being published and by nothing else, while the batch stands: so a part that is gone beside its marker was published.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final, Literal

from maildaemon_adapters.files import tree_trial
from maildaemon_adapters.files.contents import unreadable
from maildaemon_adapters.files.paths import PathBlocked, PathRefused, components
from maildaemon_adapters.files.side_by_side import at_once
from maildaemon_adapters.files.staging import Folder, batch_folder, batches
from maildaemon_adapters.files.tree import Fault, Tree, TreeError
from maildaemon_adapters.files.tree_faults import concerning_all, file_trouble, of_one_file, root_is_gone
from maildaemon_core.errors import Trouble
from maildaemon_core.message import BatchId, Content
from maildaemon_core.ports import Finding, Occupied, Put, Staged, StillStaged, Unknown, WasPublished
from maildaemon_core.progress import Receipt

Published = Receipt | Occupied | Unknown | Trouble
Became = StillStaged | WasPublished | Unknown | Trouble

_KNOWN_FOLDERS: Final = 4096
"""So many folders are remembered as being there; then it is begun anew, so that years of dates fill no memory."""

_PATIENCE: Final = 20
"""So often a folder is made anew that somebody removes at the same time: a consumer that tidies after each file that it
takes does so many times a second, and a new path may take several requests."""

_FLEETING: Final = {Fault.MISSING, Fault.EXISTS, Fault.OTHER}
"""What is said of a folder that was there when it was to be made, and was gone when it was looked at, or the reverse;
OpenSSH has no words for it."""


class _Reading:
    """The pieces of a content on their way: counted and digested, and its errors told apart from the server's."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._digest = hashlib.sha256()
        self.size = 0
        self.error: Exception | None = None

    def pieces(self) -> Iterator[bytes]:
        try:
            for piece in self._content.chunks():
                self._digest.update(piece)
                self.size += len(piece)
                yield piece
            if self.size != self._content.size:
                raise ValueError(f"it was to have {self._content.size} bytes and has {self.size}")
        except Exception as error:
            self.error = error
            raise

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


class PublishingDestination:
    """Files below the root of a tree.  Used by several threads, and by many processes at once.

    ``verify``: after a part was written its size is asked for, or it is read back and its digest compared.  Whatever
    the tree raises concerning one file becomes a ``Trouble``; what concerns all is raised as ``DestinationUnavailable``
    or ``LoginRefused``.  A connection that breaks leaves open what was done: ``recover`` finds out.
    """

    def __init__(self, tree: Tree, *, verify: Literal["size", "digest"] = "size") -> None:
        self._tree = tree
        self._verify = verify
        self._met = False
        self._begun: set[BatchId] = set()
        self._folders: set[str] = set()

    def __repr__(self) -> str:
        return f"PublishingDestination({self.place!r})"

    @property
    def tree(self) -> Tree:
        """What it is made of."""
        return self._tree

    @property
    def place(self) -> str:
        """Where it really is, as the tree says."""
        return self._tree.place

    def check(self) -> Sequence[Finding]:
        """Looks whether the root is there, stores a small file and removes it, and says what the server cannot do."""
        return tree_trial.findings(self._tree)

    def probe(self) -> Trouble | None:
        """Writes, publishes and removes a small file.  A root that is missing counts if it never was there."""
        return tree_trial.probe(self._tree, met=self._met)

    # ------------------------------------------------------------------------------------------------------ staging

    def stage(self, batch: BatchId, puts: Sequence[Put]) -> Mapping[str, Staged | Trouble]:
        """Marks the batch as standing and writes each part beside the marker, several at once.

        Makes the root when it is missing, once: if it goes away later, something was unmounted.
        Raises ``DestinationUnavailable``, ``LoginRefused``.
        """
        folder = batch_folder(batch)
        with concerning_all(self.place):
            self._begin(batch, folder)
            answers = at_once(self._tree.at_once, puts, lambda put: self._write(folder, put))
            parts = {put.part: answer for put, answer in zip(puts, answers, strict=True)}
            staged = {part for part, answer in parts.items() if isinstance(answer, Staged)}
            if not staged:
                folder.forget_if_empty(self._tree)
                self._begun.discard(batch)
            elif not folder.stands(self._tree):
                self._begun.discard(batch)
                gone = Trouble(error="BatchGone", message=f"the batch {batch} was removed while it was written")
                return {part: gone if part in staged else answer for part, answer in parts.items()}
        return parts

    def _begin(self, batch: BatchId, folder: Folder) -> None:
        if batch in self._begun:
            return
        try:
            folder.begin(self._tree)
        except TreeError as error:
            if error.fault is not Fault.MISSING:
                raise
            if self._met:
                raise root_is_gone(self.place) from error
            self._tree.make_folder("")
            folder.begin(self._tree)
        self._met = True
        self._begun.add(batch)

    def _write(self, folder: Folder, put: Put) -> Staged | Trouble:
        """Writes one part; leaves nothing behind if that does not succeed."""
        try:
            components(put.path)
            part = folder.part(put.part)
        except PathRefused as error:
            return error.trouble()
        reading = _Reading(put.content)
        try:
            self._tree.write(part, reading.pieces(), size=put.content.size)
            if reading.error is not None:
                raise reading.error
            fault = self._doubts(part, reading, put)
        except Exception as error:
            if reading.error is not None:
                return self._withdrawn(part, unreadable(put.path, reading.error))
            if not isinstance(error, TreeError) or not of_one_file(error):
                raise
            return self._withdrawn(part, file_trouble(error, self.place, put.path))
        if fault is not None:
            return self._withdrawn(part, fault)
        return Staged(part=put.part, path=put.path, size=reading.size, sha256=reading.sha256)

    def _doubts(self, part: str, reading: _Reading, put: Put) -> Trouble | None:
        """Why what lies on the server now is not what was sent; None if it is."""
        size, whole = self._size(part), put.content.size
        if size != whole or reading.size != whole:
            there = "is not there" if size is None else f"has {size}"
            return self._damaged(put.path, f"{whole} bytes were to be written, and what lies there {there}")
        if self._verify == "digest" and self._digest(part) != reading.sha256:
            return self._damaged(put.path, "what was written does not read back the same")
        return None

    def _damaged(self, path: str, what: str) -> Trouble:
        return Trouble(
            error="DestinationFailed",
            message=f"{path} cannot be stored below {self.place}: {what}",
            remedy="it will be written anew; look at the server's log and its disks if this happens again",
        )

    def _withdrawn(self, part: str, trouble: Trouble) -> Trouble:
        with suppress(TreeError):
            self._tree.remove(part)
        return trouble

    # --------------------------------------------------------------------------------------------------- publishing

    def publish(self, batch: BatchId, staged: Sequence[Staged]) -> Mapping[str, Published]:
        """Shows each part under its path, refusing whatever is there already; makes the folders that are missing.

        Raises ``DestinationUnavailable``, ``LoginRefused``: that says nothing about what was published.
        """
        folder = batch_folder(batch)
        with concerning_all(self.place):
            answers = at_once(self._tree.at_once, staged, lambda each: self._publish(folder, each))
        return {each.part: answer for each, answer in zip(staged, answers, strict=True)}

    def _publish(self, folder: Folder, each: Staged) -> Published:
        try:
            folders = components(each.path)[:-1]
            part = folder.part(each.part)
            answer = self._lying(folder, part, each)
            return self._show(folder, "/".join(folders), each) if answer is None else answer
        except (PathRefused, PathBlocked) as error:
            return error.trouble()
        except TreeError as error:
            if not of_one_file(error):
                raise
            return file_trouble(error, self.place, each.path)

    def _lying(self, folder: Folder, part: str, each: Staged) -> Published | None:
        """What is to be said of a part before it is published; None if it lies there as it was staged."""
        size = self._size(part)
        if size is None:
            if folder.stands(self._tree):
                return Receipt(size=each.size, at=datetime.now(UTC))
            self._missed()
            return Unknown()
        if size == each.size:
            return None
        return self._damaged(each.path, f"of what was staged, {each.size} bytes, {size} are left")

    def _show(self, folder: Folder, into: str, each: Staged) -> Published:
        """Raises ``TreeError``, ``PathBlocked``."""
        part = folder.part(each.part)
        for _ in range(_PATIENCE):
            self._make(into)
            try:
                etag = self._tree.publish(part, each.path)
                return Receipt(size=each.size, at=datetime.now(UTC), etag=etag)
            except TreeError as error:
                if error.fault is Fault.EXISTS:
                    return self._lying(folder, part, each) or Occupied()
                if error.fault is not Fault.MISSING:
                    raise
            answer = self._lying(folder, part, each)
            if answer is not None:
                return answer
            self._forget_folders(into)
        raise TreeError(Fault.OTHER, "somebody keeps removing its folder")

    def _make(self, folder: str) -> None:
        """Makes a folder and those above it that are missing, unless it is known to be there.

        Somebody may remove them at the same time, for consumers tidy what they have emptied: it is begun anew then.
        """
        for left in reversed(range(_PATIENCE)):
            try:
                self._make_all(folder)
            except TreeError as error:
                if error.fault not in _FLEETING or not left:
                    raise
                self._forget_folders(folder)
            else:
                return

    def _make_all(self, folder: str) -> None:
        if not folder or folder in self._folders:
            return
        try:
            self._tree.make_folder(folder)
        except TreeError as error:
            if error.fault is Fault.BLOCKED:
                raise _blocked(self.place, folder) from error
            if error.fault is not Fault.MISSING:
                raise
            above = folder.rpartition("/")[0]
            self._missed()
            self._forget_folders(above)
            self._make_all(above)
            try:
                self._tree.make_folder(folder)
            except TreeError as again:
                if again.fault is Fault.BLOCKED:
                    raise _blocked(self.place, folder) from again
                raise
        if len(self._folders) >= _KNOWN_FOLDERS:
            self._folders.clear()
        self._folders.add(folder)

    def _forget_folders(self, folder: str) -> None:
        """Whether this folder and those above it are there is not known any more."""
        parts = folder.split("/")
        self._folders.difference_update("/".join(parts[:end]) for end in range(1, len(parts) + 1))

    # ------------------------------------------------------------------------------------------------- afterwards

    def recover(self, batch: BatchId, staged: Sequence[Staged]) -> Mapping[str, Became]:
        """What became of each part: still beside the marker, gone while the marker stays, or no marker at all.

        Raises ``DestinationUnavailable``, ``LoginRefused``; also when the root is missing: that says nothing about
        what was published.
        """
        folder = batch_folder(batch)
        with concerning_all(self.place):
            answers = at_once(self._tree.at_once, staged, lambda each: self._became(folder, each))
            if None not in answers:
                stands = True
            elif not (stands := folder.stands(self._tree)):  # asked last: until now nothing was forgotten
                self._missed()
        gone = datetime.now(UTC)
        return {
            each.part: answer or (WasPublished(Receipt(size=each.size, at=gone)) if stands else Unknown())
            for each, answer in zip(staged, answers, strict=True)
        }

    def _became(self, folder: Folder, each: Staged) -> StillStaged | Trouble | None:
        try:
            components(each.path)
            return None if self._size(folder.part(each.part)) is None else StillStaged()
        except PathRefused as error:
            return error.trouble()
        except TreeError as error:
            if not of_one_file(error):
                raise
            return file_trouble(error, self.place, each.path)

    def forget(self, batch: BatchId) -> None:
        """Removes the batch, its marker first.  Raises ``DestinationUnavailable``, ``LoginRefused``."""
        self._begun.discard(batch)
        with concerning_all(self.place):
            batch_folder(batch).forget(self._tree)

    def batches(self) -> Collection[BatchId]:
        """The batches that stand, and those that somebody died over while forgetting them; none if there is no root.

        Raises ``DestinationUnavailable``, ``LoginRefused``.
        """
        with concerning_all(self.place):
            return batches(self._tree)

    def close(self) -> None:
        """Ends the connections.  Never raises; twice is the same as once."""
        self._tree.close()

    # --------------------------------------------------------------------------------------------------- the server

    def _size(self, path: str) -> int | None:
        """The size of a file in bytes; None if there is none."""
        found = self._tree.stat(path)
        return None if found is None else found.size

    def _digest(self, path: str) -> str:
        digest = hashlib.sha256()
        for piece in self._tree.read(path):
            digest.update(piece)
        return digest.hexdigest()

    def _missed(self) -> None:
        """Something is missing: raises if all is, for that says nothing of the thing that was looked for."""
        if self._tree.stat("") is None:
            raise root_is_gone(self.place)
        self._met = True


def _blocked(place: str, folder: str) -> PathBlocked:
    return PathBlocked(
        f"{folder} below {place} is no folder, so that nothing can lie in it",
        remedy="move away what lies there, or change the path template",
    )
