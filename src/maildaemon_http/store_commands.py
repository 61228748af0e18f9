"""``maildaemon store``: what keeps and moves the store itself, as people type it."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from maildaemon_http.arguments import UNWELL, WELL, WRONG, ConfigurationOption, Debug, Json, StoreUrl
from maildaemon_http.stopping import heeding_sigterm


def _no_option(_type: object, value: str) -> None:
    if value.startswith("-") and value != "-":
        raise ValueError(f"there is no option {value}; a file of that name is ./{value}")


store = App(name="store", help="Upgrade, export and import the store.")


@store.command
def export(
    file: Annotated[
        str,
        Parameter(
            name="FILE",
            allow_leading_hyphen=True,
            validator=_no_option,
            help="The file to write, compressed if it is called .gz; - is stdout.",
        ),
    ],
    /,
    *,
    store: StoreUrl = None,
    config: ConfigurationOption = None,
    secrets: Annotated[
        bool,
        Parameter(help="Also the secrets, sealed as they are: they open only with the master key that sealed them."),
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Write all that a store remembers to a new file.  Stop everything that uses the store before."""
    from maildaemon_http.moving import STREAM, export_store
    from maildaemon_http.terminal import Terminal

    terminal = Terminal.of(json=json)
    if json and file == STREAM:
        terminal.note("maildaemon: --json has no place on a stdout that is the export itself; name a FILE")
        return WRONG
    with heeding_sigterm():
        done = export_store(file, terminal, store=store, configuration=config, secrets=secrets)
    return WELL if done else UNWELL


@store.command(name="import")
def import_(
    file: Annotated[
        str,
        Parameter(
            name="FILE",
            allow_leading_hyphen=True,
            validator=_no_option,
            help="What `store export` has written; - is stdin.",
        ),
    ],
    /,
    *,
    store: StoreUrl = None,
    config: ConfigurationOption = None,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Take an export up, into a store that is made for it or that holds nothing yet."""
    from maildaemon_http.moving import import_store
    from maildaemon_http.terminal import Terminal

    with heeding_sigterm():
        import_store(file, Terminal.of(json=json), store=store, configuration=config)
    return WELL


@store.command
def upgrade(
    *, store: StoreUrl = None, config: ConfigurationOption = None, json: Json = False, debug: Debug = False
) -> int:
    """Upgrade a store that an older release has written.  Stop everything that uses it, and make a backup before."""
    from maildaemon_http.moving import upgrade_store
    from maildaemon_http.terminal import Terminal

    upgrade_store(Terminal.of(json=json), store=store, configuration=config)
    return WELL
