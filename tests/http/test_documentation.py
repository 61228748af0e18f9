"""The reference names every property and command that there is, and its examples are configurations."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
import pytest

from maildaemon_adapters.imap import ImapSettings
from maildaemon_adapters.local import EmlSettings, MboxSettings
from maildaemon_core.codec import wire_names
from maildaemon_core.confinement import Confinement
from maildaemon_core.naming import ATTACHMENT_NAMES
from maildaemon_core.options import DestinationOptions, MailArchiving, MailboxOptions
from maildaemon_http.api.settings import Limits
from maildaemon_http.commands import app
from maildaemon_http.compose import read_configuration
from maildaemon_http.service_table import SecretsTable, ServiceTable

DOCS = Path(__file__).parents[2] / "docs"
CONFIGURATION = (DOCS / "reference" / "configuration.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return CONFIGURATION.partition(f"## {title}\n")[2].partition("\n## ")[0]


def listed(title: str) -> set[str]:
    """What the first column of a section's table names."""
    rows = [line.split("|")[1] for line in section(title).splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


@pytest.mark.parametrize(
    ("title", "cls"),
    [
        ("`[[mailboxes]]`", MailboxOptions),
        ("`[[mailboxes.destinations]]`", DestinationOptions),
        ("`mailArchiving`", MailArchiving),
        ("`[service]`", ServiceTable),
        ("`[service.limits]`", Limits),
        ("`[service.confinement]`", Confinement),
        ("`[service.secrets]`", SecretsTable),
    ],
)
def test_the_reference_names_every_property_and_no_other(title: str, cls: type[attrs.AttrsInstance]) -> None:
    assert listed(title) == set(wire_names(cls).values())


def test_the_reference_names_the_settings_of_imap_and_the_names_of_templates() -> None:
    assert [name for name in wire_names(ImapSettings).values() if f"`{name}`" not in section("`[[mailboxes]]`")] == []
    assert [name for name in ATTACHMENT_NAMES if not re.search(rf"{{{name}[:}}]", section("Templates"))] == []


@pytest.mark.parametrize("settings", [EmlSettings, MboxSettings])
def test_the_reference_and_the_guide_name_the_settings_of_mail_in_files(settings: type[attrs.AttrsInstance]) -> None:
    guide = (DOCS / "how-to" / "import-from-files.md").read_text(encoding="utf-8")
    for text in (section("`[[mailboxes]]`"), guide):
        assert [name for name in wire_names(settings).values() if f"`{name}`" not in text] == []


def test_the_reference_names_every_command() -> None:
    text = (DOCS / "reference" / "command-line.md").read_text(encoding="utf-8")
    commands = [name for name in app if not name.startswith("-")]
    assert len(commands) >= 5
    assert [name for name in commands if f"`maildaemon {name}" not in text] == []


def test_every_example_of_the_documents_is_a_configuration(tmp_path: Path) -> None:
    found = [
        block for path in DOCS.rglob("*.md") for block in re.findall(r"```toml\n(.*?)```", path.read_text(), re.DOTALL)
    ]
    examples = [block for block in found if "[[mailboxes]]" in block]
    assert examples
    for number, block in enumerate(examples):
        path = tmp_path / f"{number}.toml"
        path.write_text(block)
        assert read_configuration(path).mailboxes
