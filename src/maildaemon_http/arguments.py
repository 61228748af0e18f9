"""What the commands have in common: exit codes, and arguments as people type them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

WELL, UNWELL, WRONG = 0, 1, 2
"""Exit codes: all well; a mail or mailbox failed, was paused or is another's; configuration or usage is wrong."""

Configuration = Annotated[Path, Parameter(name="CONFIG", help="The configuration file (TOML).")]
Json = Annotated[bool, Parameter(name="--json", help="Write one JSON document to stdout instead of tables.")]
Debug = Annotated[bool, Parameter(name="--debug", help="Show the trace of an unexpected error.")]
Names = Annotated[
    list[str] | None, Parameter(name="--mailbox", help="Only the mailbox of this name; may be given several times.")
]
Limit = Annotated[int, Parameter(name="--limit", validator=Number(gte=1), help="How many to show at most.")]

StoreUrl = Annotated[
    str | None,
    Parameter(
        name="--store",
        env_var="MAILDAEMON_STORE",
        help="The URL of the store: sqlite:///FILE or postgresql://USER@HOST/DATABASE.",
    ),
]
ConfigurationOption = Annotated[
    Path | None, Parameter(name="--config", help="The configuration file (TOML) whose store is meant.")
]
