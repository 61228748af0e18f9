"""Openers of parts that hold files themselves: ``winmail.dat`` (TNEF) and opaque S/MIME."""

from maildaemon_adapters.openers.smime import OPENER as SMIME
from maildaemon_adapters.openers.tnef import OPENER as TNEF

__all__ = ["SMIME", "TNEF"]
