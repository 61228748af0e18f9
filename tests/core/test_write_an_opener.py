"""The opener that the documentation shows is one: its code is run, and so are its tests."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "write-an-opener.md").read_text(encoding="utf-8")


def shown() -> dict[str, Any]:
    """The names that the code of the page defines."""
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(block, names)
    return names


TestGzip = shown()["TestGzip"]
