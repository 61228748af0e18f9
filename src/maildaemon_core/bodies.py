"""Which pictures the HTML of a mail shows in its text (RFC 2392): they are part of it, not sent along with it."""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Iterator
from typing import Final
from urllib.parse import unquote

from maildaemon_core.headers import raw_text
from maildaemon_core.message import Content

_CID_LENGTH: Final = 1000
_CID = re.compile(rb"cid:([^\s\"'<>)]{1,%d})" % _CID_LENGTH, re.IGNORECASE)


def shown(body: Content, pictures: Collection[str]) -> set[str]:
    """Which of these Content-IDs (bare, in lower case) an HTML body refers to; it is read once."""
    return {found for found in _references(body) if found in pictures}


def _references(content: Content) -> Iterator[str]:
    tail = b""
    for piece in content.chunks():
        text = tail + piece
        for found in _CID.finditer(text):
            yield unquote(html.unescape(raw_text(found[1]))).lower()
        tail = text[-_CID_LENGTH:]
