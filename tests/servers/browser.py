"""A real browser without a window: one page of it, and everything that it asked for and complained about meanwhile."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
from playwright.sync_api import ConsoleMessage, Page, expect, sync_playwright

from tests.servers.availability import not_available

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
"""How Chromium is called, here and there."""

ARGUMENTS = (
    # Its sandbox needs more than a container allows; it sees nothing but our own pages.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)


def chromium_program() -> Path:
    """Where Chromium is; else the test is skipped (a failure in CI).  ``MAILDAEMON_CHROMIUM`` names another one."""
    named = os.environ.get("MAILDAEMON_CHROMIUM")
    found = next(filter(None, map(shutil.which, [named] if named else PROGRAMS)), None)
    if found is None:
        not_available("Chromium is not installed", "as root: apt-get install -y --no-install-recommends chromium")
    return Path(found)


PATIENCE = 20_000
"""Milliseconds that anything may take until it is a failure, on a machine that has more to do."""

expect.set_options(timeout=PATIENCE)


@attrs.frozen
class Window:
    """One page.  ``asked``: the URLs of all its requests; ``complaints``: its errors, those of the console too."""

    page: Page
    asked: list[str]
    complaints: list[str]


@contextmanager
def window(*, width: int = 1280, height: int = 900) -> Iterator[Window]:
    """A browser of its own that nothing was ever kept in; it ends with the block."""
    program = chromium_program()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        try:
            context = browser.new_context(viewport={"width": width, "height": height}, locale="en-GB")
            context.set_default_timeout(PATIENCE)
            opened = Window(context.new_page(), [], [])
            context.on("request", lambda request: opened.asked.append(request.url))
            context.on("weberror", lambda error: opened.complaints.append(str(error.error)))
            context.on("console", lambda said: opened.complaints.extend(_complaint(said)))
            yield opened
        finally:
            browser.close()


def _complaint(said: ConsoleMessage) -> list[str]:
    return [f"{said.text} ({said.location.get('url', '')})"] if said.type in {"error", "warning"} else []
