"""IMAPClient behind a few commands in our words, and its many ways to fail as three: refused, unparsable, broken.

Kept in one place because this leans on what IMAPClient 4 calls private (``_create_IMAP4``, ``_imap``); a test pins it.
Of IMAPClient's own commands those that are sound are used.  Its ``fetch`` and ``store`` are not: they give up on UID
ranges after everything has been transferred.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import imaplib
import re
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs
from imapclient import IMAPClient
from imapclient.exceptions import ProtocolError
from imapclient.response_parser import parse_fetch_response

from maildaemon_adapters.imap.answers import each_answer, joined, plain_answers
from maildaemon_adapters.imap.names import Listed, read_listed
from maildaemon_adapters.imap.translate import HIGHEST_UID, copied, response, uid_sets
from maildaemon_adapters.imap.transport import Literal, Receive, Transport
from maildaemon_adapters.tcp.patience import Patience
from maildaemon_core.message import BytesContent, Content
from maildaemon_core.ports import Spool

HEADER_LIMIT = 1 << 17
"""So many bytes of a header block are looked at."""

_BAD = re.compile(r"command error: BAD \[(b(['\"]).*\2)\]$", re.DOTALL)

GOODBYE_SECONDS = 5.0

PARSERS_FAIL_WITH = (ValueError, TypeError, LookupError, AssertionError, RecursionError)
"""What imaplib and IMAPClient raise on answers that their authors did not think of."""

Copied = Mapping[int, tuple[str, int]]
"""UIDVALIDITY and UID that mails have got in the folder that they were put into, by the UID that they had."""

Answers = Mapping[int, Mapping[bytes, Any]]
"""What FETCH told of each UID."""


class Refused(Exception):
    """The server answered NO or BAD; the connection is as good as before.  The text is the server's."""


class Unparsable(Exception):
    """An answer that nobody can read."""


class Broken(Exception):
    """The connection is of no use any more."""


@attrs.frozen(kw_only=True)
class Opened:
    """A folder as it was selected.  ``uidnext`` and ``permanent_flags`` are None when the server did not say."""

    uidvalidity: str
    exists: int
    uidnext: int | None = None
    permanent_flags: frozenset[str] | None


class Connection(IMAPClient):  # type: ignore[misc]  # it ships no types
    """One connection with one server, used by one thread at a time."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        context: ssl.SSLContext | None,
        connect_seconds: float,
        patience: Patience,
    ) -> None:
        """Connects; ``context`` is for TLS from the first byte.  Raises what imaplib, ssl and sockets raise."""
        self._patience = patience
        self._connect_seconds = connect_seconds
        self.usable = True
        super().__init__(host, port, ssl=context is not None, ssl_context=context)
        self._imap.debug = 0  # IMAPClient has every line formatted for a logger, mails among them
        self.normalise_times = False

    def _create_IMAP4(self) -> Transport:  # noqa: N802
        return Transport(
            self.host,
            self.port,
            context=self.ssl_context if self.ssl else None,
            connect_seconds=self._connect_seconds,
            patience=self._patience,
        )

    # ---- before and after the login ----

    @property
    def greeting(self) -> str:
        return response((self.welcome or b"").decode("utf-8", "replace").partition(" ")[2].partition(" ")[2])[1]

    @property
    def preauthenticated(self) -> bool:
        return bool(self._imap.state != "NONAUTH")

    def abilities(self) -> frozenset[str]:
        """What the server announces at present: more after the login than before it, on many servers."""
        with self._command():
            return frozenset(ability.decode("ascii", "replace") for ability in self.capabilities())

    def secure(self, context: ssl.SSLContext) -> None:
        """STARTTLS.  Raises ``Refused`` for the server's NO, else what ssl and sockets raise."""
        self._patience.restart(self._connect_seconds)
        self._checked(self._imap.xatom("STARTTLS"))
        self._imap.secure(context)
        _, data = self._imap.capability()
        self._imap.capabilities = tuple((data[-1] or b"").decode("ascii", "replace").upper().split())
        self._cached_capabilities = None

    def log_in(self, user: str, password: str, *, plain: bool) -> None:
        """LOGIN, or AUTHENTICATE PLAIN (RFC 4616), which can carry any character.  Raises ``Refused``."""
        with self._command():
            if plain:
                self._imap.authenticate("PLAIN", lambda _: plain_reply(user, password))
            else:
                escaped = user.replace("\\", "\\\\").replace('"', '\\"')
                self._imap.login(f'"{escaped}"', password)  # imaplib quotes the password, and not the name
        self._cached_capabilities = None

    def authenticate(
        self, mechanism: str, opening: Callable[[], bytes] | None, answer: Callable[[bytes], bytes | None]
    ) -> None:
        """AUTHENTICATE (RFC 9051 §6.2.2) as a dialogue; ``answer`` None breaks it off.  Raises ``Refused``.

        The opening, if there is one, goes along with the command where that is allowed (SASL-IR, RFC 4959), else
        ``answer`` gives it to the first, empty challenge.
        """
        first = None
        if opening is not None and "SASL-IR" in self.abilities():
            first = base64.b64encode(opening()) or b"="
        with self._command():
            self._imap.literal = _Dialogue(answer).process
            self._checked(self._imap._simple_command("AUTHENTICATE", mechanism, first))
            self._imap.state = "AUTH"
        self._cached_capabilities = None

    def leave(self) -> None:
        """Logs out if that is possible, and closes the socket.  Never raises."""
        self._patience.restart(GOODBYE_SECONDS)
        with contextlib.suppress(Exception):  # whatever it answers, we are gone
            if self.usable:
                self._imap.logout()
        self.usable = False
        with contextlib.suppress(Exception):  # nothing hangs on how a connection ends that is not used any more
            self._imap.shutdown()

    # ---- folders ----

    def listed(self, name: str | None = None) -> Sequence[Listed]:
        """Each folder, or that one."""
        pattern = "*" if name is None or set(name) & {"*", "%"} else name
        try:
            quoted = self._normalise_folder(pattern)
        except Refused:
            return []
        with self._command():
            data = self._checked(self._imap.list('""', quoted))
        return [
            each
            for each in read_listed(data)
            if name is None or each.name == name or name.upper() == each.name.upper() == "INBOX"
        ]

    def open_folder(self, name: str, *, writable: bool = False) -> Opened:
        """EXAMINE, or SELECT.  Raises ``Refused``, also when a folder is wanted writable and is not."""
        with self._command():
            data = self._checked(self._imap.select(self._normalise_folder(name), not writable))
        flags = self._code("PERMANENTFLAGS")
        return Opened(
            uidvalidity=_digits(self._code("UIDVALIDITY")),
            exists=int(_digits(_text(data[-1] or b"")) or 0),
            uidnext=int(_digits(self._code("UIDNEXT")) or 0) or None,
            permanent_flags=None if not flags else frozenset(flags[1:].partition(")")[0].split()),
        )

    def create(self, name: str) -> None:
        with self._command():
            self._checked(self._imap.create(self._normalise_folder(name)))

    def rights(self, name: str) -> str:
        """The letters of RFC 4314 §2.1 that we have there."""
        with self._command():
            data = self._checked(self._imap.myrights(self._normalise_folder(name)))
        return _text(data[-1] or b"").rpartition(" ")[2]

    def _normalise_folder(self, folder_name: str) -> bytes:
        """The name as a quoted string.  Raises ``Refused`` for half a character: no folder can be called so."""
        try:
            quoted: bytes = super()._normalise_folder(folder_name)
        except UnicodeEncodeError:
            raise Refused("[NONEXISTENT] no folder can have such a name") from None
        return quoted

    def prefixes(self) -> Sequence[str]:
        """What the names of our own folders begin with (RFC 2342)."""
        with self._command():
            return [prefix for prefix, _ in self.namespace().personal or ()]

    # ---- mails of the open folder ----

    def uids_after(self, uid: int) -> list[int]:
        """Those that are higher, ascending.  RFC 9051 §6.4.8: a search for ``n:*`` finds the last mail in any case."""
        first = min(uid + 1, HIGHEST_UID)
        return [each for each in self._search(f"UID {first}:*") or () if each > uid]

    def those_there(self, uids: Iterable[int]) -> set[int]:
        """Which of these the server finds.  Raises ``Unparsable`` when it answers nothing at all: that is no proof."""
        wanted = set(uids)
        there: set[int] = set()
        for uid_set in uid_sets(wanted):
            found = self._search(f"UID {uid_set}")
            if found is None:
                raise Unparsable("no answer to a search")
            there |= set(found)
        return there & wanted

    def _search(self, criteria: str) -> list[int] | None:
        self._imap.response("SEARCH")
        with self._command():
            data = self._checked(self._imap.uid("SEARCH", criteria))
        lines = [line for line in data if isinstance(line, bytes)]
        # Some servers answer with several lines, and CONDSTORE may append "(MODSEQ 7)".
        return sorted({int(word) for line in lines for word in line.split() if word.isdigit()}) if lines else None

    def headers(self, uids: Sequence[int], items: str) -> Answers:
        """FETCH of small things.  Of a header block that is huge only the beginning is kept."""

        def cut(size: int, pieces: Iterator[bytes]) -> bytes:
            kept = b""
            for piece in pieces:
                kept = (kept + piece)[:HEADER_LIMIT] if len(kept) < HEADER_LIMIT else kept
            return Literal(size, kept)

        answers: dict[int, Mapping[bytes, Any]] = {}
        for uid_set in uid_sets(uids):
            answers.update(self._fetch(uid_set, items, cut))
        return {uid: answers[uid] for uid in uids if uid in answers}

    def bodies(self, uids: Sequence[int], spool: Spool) -> dict[int, Content]:
        """The whole mails, of those UIDs for which the server gave one.  Nothing is kept if it raises.

        Raises ``SpoolFull`` too; the connection is broken then, in the middle of a mail.
        """
        held: dict[int, Content] = {}

        def keep(size: int, pieces: Iterator[bytes]) -> bytes:
            content = spool.keep(pieces)
            held[id(content)] = content
            return Literal(size, content=content)

        found: dict[int, Content] = {}
        try:
            for uid_set in uid_sets(uids):
                for uid, answer in self._fetch(uid_set, "(UID BODY.PEEK[])", keep).items():
                    body = answer.get(b"BODY[]")
                    if uid in uids and isinstance(body, bytes):
                        content = body.content if isinstance(body, Literal) else None
                        found[uid] = spool.keep(BytesContent(body).chunks()) if content is None else content
        except BaseException:
            for content in (*held.values(), *found.values()):
                content.close()
            raise
        taken = {id(content) for content in found.values()}
        for content in held.values():
            if id(content) not in taken:
                content.close()
        return found

    def _fetch(self, uid_set: str, items: str, receive: Receive) -> Answers:
        self._imap.response("FETCH")  # forget what came unasked: its numbers may be those of a message sequence
        self._imap.receive = receive
        try:
            with self._command():
                data = self._checked(self._imap.uid("FETCH", uid_set, items))
        finally:
            self._imap.receive = None
            self._imap.response("FETCH")
        glance = plain_answers(data)
        if glance is not None:
            return glance
        try:
            return joined(
                answer
                for one in each_answer(data)
                for answer in parse_fetch_response(one, normalise_times=False, uid_is_key=False).values()
            )
        except (ProtocolError, *PARSERS_FAIL_WITH) as error:
            raise Unparsable(f"an answer to FETCH that is not IMAP: {type(error).__name__}") from None

    def store(self, uids: Iterable[int], flag: str) -> None:
        self._each_set(uids, "STORE", "+FLAGS.SILENT", f"({flag})")

    def expunge_exactly(self, uids: Iterable[int]) -> None:
        """UID EXPUNGE (RFC 4315), never the EXPUNGE of a whole folder."""
        self._each_set(uids, "EXPUNGE")

    def move_to(self, uids: Iterable[int], folder: str) -> Copied:
        """UID MOVE (RFC 6851), and where the mails are now, as far as the server says."""
        return self._each_set(uids, "MOVE", self._normalise_folder(folder))

    def copy_to(self, uids: Iterable[int], folder: str) -> Copied:
        """UID COPY, and where the copies are, as far as the server says."""
        return self._each_set(uids, "COPY", self._normalise_folder(folder))

    def _each_set(self, uids: Iterable[int], command: str, *arguments: str | bytes) -> Copied:
        told: dict[int, tuple[str, int]] = {}
        for uid_set in uid_sets(uids):
            self._imap.response("COPYUID")
            with self._command():
                self._checked(self._imap.uid(command, uid_set, *arguments))
            told |= copied(self._code("COPYUID"))
        return told

    # ---- how commands end ----

    @property
    def transport(self) -> Transport:
        """For commands that neither imaplib nor IMAPClient knows, within ``commanding``."""
        made: Transport = self._imap
        return made

    @contextlib.contextmanager
    def commanding(self, seconds: float | None = None) -> Iterator[None]:
        """One command, which may take ``seconds``, else as long as any.  Raises ``Broken`` for what breaks it."""
        with self._command():
            self._patience.restart(seconds)
            yield

    @contextlib.contextmanager
    def _command(self) -> Iterator[None]:
        """One command, or a few: within the patience, with what goes wrong as one of our three."""
        if not self.usable:
            raise Broken("the connection was given up")
        self._patience.restart()
        try:
            yield
        except Refused:
            raise
        except imaplib.IMAP4.readonly:
            raise Refused("the folder is read-only") from None
        except (imaplib.IMAP4.abort, OSError) as error:
            self.usable = False
            raise Broken(_said(error)) from None
        except ProtocolError as error:
            raise Unparsable(_said(error)) from None
        except imaplib.IMAP4.error as error:
            raise Refused(_said(error)) from None
        except PARSERS_FAIL_WITH as error:
            self.usable = False  # perhaps in the middle of an answer
            raise Unparsable(f"an answer that is not IMAP: {type(error).__name__}") from None
        except BaseException:
            self.usable = False  # a spool that is full, in the middle of a mail
            raise

    @staticmethod
    def _checked(answer: tuple[str, list[Any]]) -> list[Any]:
        kind, data = answer
        if kind != "OK":
            raise Refused(_text(data[-1] or b""))
        return data

    def _code(self, name: str) -> str:
        """What came with a response code of the last command."""
        _, data = self._imap.response(name)
        return _text(data[-1] or b"") if data else ""


class _Dialogue:
    """What imaplib calls for each challenge; unlike its own, one that is no Base64 is a challenge too."""

    def __init__(self, answer: Callable[[bytes], bytes | None]) -> None:
        self._answer = answer

    def process(self, data: bytes | None) -> bytes:
        try:
            challenge = base64.b64decode(data or b"", validate=True)
        except ValueError:
            challenge = data or b""
        said = self._answer(challenge)
        return b"*" if said is None else base64.b64encode(said)


def plain_reply(user: str, password: str) -> bytes:
    """What AUTHENTICATE PLAIN sends, in Base64 (RFC 4616 §2)."""
    return f"\0{user}\0{password}".encode()


def _text(raw: object) -> str:
    return raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)


def _digits(text: str) -> str:
    return text[: len(text) - len(text.lstrip("0123456789"))]


def _said(error: BaseException) -> str:
    """The server's words in an imaplib error, which may be bytes, or the text of a list of bytes."""
    said = error.args[0] if error.args else ""
    if isinstance(said, bytes):
        return _text(said)
    text = str(said if len(error.args) == 1 else error)
    quoted = _BAD.search(text)
    return _text(ast.literal_eval(quoted[1])) if quoted else text or type(error).__name__
