"""An adapter that was published too early: what it needs does not exist."""

import pigeonpost_feathers  # type: ignore[import-not-found]  # noqa: F401

KIND = None
