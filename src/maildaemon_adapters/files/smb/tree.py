"""A folder of an SMB share as a tree: what each request is."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

from smbprotocol.connection import Request
from smbprotocol.file_info import (
    FileAttributes,
    FileDispositionInformation,
    FileInformationClass,
    FileRenameInformation,
)
from smbprotocol.open import (
    CreateDisposition,
    CreateOptions,
    FilePipePrinterAccessMask,
    ImpersonationLevel,
    Open,
    ShareAccess,
    SMB2CloseRequest,
    SMB2CreateResponse,
    SMB2QueryDirectoryRequest,
    SMB2QueryDirectoryResponse,
    SMB2ReadResponse,
    SMB2SetInfoRequest,
)

from maildaemon_adapters.files.blocks import blocks
from maildaemon_adapters.files.claims import claim_of
from maildaemon_adapters.files.joint import Joint
from maildaemon_adapters.files.server_url import ServerUrl
from maildaemon_adapters.files.smb import PORT, SmbSettings
from maildaemon_adapters.files.smb.session import Login, Share, StatusError
from maildaemon_adapters.files.smb.status import (
    END_OF_FILE,
    NAME_COLLISION,
    NO_MORE_FILES,
    NOT_EMPTY,
    NOT_THERE,
    SHARING_VIOLATION,
)
from maildaemon_adapters.files.tree import Fault, Named, Showing, Stat, TreeError
from maildaemon_core.options import Secret
from maildaemon_core.ports import Finding, Level

_IN_FLIGHT: Final = 4
"""Blocks that may be on their way at once."""

_OPENING: Final = 2.0
"""Seconds for which a file is asked for again that somebody else has open: virus scanners look at each that is new."""

_REMEMBERED_AT: Final = b"\xff" * 16
"""The file that the first of several requests opens (MS-SMB2 §3.2.4.1.4)."""

_ANYBODY: Final = ShareAccess.FILE_SHARE_READ | ShareAccess.FILE_SHARE_WRITE | ShareAccess.FILE_SHARE_DELETE
_LOOK: Final = FilePipePrinterAccessMask.FILE_READ_ATTRIBUTES
_READ: Final = _LOOK | FilePipePrinterAccessMask.FILE_READ_DATA
_WRITE: Final = _LOOK | FilePipePrinterAccessMask.FILE_WRITE_DATA
_DELETE: Final = _LOOK | FilePipePrinterAccessMask.DELETE

_FILE: Final = CreateOptions.FILE_NON_DIRECTORY_FILE
_FOLDER: Final = CreateOptions.FILE_DIRECTORY_FILE
_ITSELF: Final = CreateOptions.FILE_OPEN_REPARSE_POINT
"""Not what a link leads to."""

# Servers on other systems than Windows take some of these, and clients on Windows cannot open them then; ':' would name
# a stream within another file (MS-FSCC §2.1.5).
_IMPOSSIBLE: Final = re.compile(r'[\x00-\x1f"*:<>?|\\\ud800-\udfff]')
_DEVICE: Final = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?:\..*)?", re.IGNORECASE)

T = TypeVar("T")


class SmbTree:
    """A ``Tree``.  One connection, over which several threads can send requests at once."""

    showing = Showing.RENAME
    at_once = 4

    def __init__(self, url: ServerUrl, password: Secret, settings: SmbSettings) -> None:
        self.place = url.place(PORT)
        self._login = Login(url=url, password=password, settings=settings)
        self._root = url.path.partition("/")[2]
        self._joint = Joint(lambda: Share(self._login))

    def __repr__(self) -> str:
        return f"SmbTree({self.place!r})"

    # ------------------------------------------------------------------------------------------------ looking, reading

    def stat(self, path: str) -> Stat | None:
        return self._look(self._connected(), self._at(path), _ITSELF if path else 0)

    def read(self, path: str) -> Iterator[bytes]:
        share = self._connected()
        opened = self._open(share, self._at(path), _READ, CreateDisposition.FILE_OPEN, _FILE | _ITSELF)
        flight: deque[Request] = deque()
        try:
            asked = 0
            while asked < opened.size or flight:
                while asked < opened.size and len(flight) < _IN_FLIGHT:
                    flight.append(share.send(opened.file.read(asked, share.block, send=False)[0], share.block))
                    asked += share.block
                try:
                    answer = SMB2ReadResponse()
                    answer.unpack(share.receive(flight.popleft()))
                except StatusError as error:
                    if error.status != END_OF_FILE:
                        raise
                else:
                    yield answer["buffer"].get_value()
        finally:
            self._close(share, opened, flight)

    def names(self, folder: str) -> Sequence[Named]:
        share = self._connected()
        try:
            opened = self._open(share, self._at(folder), _READ, CreateDisposition.FILE_OPEN, _FOLDER)
        except StatusError as error:
            if error.status in NOT_THERE or error.fault is Fault.BLOCKED:
                return []
            raise
        found: list[Named] = []
        try:
            while True:
                kind = FileInformationClass.FILE_DIRECTORY_INFORMATION
                query = opened.file.query_directory("*", kind, flags=0, send=False)[0]
                answer = SMB2QueryDirectoryResponse()
                answer.unpack(share.receive(share.send(query)))
                for each in SMB2QueryDirectoryRequest.unpack_response(kind, answer["buffer"].get_value()):
                    name = each["file_name"].get_value().decode("utf-16-le", "surrogatepass")
                    if name not in {".", ".."}:
                        found.append(Named(name=name, is_folder=_is_folder(each["file_attributes"].get_value())))
        except StatusError as error:
            if error.status not in {NO_MORE_FILES, *NOT_THERE}:
                raise
        finally:
            self._close(share, opened, ())
        return found

    # ------------------------------------------------------------------------------------------------ writing, showing

    def write(self, path: str, pieces: Iterable[bytes], size: int | None = None) -> None:
        share = self._connected()
        place = self._at(path)
        opened = self._patiently(
            lambda: self._open(share, place, _WRITE, CreateDisposition.FILE_OVERWRITE_IF, _FILE | _ITSELF)
        )
        flight: deque[Request] = deque()
        try:
            offset = 0
            for block in blocks(pieces, share.block):
                if len(flight) == _IN_FLIGHT:
                    share.receive(flight.popleft())
                flight.append(share.send(opened.file.write(block, offset, send=False)[0], len(block)))
                offset += len(block)
            while flight:
                share.receive(flight.popleft())
            share.receive(share.send(opened.file.flush(send=False)[0]))
            share.receive(share.send(opened.file.close(send=False)[0]))
        except BaseException:
            self._close(share, opened, flight)
            with suppress(TreeError):
                if share.alive:
                    self._delete(share, place, _FILE)
            raise

    def publish(self, source: str, target: str) -> str | None:
        share = self._connected()
        here, there = self._at(source), self._at(target)
        rename = FileRenameInformation()
        rename["replace_if_exists"] = False
        rename["file_name"] = there
        # Samba looks whether the name is free and then renames: two connections may both find it so.
        claim = claim_of(f"{self.place}/{target.casefold()}")
        try:
            with claim.lock:
                self._patiently(lambda: self._change(share, here, _FILE, rename))
        except StatusError as error:
            # Samba opens the target first, and may have another objection than that it is there.
            if error.fault in {Fault.DENIED, Fault.BLOCKED, Fault.OTHER} and self._look(share, there, _ITSELF):
                raise StatusError(NAME_COLLISION) from None
            raise
        return None

    # ------------------------------------------------------------------------------------------------ folders, the rest

    def remove(self, path: str) -> None:
        share = self._connected()
        try:
            self._patiently(lambda: self._delete(share, self._at(path), _FILE))
        except StatusError as error:
            if error.status not in NOT_THERE:
                raise

    def make_folder(self, path: str) -> None:
        share = self._connected()
        if path:
            self._make(share, self._at(path))
            return
        parts = self._at("").split("\\") if self._root else []
        for end in range(1, len(parts) + 1):
            self._make(share, "\\".join(parts[:end]))

    def _make(self, share: Share, place: str) -> None:
        # In one request, and as a folder, never as whatever it is: Samba says that it is a file of one that somebody
        # removes while it is opened.
        try:
            share.ask(_create(share, place, _LOOK, CreateDisposition.FILE_OPEN_IF, _FOLDER), _closing())
        except StatusError as error:
            if error.fault not in {Fault.EXISTS, Fault.DENIED}:
                raise
            try:  # whoever may not make what is there may still use it
                share.ask(_create(share, place, _LOOK, CreateDisposition.FILE_OPEN, _FOLDER), _closing())
            except StatusError as seen:
                raise (seen if seen.fault is Fault.BLOCKED else error) from None

    def remove_folder(self, path: str) -> None:
        share = self._connected()
        try:
            self._delete(share, self._at(path), _FOLDER)
        except StatusError as error:
            if error.status not in NOT_THERE | NOT_EMPTY:
                raise

    def findings(self) -> Sequence[Finding]:
        if self._login.settings.protection == "encrypted":
            return []
        return [
            Finding(
                level=Level.WARNING,
                subject=self.place,
                message="what is sent can be read by whoever is on the way",
                remedy="leave protection out of the options if the server can encrypt",
            )
        ]

    def close(self) -> None:
        self._joint.close()

    # -------------------------------------------------------------------------------------------------------- requests

    def _look(self, share: Share, place: str, how: int) -> Stat | None:
        try:
            answer = share.ask(_create(share, place, _LOOK, CreateDisposition.FILE_OPEN, how), _closing())[0]
        except StatusError as error:
            if error.status in NOT_THERE or error.fault is Fault.BLOCKED:
                return None
            raise
        found = _created(answer)
        is_folder = _is_folder(found["file_attributes"].get_value())
        return Stat(size=0 if is_folder else found["end_of_file"].get_value(), is_folder=is_folder)

    def _open(self, share: Share, place: str, access: int, disposition: int, how: int) -> _Opened:
        return _Opened(share, place, share.ask(_create(share, place, access, disposition, how))[0])

    def _change(self, share: Share, place: str, how: int, information: Any) -> None:
        """Opens what is there, changes it and closes it, all in one round trip."""
        change = SMB2SetInfoRequest()
        change["info_type"] = information.INFO_TYPE
        change["file_info_class"] = information.INFO_CLASS
        change["file_id"] = _REMEMBERED_AT
        change["buffer"] = information
        share.ask(_create(share, place, _DELETE, CreateDisposition.FILE_OPEN, how | _ITSELF), change, _closing())

    def _delete(self, share: Share, place: str, how: int) -> None:
        deletion = FileDispositionInformation()
        deletion["delete_pending"] = True
        self._change(share, place, how, deletion)

    def _close(self, share: Share, opened: _Opened, flight: Iterable[Request]) -> None:
        """Whatever was sent is waited for, and the file is closed, as far as that is still possible."""
        for request in flight:
            with suppress(TreeError):
                share.receive(request)
        with suppress(TreeError):
            if share.alive:
                share.receive(share.send(opened.file.close(send=False)[0]))

    def _patiently(self, act: Callable[[], T]) -> T:
        """Tries again for a moment while somebody else has the file open."""
        end = time.monotonic() + _OPENING
        while True:
            try:
                return act()
            except StatusError as error:
                if error.status != SHARING_VIOLATION or time.monotonic() > end:
                    raise
            time.sleep(0.1)

    # ------------------------------------------------------------------------------------------------------- connection

    def _connected(self) -> Share:
        return self._joint.get()

    def _at(self, path: str) -> str:
        """The path in the share.  Raises ``TreeError`` for names that servers refuse, or change without a word."""
        for part in path.split("/") if path else ():
            if _IMPOSSIBLE.search(part) or part.endswith((".", " ")) or _DEVICE.fullmatch(part):
                raise TreeError(
                    Fault.NAME,
                    f'{part!r} is no name on a share: no \\ : * ? " < > |, no dot or blank at its end, no device',
                    remedy="change the path template",
                )
        return "/".join(filter(None, (self._root, path))).replace("/", "\\")


class _Opened:
    """A file or folder that is open."""

    def __init__(self, share: Share, place: str, answer: bytes) -> None:
        created = _created(answer)
        self.file = Open(share.tree, place)
        self.file.file_id = created["file_id"].get_value()
        self.size: int = created["end_of_file"].get_value()


def _create(share: Share, place: str, access: int, disposition: int, how: int) -> Any:
    return Open(share.tree, place).create(
        ImpersonationLevel.Impersonation,
        access,
        FileAttributes.FILE_ATTRIBUTE_NORMAL if how & _FILE else 0,
        _ANYBODY,
        disposition,
        how,
        send=False,
    )[0]


def _closing() -> Any:
    message = SMB2CloseRequest()
    message["file_id"] = _REMEMBERED_AT
    return message


def _created(answer: bytes) -> Any:
    created = SMB2CreateResponse()
    created.unpack(answer)
    return created


def _is_folder(attributes: int) -> bool:
    """A link to a folder is none."""
    link = attributes & FileAttributes.FILE_ATTRIBUTE_REPARSE_POINT
    return bool(attributes & FileAttributes.FILE_ATTRIBUTE_DIRECTORY) and not link
