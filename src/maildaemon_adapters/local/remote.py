"""File systems of fsspec, only read: which login each of them is given, and what of their answers is believed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from fsspec import filesystem

from maildaemon_adapters.local.patient_ftp import PatientFtp
from maildaemon_adapters.local.shelf import File, Steps, printable
from maildaemon_adapters.tcp.words import said
from maildaemon_core.confinement import ConnectionForbidden, OutOfBounds
from maildaemon_core.errors import MaildaemonError, SourceUnavailable
from maildaemon_core.options import MailboxOptions

_VERSIONS: Final = ("etag", "ETag", "VersionId", "CRC", "md5")
"""What file systems call that which changes with the content of a file."""

_LONGEST_SAYING: Final = 200

_TIMES: Final = ("mtime", "modify", "LastModified", "last_modified", "last_write_time", "date_time", "created")


class RemoteFile:
    """An open file of fsspec; ``file`` is what its folder showed when it was opened."""

    def __init__(self, stream: Any, file: File, secrets: Sequence[str] = ()) -> None:
        self._stream = stream
        self._secrets = secrets
        self.file = file

    def read(self, number: int, /) -> bytes:
        with _translated(self._secrets):
            got: bytes = self._stream.read(number)
        return got


class Remote:
    """What lies below ``root`` of a file system, in which nothing is ever changed.

    ``secrets``: what of the login a server may repeat, and nobody must see.
    """

    def __init__(self, fs: Any, root: str, where: str, *, secrets: Sequence[str] = ()) -> None:
        self._secrets = secrets
        self._fs = fs
        self._root = f"{root.rstrip('/')}/" if root else ""
        self._where = where

    @property
    def where(self) -> str:
        return self._where

    def folders(self, steps: Steps) -> Sequence[str]:
        return [name for name, info in self._listed(steps) if info.get("type") == "directory"]

    def files(self, steps: Steps) -> Sequence[File]:
        return [_file(name, info) for name, info in self._listed(steps) if _is_file(info)]

    def _listed(self, steps: Steps) -> Iterator[tuple[str, Mapping[str, Any]]]:
        path = self._path(steps)
        with _translated(self._secrets):
            # What was listed before is kept until now, for some cannot say what a file is without listing its folder.
            self._fs.invalidate_cache()
            found = self._fs.ls(path, detail=True)
        for info in found:
            name = str(info["name"]).rstrip("/")
            if name.strip("/") == path.strip("/"):
                if _is_file(info):
                    raise NotADirectoryError(20, "it is no folder", path)
                continue
            last = name.rpartition("/")[2]
            if last not in {"", ".", ".."}:
                yield last, info

    @contextmanager
    def open(self, steps: Steps, name: str) -> Iterator[RemoteFile]:
        if "/" in name or name in {"", ".", ".."}:
            raise FileNotFoundError(2, "no name of a file", name)
        path = self._path((*steps, name))
        with _translated(self._secrets):
            info = self._fs.info(path)
            if not _is_file(info):
                raise FileNotFoundError(2, "it is no file", name)
            stream = self._fs.open(path, "rb")
        try:
            yield RemoteFile(stream, _file(name, info), self._secrets)
        finally:
            with suppress(Exception):  # it was only read
                stream.close()

    def close(self) -> None:
        for closing in ("close", "disconnect"):
            act = getattr(self._fs, closing, None)
            if callable(act):
                with suppress(Exception):
                    act()

    def _path(self, steps: Steps) -> str:
        return self._root + "/".join(steps) if steps else self._root.rstrip("/") or self._root


def _is_file(info: Mapping[str, Any]) -> bool:
    return info.get("type") == "file" and not info.get("islink")


def _file(name: str, info: Mapping[str, Any]) -> File:
    """As the folder shows it.  Times are as exact as the file system has them."""
    modified = next((time for key in _TIMES if (time := _nanoseconds(info.get(key)))), 0)
    told = [f"{key}={info[key]}" for key in _VERSIONS if info.get(key) is not None]
    version = hashlib.sha256("\0".join(told).encode("utf-8", "replace")).hexdigest()[:16] if told else ""
    return File(name, int(info.get("size") or 0), modified, modified, version)


def _nanoseconds(time: object) -> int:
    match time:
        case datetime():
            return _nanoseconds((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp())
        case int() | float():
            return round(time * 1e6) * 1000  # as exact as a number of this sort can be
        case (int(year), int(month), int(day), int(hour), int(minute), int(second)):  # a zip's
            with suppress(ValueError):
                return int(datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()) * 10**9
        case str() if time[:14].isdecimal():  # FTP's MLSD (RFC 3659 §2.3)
            with suppress(ValueError):
                return int(datetime.strptime(time[:14], "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp()) * 10**9
    return 0


@contextmanager
def _translated(secrets: Sequence[str] = ()) -> Iterator[None]:
    """Whatever a library raises, as OSError."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 - each library has errors of its own
        told = f"{type(error).__name__}: {said(str(error), secrets, longest=_LONGEST_SAYING)}"
    else:
        return
    raise ConnectionError(5, told)  # outside of the handler, lest the server's own words hang on to it


def open_url(url: str, options: MailboxOptions) -> Remote:
    """Connects to what a URL of one of the protocols that are taken names.

    Raises ``SourceUnavailable`` and ``OutOfBounds``.
    """
    parts = urlsplit(url)
    make = _MAKERS[parts.scheme.casefold()]
    where = printable(url)
    secrets = [options.password.value] if options.password is not None and options.password.value else []
    found: Remote | None = None
    failure: MaildaemonError
    try:
        fs, root = make(url, options)
        found = Remote(fs, root, where, secrets=secrets)
        found.files(())
    except FileNotFoundError:
        failure = SourceUnavailable(f"there is nothing at {where}", remedy="create it, or correct `path`")
    except ConnectionForbidden as error:
        failure = OutOfBounds(f"{where} is not for mailboxes of this service: {error.fault}", remedy=error.remedy)
    except Exception as error:  # noqa: BLE001 - each library has errors of its own
        told = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        shown = said(told, secrets, longest=_LONGEST_SAYING) or type(error).__name__
        failure = SourceUnavailable(
            f"{where} cannot be opened: {shown}", remedy="correct `path`, or username and password"
        )
    else:
        return found
    if found is not None:
        found.close()
    raise failure  # outside of the handlers, lest the server's own words hang on to it


def _memory(url: str, options: MailboxOptions) -> tuple[Any, str]:
    return filesystem("memory"), "/" + url.partition("://")[2].strip("/")


def _zip(url: str, options: MailboxOptions) -> tuple[Any, str]:
    """An archive of this machine, by its full path."""
    path = unquote(url.partition("://")[2])
    return filesystem("zip", fo=path, skip_instance_cache=True), ""


def _login(options: MailboxOptions) -> dict[str, Any]:
    login: dict[str, Any] = {}
    if options.username:
        login["username"] = options.username
    if options.password is not None:
        login["password"] = options.password.value
    return login


def _ftp(url: str, options: MailboxOptions) -> tuple[Any, str]:
    """In plain text, which the options have to say: fsspec's FTP with TLS looks at no certificate."""
    parts = urlsplit(url)
    login = {**({"username": unquote(parts.username)} if parts.username else {}), **_login(options)}
    fs = PatientFtp(host=parts.hostname or "", port=parts.port or 21, **login, skip_instance_cache=True)
    return fs, unquote(parts.path)


_MAKERS: Final[Mapping[str, Callable[[str, MailboxOptions], tuple[Any, str]]]] = {
    "ftp": _ftp,
    "memory": _memory,
    "zip": _zip,
}
