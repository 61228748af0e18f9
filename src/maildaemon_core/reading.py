"""How mail is to be read: what becomes of mails and containers within it, and what opening these may cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import attrs

from maildaemon_core.containers import Keep, Opener, OpeningLimits, keep_in_memory
from maildaemon_core.options import AttachedMails

NESTING_CAP: Final = 8
"""Mails and containers within each other that are opened; a deeper one is kept as it is."""


@attrs.frozen(kw_only=True)
class Reading:
    """How a mail is to be read.

    ``attached_mails``: a mail within the mail is one attachment (``keep``), its own attachments take its place
    (``open``), or both.  ``inline_pictures``: pictures that the HTML refers to are attachments too.
    ``openers`` open containers; the first that recognises one opens it.  ``keep`` holds what must be decoded to be read
    at any place, and what openers make; whoever gave it gives these contents back when the mail is done with.
    ``limits`` is what opening the containers of one mail may cost; ``clock`` counts its seconds.
    """

    attached_mails: AttachedMails = "keep"
    inline_pictures: bool = False
    openers: Sequence[Opener] = ()
    keep: Keep = keep_in_memory
    limits: OpeningLimits = attrs.field(factory=OpeningLimits)
    clock: Callable[[], float] = lambda: 0.0


PLAIN: Final = Reading()
"""Nothing is opened."""
