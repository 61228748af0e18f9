"""How files lie in any file system that fsspec knows: for programs that embed maildaemon, and for authors of plug-ins.

No kind of destination is made of it here, and no configuration leads to it: fsspec's protocols reach anything, and what
a file system promises has to be vouched for by somebody who knows it.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from threading import Lock
from typing import Any, Final, Literal

from fsspec import AbstractFileSystem
from fsspec.spec import AbstractBufferedFile

from maildaemon_adapters.files.blocks import blocks
from maildaemon_adapters.files.claims import claim_of
from maildaemon_adapters.files.publishing import PublishingDestination
from maildaemon_adapters.files.tree import Fault, Named, Showing, Stat, TreeError
from maildaemon_core.confinement import ConnectionForbidden
from maildaemon_core.ports import Finding, Level

_BLOCK: Final = 1 << 20

_KINDS: Final = (
    (FileNotFoundError, Fault.MISSING),
    (FileExistsError, Fault.EXISTS),
    ((IsADirectoryError, NotADirectoryError), Fault.BLOCKED),
    (PermissionError, Fault.DENIED),
    ((TimeoutError, ConnectionError, EOFError, socket.gaierror), Fault.GONE),
)
_NUMBERS: Final = {
    errno.ENOSPC: Fault.FULL,
    errno.EDQUOT: Fault.FULL,
    errno.EROFS: Fault.DENIED,
    errno.ENAMETOOLONG: Fault.NAME,
    errno.EILSEQ: Fault.NAME,
    errno.EHOSTDOWN: Fault.GONE,
    errno.EHOSTUNREACH: Fault.GONE,
    errno.ENETDOWN: Fault.GONE,
    errno.ENETUNREACH: Fault.GONE,
}
_MOST_CAUSES: Final = 20


class FsspecTree:
    """The tree of what lies below ``root`` of an fsspec file system.

    ``place`` says where that is, without credentials but with the account: the same for the same root, for the ledger
    knows a destination by it.  ``fs`` belongs to the caller, who closes it if it has to be closed; it should be one of
    its own (``skip_instance_cache=True``), without caches (``use_listings_cache=False``), with time limits, and in no
    transaction.  The caller vouches for what fsspec says nothing about:

    - ``Showing.RENAME``: ``fs.mv`` of a file to a new name is one rename on the server, after which it has one of the
      two names whatever happens.  A ``mv`` that is known to copy is refused with ``ValueError``; not all are known, and
      that of sshfs 2026.8 copies where the server has no ``posix-rename``.
    - ``Showing.COPY``: ``fs.cp_file`` is one request that the server carries out, and the copy is seen whole or not at
      all.  What is copied is removed afterwards.  Our own object stores know a copy that was made, though its answer
      got lost, by a mark in its metadata; fsspec has none that all file systems keep.  So such a file counts as that of
      somebody else: its name is taken, and it **comes once more under another name**.  Files are stored at least once.
    - ``fs.info`` raises ``FileNotFoundError`` for what is missing, and for nothing else: what is gone counts as
      published.
    - ``fs.rmdir`` leaves a folder alone in which something lies, if there are ``real_folders``.
    - After a connection broke, the next call makes a new one; that of fsspec for FTP never does.

    ``real_folders``: whether folders are there by themselves; False where they are but parts of names, which are made
    with the file.  Unless it is said, they are where files are renamed.

    ``at_once``: how many threads may use ``fs`` at the same time.  With 1, one call to it is made after another.

    Whether a name is free is looked up before it is taken; threads of this process exclude each other meanwhile, and
    other programs are not excluded.  Links are followed, wherever they lead.  Nothing is synced beyond what ``close``
    of a file does.
    """

    def __init__(
        self,
        fs: AbstractFileSystem,
        root: str,
        *,
        place: str,
        showing: Showing,
        real_folders: bool | None = None,
        at_once: int = 1,
    ) -> None:
        self._fs: Any = fs
        if getattr(fs, "asynchronous", False):
            raise ValueError("the file system was made with asynchronous=True; make one without")
        if showing is Showing.RENAME and _copies(fs):
            raise ValueError(f"mv of {type(fs).__name__} is a copy and a removal; say Showing.COPY")
        self._root: str = self._fs._strip_protocol(root)
        self._start = self._root if not self._root or self._root.endswith("/") else f"{self._root}/"
        self._place = place
        self._showing = showing
        self._real = showing is Showing.RENAME if real_folders is None else real_folders
        self._at_once = at_once
        self._turn: AbstractContextManager[Any] = Lock() if at_once == 1 else nullcontext()
        self._looking = Lock()
        self._copied: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"FsspecTree({self._place!r})"

    @property
    def place(self) -> str:
        return self._place

    @property
    def showing(self) -> Showing:
        return self._showing

    @property
    def at_once(self) -> int:
        return self._at_once

    # ------------------------------------------------------------------------------------------------ looking, reading

    def stat(self, path: str) -> Stat | None:
        if not path and not self._real:
            self.names("")  # so that an account that may not look is told
            return Stat(size=0, is_folder=True)
        try:
            with self._fresh(), self._asking():
                found = self._fs.info(self._at(path))
        except TreeError as error:
            if error.fault is Fault.MISSING or (error.fault is Fault.BLOCKED and path):
                return None
            raise
        if found["type"] == "directory":
            return Stat(size=0, is_folder=True)
        if found.get("size") is None:
            raise TreeError(Fault.OTHER, "this file system does not tell how large a file is")
        return Stat(size=int(found["size"]))

    def read(self, path: str) -> Iterator[bytes]:
        with self._fresh(), self._asking():
            file = self._fs.open(self._at(path), "rb")
        try:
            while True:
                with self._asking():
                    piece = bytes(file.read(_BLOCK))
                if not piece:
                    return
                yield piece
        finally:
            with suppress(TreeError), self._asking():
                file.close()

    def names(self, folder: str) -> Sequence[Named]:
        whole = self._fs._strip_protocol(self._at(folder)).rstrip("/")
        try:
            with self._fresh(), self._asking():
                found = self._fs.ls(self._at(folder), detail=True)
        except TreeError as error:
            if error.fault in {Fault.MISSING, Fault.BLOCKED}:
                return []
            raise
        # A file lists itself, and so does, on some object stores, what a folder is shown by.
        paths = [(each["name"].rstrip("/"), each["type"] == "directory") for each in found]
        return [
            Named(name=path.rpartition("/")[2], is_folder=is_folder)
            for path, is_folder in paths
            if path and path.strip("/") != whole.strip("/")
        ]

    # ------------------------------------------------------------------------------------------------ writing, showing

    def write(self, path: str, pieces: Iterable[bytes], size: int | None = None) -> None:
        self._copied.pop(path, None)
        try:
            self._write(path, pieces)
        except TreeError as error:
            # Object stores and their like say of a file in a folder's place that it exists.
            if error.fault is Fault.EXISTS:
                raise TreeError(Fault.BLOCKED, error.what) from None
            raise

    def _write(self, path: str, pieces: Iterable[bytes]) -> None:
        # Never "with": leaving that by an exception makes most file systems keep the torn file as if it were whole.
        with self._asking():
            file = self._fs.open(self._at(path), "wb")
        try:
            for block in blocks(pieces, _BLOCK):
                with self._asking():
                    file.write(block)
            with self._asking():
                file.close()
        except BaseException:
            self._discard(file, path)
            raise

    def _discard(self, file: Any, path: str) -> None:
        """Whatever was written is thrown away, as far as that can still be asked for."""
        with suppress(TreeError), self._asking():
            file.discard()
        if isinstance(file, AbstractBufferedFile):
            file.closed = True  # its finaliser would close it otherwise, and that sends what is there as a whole file
        else:
            with suppress(TreeError), self._asking():
                file.close()
        with suppress(TreeError), self._asking():
            self._fs.rm_file(self._at(path))

    def publish(self, source: str, target: str) -> str | None:
        claim = claim_of(f"{self._place}\0{target}")
        with claim.lock:
            if self._showing is Showing.COPY and self._copied.get(source) == target:
                self._remove_copied(source)
                return None
            if self.stat(target) is not None:
                raise _taken()
            if self._showing is Showing.COPY:
                self._copy(source, target)
            else:
                self._rename(source, target)
        return None

    def _rename(self, source: str, target: str) -> None:
        try:
            with self._asking():
                self._fs.mv(self._at(source), self._at(target))
        except TreeError as error:
            # An error without a kind does not say what it is about: a name that was taken meanwhile, a missing folder.
            if error.fault is not Fault.OTHER or self.stat(source) is None:
                raise
            if self.stat(target) is not None:
                raise _taken() from None
            if self.stat(target.rpartition("/")[0]) is None:
                raise TreeError(Fault.MISSING, "its folder is not there") from None
            raise

    def _copy(self, source: str, target: str) -> None:
        with self._asking():
            self._fs.cp_file(self._at(source), self._at(target))
        self._copied[source] = target
        self._remove_copied(source)

    def _remove_copied(self, source: str) -> None:
        """Removes what was copied for sure; if that fails, whoever publishes it again does no more than that."""
        self.remove(source)
        self._copied.pop(source, None)

    # ------------------------------------------------------------------------------------------------ folders, the rest

    def remove(self, path: str) -> None:
        try:
            with self._asking():
                self._fs.rm_file(self._at(path))  # never rm, which takes [a-z] in a name for a pattern
        except TreeError as error:
            if error.fault is Fault.MISSING:
                return
            if error.fault in {Fault.OTHER, Fault.BLOCKED} and self.stat(path) is None:
                return
            raise

    def make_folder(self, path: str) -> None:
        if not self._real:
            return
        # Not every file system heeds that those above are not to be made: a root that was unmounted would come back.
        above = self.stat(path.rpartition("/")[0]) if path else None
        if path and above is None:
            raise TreeError(Fault.MISSING, "the folder that it belongs into is not there")
        if above is not None and not above.is_folder:
            raise TreeError(Fault.BLOCKED, "a file stands where a folder belongs")
        try:
            with self._asking():
                if path:
                    self._fs.mkdir(self._at(path), create_parents=False)
                else:
                    self._fs.makedirs(self._root, exist_ok=True)
        except TreeError:
            there = self.stat(path)
            if there is None:
                raise
            if not there.is_folder:
                raise TreeError(Fault.BLOCKED, "a file stands where a folder belongs") from None

    def remove_folder(self, path: str) -> None:
        if not self._real or self.names(path):
            return
        try:
            with self._asking():
                self._fs.rmdir(self._at(path))
        except TreeError as error:
            if error.fault is Fault.MISSING:
                return
            if error.fault is not Fault.GONE and (self.names(path) or self.stat(path) is None):
                return
            raise

    def findings(self) -> Sequence[Finding]:
        return [
            Finding(
                level=Level.WARNING,
                subject=self._place,
                message="fsspec has no way of taking a name that refuses one which is taken: it is looked for just "
                "before",
                remedy="let no other program make files of the same names there, or use a kind of destination",
            )
        ]

    def close(self) -> None:
        """Nothing: the file system is the caller's."""

    # -------------------------------------------------------------------------------------------------- the file system

    @contextmanager
    def _fresh(self) -> Iterator[None]:
        """Who is in here sees no listing that is older than that.

        One at a time, or a listing that another thread asked for before would be put into the cache after it was
        emptied, and a part that was just written would seem to be published.
        """
        with self._looking:
            with self._asking():
                self._fs.invalidate_cache()
            yield

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """A call to the file system: in its turn, and whatever it raises as a ``TreeError``."""
        with self._turn:
            try:
                yield
            except Exception as error:  # noqa: BLE001 - each file system has errors of its own
                raise _told(error) from None

    def _at(self, path: str) -> str:
        return f"{self._start}{path}" if path else self._root


def fsspec_destination(
    fs: AbstractFileSystem,
    root: str,
    *,
    place: str,
    showing: Showing,
    real_folders: bool | None = None,
    at_once: int = 1,
    verify: Literal["size", "digest"] = "size",
) -> PublishingDestination:
    """A destination below ``root`` of an fsspec file system; see ``FsspecTree`` for what has to be vouched for.

    Raises ``ValueError`` for a file system that cannot do what is asked of it.
    """
    tree = FsspecTree(fs, root, place=place, showing=showing, real_folders=real_folders, at_once=at_once)
    return PublishingDestination(tree, verify=verify)


def _copies(fs: Any) -> bool:
    """Whether ``mv`` is the one that every file system has by itself; that of a wrapper is the one within."""
    while isinstance(getattr(fs, "fs", None), AbstractFileSystem):
        fs = fs.fs
    return getattr(fs.mv, "__func__", None) is AbstractFileSystem.mv  # methods of coroutines are put on the instance


def _taken() -> TreeError:
    return TreeError(Fault.EXISTS, "something of that name is there already")


def _told(error: Exception) -> TreeError:
    """What an error means.  Its own text is left out: libraries write URLs with signatures and tokens into it."""
    name = type(error).__name__
    for each in _causes(error):
        if isinstance(each, ConnectionForbidden):
            return TreeError(Fault.GONE, each.fault, remedy=each.remedy)
    fault = _fault(error)
    if fault is Fault.OTHER:
        # Libraries of HTTP wrap what the network said in errors of their own.
        gone = any(_fault(each) is Fault.GONE for each in _causes(error))
        fault = Fault.GONE if gone else Fault.OTHER
    if isinstance(error, NotImplementedError):
        return TreeError(fault, f"this file system cannot do it ({name})", remedy="use another one")
    number = error.errno if isinstance(error, OSError) and not isinstance(error, socket.gaierror) else None
    return TreeError(fault, f"{os.strerror(number) if number else fault.value} ({name})")


def _fault(error: BaseException) -> Fault:
    for kinds, fault in _KINDS:
        if isinstance(error, kinds):
            return fault
    return _NUMBERS.get(error.errno or 0, Fault.OTHER) if isinstance(error, OSError) else Fault.OTHER


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and those that it came from."""
    one: BaseException | None = error
    for _ in range(_MOST_CAUSES):
        if one is None:
            return
        yield one
        one = one.__cause__ or one.__context__
