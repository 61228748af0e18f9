"""``maildaemon keys``: the keys of the API, made, listed and revoked."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from maildaemon_http.arguments import WELL, ConfigurationOption, Debug, Json, StoreUrl

keys = App(name="keys", help="Make, list and revoke the keys of the API.")


@keys.command
def create(
    name: Annotated[str, Parameter(name="NAME", help="What the key is for; no other that is not revoked may have it.")],
    /,
    *,
    scope: Annotated[
        list[str] | None,
        Parameter(
            name="--scope",
            help="Only for this: mailboxes:read, mailboxes:write, monitoring:read, monitoring:write or sweeps:run; may "
            "be given several times.  Without it: for everything.",
        ),
    ] = None,
    expires: Annotated[
        str | None,
        Parameter(
            name="--expires",
            help="Until when: a date-time such as 2027-01-31T08:00:00Z, or days from now such as 90d.  Without it: "
            "until it is revoked.",
        ),
    ] = None,
    store: StoreUrl = None,
    config: ConfigurationOption = None,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Make a key and show it: this once, for only a digest of it is kept."""
    from maildaemon_http.keyring import create_key, key_wish
    from maildaemon_http.terminal import Terminal

    wish = key_wish(name, scopes=scope, expires=expires)
    create_key(wish, Terminal.of(json=json), store=store, configuration=config)
    return WELL


@keys.command(name="list")
def list_keys(
    *, store: StoreUrl = None, config: ConfigurationOption = None, json: Json = False, debug: Debug = False
) -> int:
    """Show all keys, oldest first: what each may do, until when, when it was used last.  None can be read from this."""
    from maildaemon_http.keyring import show_keys
    from maildaemon_http.terminal import Terminal

    show_keys(Terminal.of(json=json), store=store, configuration=config)
    return WELL


@keys.command
def revoke(
    key: Annotated[str, Parameter(name="NAME_OR_PREFIX", help="The key, as the list names it.")],
    /,
    *,
    store: StoreUrl = None,
    config: ConfigurationOption = None,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """End a key for good: it opens nothing any more, and its name is free again."""
    from maildaemon_http.keyring import revoke_key
    from maildaemon_http.terminal import Terminal

    revoke_key(key, Terminal.of(json=json), store=store, configuration=config)
    return WELL
