"""Files on a server that speaks WebDAV (RFC 4918): PUT into the staging folder, MOVE to a name that must be free."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from tempfile import SpooledTemporaryFile
from threading import Lock
from typing import Final

import attrs
import httpx

from maildaemon_adapters.files.claims import claim_of
from maildaemon_adapters.files.paths import STAGING
from maildaemon_adapters.files.server_url import ServerUrl
from maildaemon_adapters.files.staging import TRIAL
from maildaemon_adapters.files.tree import Fault, Named, Showing, Stat, TreeError
from maildaemon_adapters.files.webdav import WebDavSettings
from maildaemon_adapters.files.webdav.multistatus import ASKED, Resource, Unreadable, inside, resources
from maildaemon_adapters.files.webdav.wire import PORTS, Asking, answer_of
from maildaemon_adapters.files.webdav.words import (
    CREATED,
    EXISTS,
    GONE,
    MISSING,
    MULTISTATUS,
    NO_CONTENT,
    NOT_ALLOWED,
    OK,
    REDIRECTS,
    Answer,
)
from maildaemon_core.message import CHUNK
from maildaemon_core.ports import Finding, Level

_DOUBTFUL: Final = frozenset(";?#%+\\&")
"""What some servers misread in names though it is escaped."""

_DONE: Final = frozenset({OK, CREATED, NO_CONTENT})
_NOT_THERE: Final = frozenset({MISSING, GONE})
_NO_DAV: Final = frozenset({OK, 400, NOT_ALLOWED, 501})


_IN_MEMORY: Final = 1 << 20

_NO_DAV_REMEDY: Final = "write into url the address of a folder that WebDAV serves, with all of its path"


class WebDavTree:
    """Files below the address of one folder."""

    showing = Showing.RENAME

    def __init__(self, url: ServerUrl, secret: str, settings: WebDavSettings) -> None:
        url = attrs.evolve(url, scheme={"dav": "http", "davs": "https"}.get(url.scheme, url.scheme))
        self.place = url.place(PORTS[url.scheme])
        self.at_once = 1 if settings.auth == "digest" else settings.connections
        self._url = url
        self._learning = Lock()
        self._misread: frozenset[str] | None = None  # until it matters
        self._server = Asking(url, secret, settings)

    def __repr__(self) -> str:
        return f"WebDavTree({self.place!r})"

    def stat(self, path: str) -> Stat | None:
        found = self._listed(path, "0", folder=not path)
        if not found:
            return None
        if found[0].is_folder:
            return Stat(size=0, is_folder=True)
        size = found[0].size
        return Stat(size=self._size(path) if size is None else size)

    def write(self, path: str, pieces: Iterable[bytes], size: int | None = None) -> None:
        begun = False

        def watched() -> Iterator[bytes]:
            nonlocal begun
            begun = True
            yield from pieces

        if size is None:
            with _measured(pieces) as (known, octets):
                self.write(path, known, octets)
            return
        if self._server.auth == "digest":
            self.stat(path.rpartition("/")[0])  # a file cannot be sent twice, if the server wants a new digest for it
        try:
            answer = self._server.send(path, watched(), size)
        except TreeError as error:
            if begun and error.fault is not Fault.GONE:
                self._discard(path)
            raise
        except BaseException:
            self._discard(path)
            raise
        if answer.status not in _DONE:
            failure = self._unwritten(answer, path)
            if failure.fault is not Fault.MISSING:
                self._discard(path)
            raise failure

    def read(self, path: str) -> Iterator[bytes]:
        with self._server.answering("GET", path) as response:
            if response.status_code != OK:
                raise self._server.fault(answer_of(response))
            yield from response.iter_raw(1 << 18)

    def publish(self, source: str, target: str) -> str | None:
        # Some servers look and then rename, so that two of us could meet between the two.
        self._require_understood(source.rpartition("/")[0], target)
        claim = claim_of(f"{self.place}/{target}")
        with claim.lock:
            headers = {"Destination": self._server.address(target), "Overwrite": "F"}
            answer = self._server.ask("MOVE", source, answer_of, headers=headers, again=False)
            if answer.status in _DONE:
                return answer.headers.get("etag")
            if answer.status == EXISTS:
                raise TreeError(Fault.EXISTS, answer.words)
            if answer.status in _NOT_THERE and self.stat(source) is None:
                raise TreeError(Fault.MISSING, f"what is to be published is not there: {answer.words}")
            if self.stat(target) is not None:
                raise TreeError(Fault.EXISTS, answer.words)
            raise self._unwritten(answer, target)

    def _require_understood(self, folder: str, target: str) -> None:
        """Raises ``NAME`` for a target that the server would take for another; ``folder`` is where to try that.

        Some unescape the header Destination before they take it apart, and end a name at a semicolon or question mark:
        the file would lie under a name that nobody reserved.
        """
        doubtful = _DOUBTFUL.intersection(f"{self._url.path}/{target}")
        if not doubtful:
            return
        with self._learning:
            if self._misread is None:
                whole = self._arrives(folder, _DOUBTFUL)
                self._misread = frozenset(each for each in _DOUBTFUL if not (whole or self._arrives(folder, each)))
        if misread := sorted(doubtful & self._misread):
            raise TreeError(
                Fault.NAME,
                f"the server misreads names that hold {' or '.join(misread)} (in the header Destination)",
                remedy="have the server mended, use another one, or keep such names out by the path template",
            )

    def _arrives(self, folder: str, characters: Iterable[str]) -> bool:
        """Whether a file that is moved to a name with these characters has that name."""
        begin = f"{TRIAL}{secrets.token_hex(8)}"
        name = f"{begin} {''.join(characters)}41 end"
        try:
            answer = self._server.send(f"{folder}/{begin}", (), 0)
            if answer.status not in _DONE:
                raise self._unwritten(answer, f"{folder}/{begin}")
            headers = {"Destination": self._server.address(f"{folder}/{name}"), "Overwrite": "F"}
            self._server.ask("MOVE", f"{folder}/{begin}", answer_of, headers=headers, again=False)
            return any(each.name == name for each in self.names(folder))
        finally:
            with suppress(TreeError):
                for each in self.names(folder):
                    if each.name.startswith(begin):
                        self.remove(f"{folder}/{each.name}")

    def remove(self, path: str) -> None:
        found = self.stat(path)
        if found is None or found.is_folder:  # what is in a folder would go with it
            return
        self._delete(path)

    def make_folder(self, path: str) -> None:
        if not path:
            self._make_root()
            return
        answer = self._server.ask("MKCOL", path, answer_of, folder=True)
        if answer.status in _DONE:
            return
        found = self.stat(path)
        if found is None:
            raise self._unwritten(answer, path)
        if not found.is_folder:
            raise TreeError(Fault.BLOCKED, Fault.BLOCKED.value, remedy="move it away")

    def remove_folder(self, path: str) -> None:
        """As ``Tree`` has it; but the staging folder stays.

        DELETE takes with a folder what is in it (RFC 4918 §9.6.1), and in that one another worker may begin a batch at
        any time, also between the look into it and its end.
        """
        if path in {"", STAGING}:
            return
        found = self._listed(path, "1", folder=True)
        if found and not inside(found) and min(found, key=lambda each: len(each.steps)).is_folder:
            self._delete(path, folder=True)

    def names(self, folder: str) -> Sequence[Named]:
        found = self._listed(folder, "1", folder=True)
        return [Named(name=each.steps[-1], is_folder=each.is_folder) for each in inside(found)]

    def findings(self) -> Sequence[Finding]:
        if self._url.scheme == "https":
            return ()
        return [
            Finding(
                level=Level.WARNING,
                subject=self.place,
                message="password and files travel in plain text, as tls = none says",
                remedy="use https if the server has it, and leave tls out",
            )
        ]

    def close(self) -> None:
        with suppress(Exception):
            self._server.close()

    # -------------------------------------------------------------------------------------------------- asking a server

    def _listed(self, path: str, depth: str, *, folder: bool) -> Sequence[Resource]:
        """What a PROPFIND tells of; nothing if nothing is there."""
        headers = {"Depth": depth, "Content-Type": 'application/xml; charset="utf-8"'}
        try:
            answer = self._server.ask("PROPFIND", path, _told, folder=folder, headers=headers, content=ASKED)
        except Unreadable as error:
            raise TreeError(
                Fault.OTHER, f"the server's answer cannot be read: {error}", remedy=_NO_DAV_REMEDY
            ) from None
        if not isinstance(answer, Answer):
            return answer
        if answer.status in _NOT_THERE:
            return ()
        if answer.status in REDIRECTS and not folder:  # some want a slash behind a folder; no other address is asked
            return self._listed(path, depth, folder=True)
        if answer.status in _NO_DAV:
            raise TreeError(
                Fault.OTHER, f"there is no WebDAV under this address: {answer.words}", remedy=_NO_DAV_REMEDY
            )
        raise self._server.fault(answer)

    def _size(self, path: str) -> int:
        """The size of a file whose server does not tell it otherwise."""
        answer = self._server.ask("HEAD", path, answer_of)
        size = answer.headers.get("content-length", "")
        if answer.status != OK or not size.isdecimal():
            raise TreeError(Fault.OTHER, "the server can tell no sizes, so that nothing could be checked")
        return int(size)

    def _unwritten(self, answer: Answer, path: str) -> TreeError:
        """Why something cannot be made under a name; for a folder that is missing each server has its own status."""
        fault = self._server.fault(answer)
        if fault.fault not in {Fault.MISSING, Fault.DENIED, Fault.OTHER, Fault.EXISTS}:
            return fault
        above = path.rpartition("/")[0]
        there = self.stat(above)
        if there is None:
            return TreeError(Fault.MISSING, f"its folder is not there ({answer.words})")
        if not there.is_folder:
            return TreeError(Fault.BLOCKED, Fault.BLOCKED.value, remedy="move it away")
        if fault.fault is Fault.EXISTS:
            return TreeError(Fault.OTHER, answer.words)
        return fault

    def _make_root(self) -> None:
        """Makes the folder of the address, and what is missing above it, from the nearest that is there."""
        missing = 0  # folders, counted from the lowest
        depth = len(self._url.path.split("/")) if self._url.path else 0
        while missing < depth and not self._listed("../" * missing, "0", folder=True):
            missing += 1
        for above in reversed(range(missing)):
            answer = self._server.ask("MKCOL", "../" * above, answer_of, folder=True)
            if answer.status not in _DONE and not self._listed("../" * above, "0", folder=True):
                raise self._server.fault(answer)

    def _delete(self, path: str, *, folder: bool = False) -> None:
        answer = self._server.ask("DELETE", path, answer_of, folder=folder)
        if answer.status not in _DONE | _NOT_THERE:
            raise self._server.fault(answer)

    def _discard(self, path: str) -> None:
        with suppress(TreeError):
            self._delete(path)


@contextmanager
def _measured(pieces: Iterable[bytes]) -> Iterator[tuple[Iterator[bytes], int]]:
    """The same pieces with their size, which has to be announced: many servers take nothing of which it is unknown."""
    with SpooledTemporaryFile(_IN_MEMORY) as kept:
        for piece in pieces:
            kept.write(piece)
        size = kept.tell()
        kept.seek(0)
        yield iter(lambda: kept.read(CHUNK), b""), size


def _told(response: httpx.Response) -> Answer | Sequence[Resource]:
    return resources(response.iter_raw()) if response.status_code == MULTISTATUS else answer_of(response)
