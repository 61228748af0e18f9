"""The catalog: configurations of mailboxes that people make and change, their secrets sealed, everything validated.

It decides what is stored for what somebody asked for; what a document means, what may be carried over and what sealing
is, others decide.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import attrs

from maildaemon_core import codec, confidential, soundness
from maildaemon_core.answered import without_answered
from maildaemon_core.confidential import Apart, Carried, about
from maildaemon_core.engine.neighbours import Neighbours
from maildaemon_core.engine.seals import Rotation, Seals, named
from maildaemon_core.errors import (
    InvalidOptions,
    MaildaemonError,
    Permanent,
    Problem,
    Rival,
    Sealed,
    StaleVersion,
    StoreUnavailable,
    Trouble,
)
from maildaemon_core.message import MailboxId
from maildaemon_core.options import MailArchiving, MailboxOptions, Secret
from maildaemon_core.ports import SecretStore
from maildaemon_core.rivalry import MOST_BRACKETS, is_costly
from maildaemon_core.store_port import Configuration, Store

FROM_FILE: Final = "configuration file"
"""Who has made a configuration that comes from a file: the store has none of its secrets."""

TRIES = 20
"""So often a change is begun anew when others change the same configuration meanwhile."""

MOST_UNKNOWN: Final = 20
"""So many destinations that ``mailArchiving`` names and that are not there are told one by one."""

_TWINS = {"tls": "useSsl", "useSsl": "tls"}
"""Each says what the other does, and a document that was written down says both."""


class UnknownMailbox(Permanent):
    """There is no configuration of that id."""


@attrs.frozen(kw_only=True)
class Kept:
    """A configuration as it is kept (masked), and its options for use (with secrets; references are not yet read).

    ``warnings``: what deserves a second look; after a change also the other mailboxes that watch the same account.
    ``adopted``: it was made for an account that was removed before, so all that was processed then is known.
    """

    configuration: Configuration
    options: MailboxOptions
    warnings: tuple[Problem, ...] = ()
    adopted: bool = False


@attrs.frozen(kw_only=True)
class Unusable:
    """A configuration whose options cannot be had: its secrets do not open, or its document is not understood."""

    configuration: Configuration
    trouble: Trouble


class Catalog:
    """The configurations of a store.

    ``problems`` says everything that is wrong with options (``Connector.problems``); ``refused`` why a secret as it is
    written may not be taken on, None if it may.  Every method raises ``StoreUnavailable`` as the store does.

    One account has one configuration: a second active one that watches the same folders is refused (``Rival``) if
    either deletes or moves mail.  Catalogs of this process decide that one after the other.  Between processes each
    looks again once it has saved, and takes back what it saved: of two at the same time at least one is refused, both
    perhaps; only a process that ends between saving and looking leaves two behind.
    """

    def __init__(
        self,
        store: Store,
        vault: SecretStore,
        problems: Callable[[MailboxOptions], Sequence[Problem]],
        *,
        refused: Callable[[Secret], str | None] = lambda secret: None,
    ) -> None:
        self._store = store
        self._vault = vault
        self._seals = Seals(vault)
        self._problems = problems
        self._refused = refused
        self._neighbours = Neighbours(store)

    # -------------------------------------------------------------------------------------------------- changing

    def create(self, document: object, *, by: str = "", mailbox: MailboxId | None = None) -> Kept:
        """A new configuration, under a new id unless one is given, or that of the mailbox which had the same account
        and folders before it was removed: what was processed for that is not processed again.

        Raises ``InvalidOptions`` with every fault and its path, ``NoMasterKey`` if a secret would have to be stored,
        ``Rival``, and ``StaleVersion`` if there is a configuration of the given id.
        """
        options = self._decided(None, document, is_patch=False)
        with self._neighbours.deciding:
            former = self._neighbours.former(options)
            new = former or mailbox or _new_id()
            kept = self._settled(new, None, options, by)
        return attrs.evolve(kept, adopted=former is not None)

    def chosen_id(self, document: object) -> MailboxId:
        """The id that ``create`` would make this under: a former one, or else one that nobody has had.

        For who must know it before anything is done.  What is wrong with the document is left for ``create`` to say.
        """
        bare, _ = without_answered(document, None)
        options, _ = codec.read_what_can_be(MailboxOptions, bare)
        return (None if options is None else self._neighbours.former(options)) or _new_id()

    def checked(self, document: object) -> MailboxOptions:
        """The options that ``create`` would take on; nothing is stored.  Raises ``InvalidOptions`` as it does."""
        return self._decided(None, document, is_patch=False)

    def replace(self, mailbox: MailboxId, document: object, *, expected: int | None = None, by: str = "") -> Kept:
        """The document in place of the one that there is; a mask in it keeps the stored secret.

        What only answers have (``ANSWERED``) may be in it, unchanged.  Raises as ``create`` does, ``UnknownMailbox``,
        and ``StaleVersion`` if ``expected`` is not the present version.
        """
        return self._write(mailbox, lambda _: document, expected=expected, by=by)

    def change(self, mailbox: MailboxId, patch: object, *, expected: int | None = None, by: str = "") -> Kept:
        """The configuration changed by a JSON merge patch (RFC 7396), which keeps every secret that it says nothing of.

        ``destinations`` is an array, so it is replaced as a whole, but for the secrets of those whose names are the
        same; null drops one.  A patch that says one of ``tls`` and ``useSsl`` overrules both.  Raises as ``replace``.
        """
        if not isinstance(patch, Mapping):
            raise InvalidOptions([Problem(path="$", message="expected an object")])

        def changed(document: Mapping[str, Any]) -> Any:
            overruled = {twin for name, twin in _TWINS.items() if name in patch and twin not in patch}
            kept = {name: value for name, value in document.items() if name not in overruled}
            return codec.merge_patch(kept, patch)

        return self._write(mailbox, changed, expected=expected, by=by, is_patch=True)

    def remove(self, mailbox: MailboxId, *, expected: int | None = None, forget: bool = False) -> None:
        """Removes a configuration; what was processed stays remembered unless ``forget``, which works later too.

        Raises ``UnknownMailbox``, and ``StaleVersion`` if ``expected`` is not the version that is removed.
        """
        if not (forget and expected is None and self._neighbours.has_been(mailbox)):
            self._present(mailbox, expected)
        self._store.drop(mailbox, expected=expected, forget=forget)

    # --------------------------------------------------------------------------------------------------- reading

    def get(self, mailbox: MailboxId) -> Kept | Unusable:
        """Raises ``UnknownMailbox``."""
        return self._loaded(self._present(mailbox, None))

    def all(self) -> Sequence[Kept | Unusable]:
        """Every configuration of the store; one that cannot be used keeps no other from being used (law 9)."""
        return [self._loaded(each) for each in self._store.configurations()]

    def options_of(self, configuration: Configuration) -> MailboxOptions:
        """The options for use, their secrets opened.

        Raises ``Sealed``, ``NoMasterKey``, or ``InvalidOptions`` for a document that is not understood.
        """
        if absent := confidential.missing(configuration.document, configuration.secrets.keys()):
            raise Sealed(
                f"{named(configuration)}: {' and '.join(absent)} is not in the store",
                remedy="enter it, or run the mailbox with the configuration file that it comes from",
            )
        secrets = self._seals.opened(configuration, configuration.secrets.keys())
        options = confidential.put_together(Apart(document=configuration.document, secrets=secrets))
        return attrs.evolve(options, since=configuration.created) if options.since == "now" else options

    def _loaded(self, configuration: Configuration) -> Kept | Unusable:
        try:
            return self._kept(configuration)
        except MaildaemonError as error:
            return Unusable(configuration=configuration, trouble=error.trouble())

    def _kept(self, configuration: Configuration) -> Kept:
        options = self.options_of(configuration)
        return Kept(configuration=configuration, options=options, warnings=soundness.warnings(options))

    def _present(self, mailbox: MailboxId, expected: int | None) -> Configuration:
        configuration = self._store.configuration(mailbox)
        if configuration is None:
            raise UnknownMailbox(f"there is no mailbox {mailbox}", remedy="look the id up in the list of mailboxes")
        if expected is not None and expected != configuration.version:
            raise StaleVersion(
                f"mailbox {configuration.name!r} has version {configuration.version}, not {expected}",
                remedy="read it again and apply the change to what is there now",
            )
        return configuration

    # --------------------------------------------------------------------------------------------------- writing

    def _write(
        self,
        mailbox: MailboxId,
        wanted: Callable[[Mapping[str, Any]], object],
        *,
        expected: int | None,
        by: str,
        is_patch: bool = False,
    ) -> Kept:
        """Reads, decides and saves; begins anew when somebody else saved in between, unless they said ``expected``."""
        attempts = 0
        while True:
            attempts += 1
            before = self._present(mailbox, expected)
            options = self._decided(before, wanted(before.document), is_patch=is_patch)
            try:
                return self._settled(mailbox, before, options, by)
            except StaleVersion:
                if expected is not None or attempts == TRIES:
                    raise

    def _decided(self, before: Configuration | None, wanted: object, *, is_patch: bool) -> MailboxOptions:
        """The options that are wanted, with the stored secrets that are kept; raises everything that is wrong."""
        stored, places = (before.document, before.secrets.keys()) if before else (None, ())
        bare, changed = without_answered(wanted, before)
        carried = confidential.carry(bare, stored, places, absence_keeps=is_patch)
        kept, unopened = self._carried(before, carried) if before else ({}, ())
        document = confidential.filled(carried.document, kept)
        options, faults = codec.read_what_can_be(MailboxOptions, document)
        found = [*changed, *carried.problems, *unopened, *faults]
        if options is not None:
            more = [*_too_much(options)] or [*self._problems(options), *self._refusals(options, document)]
            if faults:  # what seems to be missing or contradictory may be what could not be read
                more = [one for one in more if codec.has(document, one.path) and not _is_within(one.path, faults)]
            found += more
        if found or options is None:
            raise InvalidOptions(list(dict.fromkeys(found)))
        return options

    def _carried(self, before: Configuration, carried: Carried) -> tuple[Mapping[str, Secret], Sequence[Problem]]:
        """The stored secrets that are kept; one that does not open must be entered anew."""
        kept: dict[str, Secret] = {}
        found: list[Problem] = []
        for place in carried.kept:
            try:
                kept.update(self._seals.opened(before, {place}))
            except Sealed as error:
                kept[place] = confidential.STAND_IN
                path = confidential.where(carried.document, place)
                found.append(Problem(path=path, message=f"enter it again, or null to drop it: {error.message}"))
        return kept, found

    def _refusals(self, options: MailboxOptions, document: object) -> Sequence[Problem]:
        return [
            Problem(path=confidential.where(document, place), message=fault)
            for place, secret in confidential.secrets_of(options)
            if (fault := self._refused(secret)) is not None
        ]

    def _settled(self, mailbox: MailboxId, before: Configuration | None, options: MailboxOptions, by: str) -> Kept:
        """Saves unless a rival is there, and takes it back if one is there then; raises ``Rival``."""
        with self._neighbours.deciding:
            doubts = self._neighbours.doubts(mailbox, options)
            saved = self._saved(mailbox, before, options, by)
            if before is None or saved.version != before.version:
                try:
                    doubts = self._neighbours.doubts(mailbox, options)
                except Rival:
                    self._take_back(saved, before)
                    raise
                except StoreUnavailable:
                    pass  # it is saved, which whoever asked for it must be told
        kept = self._kept(saved)
        return attrs.evolve(kept, warnings=(*kept.warnings, *doubts))

    def _take_back(self, saved: Configuration, before: Configuration | None) -> None:
        with suppress(StaleVersion):  # somebody else has changed it since: then it is theirs
            if before is None:  # it may have been swept, which is not to be forgotten
                self._store.drop(saved.id, expected=saved.version)
            else:
                self._store.save(before, expected=saved.version, by=before.changed_by)

    def _saved(
        self, mailbox: MailboxId, before: Configuration | None, options: MailboxOptions, by: str
    ) -> Configuration:
        apart = confidential.take_apart(options)
        stored = before.secrets if before else {}
        secrets, same = {}, before is not None and stored.keys() == apart.secrets.keys()
        for place, secret in apart.secrets.items():
            secrets[place], unchanged = self._seals.sealed(secret, about(mailbox, place, options), stored.get(place))
            same = same and unchanged
        wanted = Configuration(id=mailbox, name=options.label, document=apart.document, secrets=secrets)
        if before is not None and same and (before.name, before.document) == (wanted.name, wanted.document):
            # Nothing changed but perhaps the key that seals, which neither version nor date should tell of.
            if secrets != before.secrets:
                self._store.reseal(mailbox, secrets, expected=before.version)
            return attrs.evolve(before, secrets=secrets)
        return self._store.save(wanted, expected=before.version if before else 0, by=by)

    # -------------------------------------------------------------------------------------------------- rotation

    def rotate(self) -> Rotation:
        """Seals every secret anew that was not sealed with the first key; twice is the same as once.

        Neither versions nor dates change.  One that does not open is told and left as it is.  Raises ``NoMasterKey``.
        """
        self._vault.seal(Secret(""), "")  # says at once if there is no key
        total = Rotation()
        for configuration in self._store.configurations():
            part = self._rotated(configuration.id)
            total = Rotation(
                mailboxes=total.mailboxes + part.mailboxes,
                resealed=total.resealed + part.resealed,
                current=total.current + part.current,
                references=total.references + part.references,
                unopened=total.unopened + part.unopened,
            )
        return total

    def _rotated(self, mailbox: MailboxId) -> Rotation:
        attempts = 0
        while True:
            attempts += 1
            configuration = self._store.configuration(mailbox)
            if configuration is None:
                return Rotation()  # removed meanwhile
            secrets, part = self._seals.resealed(configuration)
            try:
                if part.resealed:
                    self._store.reseal(mailbox, secrets, expected=configuration.version)
            except StaleVersion:  # somebody changed it in between
                if attempts == TRIES:
                    raise
            else:
                return part


def _too_much(options: MailboxOptions) -> Iterator[Problem]:
    """What would cost far more than it says: globs of folders that keep a sweep from ending, and very many names of
    destinations that are not there, of each of which all that are there would be told."""
    there = {each.name for each in options.destinations}
    unknown = [name for name in (options.mail_archiving or MailArchiving()).destinations or () if name not in there]
    if len(unknown) > MOST_UNKNOWN:
        message = f"names {len(unknown)} destinations that are not among the destinations; correct these"
        yield Problem(path="$.mailArchiving.destinations", message=message)
    for name, texts in (("folders", options.folders), ("excludeFolders", options.exclude_folders)):
        for at, text in enumerate(texts):
            if is_costly(text):
                yield Problem(
                    path=f"$.{name}[{at}]", message=f"has more than {MOST_BRACKETS} of [; write a shorter glob"
                )


def _new_id() -> MailboxId:
    return MailboxId(str(uuid.uuid4()))


def _is_within(path: str, faults: Sequence[Problem]) -> bool:
    return any(path.startswith((f"{fault.path}.", f"{fault.path}[")) for fault in faults)
