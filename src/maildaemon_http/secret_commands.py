"""``maildaemon master-key``: the keys with which secrets are sealed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cyclopts import App

from maildaemon_http.arguments import UNWELL, WELL, ConfigurationOption, Debug, Json, StoreUrl

if TYPE_CHECKING:
    from maildaemon_core.engine.seals import Rotation
    from maildaemon_http.terminal import Terminal

master_key = App(name="master-key", help="Make the key with which secrets are sealed, and change to another.")


@master_key.command
def new(*, debug: Debug = False) -> int:
    """Make a master key: stdout has the key and nothing else.  It is kept nowhere."""
    from maildaemon_http.compose import new_master_key
    from maildaemon_http.terminal import Terminal

    terminal = Terminal.of()
    terminal.line(new_master_key())
    terminal.note(
        "Write it into a file that only the service reads, and name that in MAILDAEMON_MASTER_KEY_FILE; keep a copy "
        "elsewhere, but not with the backups of the store.  Without it the secrets in the store are lost."
    )
    return WELL


@master_key.command
def rotate(
    *, store: StoreUrl = None, config: ConfigurationOption = None, json: Json = False, debug: Debug = False
) -> int:
    """Seal every secret of a store with the first master key that is given, opening it with any of them."""
    from maildaemon_http.compose import open_chosen_store, open_vault, stored_catalog
    from maildaemon_http.terminal import Terminal

    terminal = Terminal.of(json=json)
    vault = open_vault()
    with open_chosen_store(store, config, terminal) as opened:
        rotation = stored_catalog(opened, vault).rotate()
    _show(rotation, terminal)
    return UNWELL if rotation.unopened else WELL


def _show(rotation: Rotation, terminal: Terminal) -> None:
    for each in rotation.unopened:
        terminal.line(f"not opened: {each.trouble.message}", "red")
        terminal.line(f"  what to do: {each.trouble.remedy}")
    terminal.line(
        f"{rotation.resealed} sealed anew, {rotation.current} were already, {len(rotation.unopened)} not opened, "
        f"{rotation.references} are mere references, in {rotation.mailboxes} "
        + ("mailbox" if rotation.mailboxes == 1 else "mailboxes")
    )
    terminal.document(
        {
            "mailboxes": rotation.mailboxes,
            "resealed": rotation.resealed,
            "current": rotation.current,
            "references": rotation.references,
            "unopened": [
                {
                    "mailbox": each.mailbox,
                    "name": each.name,
                    "place": each.place,
                    "error": each.trouble.error,
                    "message": each.trouble.message,
                    "remedy": each.trouble.remedy,
                }
                for each in rotation.unopened
            ],
        }
    )
