"""How the words of strangers are shown: whatever could move the cursor, hide or reorder becomes visible instead.

Everything that is written to a terminal, a table or a log goes through here, for senders, subjects, names of files and
what servers answer are all chosen by others.
"""

from __future__ import annotations

import json
import unicodedata
from typing import Any


def printable(text: str) -> str:
    r"""``text`` on one line, with each control, format, bidirectional or unassigned character as ``\x1b``, ``\u202e``.

    Total and idempotent; printable text is left as it is.  Markup is nothing special here: whoever shows the result
    must not interpret any.
    """
    return text if text.isprintable() else "".join(map(_shown, text))


def json_text(document: Any) -> str:
    """``document`` as JSON for programs that is also safe to look at: the same characters are escaped, as JSON does."""
    text = json.dumps(document, ensure_ascii=False, indent=2)
    return "".join(char if char == "\n" or _is_plain(char) else json.dumps(char)[1:-1] for char in text).replace(
        "\x7f",
        "\\u007f",  # the one control character that JSON itself does not mind
    )


def _shown(char: str) -> str:
    if _is_plain(char):
        return char
    # Python's own escapes; half of a surrogate pair, which no encoding takes, has one as well.
    return char.encode("unicode_escape").decode("ascii")


def _is_plain(char: str) -> bool:
    return char.isprintable() or unicodedata.category(char) == "Zs"
