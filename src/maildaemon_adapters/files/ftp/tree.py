"""Files on a server that speaks FTP, with several connections if so it is wished.

There is no rename in FTP that refuses a name which is taken: it is looked for first.
"""

from __future__ import annotations

import ftplib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from threading import BoundedSemaphore, Lock
from typing import Final, TypeVar

import attrs

from maildaemon_adapters.files.claims import claim_of
from maildaemon_adapters.files.ftp import PORTS, FtpSettings, tls_of
from maildaemon_adapters.files.ftp.login import log_in
from maildaemon_adapters.files.ftp.wire import Interrupted, Wire
from maildaemon_adapters.files.ftp.words import (
    code_of,
    fact_line,
    facts_of,
    fault_of,
    is_unknown,
    named,
    nameless,
    says_denied,
    stat_of,
)
from maildaemon_adapters.files.server_url import ServerUrl
from maildaemon_adapters.files.tree import Fault, Named, Showing, Stat, TreeError
from maildaemon_core.ports import Finding, Level

T = TypeVar("T")

FRESH: Final = 5.0
"""Seconds of rest after which a connection is asked whether it still is one."""

_BROKEN: Final = (OSError, EOFError, ftplib.error_proto, ftplib.error_reply)
"""After these nobody knows what the next answer would be about."""


class FtpTree:
    """Files below one folder of an account; paths begin at the top folder that the account sees.

    ``connections`` are at most used at once, but for those that read; each is kept for the next who needs one.
    """

    showing = Showing.RENAME

    def __init__(self, url: ServerUrl, password: str, settings: FtpSettings) -> None:
        self._tls = tls_of(url, settings)
        self.place = attrs.evolve(url, scheme="ftp").place(PORTS[self._tls])
        self.at_once = settings.connections
        self._url = url
        self._password = password
        self._settings = settings
        self._turns = BoundedSemaphore(settings.connections)
        self._lock = Lock()
        self._resting: list[tuple[Wire, float]] = []

    def __repr__(self) -> str:
        return f"FtpTree({self.place!r})"

    # ------------------------------------------------------------------------------------------------------- the tree

    def stat(self, path: str) -> Stat | None:
        return self._do(lambda wire: self._stat(wire, self._whole(path)))

    def write(self, path: str, pieces: Iterable[bytes], size: int | None = None) -> None:
        whole = self._whole(path)
        begun = False

        def watched() -> Iterator[bytes]:
            nonlocal begun
            begun = True
            yield from pieces

        def act(wire: Wire) -> None:
            try:
                wire.send(whole, watched())
            except ftplib.error_perm as error:
                there = None if begun else self._stat(wire, whole)
                if there is None or there.is_folder:
                    raise self._unwritten(wire, error, whole) from None
                wire.voidcmd(f"DELE {whole}")  # some servers overwrite nothing
                wire.send(whole, watched())

        try:
            self._do(act, again=lambda: not begun)
        except Interrupted as interrupted:
            self._discard(path)
            raise interrupted.error from interrupted.error.__cause__
        except TreeError as error:
            if begun and error.fault is not Fault.GONE:
                self._discard(path)
            raise

    def read(self, path: str) -> Iterator[bytes]:
        whole = self._whole(path)
        wire, _ = self._taken()
        try:
            yield from wire.receive(f"RETR {whole}")
        except (ftplib.error_perm, ftplib.error_temp) as error:
            self._rests(wire, error)
            if code_of(error) == "550" and self.stat(path) is None:
                raise TreeError(Fault.MISSING, Fault.MISSING.value) from None
            raise fault_of(nameless(error, whole), self._secrets) from None
        except _BROKEN as error:
            wire.hang_up()
            raise self._gone(error) from None
        except BaseException:  # whoever reads has had enough
            wire.hang_up()
            raise
        self._rests(wire)

    def publish(self, source: str, target: str) -> str | None:
        old, new = self._whole(source), self._whole(target)
        renaming = False

        def act(wire: Wire) -> None:
            nonlocal renaming
            if self._stat(wire, new) is not None:
                raise TreeError(Fault.EXISTS, Fault.EXISTS.value)
            try:
                wire.sendcmd(f"RNFR {old}")
            except ftplib.error_perm as error:
                if self._stat(wire, old) is None:
                    raise TreeError(Fault.MISSING, "what is to be published is not there") from None
                raise fault_of(nameless(error, old), self._secrets) from None
            renaming = True
            try:
                wire.voidcmd(f"RNTO {new}")
            except ftplib.error_perm as error:
                if self._stat(wire, new) is not None:
                    raise TreeError(Fault.EXISTS, Fault.EXISTS.value) from None
                raise self._unwritten(wire, error, new) from None

        claim = claim_of(f"{self.place}/{target}")
        with claim.lock:
            self._do(act, again=lambda: not renaming)
        return None

    def remove(self, path: str) -> None:
        whole = self._whole(path)

        def act(wire: Wire) -> None:
            try:
                wire.voidcmd(f"DELE {whole}")
            except ftplib.error_perm as error:
                if self._stat(wire, whole) is not None:
                    raise fault_of(nameless(error, whole), self._secrets) from None

        self._do(act)

    def make_folder(self, path: str) -> None:
        whole = self._whole(path)

        def act(wire: Wire) -> None:
            if not path:  # the root, with what is missing above it
                self._make_all_above(wire, whole)
            try:
                wire.voidcmd(f"MKD {whole}")
            except ftplib.error_perm as error:
                there = self._stat(wire, whole)
                if there is None:
                    raise self._unwritten(wire, error, whole) from None
                if not there.is_folder:
                    raise TreeError(Fault.BLOCKED, Fault.BLOCKED.value, remedy="move it away") from None

        self._do(act)

    def _make_all_above(self, wire: Wire, whole: str) -> None:
        above = whole.rpartition("/")[0]
        if above and self._stat(wire, above) is None:
            self._make_all_above(wire, above)
            wire.voidcmd(f"MKD {above}")

    def remove_folder(self, path: str) -> None:
        whole = self._whole(path)

        def act(wire: Wire) -> None:
            try:
                wire.voidcmd(f"RMD {whole}")
            except ftplib.error_perm as error:
                there = self._stat(wire, whole)
                if there is not None and there.is_folder and not self._names(wire, whole):
                    raise fault_of(nameless(error, whole), self._secrets) from None

        self._do(act)

    def names(self, folder: str) -> Sequence[Named]:
        return self._do(lambda wire: self._names(wire, self._whole(folder)))

    def findings(self) -> Sequence[Finding]:
        powers = self._do(lambda wire: wire.powers)
        found = [
            Finding(
                level=Level.WARNING,
                subject=self.place,
                message="FTP has no rename that refuses a name which is taken: it is looked for just before",
                remedy="let no other program make files of the same names there, or use another kind",
            )
        ]
        if self._tls == "none":
            found.append(
                Finding(
                    level=Level.WARNING,
                    subject=self.place,
                    message="password and files travel in plain text, as tls = none says",
                    remedy="use TLS if the server has it: leave tls out",
                )
            )
        if not powers.utf8:
            found.append(
                Finding(
                    level=Level.WARNING,
                    subject=self.place,
                    message="the server does not say that names are UTF-8; such beyond ASCII may look wrong there",
                    remedy="turn UTF-8 on in the server, or keep the path template to ASCII",
                )
            )
        return found

    def close(self) -> None:
        with self._lock:
            resting, self._resting = self._resting, []
        for wire, _ in resting:
            with suppress(Exception):
                wire.putline("QUIT")
            wire.hang_up()

    # -------------------------------------------------------------------------------------------------- asking a server

    def _stat(self, wire: Wire, whole: str) -> Stat | None:
        if wire.powers.facts:
            try:
                found = stat_of(facts_of(fact_line(wire.sendcmd(f"MLST {whole}")))[0])
            except ftplib.error_perm as error:
                self._require_missing(error, whole)
                return None
            if found is not None:
                return found
        try:
            size = wire.size(whole)
        except ftplib.error_perm as error:
            if is_unknown(error):
                raise TreeError(
                    Fault.OTHER,
                    "the server can tell no sizes (neither MLST nor SIZE), so that nothing could be checked",
                    remedy="use another server, or another kind of destination",
                ) from None
        else:
            return None if size is None else Stat(size=size)
        try:
            wire.voidcmd(f"CWD {whole}")
        except ftplib.error_perm as error:
            self._require_missing(error, whole)
            return None
        return Stat(size=0, is_folder=True)

    def _require_missing(self, error: ftplib.Error, whole: str) -> None:
        """550 stands for what is missing and for what nobody may see; the latter must not pass for the former."""
        bare = nameless(error, whole)
        if says_denied(bare) or code_of(error) != "550":
            raise fault_of(bare, self._secrets) from None

    def _names(self, wire: Wire, whole: str) -> Sequence[Named]:
        try:
            if wire.powers.facts:
                return list(named(wire.lines(f"MLSD {whole}")))
            wire.voidcmd(f"CWD {whole}")  # as an argument of NLST it could be taken for a pattern, or for an option
        except ftplib.error_perm as error:
            there = self._stat(wire, whole)
            if there is None or not there.is_folder:
                return ()
            raise fault_of(nameless(error, whole), self._secrets) from None
        try:
            listed = [line.rpartition("/")[2] for line in wire.lines("NLST")]
        except (ftplib.error_perm, ftplib.error_temp) as error:
            if code_of(error) in {"550", "450"} and not says_denied(error):
                return ()  # so some say that nothing is in it
            raise
        found = ((name, self._stat(wire, f"{whole.rstrip('/')}/{name}")) for name in listed if name.strip("."))
        return [Named(name=name, is_folder=there.is_folder) for name, there in found if there is not None]

    def _unwritten(self, wire: Wire, error: ftplib.Error, whole: str) -> TreeError:
        """Why something cannot be made under a name, for which servers have no words of their own."""
        fault = fault_of(nameless(error, whole), self._secrets)
        if fault.fault in {Fault.FULL, Fault.REFUSED_FILE, Fault.NAME, Fault.BUSY, Fault.LOGIN}:
            return fault
        above = whole.rpartition("/")[0]
        there = self._stat(wire, above or "/")
        if there is None:
            return TreeError(Fault.MISSING, f"its folder is not there ({fault.what})")
        if not there.is_folder:
            return TreeError(Fault.BLOCKED, Fault.BLOCKED.value, remedy="move it away")
        if fault.fault in {Fault.EXISTS, Fault.OTHER}:  # nothing else is left
            return TreeError(
                Fault.DENIED,
                fault.what,
                remedy="give the account the rights to write, rename, read, list and delete there",
            )
        return fault

    def _whole(self, path: str) -> str:
        whole = "/" + "/".join(filter(None, (self._url.path, path)))
        if any(character < " " for character in whole):
            raise TreeError(Fault.NAME, "a name holds control characters, which FTP cannot carry")
        return whole

    def _discard(self, path: str) -> None:
        with suppress(TreeError):
            self.remove(path)

    # ----------------------------------------------------------------------------------------------------- connections

    def _do(self, act: Callable[[Wire], T], *, again: Callable[[], bool] = lambda: True) -> T:
        """Has ``act`` done on a connection; on another one if that had ended while it rested, and ``again`` agrees."""
        with self._turns:
            wire, is_new = self._taken()
            while True:
                try:
                    result = act(wire)
                except (TreeError, Interrupted):
                    self._rests(wire)
                    raise
                except (ftplib.error_perm, ftplib.error_temp) as error:
                    self._rests(wire, error)
                    raise fault_of(error, self._secrets) from None
                except _BROKEN as error:
                    wire.hang_up()
                    if is_new or not again():
                        raise self._gone(error) from None
                except BaseException:
                    wire.hang_up()
                    raise
                else:
                    self._rests(wire)
                    return result
                wire, is_new = self._connected(), True

    def _taken(self) -> tuple[Wire, bool]:
        """A connection that nobody else uses, and whether it is a new one."""
        while True:
            with self._lock:
                if not self._resting:
                    break
                wire, since = self._resting.pop()
            if time.monotonic() - since < FRESH:
                return wire, False
            try:
                wire.voidcmd("NOOP")
            except (*_BROKEN, ftplib.Error):
                wire.hang_up()
            else:
                return wire, False
        return self._connected(), True

    def _rests(self, wire: Wire, error: ftplib.Error | None = None) -> None:
        """Keeps a connection for the next, unless the server has just ended it."""
        with self._lock:
            if wire.is_open and (error is None or code_of(error) != "421") and len(self._resting) < self.at_once:
                self._resting.append((wire, time.monotonic()))
                return
        wire.hang_up()

    def _connected(self) -> Wire:
        return log_in(self._url, self._password, self._settings)

    def _gone(self, error: BaseException) -> TreeError:
        if isinstance(error, TimeoutError):
            return TreeError(
                Fault.GONE,
                f"the server said nothing for {self._settings.answer_seconds:g} s",
                remedy="see whether the server is overloaded; options.answerSeconds says how long is waited",
            )
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or "it hung up"
        return TreeError(Fault.GONE, f"the connection broke: {why}", remedy="it will be tried again")

    @property
    def _secrets(self) -> Sequence[str]:
        return (self._password,)
