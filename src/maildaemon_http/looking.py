"""The commands that only look: what works (validate), and what happened (monitoring)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from maildaemon_core.errors import StillPending, Trouble
from maildaemon_core.monitoring import EntryPage, EntryQuery, MailboxInfo
from maildaemon_core.ports import Finding, Level
from maildaemon_core.progress import Entry, EntryId, Outcome
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
    setup: Setup,
    terminal: Terminal,
    outcome: Outcome,
    *,
    names: Sequence[str] = (),
    limit: int = 50,
    dismissed: bool = False,
) -> None:
    """Shows the newest mails that failed, or that were stored; those too that a person has ``dismissed`` if wanted."""
    chosen = setup.chosen(names)
    with compose.open_to_look(setup) as (daemon, there):
        _name_store(setup, terminal, there=there)
        infos = {info.mailbox: info for info in daemon.infos()}
        found: list[Entry] = []
        more = False
        for mailbox in chosen if names else (None,):
            query = EntryQuery(outcome=outcome, mailbox=mailbox.id if mailbox else None, dismissed=dismissed)
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


def dismiss(setup: Setup, terminal: Terminal, numbers: Sequence[EntryId]) -> bool:
    """Takes mails out of sight, and ends the retries of those that failed; whether all of them could be.

    Raises ``StoreMissing``.
    """
    items: list[Entry] = []
    troubles: dict[EntryId, Trouble] = {}
    with compose.open_daemon(setup, make=False) as daemon:
        _name_store(setup, terminal, there=True)
        for number in dict.fromkeys(numbers):
            try:
                entry = daemon.dismiss(number)
            except StillPending as error:
                troubles[number] = error.trouble()
                continue
            if entry is None:
                troubles[number] = _NO_SUCH
                continue
            items.append(entry)
            terminal.line(f"{number}: out of sight{_aftermath(entry)}")
    for number, trouble in troubles.items():
        terminal.line(f"{number}: {trouble}", "red")
    terminal.document(
        {
            "configuration": str(setup.path),
            "store": {"name": setup.store_name, "exists": True},
            "items": [documents.entry_document(entry, "") for entry in items],
            "troubles": [{"id": number, **(documents.trouble_document(one) or {})} for number, one in troubles.items()],
        }
    )
    return not troubles


_NO_SUCH = Trouble(
    error="NoSuchEntry",
    message="there is no mail of that number, or its history was thinned out",
    remedy="see maildaemon monitoring failed",
)


def _aftermath(entry: Entry) -> str:
    if entry.outcome is not Outcome.FAILED:
        return ""
    return "; the next sweep ends its retries" if entry.open else "; it is not tried again by itself"


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
