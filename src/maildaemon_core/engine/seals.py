"""How the secrets of configurations are kept: each sealed for its mailbox and place, references as they are."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

import attrs

from maildaemon_core import confidential
from maildaemon_core.confidential import about
from maildaemon_core.errors import InvalidOptions, NoMasterKey, Sealed, Trouble
from maildaemon_core.message import MailboxId
from maildaemon_core.options import MailboxOptions, Secret
from maildaemon_core.ports import SecretStore
from maildaemon_core.store_port import Configuration

REFERENCE: Final = "ref:"
"""How a reference (``env:NAME``) is kept: readable, for it is no secret; no sealed text begins like this."""


@attrs.frozen(kw_only=True)
class Unopened:
    """A secret that did not open: of which mailbox, at which place, and why."""

    mailbox: MailboxId
    name: str
    place: str
    trouble: Trouble


@attrs.frozen(kw_only=True)
class Rotation:
    """What became of all secrets: sealed anew, sealed with the present key already, mere references, not opened."""

    mailboxes: int = 0
    resealed: int = 0
    current: int = 0
    references: int = 0
    unopened: tuple[Unopened, ...] = ()


class Seals:
    """What ``vault`` makes of the secrets of configurations."""

    def __init__(self, vault: SecretStore) -> None:
        self._vault = vault

    def sealed(self, secret: Secret, thing: str, stored: str | None) -> tuple[str, bool]:
        """A secret for keeping, and whether it is the one that is stored; then its sealed text stays if it is current.

        A reference is kept as it is, and needs no key.
        """
        if confidential.is_reference(secret):
            text = REFERENCE + secret.value
            return text, text == stored
        if stored is not None and not stored.startswith(REFERENCE):
            try:
                unchanged = self._vault.open(stored, thing) == secret
            except (Sealed, NoMasterKey):
                unchanged = False
            if unchanged:
                return stored if self._vault.is_current(stored) else self._vault.seal(secret, thing), True
        return self._vault.seal(secret, thing), False

    def opened(self, configuration: Configuration, places: Collection[str]) -> Mapping[str, Secret]:
        """These secrets of a configuration by place; raises ``Sealed`` naming the mailbox and the place."""
        if not places:
            return {}
        options = confidential.without_secrets(configuration.document)
        return {place: self._open(configuration, options, place) for place in places}

    def _open(self, configuration: Configuration, options: MailboxOptions, place: str) -> Secret:
        text = configuration.secrets[place]
        if not isinstance(text, str):  # whoever wrote that into the database, the other mailboxes go on
            raise Sealed(
                f"{named(configuration)}, {place}: a stored secret is damaged: it is no text",
                remedy="enter the secret again",
            )
        reference = Secret(text.removeprefix(REFERENCE))
        if text.startswith(REFERENCE) and confidential.is_reference(reference):
            return reference
        try:
            return self._vault.open(text, about(configuration.id, place, options))
        except (Sealed, NoMasterKey) as error:
            kind = NoMasterKey if isinstance(error, NoMasterKey) else Sealed
            raise kind(f"{named(configuration)}, {place}: {error.message}", remedy=error.remedy) from None

    def resealed(self, configuration: Configuration) -> tuple[Mapping[str, str], Rotation]:
        """Its secrets, all that were not sealed with the present key sealed with that; one that does not open stays."""
        secrets = dict(configuration.secrets)
        resealed = current = references = 0
        unopened: list[Unopened] = []
        for place, text in configuration.secrets.items():
            if str(text).startswith(REFERENCE):  # a database may hold anything
                references += 1
                continue
            try:
                options = confidential.without_secrets(configuration.document)
                secret = self._open(configuration, options, place)
                if self._vault.is_current(text):
                    current += 1
                else:
                    secrets[place] = self._vault.seal(secret, about(configuration.id, place, options))
                    resealed += 1
            except (Sealed, NoMasterKey, InvalidOptions) as error:
                unopened.append(
                    Unopened(mailbox=configuration.id, name=configuration.name, place=place, trouble=error.trouble())
                )
        return secrets, Rotation(
            mailboxes=1, resealed=resealed, current=current, references=references, unopened=tuple(unopened)
        )


def named(configuration: Configuration) -> str:
    """A mailbox as people are told of it."""
    return f"mailbox {configuration.name!r}"
