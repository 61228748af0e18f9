"""How the command that runs just now is called, so that what it tells people to type works where they are."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

NAME = "maildaemon"


def own_name() -> str:
    """``maildaemon`` if a shell finds this very installation under that name; else what does start it, quoted."""
    script = Path(sys.executable).with_name(NAME)  # where an installer puts it, beside its interpreter
    started = Path(sys.argv[0])
    if started.name == NAME and started.is_file():
        script = started.absolute()
    found = shutil.which(NAME)
    if found is not None and script.is_file() and Path(found).samefile(script):
        return NAME
    return shlex.quote(str(script)) if script.is_file() else f"{shlex.quote(sys.executable)} -m maildaemon_http.cli"
