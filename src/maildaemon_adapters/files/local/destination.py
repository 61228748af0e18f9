"""The destination ``file``: a folder of this machine, into which files come whole, once, and never over another."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Final, Literal

from maildaemon_adapters.files.contents import Unreadable, apart, unreadable
from maildaemon_adapters.files.local import batch as batch_folders
from maildaemon_adapters.files.local import trial
from maildaemon_adapters.files.local.batch import Batch
from maildaemon_adapters.files.local.durability import Whole, digest_on_disk, sync_files, sync_folder
from maildaemon_adapters.files.local.faults import file_trouble, unavailable
from maildaemon_adapters.files.local.folders import make_root, opened_root, way
from maildaemon_adapters.files.local.rename import Rename, rename_new
from maildaemon_adapters.files.paths import PathBlocked, PathRefused, component, components
from maildaemon_core.errors import Trouble
from maildaemon_core.message import BatchId
from maildaemon_core.ports import Finding, Occupied, Put, Staged, StillStaged, Unknown, WasPublished
from maildaemon_core.progress import Receipt

Published = Receipt | Occupied | Unknown | Trouble

_NEW_FILE: Final = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_MODE: Final = 0o666  # before the umask
_GROUP: Final = 32  # files that are open at once while they wait for their fsync
_FEW: Final = 4  # so many folders are synced one by one faster than the whole file system


class FileDestination:
    """Files below one folder.  Used by many threads, and by many processes at once.

    ``root``: an absolute path; links in it are resolved now, those below it are never followed.  ``rename`` and
    ``whole`` are how files are renamed and file systems synced: the best there is, unless somebody knows better.
    ``verify``: whether the size of what was written is asked for, or it is read back and its digest compared.
    """

    def __init__(
        self,
        root: str,
        *,
        rename: Rename = rename_new,
        whole: Whole | None = None,
        verify: Literal["size", "digest"] = "size",
    ) -> None:
        self._root = os.path.realpath(root)
        self._rename = rename
        self._whole = whole or Whole()
        self._verify = verify
        self._met = False

    def __repr__(self) -> str:
        return f"FileDestination({self._root!r})"

    @property
    def place(self) -> str:
        """``file:`` and the root's real path."""
        return f"file:{self._root}"

    def check(self) -> Sequence[Finding]:
        """Looks whether the root is there or can be made, stores a small file and removes it, counts the free space."""
        return trial.findings(self._root, self._rename)

    def probe(self) -> Trouble | None:
        """Writes, syncs, renames and removes a small file.  A root that is missing counts if it could be made."""
        return trial.probe(self._root, self._rename, met=self._met)

    # ------------------------------------------------------------------------------------------------------ staging

    def stage(self, batch: BatchId, puts: Sequence[Put]) -> Mapping[str, Staged | Trouble]:
        """Writes each part under ``.maildaemon/<batch>/``, synced; then the folders up to the root.

        Makes the root when it is missing, once: if it goes away later, something was unmounted.
        Raises ``DestinationUnavailable``.
        """
        with self._opened_root(make=True) as root, batch_folders.beginning(root, _name(batch)) as into:
            answers = self._write_all(into, puts)
            if not any(isinstance(answer, Staged) for answer in answers.values()):
                if into.new:
                    with suppress(OSError):
                        os.rmdir(into.name, dir_fd=into.staging)
            elif not into.stands():
                trouble = Trouble(error="BatchGone", message=f"the batch {batch} was removed while it was written")
                return {part: trouble if isinstance(answer, Staged) else answer for part, answer in answers.items()}
            return answers

    def _write_all(self, into: Batch, puts: Sequence[Put]) -> dict[str, Staged | Trouble]:
        at_once = self._whole.suits(into.folder)
        answers: dict[str, Staged | Trouble] = {}
        waiting: list[tuple[Put, int]] = []
        try:
            for put in puts:
                match self._attempt(into, put):
                    case Trouble() as trouble:
                        answers[put.part] = trouble
                    case (staged, descriptor):
                        answers[put.part] = staged
                        if at_once:
                            os.close(descriptor)
                        else:
                            waiting.append((put, descriptor))
                if len(waiting) == _GROUP:
                    answers |= self._sync_parts(into, waiting)
            answers |= self._sync_parts(into, waiting)
        finally:
            for _, descriptor in waiting:
                os.close(descriptor)
        try:
            if at_once:
                self._whole.sync(into.root)
            else:
                for folder in (into.folder, into.staging, into.root):
                    sync_folder(folder)
        except OSError as error:
            return answers | self._withdraw(into, puts, answers, error)
        return answers

    def _attempt(self, into: Batch, put: Put) -> tuple[Staged, int] | Trouble:
        try:
            components(put.path)
            return self._write(into, put)
        except PathRefused as error:
            return error.trouble()
        except Unreadable as error:
            return unreadable(put.path, error.error)
        except OSError as error:
            return file_trouble(error, self._root, put.path)

    def _write(self, into: Batch, put: Put) -> tuple[Staged, int]:
        """Writes one part and leaves it open; leaves nothing behind if that does not succeed."""
        part = component(put.part, put.part)
        try:
            descriptor = os.open(part, _NEW_FILE, _MODE, dir_fd=into.folder)
        except FileExistsError:
            os.unlink(part, dir_fd=into.folder)
            descriptor = os.open(part, _NEW_FILE, _MODE, dir_fd=into.folder)
        try:
            digest = hashlib.sha256()
            for piece in apart(put.content.chunks):
                digest.update(piece)
                rest = memoryview(piece)
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
            size = os.fstat(descriptor).st_size
            if size != put.content.size:
                raise Unreadable(ValueError(f"it was to have {put.content.size} bytes and has {size}"))
            if self._verify == "digest" and digest_on_disk(part, into.folder, descriptor) != digest.hexdigest():
                raise OSError(errno.EIO, "what was written does not read back the same")
        except BaseException:
            os.close(descriptor)
            into.discard(part)
            raise
        return Staged(part=part, path=put.path, size=size, sha256=digest.hexdigest()), descriptor

    def _sync_parts(self, into: Batch, waiting: list[tuple[Put, int]]) -> dict[str, Trouble]:
        """Syncs and closes the waiting files, and empties the list; answers with those that failed."""
        troubles = {}
        outcomes = sync_files([descriptor for _, descriptor in waiting])
        for (put, _), error in zip(waiting, outcomes, strict=True):
            if error is not None:
                into.discard(put.part)
                troubles[put.part] = file_trouble(error, self._root, put.path)
        while waiting:
            os.close(waiting.pop()[1])
        return troubles

    def _withdraw(
        self, into: Batch, puts: Sequence[Put], answers: Mapping[str, Staged | Trouble], error: OSError
    ) -> dict[str, Trouble]:
        """Nobody can promise that these parts reached the disk: away with them."""
        lost = [put for put in puts if isinstance(answers[put.part], Staged)]
        for put in lost:
            into.discard(put.part)
        return {put.part: file_trouble(error, self._root, put.path) for put in lost}

    # --------------------------------------------------------------------------------------------------- publishing

    def publish(self, batch: BatchId, staged: Sequence[Staged]) -> Mapping[str, Published]:
        """Renames each part to where consumers see it, refusing whatever is there already; then syncs the folders.

        Raises ``DestinationUnavailable``, also when the root is missing: that says nothing about what was published.
        """
        answers: dict[str, Published] = {}
        groups: dict[tuple[str, ...], list[Staged]] = {}
        for each in staged:
            try:
                component(each.part, each.part)
                groups.setdefault(components(each.path)[:-1], []).append(each)
            except PathRefused as error:
                answers[each.part] = error.trouble()
        with self._opened_root(make=False) as root, batch_folders.standing(root, _name(batch)) as source:
            if source is None:
                return answers | {each.part: Unknown() for group in groups.values() for each in group}
            at_once = len(groups) > _FEW and self._whole.suits(root)
            done: set[tuple[str, ...]] | None = None if at_once else set()
            for folders, group in groups.items():
                answers |= self._publish_into(folders, group, source, done)
            try:
                if at_once:
                    self._whole.sync(root)
                else:  # last: after a loss of power a part may lie in both folders, but never in none
                    sync_folder(source.folder)
            except OSError as error:
                return {each.part: self._unsynced(each, answers[each.part], error) for each in staged}
        return answers

    def _publish_into(
        self, folders: tuple[str, ...], group: Sequence[Staged], source: Batch, done: set[tuple[str, ...]] | None
    ) -> dict[str, Published]:
        """Publishes parts into one folder; ``done`` are the folders synced already, None if all are synced later."""
        answers: dict[str, Published] = {}
        for each in group:
            found = self._lying(each, source)
            if found is not None:
                answers[each.part] = found
        waiting = [each for each in group if each.part not in answers]
        try:
            for _ in range(batch_folders.TRIES):
                with suppress(FileNotFoundError), way(source.root, folders, make=bool(waiting)) as target:
                    for each in tuple(waiting):
                        answers[each.part] = self._rename_part(each, source, target.end)
                        waiting.remove(each)
                    if done is not None:
                        target.sync(done)
                if not waiting:
                    return answers
        except PathBlocked as error:
            return answers | {each.part: error.trouble() for each in waiting}
        except OSError as error:
            answers |= {each.part: file_trouble(error, self._root, each.path) for each in waiting}
            return {each.part: self._unsynced(each, answers[each.part], error) for each in group}
        busy = OSError(errno.EBUSY, "somebody keeps removing its folder")
        return answers | {each.part: file_trouble(busy, self._root, each.path) for each in waiting}

    def _lying(self, each: Staged, source: Batch) -> Published | None:
        """What is to be said of a part before it is published; None if it lies there as it was staged."""
        found = source.part(each.part)
        if found is None:
            return Receipt(size=each.size, at=datetime.now(UTC)) if source.stands() else Unknown()
        if stat.S_ISREG(found.st_mode) and found.st_size == each.size:
            return None
        return Trouble(
            error="DestinationFailed",
            message=f"what was staged for {each.path} below {self._root} is not as it was written: "
            f"{found.st_size} bytes instead of {each.size}",
            remedy="it will be written anew; look for disk errors if this happens again",
        )

    def _rename_part(self, each: Staged, source: Batch, target: int) -> Published:
        """One rename.  Raises FileNotFoundError if the target's folder was removed meanwhile."""
        try:
            # From the staging folder, by the batch's name: once the batch is forgotten, nothing of it is published.
            self._rename(source.staging, f"{source.name}/{each.part}", target, components(each.path)[-1])
        except FileExistsError:
            found = self._lying(each, source)  # some kernels look at the target first
            return found if isinstance(found, Receipt | Unknown) else Occupied()
        except FileNotFoundError:
            found = self._lying(each, source)
            if found is not None:
                return found
            if not source.stands():
                return Unknown()
            raise
        except OSError as error:
            return file_trouble(error, self._root, each.path)
        return Receipt(size=each.size, at=datetime.now(UTC))

    def _unsynced(self, each: Staged, answer: Published, error: OSError) -> Published:
        """It may be visible, but a loss of power might undo that: it is asked for again, and confirmed then."""
        return file_trouble(error, self._root, each.path) if isinstance(answer, Receipt) else answer

    # ------------------------------------------------------------------------------------------------- afterwards

    def recover(
        self, batch: BatchId, staged: Sequence[Staged]
    ) -> Mapping[str, StillStaged | WasPublished | Unknown | Trouble]:
        """What became of each part.  Folders of published ones are synced: whoever renamed may have died before that.

        Raises ``DestinationUnavailable``, also when the root is missing: that says nothing about what was published.
        """
        answers: dict[str, StillStaged | WasPublished | Unknown | Trouble] = {}
        with self._opened_root(make=False) as root, batch_folders.standing(root, _name(batch)) as source:
            if source is None:
                return {each.part: Unknown() for each in staged}
            done: set[tuple[str, ...]] = set()
            for each in staged:
                try:
                    answers[each.part] = self._became(each, source, done)
                except OSError as error:
                    answers[each.part] = file_trouble(error, self._root, each.path)
            sync_folder(source.folder)
        return answers

    def _became(
        self, each: Staged, source: Batch, done: set[tuple[str, ...]]
    ) -> StillStaged | WasPublished | Unknown | Trouble:
        try:
            folders = components(each.path)[:-1]
            if source.part(component(each.part, each.part)) is not None:
                return StillStaged()
            if not source.stands():
                return Unknown()
            with suppress(FileNotFoundError), way(source.root, folders, make=False) as target:
                target.sync(done)
        except (PathRefused, PathBlocked) as error:
            return error.trouble()
        return WasPublished(Receipt(size=each.size, at=datetime.now(UTC)))

    def forget(self, batch: BatchId) -> None:
        """Removes the batch's folder and the regular files in it; whatever else lies there stays under another name."""
        with suppress(FileNotFoundError), self._opened_root(make=False, missing=FileNotFoundError) as root:
            batch_folders.forget(root, _name(batch))

    def batches(self) -> Collection[BatchId]:
        """The batches that stand; none if there is no root."""
        with suppress(FileNotFoundError), self._opened_root(make=False, missing=FileNotFoundError) as root:
            return batch_folders.batches(root)
        return ()

    def close(self) -> None:
        """Removes the staging folder if nothing is in it.  Never raises; twice is the same as once."""
        with suppress(OSError), opened_root(self._root) as root:
            batch_folders.tidy(root)

    @contextmanager
    def _opened_root(self, *, make: bool, missing: type[OSError] | None = None) -> Iterator[int]:
        """The open root; errors of the system that come to here concern everything, and are said so."""
        try:
            if make and not self._met and not os.path.lexists(self._root):
                make_root(self._root)
            with opened_root(self._root) as root:
                self._met = True
                yield root
        except OSError as error:
            if missing is not None and isinstance(error, missing):
                raise
            raise unavailable(error, self._root) from error


def _name(batch: BatchId) -> str:
    """The name of a batch's folder.  Raises ``PathRefused``: mailboxes' ids are UUIDs, so this is nobody's mail."""
    return component(str(batch), str(batch))
