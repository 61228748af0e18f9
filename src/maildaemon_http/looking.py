"""The commands that only look: what works (validate), and what happened (monitoring)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from maildaemon_core.monitoring import EntryPage, EntryQuery, MailboxInfo
from maildaemon_core.ports import Finding, Level
from maildaemon_core.progress import Entry, Outcome
from maildaemon_http import compose, documents, tables
from maildaemon_http.configfile import Mailbox, Setup
from maildaemon_http.terminal import Terminal, text

PAGE = 200


def validate(setup: Setup, terminal: Terminal, *, names: Sequence[str] = ()) -> bool:
    """Shows what works of each active mailbox and what does not; whether there is no fault."""
    chosen = setup.chosen(names)
    with compose.open_to_look(setup) as (daemon, there):
        _name_store(setup, terminal, there=there)
        found: list[tuple[Mailbox, Sequence[Finding]]] = []
        store = [] if there else _store_findings(setup)
        terminal.show(*tables.finding_lines(store))
        for mailbox in chosen:
            terminal.line(f"{mailbox.name}{'' if mailbox.options.active else ': inactive, not looked at'}", "bold")
            if mailbox.options.active:
                findings = daemon.validate(mailbox.id, mailbox.options)
                terminal.show(*tables.finding_lines(findings))
                found.append((mailbox, findings))
    everything = [*store, *(finding for _, findings in found for finding in findings)]
    faults = sum(finding.level is Level.FAULT for finding in everything)
    warnings = sum(finding.level is Level.WARNING for finding in everything)
    terminal.line()
    terminal.line(_verdict(faults, warnings), "red" if faults else "yellow" if warnings else "green")
    terminal.document(
        {
            "configuration": str(setup.path),
            "store": {"name": setup.store_name, "exists": there},
            "well": not faults,
            "findings": documents.findings_document(store),
            "mailboxes": [
                {
                    "mailbox": mailbox.id,
                    "name": mailbox.name,
                    "active": True,
                    "findings": documents.findings_document(findings),
                }
                for mailbox, findings in found
            ]
            + [
                {"mailbox": mailbox.id, "name": mailbox.name, "active": False, "findings": []}
                for mailbox in chosen
                if not mailbox.options.active
            ],
        }
    )
    return not faults


def _verdict(faults: int, warnings: int) -> str:
    many = [
        f"{number} {word}{'' if number == 1 else 's'}" for number, word in ((faults, "fault"), (warnings, "warning"))
    ]
    return ", ".join(many) if faults else f"no fault, {many[1]}" if warnings else "all is well"


def _store_findings(setup: Setup) -> list[Finding]:
    """What the first run needs to make the store, which this command leaves alone."""
    file = setup.store_file
    if file is None or file.parent.is_dir():
        return []
    return [
        Finding(
            level=Level.FAULT,
            subject="store",
            message=f"{file} cannot be made: its folder does not exist",
            remedy=f"make the folder {file.parent}, or correct url in [store]",
        )
    ]


def show_entries(
    setup: Setup, terminal: Terminal, outcome: Outcome, *, names: Sequence[str] = (), limit: int = 50
) -> None:
    """Shows the newest mails that failed, or that were stored."""
    chosen = setup.chosen(names)
    with compose.open_to_look(setup) as (daemon, there):
        _name_store(setup, terminal, there=there)
        infos = {info.mailbox: info for info in daemon.infos()}
        found: list[Entry] = []
        more = False
        for mailbox in chosen if names else (None,):
            query = EntryQuery(outcome=outcome, mailbox=mailbox.id if mailbox else None)
            entries, left = _newest(daemon.entries, query, limit)
            found += entries
            more = more or left
    found.sort(key=lambda entry: entry.id or 0, reverse=True)
    more = more or len(found) > limit
    found = found[:limit]
    known = {mailbox.id: mailbox.name for mailbox in setup.mailboxes}
    all_names = {**{mailbox: info.name for mailbox, info in infos.items()}, **known}
    if not found:
        terminal.line(f"no mail {'has failed' if outcome is Outcome.FAILED else 'is stored'}")
    elif outcome is Outcome.FAILED:
        terminal.show(tables.failed_table(found, all_names), text(""), *tables.failure_lines(found))
    else:
        terminal.show(tables.successful_table(found, all_names))
    if more:
        terminal.line(f"there are more: --limit shows more than {limit}")
    addresses = {mailbox.id: mailbox.options.address or mailbox.name for mailbox in setup.mailboxes}
    addresses = {**{mailbox: info.address for mailbox, info in infos.items()}, **addresses}
    terminal.document(
        {
            "configuration": str(setup.path),
            "store": {"name": setup.store_name, "exists": there},
            "items": [documents.entry_document(entry, addresses.get(entry.mailbox, "")) for entry in found],
            "more": more,
        }
    )


def _newest(ask: Callable[[EntryQuery], EntryPage], query: EntryQuery, limit: int) -> tuple[list[Entry], bool]:
    found: list[Entry] = []
    while True:
        page = ask(attrs.evolve(query, limit=min(limit - len(found), PAGE)))
        found += page.entries
        if page.next is None or len(found) >= limit:
            return found, page.next is not None
        query = attrs.evolve(query, before=page.next)


def show_mailboxes(setup: Setup, terminal: Terminal, *, names: Sequence[str] = ()) -> None:
    """Shows how each mailbox is: those of the file, and those that the store still knows from an earlier one."""
    chosen = setup.chosen(names)
    with compose.open_to_look(setup) as (daemon, there):
        _name_store(setup, terminal, there=there)
        remembered = {info.mailbox: info for info in daemon.infos()}
    shown = [(_info(mailbox, remembered.pop(mailbox.id, None)), True) for mailbox in chosen]
    if not names:
        shown += [(info, False) for info in remembered.values()]
    terminal.show(tables.mailboxes_table(shown))
    troubles = list(tables.trouble_lines([(info.name, info.report) for info, _ in shown if info.report]))
    if troubles:
        terminal.show(text(""), *troubles)
    terminal.document(
        {
            "configuration": str(setup.path),
            "store": {"name": setup.store_name, "exists": there},
            "items": [documents.info_document(info, configured=configured) for info, configured in shown],
        }
    )


def _info(mailbox: Mailbox, remembered: MailboxInfo | None) -> MailboxInfo:
    """What is remembered of a mailbox, called as the file calls it now."""
    address, active = mailbox.options.address or mailbox.name, mailbox.options.active
    if remembered is None:
        return MailboxInfo(mailbox=mailbox.id, name=mailbox.name, address=address, active=active)
    return attrs.evolve(remembered, name=mailbox.name, address=address, active=active)


def _name_store(setup: Setup, terminal: Terminal, *, there: bool) -> None:
    terminal.note(f"store: {setup.store_name}{'' if there else ' (not there yet; the first run makes it)'}")
