"""Destinations that are folders, or look like folders: a room for each kind, and here what they share.

What a kind must be able to do is a ``tree``; ``publishing`` makes a destination of one, the same way for all.
"""

from maildaemon_adapters.files.local import FILE

__all__ = ["FILE"]
